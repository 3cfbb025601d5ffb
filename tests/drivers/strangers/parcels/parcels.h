/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PARCELS_H
#define PARCELS_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct parcel {
	__u64 content;		/* address of length bytes */
	__u32 length;
	__u32 pad;
};

struct parcels_list {
	__u64 parcels;		/* address of count parcels */
	__u32 count;
	__u32 pad;
};

#define PARCELS_SEND	_IOW('P', 1, struct parcels_list)

/* Those of a 32-bit program. */
struct parcel32 {
	__u32 content;
	__u32 length;
};

#define PARCELS_SEND32	_IOW('P', 2, struct parcel32)

#endif
