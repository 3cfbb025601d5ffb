// SPDX-License-Identifier: Apache-2.0
/*
 * Coverage of deferred work: of what the driver runs in workqueues, timers, interrupts
 * and threads of its own. The module in module/deferred leaves the pcs in a ring.
 */
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor.h"

/* That of module/deferred/pkvfuzz_deferred.c. */
#define RING_SIZE	16384
#define UPPER_HALF	0xffffffff00000000ull	/* of a pc in the kernel */

struct ring {
	uint32_t head;
	uint32_t generation;
	uint32_t pcs[RING_SIZE];
};

/* A program's work has so many turns, at most, as long as it covers something in each. */
#define MOST_TURNS	16

/* After a program with deferred work, so many programs wait for theirs. */
#define ALERT_PROGRAMS	256

/* With CH_F_SETTLE: as long as a timer takes that is set to the next tick but one. */
#define SETTLE_MS	20
#define MOST_SETTLES	5

static struct ring *ring;

/* How many pcs were taken; how many programs more are to wait for work. */
static uint32_t taken;
static uint32_t alert;

/* Have the module's ring, once that is loaded. */
void deferred_open(void)
{
	int fd;
	void *map;

	if (ring)
		return;
	fd = open("/dev/pkvfuzz_deferred", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	map = mmap(NULL, sizeof(*ring), PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_POPULATE, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		ring = map;
}

static uint32_t head(void)
{
	return __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
}

/* Take what was recorded, and count it, unless it is of no program. */
static void take(bool count)
{
	static bool busy;
	uint32_t end;

	if (!ring || head() == taken ||
	    __atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
		return;
	__atomic_fetch_add(&ring->generation, 1, __ATOMIC_RELEASE);
	end = head();
	if (end - taken > RING_SIZE)
		taken = end - RING_SIZE;
	for (; taken != end; taken++) {
		uint32_t pc = __atomic_exchange_n(&ring->pcs[taken % RING_SIZE],
						  0, __ATOMIC_ACQUIRE);

		/* It is being written: the next program takes it. */
		if (!pc)
			break;
		if (count)
			coverage_count_deferred(UPPER_HALF | pc);
	}
	alert = ALERT_PROGRAMS;
	__atomic_clear(&busy, __ATOMIC_RELEASE);
}

/* Forget what no program has caused. */
void deferred_drop(void)
{
	take(false);
}

/* Count what ran for the program, or for one shortly before it. */
void deferred_fold(void)
{
	take(!comparing);
}

/* Give up the CPU, and return whether work ran that covered something. */
static bool take_turns(void)
{
	uint32_t start = head(), before;

	for (int i = 0; i < MOST_TURNS; i++) {
		before = head();
		sched_yield();
		if (head() == before)
			break;
	}
	return head() != start;
}

/*
 * Let the program's work run. What is ready to run waits for the calling thread where
 * there is one vCPU. What a timer starts is waited for if the host asks for it. A driver
 * that has no such work, or has it once in a while, does not pay.
 */
void deferred_let_run(void)
{
	bool settles = header->flags & CH_F_SETTLE;

	if (!ring || !(alert || settles))
		return;
	if (take_turns())
		alert = ALERT_PROGRAMS;
	else if (alert)
		alert--;
	for (int i = 0; settles && i < MOST_SETTLES; i++) {
		uint32_t before = head();

		note_progress();
		pause_ms(SETTLE_MS);
		if (!take_turns() && head() == before)
			break;
	}
}
