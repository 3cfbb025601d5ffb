// SPDX-License-Identifier: GPL-2.0
/* Its own Makefile says that it is built. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static ssize_t optional_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations optional_fops = {
	.owner = THIS_MODULE,
	.read = optional_read,
};

static struct miscdevice optional_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "optional",
	.fops = &optional_fops,
};
module_misc_device(optional_misc);

MODULE_DESCRIPTION("A driver that its Makefile turns on");
MODULE_LICENSE("GPL");
