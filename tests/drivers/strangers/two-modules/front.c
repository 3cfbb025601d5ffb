// SPDX-License-Identifier: GPL-2.0
/* It cannot be loaded without the other module. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

#include "zz_core.h"

static ssize_t front_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > zz_core_most())
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations front_fops = {
	.owner = THIS_MODULE,
	.read = front_read,
};

static struct miscdevice front_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "front",
	.fops = &front_fops,
};
module_misc_device(front_misc);

MODULE_DESCRIPTION("The half that has a file");
MODULE_LICENSE("GPL");
