// SPDX-License-Identifier: Apache-2.0
/*
 * Waits in a parallel part. On an exact machine, which counts instructions and
 * runs one vCPU at a time, they decide at which instruction of one thread
 * another one takes over, and nothing else does.
 *
 * This rests on how QEMU takes turns there. A vCPU runs until it halts, says
 * PAUSE or a timer is due. After the first two it is the next one's turn, after
 * a timer it is that of the lowest vCPU which has something to do. So whoever
 * waits says PAUSE until its time has come, is on a lower vCPU than those that
 * run meanwhile, and has a timer end their turn. Setting a timer may end a turn
 * too, and Linux sets it anew in each interrupt. So the timers are those of a
 * vCPU where no thread runs, and it is neither the lowest nor the highest.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"

#define TIMER_CPU	1
#define MAX_TIMERS	32
/* Ticks to set the timers in before a part starts; doubled if too few. */
#define FIRST_LEAD	25000
/* Of these so many are left at the end. */
#define MARGIN		5000
/* A local APIC counts in steps of so many ticks. */
#define TIMER_STEP	16
#define SECOND		1000000000ull

static bool exact;

void pin(uint32_t cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

/* The runner has nothing to do during a part but to have the timers. */
void schedule_open(void)
{
	const char *wanted = getenv("pkvfuzz_exact");

	exact = wanted && *wanted == '1';
	if (exact && sysconf(_SC_NPROCESSORS_ONLN) > TIMER_CPU)
		pin(TIMER_CPU);
}

/* Whether what a program does follows from it alone. */
bool schedule_is_exact(void)
{
	return exact;
}

/* Ticks from the start of the part until a thread goes on; 0: it does not wait. */
uint64_t schedule_time(const struct w_call *call)
{
	if (call->op != W_WAIT)
		return 0;
	return call->arg < W_MAX_WAIT ? call->arg : W_MAX_WAIT;
}

/* The vCPU of the thread that waits longest, if rank is 0, second longest ... */
uint32_t schedule_cpu(uint32_t rank, uint32_t n_cpus)
{
	uint32_t cpu = exact && rank >= TIMER_CPU ? rank + 1 : rank;

	return cpu < n_cpus ? cpu : n_cpus - 1;
}

static void spin(uint64_t rounds)
{
	while (rounds--)
		__asm__ volatile("nop");
}

/*
 * The timer counts in steps from when it is set. That is done a bit earlier or
 * later, so that it can end a turn after any instruction.
 */
static void set_timer(int timer, uint64_t end)
{
	struct timespec now;
	struct itimerspec at = { 0 };
	uint64_t phase = end % TIMER_STEP, ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = now.tv_sec * SECOND + now.tv_nsec + (end - ticks());
	at.it_value.tv_sec = ns / SECOND;
	at.it_value.tv_nsec = ns % SECOND;
	spin(phase);
	timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
	spin(TIMER_STEP - phase);
}

static void set_timers(const struct step *steps, uint32_t n, uint64_t start)
{
	static int timers[MAX_TIMERS];
	int *timer = timers;

	for (uint32_t i = 0; i < n && timer < timers + MAX_TIMERS; i++) {
		uint64_t time = schedule_time(&steps[i].call);

		if (!time)
			continue;
		if (!*timer)
			*timer = descriptor_of_ours(timerfd_create(CLOCK_MONOTONIC,
								   TFD_CLOEXEC));
		set_timer(*timer++, start + time);
	}
}

/* Return when a part starts for which all threads are ready, in ticks. */
uint64_t schedule_start(const struct step *steps, uint32_t n)
{
	uint64_t lead = FIRST_LEAD, start = ticks();

	while (exact && ticks() + MARGIN > start) {
		start = ticks() + lead;
		lead *= 2;
		set_timers(steps, n, start);
	}
	return start;
}

/* Start a thread's first call, if it does not wait, at the very instruction. */
void schedule_begin(uint64_t start)
{
	schedule_wait(start - MARGIN / 2);
	while (ticks() < start)
		;
}

void schedule_wait(uint64_t until)
{
	while (ticks() < until)
		__builtin_ia32_pause();
}
