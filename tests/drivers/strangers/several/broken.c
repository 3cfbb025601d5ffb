// SPDX-License-Identifier: GPL-2.0
/* For a kernel that never was. */
#include <linux/module.h>

static int __init broken_init(void)
{
	return there_was_such_a_function(THIS_MODULE);
}
module_init(broken_init);
MODULE_LICENSE("GPL");
