// SPDX-License-Identifier: GPL-2.0
/* Hands out descriptors, and keeps a reference to itself on a failing path. */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static const struct file_operations handed_fops = {
	.owner = THIS_MODULE,
};

static long keeper_ioctl(struct file *file, unsigned int command,
			 unsigned long argument)
{
	if (command != _IO('k', 1))
		return -ENOTTY;
	return anon_inode_getfd("keeper", &handed_fops, NULL, O_CLOEXEC);
}

static ssize_t keeper_write(struct file *file, const char __user *from,
			    size_t count, loff_t *position)
{
	if (!try_module_get(THIS_MODULE))
		return -ENODEV;
	/* The bug. */
	if (count == 3)
		return -EINVAL;
	module_put(THIS_MODULE);
	return count;
}

static const struct file_operations keeper_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = keeper_ioctl,
	.write = keeper_write,
};

static struct miscdevice keeper = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "keeper",
	.fops = &keeper_fops,
};
module_misc_device(keeper);

MODULE_DESCRIPTION("A driver that keeps and hands out references");
MODULE_LICENSE("GPL");
