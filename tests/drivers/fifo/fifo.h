/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * fifo: the user space interface of /dev/fifo, a queue of bytes.
 *
 * write(2) puts bytes in and read(2) takes them out. A read waits until there are
 * some, unless the file was opened with O_NONBLOCK.
 */
#ifndef _UAPI_FIFO_H
#define _UAPI_FIFO_H

#include <linux/ioctl.h>

#define FIFO_SIZE_MAX		256
#define FIFO_HOLD_MAX		1000	/* milliseconds */

#define FIFO_IOC_MAGIC		0xB3

/* Empty it, and have it of its first size. */
#define FIFO_IOC_RESET		_IO(FIFO_IOC_MAGIC, 0)
/* The argument is how many bytes fit. It is empty afterwards; -EBUSY while a read waits. */
#define FIFO_IOC_RESIZE		_IO(FIFO_IOC_MAGIC, 1)
/* Keep all others away for so many milliseconds, or until a signal comes. */
#define FIFO_IOC_HOLD		_IO(FIFO_IOC_MAGIC, 2)

#endif /* _UAPI_FIFO_H */
