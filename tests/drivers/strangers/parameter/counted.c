// SPDX-License-Identifier: GPL-2.0
/* Unless it is told how many, it has no file. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/uaccess.h>

static char *name = "counted";
module_param(name, charp, 0444);
static unsigned int count_of;
module_param(count_of, uint, 0444);
MODULE_PARM_DESC(count_of, "how many files there are, 0 or 1");

static ssize_t counted_read(struct file *file, char __user *buf, size_t count,
			    loff_t *pos)
{
	if (count > 7)
		return -EINVAL;
	return clear_user(buf, count) ? -EFAULT : count;
}

static const struct file_operations counted_fops = {
	.owner = THIS_MODULE,
	.read = counted_read,
};

static struct miscdevice counted_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.fops = &counted_fops,
};

static int __init counted_init(void)
{
	counted_misc.name = name;
	if (count_of > 1)
		return -EINVAL;
	return count_of ? misc_register(&counted_misc) : 0;
}

static void __exit counted_exit(void)
{
	if (count_of)
		misc_deregister(&counted_misc);
}

module_init(counted_init);
module_exit(counted_exit);
MODULE_DESCRIPTION("A driver that needs a parameter");
MODULE_LICENSE("GPL");
