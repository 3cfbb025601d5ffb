/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the kernels that pkv builds against, 6.1 and later. A
 * kernel tree needs none of it.
 */
#ifndef _PKV_COMPAT_H
#define _PKV_COMPAT_H

#include <linux/compiler.h>

/* New in 6.6. */
#ifndef __counted_by
#define __counted_by(...)
#endif

#endif /* _PKV_COMPAT_H */
