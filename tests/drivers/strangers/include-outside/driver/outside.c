// SPDX-License-Identifier: GPL-2.0
/* Its header is in the directory beside it. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "outside.h"

static ssize_t outside_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > OUTSIDE_MOST)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations outside_fops = {
	.owner = THIS_MODULE,
	.read = outside_read,
};

static struct miscdevice outside_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "outside",
	.fops = &outside_fops,
};
module_misc_device(outside_misc);

MODULE_DESCRIPTION("A driver with a header elsewhere");
MODULE_LICENSE("GPL");
