/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * testdrv: a driver that misbehaves on demand, so that tests of the executor
 * and of the crash parser have something real to look at.
 */
#ifndef TESTDRV_H
#define TESTDRV_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TD_READ_SIZE	64	/* bytes that read(2) has, if nothing else is set */

/**
 * struct td_fill - argument of TD_FILL and TD_UAF_USER
 * @buf: address of a buffer
 * @len: bytes to write there
 * @reserved: not looked at
 */
struct td_fill {
	__u64 buf;
	__u32 len;
	__u32 reserved;
};

#define TD_MAGIC	0xBC

/* State: lost when the module is loaded again. */
#define TD_SET		_IO(TD_MAGIC, 0)	/* keep the argument */
#define TD_GET		_IO(TD_MAGIC, 1)	/* return what was kept */
#define TD_READ_EXTRA	_IO(TD_MAGIC, 2)	/* read(2) writes so many bytes too many */
#define TD_READ_LIE	_IO(TD_MAGIC, 3)	/* read(2) returns this, writes nothing */

/* Behaviour without fault. */
#define TD_BRANCH	_IO(TD_MAGIC, 8)	/* calls td_branch() if the argument is 1 */
#define TD_NOISE	_IO(TD_MAGIC, 9)	/* print lines that are no report */
#define TD_FILL		_IOW(TD_MAGIC, 10, struct td_fill)
#define TD_ALLOC	_IO(TD_MAGIC, 11)	/* allocate so often, keep how often it worked */
#define TD_MEET		_IO(TD_MAGIC, 12)	/* wait so many ms for another TD_MEET */
#define TD_MEET_CPU	_IO(TD_MAGIC, 13)	/* the same, on the CPU; returns its number */
#define TD_PIN		_IO(TD_MAGIC, 14)	/* the module cannot be unloaded any more */

/* Faults. */
#define TD_SLEEP	_IO(TD_MAGIC, 16)	/* wait for ever, until a signal */
#define TD_STUCK	_IO(TD_MAGIC, 17)	/* wait for ever */
#define TD_SPIN		_IO(TD_MAGIC, 18)	/* loop for ever, nothing else runs */
#define TD_WARN		_IO(TD_MAGIC, 19)
#define TD_BUG		_IO(TD_MAGIC, 20)
#define TD_NULL		_IO(TD_MAGIC, 21)
#define TD_UAF		_IO(TD_MAGIC, 22)
#define TD_UAF_MEMCPY	_IO(TD_MAGIC, 23)
#define TD_UAF_USER	_IOW(TD_MAGIC, 24, struct td_fill)
#define TD_ATOMIC_SLEEP	_IO(TD_MAGIC, 25)
#define TD_SHIFT	_IO(TD_MAGIC, 26)
#define TD_DEADLOCK	_IO(TD_MAGIC, 27)	/* lock a mutex twice */
#define TD_LIST		_IO(TD_MAGIC, 28)	/* delete a list entry twice */
#define TD_WILD		_IO(TD_MAGIC, 29)	/* follow a pointer that is no address */
#define TD_STACK_OOB	_IO(TD_MAGIC, 30)
#define TD_UNLOCK	_IO(TD_MAGIC, 31)	/* unlock what is not locked */
#define TD_KEEP_LOCK	_IO(TD_MAGIC, 32)	/* return to user space with a lock held */
#define TD_REFCOUNT	_IO(TD_MAGIC, 33)
#define TD_DOUBLE_FREE	_IO(TD_MAGIC, 34)
#define TD_RESET	_IO(TD_MAGIC, 35)	/* as TD_SET, with td_reset() for coverage */
#define TD_PANIC	_IO(TD_MAGIC, 36)
#define TD_REBOOT	_IO(TD_MAGIC, 37)	/* without a word */

/* Not faults, but slow. */
#define TD_NAP		_IO(TD_MAGIC, 38)	/* sleep for a second */
#define TD_TIMER	_IO(TD_MAGIC, 39)	/* wait half a second, or for a signal */

#endif
