/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef EXTENT_H
#define EXTENT_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct extent_range {
	__u32 flags;
	__u32 start;
	__u32 length;
};

struct extent_table {
	__u32 entries;
	__u32 flags;
};

#define EXTENT_CLEAR	_IOW(0xb8, 1, struct extent_range)
#define EXTENT_RESIZE	_IOW(0xb8, 2, struct extent_table)

#endif
