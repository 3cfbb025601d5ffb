// SPDX-License-Identifier: Apache-2.0
/* Runs batches: programs that the host hands over at once. */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "executor.h"

/*
 * Run a batch (for each program its length as uint32_t, then its bytes) count
 * times without the host: the ceiling that the host's loop is measured by.
 */
int batch_loop(const uint8_t *batch, size_t length, uint32_t count)
{
	struct timespec start, end;
	uint64_t calls = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint32_t i = 0; i < count; i++) {
		for (size_t at = 0; at + 4 <= length;) {
			uint32_t size;

			memcpy(&size, batch + at, 4);
			at += 4;
			if (size > length - at)
				return fail(EINVAL, "the batch is cut short");
			program_run(batch + at, size);
			calls += header->n_results;
			at += size;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	header->loop_ns = (end.tv_sec - start.tv_sec) * 1000000000ull +
			  end.tv_nsec - start.tv_nsec;
	header->loop_calls = calls;
	return 0;
}

/*
 * Run a batch's programs one after the other, up to the first after which
 * there is something to look at: the kernel said something, a call waited or did
 * not end by itself, or with CH_F_NEW the counters show what the host has not seen.
 * They are those of the last program that ran.
 */
static int run_batch(const uint8_t *batch, size_t length, uint32_t turn,
		     bool *stopped)
{
	uint32_t n = 0;

	header->batch_at = 0;
	header->batch_new = 0;
	header->slowest_tsc[turn] = 0;
	for (size_t at = 0; at + 4 <= length; n++) {
		uint64_t start = ticks(), took;
		uint32_t size;

		memcpy(&size, batch + at, 4);
		at += 4;
		if (size > length - at)
			return fail(EINVAL, "the batch is cut short");
		if (n)
			coverage_clear();
		header->batch_at = n;
		program_run(batch + at, size);
		took = ticks() - start;
		if (took > header->slowest_tsc[turn]) {
			header->slowest_tsc[turn] = took;
			header->slowest[turn] = n;
		}
		header->loop_calls += header->n_results;
		at += size;
		header->batch_new = header->flags & CH_F_NEW && coverage_is_new();
		if (header->log_length && !header->status && log_is_known())
			header->log_length = 0;
		*stopped = header->batch_new || header->log_length ||
			   header->status || header->waited;
		if (*stopped)
			break;
	}
	return 0;
}

/*
 * Run a batch, and the next ones as long as they are there in time. The
 * counters must be 0 before.
 */
int batch_run_all(size_t length)
{
	uint32_t done = 0;
	bool stopped = false;

	header->loop_calls = 0;
	header->batches = 0;
	for (;;) {
		uint32_t turn = done % 2;
		const uint8_t *half = channel + CH_BULK + turn * CH_BATCH_SIZE;
		int error = run_batch(half, length, turn, &stopped);

		if (error || stopped)
			return error;
		length = __atomic_exchange_n(&header->next_length, 0,
					     __ATOMIC_ACQ_REL);
		if (!length)
			return 0;
		coverage_keep();
		coverage_clear();
		__atomic_store_n(&header->batches, ++done, __ATOMIC_RELEASE);
		bell_ring();
	}
}
