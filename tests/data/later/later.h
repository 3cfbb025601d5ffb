/* SPDX-License-Identifier: GPL-2.0 */
#ifndef LATER_H
#define LATER_H

#include <linux/ioctl.h>

#define LATER_WORK	_IO(0xb7, 1)
#define LATER_DELAYED	_IO(0xb7, 2)	/* after so many milliseconds */
#define LATER_TIMER	_IO(0xb7, 3)	/* likewise */
#define LATER_TASKLET	_IO(0xb7, 4)
#define LATER_THREAD	_IO(0xb7, 5)

#endif
