/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef LADDER_H
#define LADDER_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LADDER_STEP	_IOW(0xba, 1, __u32)
#define LADDER_DOWN	_IO(0xba, 2)

#endif
