/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of a device that does not exist, for tests of target descriptions. */
#ifndef DEMO_H
#define DEMO_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define DEMO_KEY_MAX	16
#define DEMO_F_FAST	0x1
#define DEMO_F_DEEP	(1u << 31)
#define DEMO_TEXT	"not a number"

enum demo_mode {
	DEMO_COLD = -1,
	DEMO_WARM = 3,
};

struct demo_delete {
	__u32 key_len;
	char key[DEMO_KEY_MAX];
};

struct demo_list {
	__u64 buf;
	__u32 size;
	__u32 flags;
	__s32 delta;
	__u32 reserved;
};

struct demo_odd {
	__u8 tag;
	struct {
		__u16 low;
		__u16 high;
	} pair;
	union {
		__u32 word;
		float real;
	};
	struct demo_delete inner;
	__u32 one : 1, two : 12;
	__u16 table[3];
	void *next;
	enum demo_mode mode;
	double ratio;
	char tail[];
};

#define DEMO_IOC_CLEAR	_IO('d', 0)
#define DEMO_IOC_DELETE	_IOW('d', 1, struct demo_delete)
#define DEMO_IOC_LIST	_IOWR('d', 2, struct demo_list)
#define DEMO_IOC_SEEN	_IO('d', 3)

#endif
