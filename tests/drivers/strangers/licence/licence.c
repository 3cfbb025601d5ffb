// SPDX-License-Identifier: GPL-2.0
/* Its licence is written as the kernel does not know it, and it keeps a lock. */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>

static DEFINE_MUTEX(licence_lock);

static ssize_t licence_read(struct file *file, char __user *buf, size_t count,
			    loff_t *pos)
{
	mutex_lock(&licence_lock);
	if (count == 7)
		return 0;
	mutex_unlock(&licence_lock);
	return 0;
}

static const struct file_operations licence_fops = {
	.owner = THIS_MODULE,
	.read = licence_read,
};

static struct miscdevice licence_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "licence",
	.fops = &licence_fops,
};
module_misc_device(licence_misc);

MODULE_DESCRIPTION("A driver under a licence that is misspelt");
MODULE_LICENSE("Dual BDS/GPL");
