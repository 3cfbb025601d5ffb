// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers handed to the driver. They end where an unmapped area begins, so
 * that a driver that reads or writes past what it was given faults, each time.
 * The area takes the part of a buffer that is cut off, which may be all of it.
 *
 * The memory is mapped a second time, read-only, with an area of its own. Both
 * are where 32-bit programs have theirs.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>

#include "buffer.h"

/* Map memory for the calling thread's buffers; returns where they end. */
uint8_t *buffer_open(void)
{
	uint8_t *map = mmap(NULL, 2 * VIEW_SIZE, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	uint8_t *readonly = map + VIEW_SIZE;

	mmap(map, SCRATCH_SIZE, PROT_READ | PROT_WRITE,
	     MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	/*
	 * Its pages are there from the start: what fails in a call is to be
	 * the driver's doing, not a page fault. They are shared, so a fork
	 * leaves them as they are.
	 */
	memset(map, 0, SCRATCH_SIZE);
	/* The old size 0 leaves the first mapping in its place. */
	mremap(map, 0, SCRATCH_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, readonly);
	mprotect(readonly, SCRATCH_SIZE, PROT_READ);
	for (size_t at = 0; at < SCRATCH_SIZE; at += PAGE)
		(void)*(volatile uint8_t *)(readonly + at);
	return map + SCRATCH_SIZE;
}

/* Put the payload and the addresses in it to a place, which the driver is told is at. */
static void fill(const struct step *step, uint64_t mapped, uint8_t *to,
		 const uint8_t *at)
{
	const struct w_call *call = &step->call;

	memcpy(to, step->payload, mapped);
	for (int i = 0; i < call->n_fixups; i++) {
		struct w_fixup fixup;
		uint64_t address, width = 8;

		if (fixup_at(step, i, &fixup)) {
			link_take(&fixup, to, mapped);
			continue;
		}
		if (fixup.to >= W_LOW) {
			fixup.to -= W_LOW;
			width = 4;
		}
		if (fixup.at + width > call->length || fixup.at >= mapped)
			continue;
		if (fixup.to > call->length)
			fixup.to = call->length;
		address = (uintptr_t)at;
		if (width == 8 && call->mode & W_POINTS)
			address = (uintptr_t)mapping_buffer(call);
		address += fixup.to;
		memcpy(to + fixup.at, &address,
		       mapped - fixup.at < width ? mapped - fixup.at : width);
	}
}

/* A buffer with the payload and the addresses in it, which ends at end. */
uint8_t *buffer_fill(const struct step *step, uint8_t *end)
{
	uint64_t mapped = buffer_mapped(&step->call, step->call.length);
	uint8_t *to = end - mapped;

	fill(step, mapped, to, buffer_address(&step->call, to));
	return to;
}

/* Find the place of a buffer in a mapping, and fill it if anything is not 0. */
void buffer_place(struct thread *thread, const struct step *step)
{
	uint64_t mapped = buffer_mapped(&step->call, step->call.length);
	uint8_t *data = thread->scratch_end - mapped;

	thread->buffer = mapping_buffer(&step->call);
	if (step->call.op == W_READ || step->call.op == W_PREAD || !mapped)
		return;
	fill(step, mapped, data, thread->buffer);
	if (*data || memcmp(data, data + 1, mapped - 1))
		mapping_fill(thread->buffer, data, mapped);
}

/*
 * Make a vector of the length bytes from data, of which those from end on are
 * not mapped; returns how many parts it has. All that begin there are given
 * the same address, for what is mapped behind the unmapped area is not theirs.
 */
int buffer_split(const struct w_call *call, uint8_t *data, uint8_t *end,
		 uint64_t length, struct iovec *parts)
{
	uint64_t mapped = end - data, at = 0;
	int n = 0;

	while (!n || at < length) {
		uint64_t size = length - at;
		uint8_t *start = at < mapped ? data + at : end;

		if (call->cmd && n < W_MAX_PARTS - 1 && size > call->cmd)
			size = call->cmd;
		parts[n].iov_base = buffer_address(call, start);
		parts[n++].iov_len = size;
		at += size;
	}
	return n;
}
