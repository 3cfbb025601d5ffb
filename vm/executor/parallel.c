// SPDX-License-Identifier: Apache-2.0
/*
 * Parallel parts. Their threads are made when a program first asks for them,
 * and wait for the next part then: a program without threads pays nothing.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

/* Looks at the others before giving up the CPU: they may need the same one. */
#define SPINS		64

static struct {
	const struct step *steps;
	struct ch_result *results;
	uint32_t first, end;
	uint32_t n_threads;
	uint32_t arrived;
	bool scheduled;		/* calls of it wait */
	uint64_t start;		/* when it began, in ticks; 0: it has not yet */
	uint32_t cpu[W_N_THREADS + 1];
} part;

/* Set when a thread is to work on the part; by the thread itself cleared. */
static uint32_t wanted[W_N_THREADS + 1];
static uint32_t n_cpus;

/* Choose a vCPU for each thread of the part; those that wait have the lowest. */
static void place(uint32_t running)
{
	uint64_t waits[W_N_THREADS + 1] = { 0 };

	part.scheduled = false;
	for (uint32_t i = part.first; i < part.end; i++) {
		const struct w_call *call = &part.steps[i].call;
		uint64_t time = schedule_time(call);

		if (time > waits[call->thread])
			waits[call->thread] = time;
		part.scheduled |= time != 0;
	}
	for (uint32_t number = 1; number <= W_N_THREADS; number++) {
		uint32_t rank = 0;

		for (uint32_t other = 1; other <= W_N_THREADS; other++)
			rank += running >> other & 1 &&
				(waits[other] > waits[number] ||
				 (waits[other] == waits[number] &&
				  other < number));
		part.cpu[number] = part.scheduled ? schedule_cpu(rank, n_cpus) :
						    (number - 1) % n_cpus;
	}
}

/* Wait until all of the part's threads are here, and leave at the same time. */
static void meet(void)
{
	uint32_t arrived = __atomic_add_fetch(&part.arrived, 1,
					      __ATOMIC_ACQ_REL);

	if (part.scheduled)
		futex_wake(&part.arrived);
	else if (arrived == part.n_threads)
		__atomic_store_n(&part.start, 1, __ATOMIC_RELEASE);
	for (uint32_t i = 1; !__atomic_load_n(&part.start, __ATOMIC_ACQUIRE);
	     i++) {
		if (n_cpus == 1 || i % SPINS == 0)
			sched_yield();
		else
			__builtin_ia32_pause();
	}
}

/* Have a part whose calls wait begin, when all of its threads are there. */
static void begin(void)
{
	uint32_t arrived;

	while ((arrived = __atomic_load_n(&part.arrived, __ATOMIC_ACQUIRE)) <
	       part.n_threads)
		futex_wait(&part.arrived, arrived, 0);
	__atomic_store_n(&part.start,
			 schedule_start(part.steps + part.first,
					part.end - part.first),
			 __ATOMIC_RELEASE);
}

static void make_calls(uint32_t number)
{
	bool begun = !part.scheduled;

	for (uint32_t i = part.first; i < part.end; i++) {
		uint64_t time = schedule_time(&part.steps[i].call);

		if (part.steps[i].call.thread != number)
			continue;
		watched->thread[number].call = i;
		if (time)
			schedule_wait(part.start + time);
		else if (!begun)
			schedule_begin(part.start);
		begun = true;
		if (tracing)
			log_mark_call(i);
		call_make(&threads[number], &part.steps[i], &part.results[i]);
	}
}

static void *work(void *argument)
{
	uint32_t number = (uintptr_t)argument;
	uint32_t cpu = (number - 1) % n_cpus;

	pin(cpu);
	thread_open(number);
	for (;;) {
		while (!__atomic_load_n(&wanted[number], __ATOMIC_ACQUIRE))
			futex_wait(&wanted[number], 0, 0);
		wanted[number] = 0;
		if (part.cpu[number] != cpu) {
			cpu = part.cpu[number];
			pin(cpu);
		}
		meet();
		make_calls(number);
		if (!__atomic_and_fetch(&watched->running, ~(1u << number),
					__ATOMIC_ACQ_REL))
			futex_wake(&watched->running);
	}
	return NULL;
}

/* Make a thread, if it is not there yet, and wait until it is ready. */
static int make_thread(uint32_t number)
{
	int error;

	if (watched->thread[number].tid)
		return 0;
	slow_begin();
	n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	error = thread_make(number, work);
	slow_end();
	return error ? fail(error, "making thread %u: %s", number,
			    strerror(error)) : 0;
}

/*
 * Make calls [first, end), each on the thread it names. The runner's own
 * coverage is folded before, as a call of the part may move the module.
 */
int part_run(const struct step *steps, uint32_t first, uint32_t end,
	     struct ch_result *results)
{
	uint32_t running = 0, left;

	for (uint32_t i = first; i < end; i++) {
		if (make_thread(steps[i].call.thread))
			return header->error;
		running |= 1u << steps[i].call.thread;
	}
	coverage_fold(threads[0].cover);
	datarace_look(true);
	part.steps = steps;
	part.results = results;
	part.first = first;
	part.end = end;
	part.n_threads = __builtin_popcount(running);
	part.arrived = 0;
	part.start = 0;
	place(running);
	header->current_call = first;
	__atomic_store_n(&watched->running, running, __ATOMIC_RELEASE);
	for (uint32_t number = 1; number <= W_N_THREADS; number++) {
		if (!(running & 1u << number))
			continue;
		watched->thread[number].call = first;
		__atomic_store_n(&wanted[number], 1, __ATOMIC_RELEASE);
		futex_wake(&wanted[number]);
	}
	if (part.scheduled)
		begin();
	while ((left = __atomic_load_n(&watched->running, __ATOMIC_ACQUIRE)))
		futex_wait(&watched->running, left, 0);
	for (uint32_t number = 1; number <= W_N_THREADS; number++)
		if (running & 1u << number)
			coverage_fold(threads[number].cover);
	return 0;
}
