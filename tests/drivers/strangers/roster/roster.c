// SPDX-License-Identifier: GPL-2.0
/* Roster: one row of bytes, which an ioctl makes longer or shorter. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "roster.h"

#define LONGEST	512

static DEFINE_MUTEX(lock);
static u32 length = 16;
static char *row;

/* The bug: the length is looked at some instructions before the lock is taken. */
static ssize_t roster_read(struct file *file, char __user *to, size_t count, loff_t *pos)
{
	size_t n = min_t(size_t, count, READ_ONCE(length));
	ssize_t done;

	mutex_lock(&lock);
	done = copy_to_user(to, row, n) ? -EFAULT : n;
	mutex_unlock(&lock);
	return done;
}

static ssize_t roster_write(struct file *file, const char __user *from, size_t count, loff_t *pos)
{
	ssize_t done;

	mutex_lock(&lock);
	count = min_t(size_t, count, length);
	done = copy_from_user(row, from, count) ? -EFAULT : count;
	mutex_unlock(&lock);
	return done;
}

static long roster_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	char *fresh, *old;
	u32 n;

	if (cmd != ROSTER_RESIZE)
		return -ENOTTY;
	if (get_user(n, (u32 __user *)arg))
		return -EFAULT;
	if (!n || n > LONGEST)
		return -EINVAL;
	fresh = kzalloc(n, GFP_KERNEL);
	if (!fresh)
		return -ENOMEM;
	mutex_lock(&lock);
	old = row;
	memcpy(fresh, old, min(n, length));
	row = fresh;
	length = n;
	mutex_unlock(&lock);
	kfree(old);
	return 0;
}

static const struct file_operations roster_fops = {
	.owner = THIS_MODULE,
	.read = roster_read,
	.write = roster_write,
	.unlocked_ioctl = roster_ioctl,
};

static struct miscdevice roster_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "roster",
	.fops = &roster_fops,
};

static int __init roster_init(void)
{
	int error;

	row = kzalloc(length, GFP_KERNEL);
	if (!row)
		return -ENOMEM;
	error = misc_register(&roster_device);
	if (error)
		kfree(row);
	return error;
}

static void __exit roster_exit(void)
{
	misc_deregister(&roster_device);
	kfree(row);
}

module_init(roster_init);
module_exit(roster_exit);
MODULE_DESCRIPTION("A row of bytes, with a length looked at before its lock");
MODULE_LICENSE("GPL");
