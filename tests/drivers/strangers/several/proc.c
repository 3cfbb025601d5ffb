// SPDX-License-Identifier: GPL-2.0
/* It makes a file, but no node. */
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/uaccess.h>

static ssize_t proc_write_some(struct file *file, const char __user *buf,
			       size_t count, loff_t *pos)
{
	return count > 7 ? -EINVAL : count;
}

static const struct proc_ops proc_of_several = {
	.proc_write = proc_write_some,
};

static int __init proc_init(void)
{
	return proc_create("several", 0600, NULL, &proc_of_several) ? 0 : -ENOMEM;
}

static void __exit proc_exit(void)
{
	remove_proc_entry("several", NULL);
}

module_init(proc_init);
module_exit(proc_exit);
MODULE_DESCRIPTION("The module of several with a file in /proc");
MODULE_LICENSE("GPL");
