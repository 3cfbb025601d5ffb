/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef TALLY_H
#define TALLY_H

#include <linux/ioctl.h>

#define TALLY_SUM	_IO(0xb8, 1)

#endif
