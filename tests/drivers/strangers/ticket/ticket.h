/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
#ifndef TICKET_H
#define TICKET_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define TICKET_FIRST_DESK	_IOR(0xb9, 1, __u32)
#define TICKET_SECOND_DESK	_IOR(0xb9, 2, __u32)
#define TICKET_SET_PRICE	_IOW(0xb9, 3, __u32)
#define TICKET_PRICE	_IOR(0xb9, 4, __u32)
#define TICKET_SHOW	_IOW(0xb9, 5, __u32)
#define TICKET_SHOWN	_IOR(0xb9, 6, __u32)
#define TICKET_LIGHT	_IOW(0xb9, 7, __u32)

#endif
