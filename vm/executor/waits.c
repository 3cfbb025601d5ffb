// SPDX-License-Identifier: Apache-2.0
/*
 * Calls that wait. When a serial call sleeps, and may be told not to, PID 1 has a
 * spare thread go on with the program (watch.c): what is waited for may be what the
 * next calls do. Calls that still wait at the end are interrupted. The threads are
 * made before the first program of which calls may be left, for nobody could make them
 * while a call waits, and each call costs a bit more where there are several threads.
 *
 * A thread that begins such a call stores that in watched->turn, and takes it
 * back when the call returns. Where PID 1 has been first, the program is no
 * longer this thread's.
 *
 * On an exact machine, which does the same each time, and while comparisons are
 * recorded, which are those of one thread, no call is left.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

/* A signal that comes before the call sleeps is lost: it is sent again. */
#define SIGNAL_MS	2
/* Files are closed when so many signals did nothing: some drivers wake their waiters then. */
#define SIGNALS		10
/* Longest that what was woken up has before the next call. */
#define LET_RUN_MS	10
/* Longest that threads which were just made have until they are ready. */
#define READY_MS	1000

/* Whether calls of this program may be left. */
static bool able;
/* Each thread's watched->turn; 0: its call cannot be left. */
static uint32_t turns[N_THREADS];
/* The spare threads that had a part in this program, as bits. */
static uint32_t used;
/* The runner is to go on: all calls of the program were made. */
static bool over;

static void *work(void *argument)
{
	uint32_t number = (uintptr_t)argument;

	thread_open(number);
	for (;;) {
		waits_rest(number);
		if (program_go_on(number))
			waits_over();
	}
	return NULL;
}

static void make_threads(void)
{
	uint32_t made = 0;

	slow_begin();
	for (uint32_t number = FIRST_SPARE; number < N_THREADS; number++) {
		int error = thread_make(number, work);

		if (error)
			fprintf(stderr, "pkvfuzz: making thread %u: %s\n", number,
				strerror(error));
		else
			made |= 1u << number;
	}
	/* Nobody could go on before they are, and a first call that waits would be ended. */
	for (int i = 0; i < READY_MS; i++) {
		if ((__atomic_load_n(&watched->idle, __ATOMIC_ACQUIRE) & made) ==
		    made)
			break;
		usleep(1000);
	}
	slow_end();
}

/* A program begins. */
void waits_prepare(void)
{
	static bool made;

	able = header->flags & CH_F_WAITS && !comparing && !schedule_is_exact();
	if (able && !made)
		make_threads();
	made |= able;
}

/* Whether a call may be left waiting: sleeping is all that W_SLEEP does. */
static bool may_wait(const struct w_call *call)
{
	switch (call->op) {
	case W_OPEN:
	case W_CLOSE:
	case W_READ:
	case W_WRITE:
	case W_PREAD:
	case W_PWRITE:
	case W_IOCTL:
		return true;
	}
	return false;
}

/* A thread is about to make a serial call of a program. */
void waits_begin(uint32_t number, uint32_t index, const struct w_call *call)
{
	turns[number] = 0;
	if (!able || !may_wait(call) || is_request(call))
		return;
	watched->thread[number].call = index;
	turns[number] = index << 8 | (number + 1);
	__atomic_store_n(&watched->turn, turns[number], __ATOMIC_RELEASE);
}

/* The call has returned: whether the program is still this thread's to go on with. */
bool waits_return(uint32_t number)
{
	uint32_t turn = turns[number];

	if (!turn || __atomic_compare_exchange_n(&watched->turn, &turn, 0, false,
						 __ATOMIC_ACQ_REL,
						 __ATOMIC_ACQUIRE))
		return true;
	__atomic_fetch_and(&watched->waiting, ~(1u << number), __ATOMIC_ACQ_REL);
	futex_wake(&watched->waiting);
	return false;
}

static pid_t tid_of(uint32_t number)
{
	return number ? watched->thread[number].tid : getpid();
}

/* Whether a call that was left waiting has been woken up, and goes on. */
static bool any_runs(uint32_t waiting)
{
	for (uint32_t number = 0; number < N_THREADS; number++)
		if (waiting & 1u << number &&
		    thread_state(getpid(), tid_of(number)) != 'S')
			return true;
	return false;
}

/*
 * A call has returned. What it has woken up goes on before the next one: else
 * it would be a matter of chance which of them comes first.
 */
void waits_let_run(void)
{
	uint32_t waiting;

	for (int i = 0; i < LET_RUN_MS; i++) {
		waiting = __atomic_load_n(&watched->waiting, __ATOMIC_ACQUIRE);
		if (!waiting || !any_runs(waiting))
			return;
		futex_wait(&watched->waiting, waiting, 1);
	}
}

/* Wait until this thread is to go on with the program; false: the program is over. */
bool waits_rest(uint32_t number)
{
	uint32_t *wanted = &watched->thread[number].wanted;

	__atomic_fetch_or(&watched->idle, 1u << number, __ATOMIC_ACQ_REL);
	while (!__atomic_load_n(wanted, __ATOMIC_ACQUIRE))
		futex_wait(wanted, 0, 0);
	*wanted = 0;
	if (!number && over) {
		over = false;
		__atomic_fetch_and(&watched->idle, ~1u, __ATOMIC_ACQ_REL);
		return false;
	}
	if (number)
		used |= 1u << number;
	return true;
}

/* A spare thread has come to the program's end: what follows is the runner's. */
void waits_over(void)
{
	over = true;
	watched->current = 0;
	__atomic_store_n(&watched->thread[0].wanted, 1, __ATOMIC_RELEASE);
	futex_wake(&watched->thread[0].wanted);
}

static void interrupt_waiting(uint32_t waiting)
{
	for (uint32_t number = 0; number < N_THREADS; number++) {
		if (!(waiting & 1u << number))
			continue;
		/* A fault that the call did not come to must not fail the signal's frame. */
		threads[number].spared |= !fault_disarm(threads[number].fail_nth);
		syscall(SYS_tgkill, getpid(), tid_of(number), SIGUSR1);
	}
}

/*
 * Have all calls that wait return, and count what they covered. With last, no
 * call of the program follows: its files may be closed.
 */
void waits_end(bool last)
{
	uint32_t waiting;

	if (!used)
		return;
	__atomic_store_n(&watched->ending, 1, __ATOMIC_RELEASE);
	for (int i = 0; (waiting = __atomic_load_n(&watched->waiting,
						   __ATOMIC_ACQUIRE)); i++) {
		if (last && i == SIGNALS)
			close_files();
		interrupt_waiting(waiting);
		futex_wait(&watched->waiting, waiting, SIGNAL_MS);
	}
	__atomic_store_n(&watched->ending, 0, __ATOMIC_RELEASE);
	coverage_fold(threads[0].cover);
	for (uint32_t number = FIRST_SPARE; number < N_THREADS; number++)
		if (used & 1u << number)
			coverage_fold(threads[number].cover);
	if (last)
		used = 0;
}
