// SPDX-License-Identifier: GPL-2.0
/* It takes a number and makes no node: its author ran mknod. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static int major;

static ssize_t nodeless_read(struct file *file, char __user *buf, size_t count,
			     loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations nodeless_fops = {
	.owner = THIS_MODULE,
	.read = nodeless_read,
};

static int __init nodeless_init(void)
{
	major = register_chrdev(0, "nodeless", &nodeless_fops);
	return major < 0 ? major : 0;
}

static void __exit nodeless_exit(void)
{
	unregister_chrdev(major, "nodeless");
}

module_init(nodeless_init);
module_exit(nodeless_exit);
MODULE_DESCRIPTION("A driver whose node is left to its user");
MODULE_LICENSE("GPL");
