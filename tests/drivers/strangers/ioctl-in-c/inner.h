/* SPDX-License-Identifier: GPL-2.0 */
/* INNER_SETS was its name once; a program includes <sys/ioctl.h> by itself. */
struct inner_arg {
	unsigned int key;
	unsigned int value;
};

#define INNER_SET	_IOW('i', 1, struct inner_arg)
