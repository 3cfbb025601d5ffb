// SPDX-License-Identifier: GPL-2.0
/*
 * A driver with two bugs that nearly every program meets, and one behind them that
 * takes a few calls. What is set stays set, as in many drivers, so that one program
 * prepares what the next one dies of.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "shallow.h"

#define SHALLOW_SIZE	64
#define SHALLOW_MODES	4

static bool sane;
module_param(sane, bool, 0444);
MODULE_PARM_DESC(sane, "be without the two bugs in the way");

static u32 quantum = 8;
static u32 limit = SHALLOW_SIZE;
static u32 mode;
static u32 steps;
static char *data;

static ssize_t shallow_write(struct file *file, const char __user *from,
			     size_t count, loff_t *at)
{
	char start[SHALLOW_SIZE];
	size_t whole;

	count = min(count, sizeof(start));
	if (copy_from_user(start, from, count))
		return -EFAULT;
	if (!quantum && sane)
		return -EINVAL;
	whole = count / quantum * quantum;
	if (start[0] == '+')
		steps++;
	else if (start[0] == '-')
		steps = 0;
	memcpy(data, start, whole);
	return whole ? whole : count;
}

static ssize_t shallow_read(struct file *file, char __user *to, size_t count,
			    loff_t *at)
{
	char sum = 0;

	if (sane)
		count = min_t(size_t, count, SHALLOW_SIZE);
	for (size_t i = 0; i < min_t(size_t, count, SHALLOW_SIZE + 1); i++)
		sum += data[i];
	return put_user(sum, to) ? -EFAULT : 1;
}

static long shallow_commit(void)
{
	switch (mode) {
	case 1:
		return steps;
	case 2:
		return limit;
	case 3:
		WARN_ON(steps >= 2 && limit == 16);
		return 0;
	default:
		return -EINVAL;
	}
}

static long shallow_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct shallow_setting setting = {};
	u32 value;

	if (cmd != SHALLOW_IOC_COMMIT &&
	    copy_from_user(&setting, (void __user *)arg, sizeof(setting)))
		return -EFAULT;
	value = setting.value;
	switch (cmd) {
	case SHALLOW_IOC_QUANTUM:
		quantum = value;
		return 0;
	case SHALLOW_IOC_LIMIT:
		if (value > SHALLOW_SIZE)
			return -ERANGE;
		limit = value;
		return 0;
	case SHALLOW_IOC_MODE:
		if (value >= SHALLOW_MODES)
			return -EINVAL;
		mode = value;
		return 0;
	case SHALLOW_IOC_COMMIT:
		return shallow_commit();
	}
	return -ENOTTY;
}

static const struct file_operations shallow_fops = {
	.owner = THIS_MODULE,
	.read = shallow_read,
	.write = shallow_write,
	.unlocked_ioctl = shallow_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice shallow = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "shallow",
	.fops = &shallow_fops,
};

static int __init shallow_init(void)
{
	int error;

	data = kzalloc(SHALLOW_SIZE, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	error = misc_register(&shallow);
	if (error)
		kfree(data);
	return error;
}

static void __exit shallow_exit(void)
{
	misc_deregister(&shallow);
	kfree(data);
}

module_init(shallow_init);
module_exit(shallow_exit);

MODULE_DESCRIPTION("Shallow bugs in front of a deep one");
MODULE_LICENSE("GPL");
