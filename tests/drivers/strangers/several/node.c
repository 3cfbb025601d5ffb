// SPDX-License-Identifier: GPL-2.0
/* The one that makes a node. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static ssize_t chosen_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations chosen_fops = {
	.owner = THIS_MODULE,
	.read = chosen_read,
};

static struct miscdevice chosen_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "chosen",
	.fops = &chosen_fops,
};
module_misc_device(chosen_misc);

MODULE_DESCRIPTION("The module of several to fuzz");
MODULE_LICENSE("GPL");
