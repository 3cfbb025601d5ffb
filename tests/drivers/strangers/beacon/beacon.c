// SPDX-License-Identifier: GPL-2.0
/* A beacon that tells event counters when it is lit. */
#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

struct beacon_watch {
	__u32 times;
	__s32 counter;
};

#define BEACON_WATCH	_IOW(0xbe, 1, struct beacon_watch)
#define BEACON_LIGHT	_IO(0xbe, 2)

struct watcher {
	struct eventfd_ctx *counter;
	u32 times;
};

static DEFINE_MUTEX(lock);
static struct watcher *watcher;

static void forget(void)
{
	if (watcher)
		eventfd_ctx_put(watcher->counter);
	kfree(watcher);
}

static long watch(const struct beacon_watch *asked)
{
	struct eventfd_ctx *counter = eventfd_ctx_fdget(asked->counter);
	struct watcher *made;

	if (IS_ERR(counter))
		return PTR_ERR(counter);
	made = kzalloc(sizeof(*made), GFP_KERNEL);
	if (!made) {
		eventfd_ctx_put(counter);
		return -ENOMEM;
	}
	made->counter = counter;
	made->times = asked->times;
	forget();
	watcher = made;
	return 0;
}

/* The bug: one that has heard enough is forgotten, and still there. */
static long light(void)
{
	if (!watcher)
		return -ENOENT;
	if (!watcher->times--)
		forget();
	return 0;
}

static long beacon_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct beacon_watch asked;
	long ret = -ENOTTY;

	mutex_lock(&lock);
	switch (cmd) {
	case BEACON_WATCH:
		ret = -EFAULT;
		if (!copy_from_user(&asked, (void __user *)arg, sizeof(asked)))
			ret = watch(&asked);
		break;
	case BEACON_LIGHT:
		ret = light();
		break;
	}
	mutex_unlock(&lock);
	return ret;
}

static int beacon_release(struct inode *inode, struct file *file)
{
	mutex_lock(&lock);
	forget();
	watcher = NULL;
	mutex_unlock(&lock);
	return 0;
}

static const struct file_operations beacon_fops = {
	.owner = THIS_MODULE,
	.release = beacon_release,
	.unlocked_ioctl = beacon_ioctl,
};

static struct miscdevice beacon_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "beacon",
	.fops = &beacon_fops,
};
module_misc_device(beacon_device);

MODULE_DESCRIPTION("A beacon that tells event counters");
MODULE_LICENSE("GPL");
