// SPDX-License-Identifier: GPL-2.0
/* Tally: each write adds a mark, and an ioctl adds them up. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "tally.h"

#define PLACES	8
#define DOZEN	6

static DEFINE_MUTEX(lock);
static u8 *marks;
static u32 used;

static ssize_t tally_write(struct file *file, const char __user *from,
			   size_t count, loff_t *pos)
{
	u8 mark;

	if (!count)
		return 0;
	if (copy_from_user(&mark, from, 1))
		return -EFAULT;
	mutex_lock(&lock);
	marks[used++ % PLACES] = mark;
	mutex_unlock(&lock);
	return count;
}

/* The bug: with so many marks the one after the last place is looked at. */
static long tally_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long sum = 0;

	if (cmd != TALLY_SUM)
		return -ENOTTY;
	mutex_lock(&lock);
	if (used == DOZEN)
		sum += marks[PLACES];
	for (u32 i = 0; i < PLACES; i++)
		sum += marks[i];
	mutex_unlock(&lock);
	return sum;
}

static int tally_open(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	memset(marks, 0, PLACES);
	used = 0;
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations tally_fops = {
	.owner = THIS_MODULE,
	.open = tally_open,
	.write = tally_write,
	.unlocked_ioctl = tally_ioctl,
};

static struct miscdevice tally = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "tally",
	.fops = &tally_fops,
};

static int __init tally_init(void)
{
	int err;

	marks = kzalloc(PLACES, GFP_KERNEL);
	if (!marks)
		return -ENOMEM;
	err = misc_register(&tally);
	if (err)
		kfree(marks);
	return err;
}

static void __exit tally_exit(void)
{
	misc_deregister(&tally);
	kfree(marks);
}

module_init(tally_init);
module_exit(tally_exit);
MODULE_DESCRIPTION("Marks that are added up");
MODULE_LICENSE("GPL");
