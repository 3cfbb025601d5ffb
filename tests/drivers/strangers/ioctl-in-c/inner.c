// SPDX-License-Identifier: GPL-2.0
/* One of its ioctls is in a header that cannot be read alone, the other is here. */
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "inner.h"

#define INNER_CLEAR	_IO('i', 2)

static unsigned int values[4];

static long inner_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct inner_arg set;

	switch (cmd) {
	case INNER_SET:
		if (copy_from_user(&set, (void __user *)arg, sizeof(set)))
			return -EFAULT;
		if (set.key >= ARRAY_SIZE(values))
			return -ERANGE;
		values[set.key] = set.value;
		return 0;
	case INNER_CLEAR:
		memset(values, 0, sizeof(values));
		return 0;
	}
	return -ENOTTY;
}

static const struct file_operations inner_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = inner_ioctl,
};

static struct miscdevice inner_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "inner",
	.fops = &inner_fops,
};
module_misc_device(inner_misc);

MODULE_DESCRIPTION("A driver with ioctls in its C file");
MODULE_LICENSE("GPL");
