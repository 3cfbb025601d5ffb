// SPDX-License-Identifier: GPL-2.0
/* Its name stands in a variable of its Makefile. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static ssize_t varied_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations varied_fops = {
	.owner = THIS_MODULE,
	.read = varied_read,
};

static struct miscdevice varied_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "varied",
	.fops = &varied_fops,
};
module_misc_device(varied_misc);

MODULE_DESCRIPTION("A driver named by a variable");
MODULE_LICENSE("GPL");
