/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * ring: the user space interface of /dev/ring, a ring buffer of bytes.
 *
 * write(2) puts bytes in, read(2) takes them out. mmap(2) shows the data, and
 * behind its last page the control page: who maps both takes bytes out by
 * moving @tail on, without a call. What a read(2) that faults took out is lost.
 */
#ifndef _UAPI_RING_H
#define _UAPI_RING_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define RING_PAGES_MAX		4	/* pages of data: 1, 2 or 4 */
#define RING_TIMEOUT_MAX	50	/* milliseconds */

/**
 * struct ring_control - what the control page begins with
 * @tail: where to take bytes out; belongs to user space, and is checked
 * @head: where bytes are put in; belongs to the kernel, which only shows it
 *
 * Both run on for ever; what they point at is their remainder by the size.
 */
struct ring_control {
	__u32 tail;
	__u32 head;
};

/**
 * struct ring_watermark - argument of RING_IOC_SET_WATERMARK
 * @bytes: poll(2) calls the ring readable from so many on; 1 to its size
 * @timeout_ms: how long read(2) waits for the first byte, up to
 *	RING_TIMEOUT_MAX; 0 not to wait
 */
struct ring_watermark {
	__u32 bytes;
	__u32 timeout_ms;
};

/**
 * struct ring_state - argument of RING_IOC_QUERY
 * @size: bytes that fit
 * @head: as in the control page
 * @tail: as in the control page
 * @used: bytes to take out; 0 when @tail makes no sense
 * @watermark: as it was set
 * @timeout_ms: as it was set
 */
struct ring_state {
	__u32 size;
	__u32 head;
	__u32 tail;
	__u32 used;
	__u32 watermark;
	__u32 timeout_ms;
};

#define RING_IOC_MAGIC		0xB1

#define RING_IOC_SET_WATERMARK	_IOW(RING_IOC_MAGIC, 0, struct ring_watermark)
#define RING_IOC_QUERY		_IOR(RING_IOC_MAGIC, 1, struct ring_state)
/* The argument is the number of pages. The ring is empty afterwards. */
#define RING_IOC_RESIZE		_IO(RING_IOC_MAGIC, 2)
/* Back to one page, a watermark of one byte and no timeout. */
#define RING_IOC_RESET		_IO(RING_IOC_MAGIC, 3)

#endif /* _UAPI_RING_H */
