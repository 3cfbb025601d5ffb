/* SPDX-License-Identifier: GPL-2.0 */
#ifndef REMAINS_H
#define REMAINS_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct remains_info {
	__u8 version;
	__u64 serial;
	char name[32];
};

#define REMAINS_STACK	_IOR('R', 1, struct remains_info)
#define REMAINS_HEAP	_IOR('R', 2, struct remains_info)
#define REMAINS_PUT	_IOR('R', 3, __u32)
#define REMAINS_BRANCH	_IO('R', 4)
#define REMAINS_CLEAN	_IOR('R', 5, struct remains_info)
#define REMAINS_CHANCE	_IO('R', 6)

#endif
