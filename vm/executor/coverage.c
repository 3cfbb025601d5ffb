// SPDX-License-Identifier: Apache-2.0
/*
 * Coverage of the threads that make calls, from KCOV. Only the driver is
 * instrumented, so a buffer holds many programs' worth and folding is cheap.
 * A buffer is a count, then the pcs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kcov.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "executor.h"

#define HASH_SHIFT	18
_Static_assert(1u << (32 - HASH_SHIFT) == CH_PATH_COUNTERS, "the hash does not fit");

/* Operations whose outcomes count, and what tells how often one succeeded from errors. */
#define COUNTED	(1ull << W_OPEN | 1ull << W_READ | 1ull << W_WRITE | \
		 1ull << W_PREAD | 1ull << W_PWRITE | 1ull << W_IOCTL | \
		 1ull << W_MMAP | 1ull << W_MAP)
#define SUCCESS	0x10000
/* Up to this the counters of blocks tell how often a call did something. */
#define FIRST_SUCCESS	16

/* The calling thread's own. */
static __thread int kcov = -1;
static __thread uint64_t *recorded;
static __thread size_t capacity;

#define CHILD_ENTRIES	(16 << 10)
static int child_kcov = -1;

/* The counters that are not 0, each once. */
static uint32_t touched[CH_COUNTERS_SIZE];
static uint32_t n_touched;

static void touch(uint32_t counter)
{
	uint32_t n = __atomic_fetch_add(&n_touched, 1, __ATOMIC_RELAXED);

	if (n < CH_COUNTERS_SIZE)
		touched[n] = counter;
}

/* How often calls of this program succeeded, by kind: contexts, then operations. */
static uint8_t successes[CH_MAX_CONTEXTS + 1 + W_N_OPS];

/* A program begins, with all counters at 0. */
void coverage_begin(void)
{
	n_touched = 0;
	memset(successes, 0, sizeof(successes));
}

/* Whether a counter is in a bucket in which the host has not seen it. */
bool coverage_is_new(void)
{
	static const uint8_t bucket[CH_COUNTER_DEFERRED + 1] = {
		0, 1, 2, 4, 8, 8, 8, 8, 16, [CH_COUNTER_DEFERRED] = 32
	};
	const uint8_t *counters = channel + CH_COUNTERS;
	const uint8_t *seen = channel + CH_SEEN;

	for (uint32_t i = 0; i < n_touched && i < CH_COUNTERS_SIZE; i++)
		if (bucket[counters[touched[i]]] & ~seen[touched[i]])
			return true;
	return false;
}

/* Set the counters of the last program to 0. */
void coverage_clear(void)
{
	uint8_t *counters = channel + CH_COUNTERS;

	for (uint32_t i = 0; i < n_touched && i < CH_COUNTERS_SIZE; i++)
		counters[touched[i]] = 0;
	n_touched = 0;
}

/* Leave a copy for the host, which looks while other programs run. */
void coverage_keep(void)
{
	size_t n = header->n_counters + CH_PATH_COUNTERS;

	if (n <= CH_COUNTERS_SIZE)
		memcpy(channel + CH_LAST, channel + CH_COUNTERS, n);
}

/* Record the calling thread from now on; NULL if the kernel cannot. */
uint64_t *coverage_open(size_t entries)
{
	int fd = descriptor_of_ours(open("/sys/kernel/debug/kcov",
					 O_RDWR | O_CLOEXEC));
	uint64_t *cover;

	if (fd < 0 || ioctl(fd, KCOV_INIT_TRACE, entries))
		return NULL;
	cover = mmap(NULL, entries * sizeof(*cover),
		     PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (cover == MAP_FAILED || ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC))
		return NULL;
	kcov = fd;
	recorded = cover;
	capacity = entries;
	return cover;
}

