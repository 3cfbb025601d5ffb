// SPDX-License-Identifier: GPL-2.0
/* Never comes back from its init function: it takes a lock that it holds. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(stuck_lock);

static const struct file_operations stuck_fops = {
	.owner = THIS_MODULE,
};

static struct miscdevice stuck = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "stuck",
	.fops = &stuck_fops,
};

static int __init stuck_init(void)
{
	int error;

	mutex_lock(&stuck_lock);
	error = misc_register(&stuck);
	mutex_lock(&stuck_lock);
	mutex_unlock(&stuck_lock);
	return error;
}

static void __exit stuck_exit(void)
{
	misc_deregister(&stuck);
}

module_init(stuck_init);
module_exit(stuck_exit);

MODULE_DESCRIPTION("A driver that deadlocks while it is loaded");
MODULE_LICENSE("GPL");
