// SPDX-License-Identifier: GPL-2.0
/* What the other module calls. */
#include <linux/module.h>

#include "zz_core.h"

size_t zz_core_most(void)
{
	return 7;
}
EXPORT_SYMBOL_GPL(zz_core_most);

MODULE_DESCRIPTION("The half that has no file");
MODULE_LICENSE("GPL");
