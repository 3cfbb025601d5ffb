/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* The interface of /dev/shallow. */
#ifndef SHALLOW_H
#define SHALLOW_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct shallow_setting {
	__u32 value;
};

#define SHALLOW_IOC_QUANTUM	_IOW('s', 1, struct shallow_setting)
#define SHALLOW_IOC_LIMIT	_IOW('s', 2, struct shallow_setting)
#define SHALLOW_IOC_MODE	_IOW('s', 3, struct shallow_setting)
#define SHALLOW_IOC_COMMIT	_IO('s', 4)

#endif