/* A buffer for children, of which there is one at a time; NULL if the kernel has none. */
uint64_t *coverage_of_child(void)
{
	static uint64_t *cover;

	if (child_kcov >= 0)
		return cover;
	child_kcov = descriptor_of_ours(open("/sys/kernel/debug/kcov",
					     O_RDWR | O_CLOEXEC));
	if (child_kcov < 0 || ioctl(child_kcov, KCOV_INIT_TRACE, CHILD_ENTRIES))
		return NULL;
	cover = mmap(NULL, CHILD_ENTRIES * sizeof(*cover), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_POPULATE, child_kcov, 0);
	if (cover == MAP_FAILED)
		cover = NULL;
	return cover;
}

/* The calling thread is a child's: record it there, for its parent to fold. */
void coverage_be_child(uint64_t *cover)
{
	recorded = NULL;
	if (!cover || ioctl(child_kcov, KCOV_ENABLE, KCOV_TRACE_PC))
		return;
	kcov = child_kcov;
	recorded = cover;
	capacity = CHILD_ENTRIES;
}

/* Forget what the calling thread compared so far. */
void coverage_forget(void)
{
	if (recorded)
		__atomic_store_n(&recorded[0], 0, __ATOMIC_RELAXED);
}

/*
 * Have KCOV_TRACE_PC or KCOV_TRACE_CMP of the calling thread recorded, in the
 * same buffer; false if the kernel cannot, and then nothing is recorded.
 */
bool coverage_record(unsigned int mode)
{
	if (!recorded)
		return false;
	ioctl(kcov, KCOV_DISABLE, 0);
	coverage_forget();
	return !ioctl(kcov, KCOV_ENABLE, mode);
}

void coverage_drop(uint64_t *cover)
{
	if (cover && !(comparing && cover == threads[0].cover))
		__atomic_store_n(&cover[0], 0, __ATOMIC_RELAXED);
}

static size_t count_of(const uint64_t *cover)
{
	return cover ? __atomic_load_n(&cover[0], __ATOMIC_RELAXED) : 0;
}

/*
 * A call of this thread begins. What it covers first follows nothing, and a pc of 0 says so:
 * else each call after each other one would be news.
 */
void coverage_mark(void)
{
	size_t n = count_of(recorded);

	if (!recorded || comparing || n + 1 >= capacity)
		return;
	recorded[n + 1] = 0;
	__atomic_store_n(&recorded[0], n + 1, __ATOMIC_RELAXED);
}

static void count_edge(uint32_t from, uint32_t to)
{
	uint32_t hash = (to + (from + CH_MAX_CONTEXTS) * 0x9e3779b1u) *
			0x85ebca6bu >> HASH_SHIFT;
	uint8_t *counter = channel + CH_COUNTERS + header->n_counters + hash;

	if (*counter)
		return;
	*counter = 1;
	touch(header->n_counters + hash);
}

/*
 * Add the pcs to the channel's counters, and begin anew. While the runner's
 * comparisons are recorded, which are no pcs, other threads do not count either.
 */
void coverage_fold(uint64_t *cover)
{
	const uint32_t *table = (const uint32_t *)(channel + CH_TABLE);
	uint64_t base = header->text_start + header->table_base;
	uint64_t length = header->table_length;
	uint8_t *counters = channel + CH_COUNTERS;
	size_t n = comparing ? 0 : count_of(cover);
	uint32_t last = 0;

	for (size_t i = 0; i < n; i++) {
		uint64_t pc = cover[i + 1], offset = pc - base;
		uint32_t block = offset < length ? table[offset] : 0;

		if (!pc)
			last = 0;
		if (!block)
			continue;
		if (last)
			count_edge(last, block);
		last = block;
		if (counters[block - 1] >= CH_COUNTER_MAX)
			continue;
		if (!counters[block - 1]++)
			touch(block - 1);
	}
	header->n_pcs += n;
	coverage_drop(cover);
}

static uint32_t block_at(uint64_t pc)
{
	const uint32_t *table = (const uint32_t *)(channel + CH_TABLE);
	uint64_t offset = pc - header->text_start - header->table_base;

	return offset < header->table_length ? table[offset] : 0;
}

