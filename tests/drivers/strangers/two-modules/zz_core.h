/* SPDX-License-Identifier: GPL-2.0 */
#include <linux/types.h>

size_t zz_core_most(void);
