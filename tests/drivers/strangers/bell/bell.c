// SPDX-License-Identifier: GPL-2.0
/* A bell that rings for all who listen: whoever set O_ASYNC gets a signal with each write. */
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>

struct listener {
	struct list_head node;
	struct fasync_struct *async;
	u32 heard;
};

static LIST_HEAD(listeners);
static DEFINE_MUTEX(lock);

/* The bug: who listens is never taken off the list. */
static int bell_fasync(int fd, struct file *file, int on)
{
	struct listener *listener = file->private_data;
	int ret;

	mutex_lock(&lock);
	ret = fasync_helper(fd, file, on, &listener->async);
	if (on && ret > 0 && list_empty(&listener->node))
		list_add(&listener->node, &listeners);
	mutex_unlock(&lock);
	return ret;
}

static ssize_t bell_write(struct file *file, const char __user *data, size_t size, loff_t *at)
{
	struct listener *listener;

	mutex_lock(&lock);
	list_for_each_entry(listener, &listeners, node) {
		listener->heard++;
		kill_fasync(&listener->async, SIGIO, POLL_IN);
	}
	mutex_unlock(&lock);
	return size;
}

static int bell_open(struct inode *inode, struct file *file)
{
	struct listener *listener = kzalloc(sizeof(*listener), GFP_KERNEL);

	if (!listener)
		return -ENOMEM;
	INIT_LIST_HEAD(&listener->node);
	file->private_data = listener;
	return 0;
}

static int bell_release(struct inode *inode, struct file *file)
{
	kfree(file->private_data);
	return 0;
}

static const struct file_operations bell_fops = {
	.owner = THIS_MODULE,
	.open = bell_open,
	.release = bell_release,
	.write = bell_write,
	.fasync = bell_fasync,
};

static struct miscdevice bell_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "bell",
	.fops = &bell_fops,
};
module_misc_device(bell_device);

MODULE_DESCRIPTION("A bell that sends signals");
MODULE_LICENSE("GPL");
