/* SPDX-License-Identifier: Apache-2.0 */
/* What uinput.yaml names: the kernel's own user space headers. */
#include <linux/uinput.h>
