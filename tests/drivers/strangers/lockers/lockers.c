// SPDX-License-Identifier: GPL-2.0
/* Lockers: one ioctl gives the number of a locker, others want it; a key is a descriptor. */
#include <linux/anon_inodes.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "lockers.h"

#define LOCKERS	8

static struct {
	u32 number;
	u64 *content;
} lockers[LOCKERS];
static DEFINE_MUTEX(lock);

/* The bug: a key still opens a locker that was emptied by it. */
static long key_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	u64 *content = file->private_data;

	switch (cmd) {
	case KEY_TURN:
		return put_user((*content)++, (u64 __user *)arg);
	case KEY_EMPTY:
		kfree(content);
		return 0;
	}
	return -ENOTTY;
}

static const struct file_operations key_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = key_ioctl,
};

static long make_key(void)
{
	u64 *content = kzalloc(sizeof(*content), GFP_KERNEL);
	int fd;

	if (!content)
		return -ENOMEM;
	fd = anon_inode_getfd("key", &key_fops, content, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		kfree(content);
	return fd;
}

static long rent(struct lockers_request *request)
{
	for (int i = 0; i < LOCKERS; i++) {
		if (lockers[i].number)
			continue;
		lockers[i].content = kzalloc(sizeof(u64), GFP_KERNEL);
		if (!lockers[i].content)
			return -ENOMEM;
		lockers[i].number = get_random_u32() | 0x100;
		request->number = lockers[i].number;
		return 0;
	}
	return -ENOSPC;
}

/* The bug: a locker that is given back keeps its number. */
static long use(struct lockers_request *request, bool back)
{
	for (int i = 0; i < LOCKERS; i++) {
		if (!lockers[i].number || lockers[i].number != request->number)
			continue;
		if (back)
			kfree(lockers[i].content);
		else
			*lockers[i].content = request->value;
		return 0;
	}
	return -ENOENT;
}

static long lockers_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lockers_request request;
	long ret;

	if (cmd == LOCKERS_KEY)
		return make_key();
	if (copy_from_user(&request, (void __user *)arg, sizeof(request)))
		return -EFAULT;
	mutex_lock(&lock);
	switch (cmd) {
	case LOCKERS_RENT:
		ret = rent(&request);
		break;
	case LOCKERS_PUT:
		ret = use(&request, false);
		break;
	case LOCKERS_BACK:
		ret = use(&request, true);
		break;
	default:
		ret = -ENOTTY;
	}
	mutex_unlock(&lock);
	if (!ret && copy_to_user((void __user *)arg, &request, sizeof(request)))
		return -EFAULT;
	return ret;
}

static int lockers_release(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	memset(lockers, 0, sizeof(lockers));
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations lockers_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = lockers_ioctl,
	.release = lockers_release,
};

static struct miscdevice lockers_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lockers",
	.fops = &lockers_fops,
};
module_misc_device(lockers_device);

MODULE_DESCRIPTION("Lockers, whose numbers are handles and whose keys are files");
MODULE_LICENSE("GPL");
