// SPDX-License-Identifier: Apache-2.0
/*
 * Mappings of the driver's files: those that go at once, and those that stay. Each
 * file number can have one that stays, which outlives the file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"

#define MAX_PAGES	16
#define MAX_KEPT	8
#define ALL		((1u << MAX_KEPT) - 1)

/*
 * Each is an address with a bit for each page that is there: threads of a part may
 * map and unmap at the same time, and none must be lost.
 */
static uint64_t kept[W_N_FILES];
static __thread sigjmp_buf past_mapping;
static __thread bool touching;

/*
 * A page that a driver maps may not be there to touch: that is an error. Anywhere
 * else such a signal ends the process, as it would have without this.
 */
static void leave_mapping(int number)
{
	if (touching)
		siglongjmp(past_mapping, number);
	signal(number, SIG_DFL);
}

void mapping_open(void)
{
	struct sigaction action = { .sa_handler = leave_mapping };

	sigaction(SIGBUS, &action, NULL);
	/* Another thread may unmap what one stores to. */
	sigaction(SIGSEGV, &action, NULL);
}

static bool touch(volatile uint8_t *map, uint64_t pages)
{
	volatile bool all = false;
	uint8_t sum = 0;

	touching = true;
	if (!sigsetjmp(past_mapping, 1)) {
		for (uint64_t i = 0; i < pages; i++) {
			sum += map[i * PAGE];
			map[i * PAGE] = sum;
		}
		all = true;
	}
	touching = false;
	return all;
}

/*
 * Have the kernel touch the pages that the fault is for, and take it back: touching
 * them may end with a signal, whose frame must not be what it hits.
 */
static void touch_with_fault(struct thread *thread, void *map, size_t size)
{
	madvise(map, size, MADV_POPULATE_READ);
	madvise(map, size, MADV_POPULATE_WRITE);
	thread->spared |= !fault_disarm(thread->fail_nth);
}

static uint64_t pages_of(uint64_t bytes, uint64_t most)
{
	uint64_t pages = bytes / PAGE + !!(bytes % PAGE);

	return pages > most ? most : pages;
}

static uint8_t *map(int fd, const struct w_call *call, uint64_t pages)
{
	return mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		    (off_t)call->cmd * PAGE);
}

static int64_t touched(bool all)
{
	if (!all)
		errno = EFAULT;
	return all ? 0 : -1;
}

/* Map pages, touch each, and unmap them. */
int64_t mapping_touch(struct thread *thread, int fd, const struct w_call *call)
{
	uint64_t pages = pages_of(call->arg, MAX_PAGES);
	uint8_t *base = map(fd, call, pages);
	bool all;

	if (base == MAP_FAILED)
		return -1;
	if (call->fault)
		touch_with_fault(thread, base, pages * PAGE);
	all = touch(base, pages);
	munmap(base, pages * PAGE);
	return touched(all);
}

/* Unmap those pages that are in a mask, a run of them at a time. */
static int64_t unmap(uint64_t mapping, uint32_t mask)
{
	uint8_t *base = (uint8_t *)(uintptr_t)(mapping & ~(uint64_t)ALL);
	int64_t ret = 0;

	mask &= mapping;
	for (int first = 0; first < MAX_KEPT;) {
		int end = first;

		while (end < MAX_KEPT && mask >> end & 1)
			end++;
		if (end > first)
			ret |= munmap(base + first * PAGE, (end - first) * PAGE);
		first = end + 1;
	}
	return ret ? -1 : 0;
}

/* Map pages and leave them so, in place of those that were. */
int64_t mapping_keep(int fd, const struct w_call *call)
{
	uint64_t pages = pages_of(call->arg, MAX_KEPT), old;
	uint8_t *base = map(fd, call, pages);

	if (base == MAP_FAILED)
		return -1;
	old = __atomic_exchange_n(&kept[call->file],
				  (uintptr_t)base | ((1u << pages) - 1),
				  __ATOMIC_ACQ_REL);
	unmap(old, ALL);
	return 0;
}

int64_t mapping_unmap(const struct w_call *call)
{
	uint64_t pages = pages_of(call->arg, MAX_KEPT), old;
	uint32_t mask = 0;

	if (call->cmd < MAX_KEPT)
		mask = ((1u << pages) - 1) << call->cmd & ALL;
	old = __atomic_fetch_and(&kept[call->file], ~(uint64_t)mask,
				 __ATOMIC_ACQ_REL);
	if (!(old & mask)) {
		errno = EINVAL;
		return -1;
	}
	return unmap(old, mask);
}

/* Read and write the 8 bytes at the start of a page. */
int64_t mapping_store(const struct w_call *call)
{
	uint64_t mapping = __atomic_load_n(&kept[call->file], __ATOMIC_ACQUIRE);
	volatile uint64_t *at;
	volatile bool all = false;

	if (call->cmd >= MAX_KEPT || !(mapping >> call->cmd & 1))
		return touched(false);
	at = (uint64_t *)(uintptr_t)((mapping & ~(uint64_t)ALL) +
				     call->cmd * PAGE);
	touching = true;
	if (!sigsetjmp(past_mapping, 1)) {
		(void)*at;
		*at = call->arg;
		all = true;
	}
	touching = false;
	return touched(all);
}

/* A process with the same files and mappings, which ends at once. */
int64_t fork_once(void)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child < 0)
		return -1;
	return waitpid(child, &status, __WALL) < 0 ? -1 : 0;
}

void mappings_end(void)
{
	for (uint32_t i = 0; i < W_N_FILES; i++)
		if (kept[i])
			unmap(__atomic_exchange_n(&kept[i], 0, __ATOMIC_ACQ_REL),
			      ALL);
}
