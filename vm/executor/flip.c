// SPDX-License-Identifier: Apache-2.0
/*
 * Buffers that change while a call runs, for drivers that read a word twice. A
 * thread on another vCPU writes there what the program says, and what was there,
 * in turn, and stays with each for longer and longer: as long as a driver takes
 * from one look to the next. It is made when a program first asks for it.
 *
 * The thread that makes the call owns it until that has returned. So while a call
 * waits, and others of the program are made, buffers of these do not change.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "buffer.h"
#include "executor.h"

/* Looks for the next call before it sleeps. */
#define LOOKS		2000
/*
 * Looks of a call for the other thread before it sleeps, as on a busy host the other
 * vCPU may need the same CPU, and how long it waits at most.
 */
#define PATIENCE	200
#define WAIT_MS		20
#define TRIES		2
/* In ticks: how long a call waits for changes, and how close the one is to the next. */
#define SIGHT		(1 << 22)
#define CLOSE		(1 << 17)
#define LOOK_PAUSES	4
/* The longest that it stays with a value, and how often it comes to that, in some 50 ms. */
#define LONGEST		256
#define ROUNDS		32768
/* Instructions from one look to the next. */
#define SPINS		64

enum state {
	ASLEEP,
	AWAKE,		/* a call may begin soon */
	ARMED,		/* it begins now */
	FLIPPING,
	ENDING,		/* it has returned */
};

static struct {
	uint32_t state;		/* enum state */
	struct thread *owner;
	uint32_t tid;		/* 0: not made yet */
	uint32_t cpu;
	uint8_t *at;
	uint64_t values[2];	/* the program's, and what was there */
	uint32_t size;		/* bytes of them */
	uint32_t changes;	/* counts */
	uint32_t awaited;	/* the call sleeps until the state is another one */
} flipper;

static uint32_t n_cpus;

static uint32_t state(void)
{
	return __atomic_load_n(&flipper.state, __ATOMIC_ACQUIRE);
}

/* Go from one state to another; false: the state is a third one. */
static bool step_to(uint32_t from, uint32_t to)
{
	return __atomic_compare_exchange_n(&flipper.state, &from, to, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

/* Wait until the other thread has gone on from a state; false: it has not, for long. */
static bool await_step_from(uint32_t from)
{
	for (uint32_t i = 0; i < PATIENCE; i++) {
		if (state() != from)
			return true;
		__builtin_ia32_pause();
	}
	/* It is not the call that waits. */
	slow_begin();
	__atomic_store_n(&flipper.awaited, 1, __ATOMIC_SEQ_CST);
	futex_wait(&flipper.state, from, WAIT_MS);
	__atomic_store_n(&flipper.awaited, 0, __ATOMIC_SEQ_CST);
	slow_end();
	return state() != from;
}

/* Tell the call that the state is another one. */
static void tell(void)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&flipper.awaited, __ATOMIC_SEQ_CST))
		futex_wake(&flipper.state);
}

/* Go to a state, for which the other thread has to be awake. */
static void rouse(uint32_t to)
{
	if (__atomic_exchange_n(&flipper.state, to, __ATOMIC_SEQ_CST) == ASLEEP)
		futex_wake(&flipper.state);
}

static void put(uint64_t value)
{
	uint8_t *at = flipper.at;

	switch (flipper.size) {
	case 1:
		*(volatile uint8_t *)at = value;
		break;
	case 2:
		*(volatile uint16_t *)at = value;
		break;
	case 4:
		*(volatile uint32_t *)at = value;
		break;
	default:
		*(volatile uint64_t *)at = value;
	}
}

static void stay(uint32_t rounds)
{
	while (rounds--)
		__asm__ volatile("nop");
}

/* Change the word until the call returns, or long enough: it may wait for something. */
static void flip(void)
{
	for (uint32_t i = 0; i < ROUNDS; i++) {
		for (uint32_t n = 1; n <= LONGEST; n *= 2) {
			put(flipper.values[0]);
			stay(n);
			put(flipper.values[1]);
			__atomic_fetch_add(&flipper.changes, 1, __ATOMIC_RELEASE);
			stay(n);
			if (state() == ENDING)
				return;
		}
	}
}

