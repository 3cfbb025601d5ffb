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

/* New in 6.5. */
#ifdef PKV_NO_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
#endif

#endif /* _PKV_COMPAT_H */
