/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef ROSTER_H
#define ROSTER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define ROSTER_RESIZE	_IOW(0xb9, 1, __u32)

#endif
