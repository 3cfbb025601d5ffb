/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef JOT_H
#define JOT_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* How many notes there are. */
#define JOT_COUNT _IOR('j', 0, __u32)
/* Forget a note: 0 is the oldest. */
#define JOT_DROP _IOW('j', 1, __u32)
/* Forget all of them. */
#define JOT_CLEAR _IO('j', 2)

#endif
