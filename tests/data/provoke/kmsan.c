// SPDX-License-Identifier: GPL-2.0
/* Uses of memory that was never set, which KMSAN reports. */
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "provoke.h"

struct prov_padded {
	u8 small;
	u64 large;
};

static int prov_sink;

static noinline void prov_unset_local(void)
{
	volatile int value;

	if (value > 3)
		WRITE_ONCE(prov_sink, 1);
}

static noinline void prov_unset_heap(void)
{
	int *values = kmalloc_array(8, sizeof(*values), GFP_KERNEL);

	if (!values)
		return;
	OPTIMIZER_HIDE_VAR(values);
	if (values[5] > 3)
		WRITE_ONCE(prov_sink, 2);
	kfree(values);
}

static noinline void prov_unset_freed(void)
{
	int *values = kcalloc(8, sizeof(*values), GFP_KERNEL);

	if (!values)
		return;
	kfree(values);
	OPTIMIZER_HIDE_VAR(values);
	/* The middle has the allocator's pointer to the next one. */
	if (values[1] > 3)
		WRITE_ONCE(prov_sink, 3);
}

static noinline void prov_unset_padding(void)
{
	struct prov_padded padded;

	padded.small = 1;
	padded.large = 2;
	if (copy_to_user(prov_user, &padded, sizeof(padded)))
		pr_info("provoke: not copied\n");
}

const struct provoke_kind prov_kmsan_kinds[] = {
	PROVOKE_KIND(unset_local),
	PROVOKE_KIND(unset_heap),
	PROVOKE_KIND(unset_freed),
	PROVOKE_KIND(unset_padding),
	{ }
};