/* Count a pc that the driver ran outside of calls, if no call of the program ran it. */
void coverage_count_deferred(uint64_t pc)
{
	uint32_t block = block_at(pc);
	uint8_t *counter = channel + CH_COUNTERS + block - 1;

	if (!block || *counter)
		return;
	*counter = CH_COUNTER_DEFERRED;
	touch(block - 1);
}

/* The context of a call, 1 and up; 0 if it has none. */
uint32_t coverage_context(const struct w_call *call)
{
	uint32_t n = header->n_contexts;

	if (call->op != W_IOCTL || comparing || n > CH_MAX_CONTEXTS)
		return 0;
	for (uint32_t i = 0; i < n; i++)
		if (header->contexts[i] == call->cmd)
			return i + 1;
	return 0;
}

size_t coverage_count(const uint64_t *cover)
{
	return count_of(cover);
}

/* Count what was covered since there were so many pcs, for a context alone. */
void coverage_fold_context(const uint64_t *cover, size_t first, uint32_t context)
{
	const uint32_t *table = (const uint32_t *)(channel + CH_TABLE);
	uint64_t base = header->text_start + header->table_base;
	uint64_t length = header->table_length;
	uint8_t *counters = channel + CH_COUNTERS + header->n_counters;
	size_t n = count_of(cover);

	for (size_t i = first; i < n; i++) {
		uint64_t offset = cover[i + 1] - base;
		uint32_t block = offset < length ? table[offset] : 0;
		uint32_t hash = (block + context * 0x9e3779b1u) * 0x85ebca6bu;

		if (!block || counters[hash >> HASH_SHIFT])
			continue;
		counters[hash >> HASH_SHIFT] = 1;
		touch(header->n_counters + (hash >> HASH_SHIFT));
	}
}

/*
 * A call has ended. With CH_F_OUTCOMES an error of a kind of call counts, and that one
 * succeeded for the 16th, 32nd, 64th time and so on in the program: what the driver keeps
 * or counts may show by that alone. An error that was injected, or is of a file that is
 * not open, says nothing of it.
 */
void coverage_count_outcome(const struct w_call *call, uint32_t context, int error)
{
	uint32_t kind = context, value = error, hash;
	uint8_t *counter;

	if (!(header->flags & CH_F_OUTCOMES) || comparing || call->fault ||
	    error == EBADF || !(1ull << call->op & COUNTED))
		return;
	if (call->op != W_IOCTL)
		kind = CH_MAX_CONTEXTS + 1 + (call->op == W_PREAD  ? W_READ :
					      call->op == W_PWRITE ? W_WRITE :
								     call->op);
	if (!kind)
		return;
	if (!error) {
		if (successes[kind] == UINT8_MAX)
			return;
		value = ++successes[kind];
		if (value < FIRST_SUCCESS || value & (value - 1))
			return;
		value |= SUCCESS;
	}
	hash = (kind * 0x9e3779b1u + value * 0xc2b2ae35u) * 0x85ebca6bu;
	counter = channel + CH_COUNTERS + header->n_counters + (hash >> HASH_SHIFT);
	if (*counter)
		return;
	*counter = 1;
	touch(header->n_counters + (hash >> HASH_SHIFT));
}

/* Copy out the pcs themselves; returns how many. */
size_t coverage_copy(const uint64_t *cover, uint64_t *to, size_t room)
{
	size_t n = count_of(cover);

	if (n > room)
		n = room;
	for (size_t i = 0; i < n; i++)
		to[i] = cover[i + 1];
	return n;
}

/*
 * Returns how many comparisons of the calling thread are recorded, each of
 * COMPARISON_WORDS words: type, two operands, pc. *all: there was room for all.
 */
size_t coverage_comparisons(const uint64_t **records, bool *all)
{
	size_t n = count_of(recorded);

	*records = recorded + 1;
	*all = !n || n < (capacity - 1) / COMPARISON_WORDS;
	return n;
}
