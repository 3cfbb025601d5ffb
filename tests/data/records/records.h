/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What /dev/records takes and gives. */
#ifndef RECORDS_H
#define RECORDS_H

#include <linux/types.h>

#define RECORDS_NAME_MAX	12

/* Written, any number of them: a name, and size bytes at data. */
struct records_item {
	__u32 name_len;
	char name[RECORDS_NAME_MAX];
	__u64 data;
	__u32 size;
	__u32 reserved;
};

/* Read: what the last write brought. */
struct records_state {
	__u64 position;
	__u64 sum;
	__u32 items;
	__u32 names;
};

#endif
