// SPDX-License-Identifier: Apache-2.0
/*
 * Links between the calls of a program: what one gave is what a later one takes.
 * The bytes are the driver's own, so nothing is assumed of them.
 */
#include <string.h>

#include "buffer.h"
#include "executor.h"

static uint64_t handles[W_N_HANDLES];

/* A program begins: there is nothing to take. */
void links_begin(void)
{
	memset(handles, 0, sizeof(handles));
}

bool fixup_at(const struct step *step, int index, struct w_fixup *fixup)
{
	memcpy(fixup, step->fixups + index * sizeof(*fixup), sizeof(*fixup));
	return fixup->to >= W_LINK;
}

static uint32_t kind_of(const struct w_fixup *link)
{
	return (link->to >> 8) % 16 % W_N_LINKS;
}

static uint64_t *handle_of(const struct w_fixup *link)
{
	return &handles[link->to % W_N_HANDLES];
}

static uint64_t taken(const struct w_fixup *link)
{
	uint64_t value;

	if (link->to & W_LINK_FILE)
		value = file_descriptor(link->to % W_N_FILES);
	else
		value = __atomic_load_n(handle_of(link), __ATOMIC_RELAXED);
	if (kind_of(link) == W_TAKE_NEXT)
		value++;
	else if (kind_of(link) == W_TAKE_LAST)
		value--;
	return value;
}

/* Put what a link takes into a buffer, of which so many bytes are mapped. */
void link_take(const struct w_fixup *link, uint8_t *data, uint64_t mapped)
{
	uint64_t value = taken(link), size = link->to & W_LINK_WIDE ? 8 : 4;

	if (kind_of(link) == W_GIVE || link->at >= mapped)
		return;
	memcpy(data + link->at, &value,
	       mapped - link->at < size ? mapped - link->at : size);
}

/* Set the argument of a call that takes it. */
void links_take_argument(struct step *step)
{
	struct w_call *call = &step->call;

	for (int i = 0; i < call->n_fixups; i++) {
		struct w_fixup link;

		if (!fixup_at(step, i, &link) || link.at != W_LINK_CALL ||
		    kind_of(&link) == W_GIVE)
			continue;
		if (call->op == W_MMAP || call->op == W_MAP)
			call->cmd = taken(&link) / PAGE;
		else
			call->arg = taken(&link);
	}
}

/* Keep what a call gave: it returned ret, and length bytes are in its buffer. */
void links_give(const struct step *step, int64_t ret, const uint8_t *out,
		int64_t length)
{
	if (ret == -1)
		return;
	for (int i = 0; i < step->call.n_fixups; i++) {
		struct w_fixup link;
		uint64_t value = 0;
		int64_t size;

		if (!fixup_at(step, i, &link) || kind_of(&link) != W_GIVE)
			continue;
		size = link.to & W_LINK_WIDE ? 8 : 4;
		if (link.at == W_LINK_CALL)
			value = ret;
		else if (link.at + size <= length)
			memcpy(&value, out + link.at, size);
		else
			continue;
		__atomic_store_n(handle_of(&link), value, __ATOMIC_RELAXED);
	}
}
