// SPDX-License-Identifier: Apache-2.0
/*
 * Mappings of the driver's files: those that go at once, and those that stay. Each
 * file number can have one that stays, which outlives the file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"

#define MAX_PAGES	16
#define MAX_KEPT	8
#define ALL		((1u << MAX_KEPT) - 1)

/*
 * Those that stay are far from all other memory, and from each other: a call that is
 * told of a larger buffer than its mapping has hits nothing behind it.
 */
#define PLACES		0x200000000000ull
#define PLACE_SIZE	0x200000ull

static uint64_t places;
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
static void touch_with_fault(struct thread *thread, void *map, size_t size,
			     bool writes)
{
	madvise(map, size, MADV_POPULATE_READ);
	if (writes)
		madvise(map, size, MADV_POPULATE_WRITE);
	thread->spared |= !fault_disarm(thread->fail_nth);
}

static uint64_t pages_of(uint64_t bytes, uint64_t most)
{
	uint64_t pages = bytes / PAGE + !!(bytes % PAGE);

	return pages > most ? most : pages;
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
	uint8_t *base = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
			     MAP_SHARED, fd, (off_t)call->cmd * PAGE);
	bool all;

	if (base == MAP_FAILED)
		return -1;
	if (call->fault)
		touch_with_fault(thread, base, pages * PAGE, true);
	all = touch(base, pages);
	munmap(base, pages * PAGE);
	return touched(all);
}

/* A place for a mapping that no other has in this program. */
static uint8_t *new_place(void)
{
	uint64_t number = __atomic_fetch_add(&places, 1, __ATOMIC_RELAXED);

	return (uint8_t *)(uintptr_t)(PLACES + number * PLACE_SIZE);
}

static uint8_t *base_of(uint64_t mapping)
{
	return (uint8_t *)(uintptr_t)(mapping & ~(uint64_t)ALL);
}

/* Those of the pages that a call is of, from the first one that it names on. */
static uint32_t mask_of(const struct w_call *call, uint64_t pages)
{
	if (call->cmd >= MAX_KEPT)
		return 0;
	return ((1u << pages) - 1) << call->cmd & ALL;
}

/* The first run of pages of a mask from a page on; returns where it begins. */
static int run_of(uint32_t mask, int page, int *end)
{
	while (page < MAX_KEPT && !(mask >> page & 1))
		page++;
	*end = page;
	while (*end < MAX_KEPT && mask >> *end & 1)
		++*end;
	return page;
}

/* Unmap those pages that are in a mask, a run of them at a time. */
static int64_t unmap(uint64_t mapping, uint32_t mask)
{
	int64_t ret = 0;
	int end = 0;

	mask &= mapping;
	for (int first; (first = run_of(mask, end, &end)) < end;)
		ret |= munmap(base_of(mapping) + first * PAGE,
			      (end - first) * PAGE);
	return ret ? -1 : 0;
}

/* Map pages and leave them so, in place of those that were. */
int64_t mapping_keep(int fd, const struct w_call *call)
{
	uint64_t pages = pages_of(call->arg, MAX_KEPT), old;
	int protection = (call->mode ^ W_MAP_TURNED) &
			 (PROT_READ | PROT_WRITE | PROT_EXEC);
	int kind = call->mode & W_MAP_PRIVATE ? MAP_PRIVATE : MAP_SHARED;
	uint8_t *base = mmap(new_place(), pages * PAGE, protection, kind, fd,
			     (off_t)call->cmd * PAGE);

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
	uint32_t mask = mask_of(call, pages_of(call->arg, MAX_KEPT));
	uint64_t old = __atomic_fetch_and(&kept[call->file], ~(uint64_t)mask,
					  __ATOMIC_ACQ_REL);

	if (!(old & mask)) {
		errno = EINVAL;
		return -1;
	}
	return unmap(old, mask);
}

/*
 * Have a run of pages be shorter or longer, or be elsewhere. What another thread
 * maps meanwhile is unmapped.
 */
