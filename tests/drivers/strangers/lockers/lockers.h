/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef LOCKERS_H
#define LOCKERS_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct lockers_request {
	__u32 number;
	__u32 reserved;
	__u64 value;
};

#define LOCKERS_RENT	_IOWR('L', 1, struct lockers_request)
#define LOCKERS_PUT	_IOWR('L', 2, struct lockers_request)
#define LOCKERS_BACK	_IOWR('L', 3, struct lockers_request)
#define LOCKERS_KEY	_IO('L', 4)
#define KEY_TURN	_IOR('L', 5, __u64)
#define KEY_EMPTY	_IO('L', 6)

#endif
