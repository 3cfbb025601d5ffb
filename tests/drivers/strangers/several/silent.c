// SPDX-License-Identifier: GPL-2.0
/* It makes nothing. */
#include <linux/module.h>

static int __init silent_init(void)
{
	return 0;
}

static void __exit silent_exit(void)
{
}

module_init(silent_init);
module_exit(silent_exit);
MODULE_DESCRIPTION("The module of several without any file");
MODULE_LICENSE("GPL");
