/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* Commands of /dev/courier, in a ring of io_uring. */
#ifndef COURIER_H
#define COURIER_H

#include <linux/types.h>

/* Complete when a letter of this kind, its first character, has been written. */
#define COURIER_AWAIT	0x4301
/* The number of letters. */
#define COURIER_COUNT	0x4302

struct courier_await {
	__u32 kind;
	__u32 reserved;
};

#endif
