/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/* What user space needs for /dev/album. */
#ifndef ALBUM_H
#define ALBUM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Pages that can be mapped, from offset 0 on; the index is one page at its own offset. */
#define ALBUM_PAGES	8
#define ALBUM_INDEX	16

/* Look up a page in the log: how often it was brought in. */
struct album_visits {
	__u32 page;
	__u32 visits;
};

#define ALBUM_IOC_VISITS	_IOWR('A', 1, struct album_visits)
/* Begin the index anew. */
#define ALBUM_IOC_RENEW		_IO('A', 2)

/* What read() returns, to somewhere. */
struct album_request {
	__u64 data;
	__u32 size;
	__u32 pad;
};

#define ALBUM_IOC_READ		_IOW('A', 3, struct album_request)

#endif
