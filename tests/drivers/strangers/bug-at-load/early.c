// SPDX-License-Identifier: GPL-2.0
/* Reads what it has freed while it is loaded, and has another bug later. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>

static bool keep_quiet;
module_param(keep_quiet, bool, 0444);

static bool give_up;
module_param(give_up, bool, 0444);

static bool doze;
module_param(doze, bool, 0444);

static DEFINE_SPINLOCK(early_lock);

static ssize_t early_read(struct file *file, char __user *to, size_t count,
			  loff_t *position)
{
	char *copy = kmalloc(32, GFP_KERNEL);

	if (!copy)
		return -ENOMEM;
	/* The second bug: one byte too many. */
	if (count >= 33)
		copy[32] = 1;
	kfree(copy);
	return 0;
}

static const struct file_operations early_fops = {
	.owner = THIS_MODULE,
	.read = early_read,
};

static struct miscdevice early = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "early",
	.fops = &early_fops,
};

static int __init early_init(void)
{
	char *volatile text = kzalloc(32, GFP_KERNEL);

	if (!text)
		return -ENOMEM;
	kfree(text);
	/* The first bug. */
	if (!keep_quiet && text[3])
		pr_info("not empty\n");
	if (doze) {
		spin_lock(&early_lock);
		might_sleep();
		spin_unlock(&early_lock);
	}
	if (give_up)
		return -ENODEV;
	return misc_register(&early);
}

static void __exit early_exit(void)
{
	misc_deregister(&early);
}

module_init(early_init);
module_exit(early_exit);

MODULE_DESCRIPTION("A driver with a bug in its init function");
MODULE_LICENSE("GPL");
