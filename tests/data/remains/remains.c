// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/remains hands out memory that it never set, each way by a call of its own. What
 * two calls hand out is another thing each time, and set.
 */
#include <linux/fs.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/random.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "remains.h"

static noinline long remains_stack(void __user *to)
{
	struct remains_info info;

	info.version = 3;
	info.serial = 77;
	strscpy(info.name, "remains", sizeof(info.name));
	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static noinline long remains_heap(void __user *to)
{
	struct remains_info *info = kmalloc(sizeof(*info), GFP_KERNEL);
	long ret;

	if (!info)
		return -ENOMEM;
	info->version = 3;
	ret = copy_to_user(to, info, sizeof(*info)) ? -EFAULT : 0;
	kfree(info);
	return ret;
}

/* Sets a value where it knows one. */
static noinline void look_up(u32 *value, unsigned long key)
{
	if (key > 1UL << 60)
		*value = 1;
}

static noinline long remains_put(u32 __user *to)
{
	u32 value;

	look_up(&value, (unsigned long)to);
	return put_user(value, to);
}

static noinline long remains_branch(unsigned long key)
{
	u32 value;

	look_up(&value, key);
	return value ? 1 : 0;
}

/* An address, a time and a random number. */
static noinline long remains_clean(struct file *file, void __user *to)
{
	struct remains_info info;

	memset(&info, 0, sizeof(info));
	info.version = get_random_u32();
	info.serial = ktime_get_ns();
	snprintf(info.name, sizeof(info.name), "%px", file);
	return copy_to_user(to, &info, sizeof(info)) ? -EFAULT : 0;
}

static long remains_ioctl(struct file *file, unsigned int cmd,
			  unsigned long arg)
{
	void __user *to = (void __user *)arg;

	switch (cmd) {
	case REMAINS_STACK:
		return remains_stack(to);
	case REMAINS_HEAP:
		return remains_heap(to);
	case REMAINS_PUT:
		return remains_put(to);
	case REMAINS_BRANCH:
		return remains_branch(arg);
	case REMAINS_CLEAN:
		return remains_clean(file, to);
	case REMAINS_CHANCE:
		return get_random_u32() % 2;
	}
	return -ENOTTY;
}

static ssize_t remains_read(struct file *file, char __user *to, size_t count,
			    loff_t *at)
{
	const size_t size = 24;
	char *text = kmalloc(size, GFP_KERNEL);
	ssize_t ret;

	if (!text)
		return -ENOMEM;
	strscpy(text, "remains", size);
	ret = simple_read_from_buffer(to, count, at, text, size);
	kfree(text);
	return ret;
}

static const struct file_operations remains_fops = {
	.owner = THIS_MODULE,
	.read = remains_read,
	.unlocked_ioctl = remains_ioctl,
};

static struct miscdevice remains = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "remains",
	.fops = &remains_fops,
};

module_misc_device(remains);

MODULE_DESCRIPTION("Hands out memory that it never set");
MODULE_LICENSE("GPL");
