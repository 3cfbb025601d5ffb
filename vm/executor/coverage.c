// SPDX-License-Identifier: Apache-2.0
/*
 * Coverage of the task that runs programs, from KCOV. Only the driver is
 * instrumented, so a buffer holds many programs' worth and folding is cheap.
 */
#include <fcntl.h>
#include <linux/kcov.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "executor.h"

#define COVER_ENTRIES (64 << 10)

static uint64_t *cover;		/* [0] is the count, then the pcs */

void coverage_open(void)
{
	int fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, COVER_ENTRIES))
		return;
	cover = mmap(NULL, COVER_ENTRIES * sizeof(*cover),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		cover = NULL;
}

void coverage_start(void)
{
	if (cover)
		__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);
}

size_t coverage_count(void)
{
	return cover ? __atomic_load_n(&cover[0], __ATOMIC_RELAXED) : 0;
}

/* Add pcs [from, to) to the channel's counters. */
void coverage_fold(size_t from, size_t to)
{
	const uint32_t *table = (const uint32_t *)(channel + CH_TABLE);
	uint64_t base = header->text_start + header->table_base;
	uint64_t length = header->table_length;
	uint8_t *counters = channel + CH_COUNTERS;

	for (size_t i = from; i < to; i++) {
		uint64_t offset = cover[i + 1] - base;
		uint32_t block = offset < length ? table[offset] : 0;

		if (block && counters[block - 1] < CH_COUNTER_MAX)
			counters[block - 1]++;
	}
}

/* Copy out the pcs themselves; returns how many. */
size_t coverage_copy(uint64_t *to, size_t room)
{
	size_t n = coverage_count();

	if (n > room)
		n = room;
	for (size_t i = 0; i < n; i++)
		to[i] = cover[i + 1];
	return n;
}
