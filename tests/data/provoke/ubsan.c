// SPDX-License-Identifier: GPL-2.0
/* What UBSAN reports. */
#include <linux/compiler.h>
#include <linux/string.h>

#include "provoke.h"

static long prov_sink;

struct prov_pair {
	u32 first;
	u64 second;
};

static noinline void prov_shift(void)
{
	int width = 40;

	OPTIMIZER_HIDE_VAR(width);
	prov_sink = 1 << width;
}

static noinline void prov_shift_negative(void)
{
	int width = -1;

	OPTIMIZER_HIDE_VAR(width);
	prov_sink = 1 << width;
}

static noinline void prov_array_index(void)
{
	static struct {
		int array[4];
		int beyond[4];
	} table;
	int index = 5;

	OPTIMIZER_HIDE_VAR(index);
	prov_sink = table.array[index];
}

static noinline void prov_invalid_bool(void)
{
	bool flag;

	memset(&flag, 2, sizeof(flag));
	barrier_data(&flag);
	prov_sink = flag;
}

static noinline void prov_misaligned(void)
{
	static char bytes[32] __aligned(8);
	struct prov_pair *pair = (struct prov_pair *)(bytes + 1);

	OPTIMIZER_HIDE_VAR(pair);
	prov_sink = pair->second;
}

static noinline void prov_null_member(void)
{
	struct prov_pair *pair = NULL;

	OPTIMIZER_HIDE_VAR(pair);
	prov_sink = (long)&pair->second;
}

static noinline void prov_division_ubsan(void)
{
	int zero = 0;

	OPTIMIZER_HIDE_VAR(zero);
	prov_sink = 100 / zero;
}

const struct provoke_kind prov_ubsan_kinds[] = {
	PROVOKE_KIND(shift),
	PROVOKE_KIND(shift_negative),
	PROVOKE_KIND(array_index),
	PROVOKE_KIND(invalid_bool),
	PROVOKE_KIND(misaligned),
	PROVOKE_KIND(null_member),
	PROVOKE_KIND(division_ubsan),
	{ }
};
