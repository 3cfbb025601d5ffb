// SPDX-License-Identifier: GPL-2.0
/* Ladder: a step up takes the number of the next rung, which the last ones decide. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>

#include "ladder.h"

#define RUNGS	24

static DEFINE_MUTEX(lock);
static u32 height;

/* The bug: nobody has thought of the last rung. A wrong step changes nothing. */
static long step(u32 rung)
{
	if (rung == height * height % 251 + 7)
		height++;
	WARN_ON(height == RUNGS);
	return 0;
}

static long ladder_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	long ret = -ENOTTY;
	u32 rung;

	if (cmd == LADDER_STEP && get_user(rung, (u32 __user *)arg))
		return -EFAULT;
	mutex_lock(&lock);
	if (cmd == LADDER_STEP)
		ret = step(rung);
	else if (cmd == LADDER_DOWN)
		ret = height = 0;
	mutex_unlock(&lock);
	return ret;
}

/* Each program begins anew. */
static int ladder_open(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	height = 0;
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations ladder_fops = {
	.owner = THIS_MODULE,
	.open = ladder_open,
	.unlocked_ioctl = ladder_ioctl,
};

static struct miscdevice ladder = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "ladder",
	.fops = &ladder_fops,
};

module_misc_device(ladder);
MODULE_DESCRIPTION("A ladder that is climbed rung by rung");
MODULE_LICENSE("GPL");
