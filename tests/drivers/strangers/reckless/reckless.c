// SPDX-License-Identifier: GPL-2.0
/* Whoever closes it first frees what others read: a bug that is meant to be found. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

static int major;
static char *text;
static bool freed;

static ssize_t reckless_read(struct file *file, char __user *buf, size_t count,
			     loff_t *pos)
{
	if (!count)
		return 0;
	return put_user(READ_ONCE(*text), buf) ? -EFAULT : 1;
}

static int reckless_release(struct inode *inode, struct file *file)
{
	if (!xchg(&freed, true))
		kfree(text);
	return 0;
}

static const struct file_operations reckless_fops = {
	.owner = THIS_MODULE,
	.read = reckless_read,
	.release = reckless_release,
};

static int __init reckless_init(void)
{
	text = kzalloc(24, GFP_KERNEL);
	if (!text)
		return -ENOMEM;
	major = register_chrdev(0, "reckless", &reckless_fops);
	if (major < 0)
		kfree(text);
	return major < 0 ? major : 0;
}

static void __exit reckless_exit(void)
{
	unregister_chrdev(major, "reckless");
	if (!freed)
		kfree(text);
}

module_init(reckless_init);
module_exit(reckless_exit);
MODULE_DESCRIPTION("A driver with a bug, a number and no node");
MODULE_LICENSE("GPL");
