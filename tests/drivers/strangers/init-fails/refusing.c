// SPDX-License-Identifier: GPL-2.0
/* Its hardware is not there. */
#include <linux/errno.h>
#include <linux/module.h>
#include <linux/printk.h>

static int __init refusing_init(void)
{
	pr_err("refusing: no chip at address %#x\n", 0x40);
	return -ENXIO;
}

static void __exit refusing_exit(void)
{
}

module_init(refusing_init);
module_exit(refusing_exit);
MODULE_DESCRIPTION("A driver that cannot be loaded");
MODULE_LICENSE("GPL");
