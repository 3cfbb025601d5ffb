// SPDX-License-Identifier: GPL-2.0
/*
 * Uses /dev/pkv as a 32-bit process does, without a C library: 64-bit hosts
 * have none for 32 bits. Ends with the number of the check that failed, or 0.
 */
#include <linux/fcntl.h>

#include "pkv.h"

#define NR_EXIT		1
#define NR_READ		3
#define NR_WRITE	4
#define NR_OPEN		5
#define NR_IOCTL	54

_Static_assert(sizeof(void *) == 4, "built for 64 bits");

static long call(long number, long a, long b, long c)
{
	long ret;

	__asm__ volatile("int $0x80" : "=a"(ret)
			 : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return ret;
}

static int check(void)
{
	static struct pkv_entry entries[2];
	struct pkv_list list = { .buf = (unsigned long)entries, .room = 2 };
	struct pkv_delete delete = { .key_len = 2, .key = "bb" };
	char value[8] = "";
	long fd = call(NR_OPEN, (long)"/dev/pkv", O_RDWR, 0);

	if (fd < 0)
		return 1;
	if (call(NR_IOCTL, fd, PKV_IOC_CLEAR, 0))
		return 2;
	if (call(NR_WRITE, fd, (long)"a=1\nbb=22\n", 10) != 10)
		return 3;
	if (call(NR_IOCTL, fd, PKV_IOC_LIST, (long)&list) || list.count != 2)
		return 4;
	if (entries[0].key_len + entries[1].key_len != 3 ||
	    entries[0].value_len + entries[1].value_len != 3)
		return 5;
	if (call(NR_READ, fd, (long)value, sizeof(value)) != 2 || value[1] != '2')
		return 6;
	if (call(NR_IOCTL, fd, PKV_IOC_DELETE, (long)&delete))
		return 7;
	if (call(NR_IOCTL, fd, PKV_IOC_DELETE, (long)&delete) != -2)
		return 8;
	if (call(NR_IOCTL, fd, PKV_IOC_LIST, (long)&list) || list.count != 1)
		return 9;
	/* An address that only a 64-bit process could have. */
	list.buf = 0x100000000ull;
	if (call(NR_IOCTL, fd, PKV_IOC_LIST, (long)&list) != -14)
		return 10;
	return 0;
}

void _start(void)
{
	call(NR_EXIT, check(), 0, 0);
}
