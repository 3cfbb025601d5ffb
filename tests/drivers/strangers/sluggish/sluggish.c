// SPDX-License-Identifier: GPL-2.0
/* Slow, talkative and not very helpful, as its parameters say. */
#include <linux/delay.h>
#include <linux/errno.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>

static uint pace;
module_param(pace, uint, 0444);
MODULE_PARM_DESC(pace, "milliseconds that a write takes");

static uint wake;
module_param(wake, uint, 0444);
MODULE_PARM_DESC(wake, "milliseconds that it takes to be loaded");

static bool shut;
module_param(shut, bool, 0444);
MODULE_PARM_DESC(shut, "cannot be opened");

static int sluggish_open(struct inode *inode, struct file *file)
{
	return shut ? -EBUSY : 0;
}

static ssize_t sluggish_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	pr_info("sluggish: read of %zu bytes\n", count);
	return 0;
}

static ssize_t sluggish_write(struct file *file, const char __user *buf, size_t count,
			      loff_t *pos)
{
	/* Waits for the firmware, and cannot be interrupted. */
	msleep(pace);
	WARN_ON(count == 13);
	return count;
}

static long sluggish_ioctl(struct file *file, unsigned int number, unsigned long arg)
{
	return -EPERM;
}

static const struct file_operations sluggish_operations = {
	.owner = THIS_MODULE,
	.open = sluggish_open,
	.read = sluggish_read,
	.write = sluggish_write,
	.unlocked_ioctl = sluggish_ioctl,
};

static struct miscdevice sluggish_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "sluggish",
	.fops = &sluggish_operations,
};

static int __init sluggish_init(void)
{
	msleep(wake);
	return misc_register(&sluggish_device);
}

static void __exit sluggish_exit(void)
{
	misc_deregister(&sluggish_device);
}

module_init(sluggish_init);
module_exit(sluggish_exit);
MODULE_DESCRIPTION("A driver that a campaign does not get on with");
MODULE_LICENSE("GPL");
