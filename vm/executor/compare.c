// SPDX-License-Identifier: Apache-2.0
/*
 * What the driver compares during the serial calls of a program, from KCOV.
 * It goes to the host as struct ch_comparisons; a program that is run for it
 * has no coverage.
 */
#include <linux/kcov.h>
#include <string.h>

#include "executor.h"

#define SLOTS		(4 * CH_CALL_COMPARISONS)	/* a power of two */
/* Those with constants tell the driver's limits: they always have room. */
#define MAX_VARIABLE	(CH_CALL_COMPARISONS / 2)

bool comparing;

static struct ch_comparisons *list;

/* Comparisons in the list that are of this call, and without a constant. */
static uint32_t n_variable;

/*
 * Indices into the list, plus 1, by content. Those of earlier calls count as
 * empty, so that the table need not be cleared for each call.
 */
static uint32_t slots[SLOTS];

_Static_assert(sizeof(*list) + CH_MAX_CALLS * CH_CALL_COMPARISONS *
	       sizeof(list->list[0]) <= CH_BULK_SIZE, "too many comparisons");

/* If the host asked for it, record what is compared, until compare_end(). */
void compare_begin(void)
{
	if (!(header->flags & CH_F_COMPARE))
		return;
	header->flags &= ~CH_F_COMPARE;
	list = (struct ch_comparisons *)(channel + CH_BULK);
	memset(list, 0, sizeof(*list));
	memset(slots, 0, sizeof(slots));
	list->able = coverage_record(KCOV_TRACE_CMP);
	comparing = true;
}

void compare_end(void)
{
	if (!comparing)
		return;
	coverage_record(KCOV_TRACE_PC);
	comparing = false;
}

/*
 * An address in the kernel's memory, which no program can know. Where negative
 * 32-bit numbers begin there are addresses as well, but few.
 */
static bool is_address(uint64_t value)
{
	return value >= 0xffff800000000000ull && value < 0xffffffff80000000ull;
}

/* Add a comparison unless the list has it since first; false: no room. */
static bool add(uint32_t first, const struct ch_comparison *found)
{
	uint64_t hash = (found->a * 0x9e3779b97f4a7c15ull ^ found->b) *
			0xff51afd7ed558ccdull + found->size + found->constant +
			found->site * 0x9e3779b97f4a7c15ull;
	uint32_t at = hash >> 40;

	for (;; at++) {
		uint32_t *slot = &slots[at % SLOTS];

		if (*slot <= first) {
			if (list->count - first == CH_CALL_COMPARISONS ||
			    (!found->constant && n_variable == MAX_VARIABLE))
				return false;
			n_variable += !found->constant;
			list->list[list->count++] = *found;
			*slot = list->count;
			return true;
		}
		if (!memcmp(&list->list[*slot - 1], found, sizeof(*found)))
			return true;
	}
}

/* Hand over what was compared since coverage_forget() to the host, as call's. */
void compare_take(uint32_t call)
{
	uint32_t first = list->count;
	const uint64_t *record;
	bool all;
	size_t n = coverage_comparisons(&record, &all);

	n_variable = 0;
	for (; n--; record += COMPARISON_WORDS) {
		struct ch_comparison found = {
			.a = record[1],
			.b = record[2],
			/* The same wherever the module is loaded. */
			.site = record[3] - header->text_start,
			.call = call,
			.size = 1 << (record[0] >> 1 & 3),
			.constant = record[0] & KCOV_CMP_CONST,
		};

		/* That nothing is left to reach tells of constants only. */
		if ((found.a == found.b && !found.constant) ||
		    is_address(found.a) || is_address(found.b))
			continue;
		if (!add(first, &found))
			list->dropped++;
	}
	if (!all)
		list->dropped++;
}
