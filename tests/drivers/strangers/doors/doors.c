// SPDX-License-Identifier: GPL-2.0
/* Doors: the same bug behind a file that all may open, and behind another one. */
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/ioctl.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>

#define DOORS_PASS	_IO(0xb9, 1)
#define DOORS_ADMIN	_IO(0xb9, 2)

/* The bug: what was freed is used. */
static noinline long pass(void)
{
	u8 *memory = kmalloc(16, GFP_KERNEL);

	kfree(memory);
	return memory ? READ_ONCE(memory[8]) : -ENOMEM;
}

static long doors_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case DOORS_PASS:
		return pass();
	case DOORS_ADMIN:
		return capable(CAP_SYS_ADMIN) ? pass() : -EPERM;
	}
	return -ENOTTY;
}

static const struct file_operations doors_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = doors_ioctl,
};

static struct miscdevice doors[] = {
	{
		.minor = MISC_DYNAMIC_MINOR,
		.name = "front_door",
		.mode = 0666,
		.fops = &doors_fops,
	}, {
		.minor = MISC_DYNAMIC_MINOR,
		.name = "back_door",
		.mode = 0600,
		.fops = &doors_fops,
	},
};

static int __init doors_init(void)
{
	int err = misc_register(&doors[0]);

	if (err)
		return err;
	err = misc_register(&doors[1]);
	if (err)
		misc_deregister(&doors[0]);
	return err;
}

static void __exit doors_exit(void)
{
	misc_deregister(&doors[1]);
	misc_deregister(&doors[0]);
}

module_init(doors_init);
module_exit(doors_exit);
MODULE_DESCRIPTION("Two doors");
MODULE_LICENSE("GPL");