int64_t mapping_remap(const struct w_call *call)
{
	uint64_t mapping = __atomic_load_n(&kept[call->file], __ATOMIC_ACQUIRE);
	uint64_t pages = pages_of(call->arg, MAX_KEPT), now;
	bool moves = call->mode & W_REMAP_MOVE;
	uint8_t *from, *to;
	int first, end;

	first = run_of(mapping & ALL, call->cmd < MAX_KEPT ? call->cmd : MAX_KEPT,
		       &end);
	if (pages > (uint64_t)(MAX_KEPT - first))
		pages = MAX_KEPT - first;
	from = base_of(mapping) + first * PAGE;
	to = moves ? new_place() + first * PAGE : from;
	if (mremap(from, (end - first) * PAGE, pages * PAGE,
		   moves ? MREMAP_MAYMOVE | MREMAP_FIXED : 0, to) == MAP_FAILED)
		return -1;
	now = (uintptr_t)(to - first * PAGE) | ((1u << pages) - 1) << first;
	mapping &= ~(uint64_t)(((1u << (end - first)) - 1) << first);
	if (!moves)
		now |= mapping & ALL;
	mapping = __atomic_exchange_n(&kept[call->file], now, __ATOMIC_ACQ_REL);
	if (moves || base_of(mapping) != base_of(now))
		unmap(mapping, ALL);
	return 0;
}

/* Pages of a mapping that a call is of, though they may not be there. */
static uint8_t *pages_at(const struct w_call *call)
{
	uint64_t mapping = __atomic_load_n(&kept[call->file], __ATOMIC_ACQUIRE);

	if (!(mapping & mask_of(call, 1)))
		return NULL;
	return base_of(mapping) + call->cmd * PAGE;
}

int64_t mapping_protect(const struct w_call *call)
{
	return mprotect(pages_at(call), pages_of(call->arg, MAX_KEPT) * PAGE,
			call->mode & (PROT_READ | PROT_WRITE | PROT_EXEC));
}

int64_t mapping_advise(const struct w_call *call)
{
	return madvise(pages_at(call), pages_of(call->arg, MAX_KEPT) * PAGE,
		       call->mode & W_MOST_ADVICE);
}

/* Read the 8 bytes at the start of a page, and write them unless the call is to read. */
int64_t mapping_store(struct thread *thread, const struct w_call *call)
{
	volatile uint64_t *at = (uint64_t *)pages_at(call);
	bool writes = !(call->flags & W_READONLY);
	volatile bool all = false;

	if (!at)
		return touched(false);
	if (call->fault)
		touch_with_fault(thread, (void *)at, PAGE, writes);
	touching = true;
	if (!sigsetjmp(past_mapping, 1)) {
		(void)*at;
		if (writes)
			*at = call->arg;
		all = true;
	}
	touching = false;
	return touched(all);
}

/* Where a call's buffer is, if it is in a mapping that a file had at last. */
uint8_t *mapping_buffer(const struct w_call *call)
{
	uint32_t file = (uint32_t)(call->mode - 1) % W_N_FILES;

	return base_of(__atomic_load_n(&kept[file], __ATOMIC_ACQUIRE));
}

/* Store what is to be in a buffer there; a page that cannot be written to stays as it is. */
void mapping_fill(uint8_t *to, const uint8_t *from, size_t size)
{
	touching = true;
	if (!sigsetjmp(past_mapping, 1))
		memcpy(to, from, size);
	touching = false;
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

/* Look whether what is mapped is still the driver's to map. */
void mappings_look(void)
{
	if (!places)
		return;
	for (uint32_t i = 0; i < W_N_FILES; i++) {
		uint64_t mapping = __atomic_load_n(&kept[i], __ATOMIC_ACQUIRE);

		if (mapping & ALL)
			freed_look(base_of(mapping), MAX_KEPT);
	}
}

void mappings_end(void)
{
	for (uint32_t i = 0; i < W_N_FILES; i++)
		if (kept[i])
			unmap(__atomic_exchange_n(&kept[i], 0, __ATOMIC_ACQ_REL),
			      ALL);
	places = 0;
	freed_forget();
}
