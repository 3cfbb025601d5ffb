// SPDX-License-Identifier: GPL-2.0
/* The kernel calls it hy_phen. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static ssize_t hyphened_read(struct file *file, char __user *buf, size_t count,
		       loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations hyphened_fops = {
	.owner = THIS_MODULE,
	.read = hyphened_read,
};

static struct miscdevice hyphened_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "hyphened",
	.fops = &hyphened_fops,
};
module_misc_device(hyphened_misc);

MODULE_DESCRIPTION("A driver with a hyphen in its name");
MODULE_LICENSE("GPL");