static void *work(void *unused)
{
	(void)unused;
	__atomic_store_n(&flipper.tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	futex_wake(&flipper.tid);
	for (;;) {
		for (uint32_t i = 0; i < LOOKS && state() == AWAKE; i++)
			stay(SPINS);
		if (step_to(ARMED, FLIPPING)) {
			tell();
			flip();
			__atomic_store_n(&flipper.state, AWAKE, __ATOMIC_SEQ_CST);
			tell();
		} else if (step_to(AWAKE, ASLEEP) || state() == ASLEEP) {
			futex_wait(&flipper.state, ASLEEP, 0);
		}
	}
	return NULL;
}

static void move_to(uint32_t cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	sched_setaffinity(flipper.tid, sizeof(cpus), &cpus);
	flipper.cpu = cpu;
}

/* Make the thread, if it is not there yet. */
static bool make_thread(void)
{
	static bool failed;
	pthread_t handle;
	int error;

	if (flipper.tid || failed)
		return !failed;
	slow_begin();
	error = pthread_create(&handle, NULL, work, NULL);
	failed = error;
	if (error)
		fprintf(stderr, "pkvfuzz: a thread for flips: %s\n", strerror(error));
	while (!error && !__atomic_load_n(&flipper.tid, __ATOMIC_ACQUIRE))
		futex_wait(&flipper.tid, 0, 0);
	slow_end();
	if (!error)
		move_to((sched_getcpu() + 1) % n_cpus);
	return !error;
}

/* A program begins. */
void flips_begin(void)
{
	for (uint32_t number = 0; number < N_THREADS; number++)
		threads[number].flips = false;
}

void flip_note(struct thread *thread, const struct w_call *call)
{
	thread->flip = *call;
	thread->flips = true;
}

static bool has_buffer(const struct w_call *call)
{
	if (buffer_in_mapping(call))
		return false;
	switch (call->op) {
	case W_WRITE:
	case W_PWRITE:
		return true;
	case W_IOCTL:
		return !(call->flags & W_VALUE);
	}
	return false;
}

/* A call is about to be made: wake the other thread, on another vCPU than this one. */
void flip_prepare(struct thread *thread, const struct w_call *call)
{
	struct thread *nobody = NULL;
	uint32_t cpu;

	thread->flips = false;
	if (!n_cpus)
		n_cpus = sysconf(_SC_NPROCESSORS_ONLN);
	if (n_cpus == 1 || schedule_is_exact() || !has_buffer(call))
		return;
	if (!__atomic_compare_exchange_n(&flipper.owner, &nobody, thread, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return;
	if (!make_thread()) {
		flipper.owner = NULL;
		return;
	}
	thread->flipping = true;
	/* Who is woken by the other thread is not to come to the same vCPU. */
	cpu = sched_getcpu();
	if (!thread->pinned)
		pin(cpu);
	thread->pinned = true;
	if (flipper.cpu == cpu)
		move_to((cpu + 1) % n_cpus);
	rouse(AWAKE);
}

/*
 * Wait until the word changes from one look to the next, without a pause: both vCPUs
 * run at the same time then. On a busy host they may have to share a CPU, of which one
 * that was woken by the other takes its place.
 */
static void await_changes(void)
{
	uint64_t begun = ticks(), before, now = begun;
	uint32_t seen, next = __atomic_load_n(&flipper.changes, __ATOMIC_ACQUIRE);

	do {
		before = now;
		seen = next;
		for (int i = 0; i < LOOK_PAUSES; i++)
			__builtin_ia32_pause();
		next = __atomic_load_n(&flipper.changes, __ATOMIC_ACQUIRE);
		now = ticks();
		if (next != seen && now - before < CLOSE)
			return;
	} while (state() == FLIPPING && now - begun < SIGHT);
}

/* The call begins, with its buffer at data: return when the buffer changes. */
void flip_start(struct thread *thread, uint8_t *data)
{
	static const uint8_t sizes[] = { 4, 1, 2, 8 };
	uint32_t at = (uint16_t)thread->flip.cmd;
	uint32_t size = sizes[thread->flip.cmd >> W_FLIP_SIZE & 3];

	if (!thread->flipping || data + at + size > thread->scratch_end)
		return;
	flipper.at = data + at;
	flipper.size = size;
	flipper.values[0] = thread->flip.arg;
	memcpy(&flipper.values[1], flipper.at, size);
	/* Where the call slept for long, the other thread may have given up again. */
	for (uint32_t i = 0; i < TRIES && state() != FLIPPING; i++) {
		rouse(ARMED);
		await_step_from(ARMED);
		await_changes();
	}
}

/* The call has returned: the buffer is as it was, and stays so. */
void flip_stop(struct thread *thread)
{
	if (!step_to(ARMED, AWAKE) && step_to(FLIPPING, ENDING))
		while (!await_step_from(ENDING))
			;
	thread->flipping = false;
	__atomic_store_n(&flipper.owner, NULL, __ATOMIC_RELEASE);
}
