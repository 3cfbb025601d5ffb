/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef SHELF_H
#define SHELF_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SHELF_NAME	16

struct shelf_book {
	char name[SHELF_NAME];
};

#define SHELF_PUT	_IOW(0xb7, 1, struct shelf_book)

#endif
