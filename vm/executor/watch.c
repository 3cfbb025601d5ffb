// SPDX-License-Identifier: Apache-2.0
/*
 * PID 1 watches the runner: while a call waits for something, another thread goes
 * on with the program (waits.c). Where that cannot be, it is interrupted after a
 * short time, as is any call that passes its time limit. When the runner is
 * dead or cannot be interrupted, PID 1 tells the host and goes on handing over
 * the kernel log.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"

#define WATCH_TICK_MS	10
#define IDLE_TICK_MS	80
#define SLOW_LIMIT_MS	1500	/* of what slow_begin() is about */
#define WAIT_LIMIT_MS	50	/* of a call that waits, where the program cannot go on */
#define LOCK_LIMIT_MS	30	/* of one that cannot be told not to, while others wait */
/* While nothing moves it is looked less often: each look takes a part of what went by. */
#define LOOKS		8
/* Where calls were seen to wait, it is looked more often for so many ticks. */
#define CLOSE_TICK_MS	4
#define CLOSE_TICKS	250

struct watched *watched;

/* Call it before the fork: the runner writes what PID 1 reads. */
void watch_open(void)
{
	watched = mmap(NULL, sizeof(*watched), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (watched == MAP_FAILED) {
		perror("pkvfuzz: memory to watch the runner by");
		_exit(1);
	}
}

static void answer(uint32_t status, uint32_t call)
{
	log_drain();
	header->status = status;
	header->stopped_call = call;
	__atomic_store_n(&header->done_seq, header->req_seq, __ATOMIC_RELEASE);
}

/* The runner is gone: hand over the log for as long as the host asks. */
static void __attribute__((noreturn)) attend(uint32_t status, uint32_t call)
{
	/* The command that it went with may have left something in the log. */
	bool begun = header->req_seq != header->done_seq;

	for (;;) {
		if (header->req_seq != header->done_seq) {
			if (!begun)
				header->log_length = 0;
			begun = false;
			answer(status, call);
		}
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		pause_ms(WATCH_TICK_MS);
	}
}

/* A CH_EXEC has a time limit of its own. */
static bool is_timed(uint32_t command)
{
	return command == CH_RUN || command == CH_LOOP ||
	       command == CH_BATCH || command == CH_PRELOAD;
}

/* The threads whose calls were left waiting, as bits. */
static uint32_t waiting_threads(void)
{
	return __atomic_load_n(&watched->waiting, __ATOMIC_ACQUIRE);
}

/* The threads whose calls the program does not go on without; the runner itself is 1. */
static uint32_t active_threads(void)
{
	uint32_t running = __atomic_load_n(&watched->running, __ATOMIC_ACQUIRE);
	uint32_t waiting = waiting_threads();

	if (running)
		return running;
	if (waiting && __atomic_load_n(&watched->ending, __ATOMIC_ACQUIRE))
		return waiting;
	return 1u << __atomic_load_n(&watched->current, __ATOMIC_ACQUIRE);
}

static pid_t tid_of(uint32_t number, pid_t runner)
{
	return number ? watched->thread[number].tid : runner;
}

static uint32_t call_of(uint32_t number)
{
	bool parallel = number && number < FIRST_SPARE;

	return parallel || waiting_threads() & 1u << number ?
		watched->thread[number].call : header->current_call;
}

static uint32_t blocked_call(void)
{
	return call_of(__builtin_ctz(active_threads()));
}

/* How long nothing may move; 0: for ever. */
static uint32_t time_limit(void)
{
	uint32_t limit = header->call_timeout_ms;

	if (limit && __atomic_load_n(&watched->slow, __ATOMIC_ACQUIRE)) {
		uint32_t slow = SLOW_LIMIT_MS + 2 * watched->load_ms;

		if (limit < slow)
			limit = slow;
	}
	return limit;
}

static int open_of_thread(pid_t runner, pid_t tid, const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/%s", runner, tid, name);
	return open(path, flags | O_CLOEXEC);
}

/* A fault that the call did not come to must not fail the signal's frame. */
static void take_back_fault(pid_t runner, pid_t tid)
{
	int fd = open_of_thread(runner, tid, "fail-nth", O_WRONLY);

	if (fd < 0)
		return;
	if (write(fd, "0", 1) != 1)
		perror("pkvfuzz: fail-nth");
	close(fd);
}

static void interrupt_calls(pid_t runner, uint32_t which)
{
	for (uint32_t number = 0; number < N_THREADS; number++) {
		pid_t tid = tid_of(number, runner);

		if (!(which & 1u << number) || !tid)
			continue;
		take_back_fault(runner, tid);
		syscall(SYS_tgkill, runner, tid, SIGUSR1);
	}
}

/* As /proc has it: R, S, D ...; X if it is gone. */
char thread_state(pid_t runner, pid_t tid)
{
	char text[128], *state;
	int fd = open_of_thread(runner, tid, "stat", O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return 'X';
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return 'X';
	text[n] = '\0';
	state = strrchr(text, ')');
	return state ? state[2] : '?';
}

/* An oops ends its thread only, and a process is not waited for before its last. */
static bool has_ended(pid_t runner, pid_t tid)
{
	char state = thread_state(runner, tid);

	return state == 'Z' || state == 'X';
}

/* Whether all calls that are being made wait for something, and may be told not to. */
static bool all_wait(pid_t runner)
{
	uint32_t active = active_threads();

	if (__atomic_load_n(&watched->slow, __ATOMIC_ACQUIRE))
		return false;
	for (uint32_t number = 0; number < N_THREADS; number++) {
		pid_t tid = tid_of(number, runner);

		if (active & 1u << number && tid &&
		    thread_state(runner, tid) != 'S')
			return false;
	}
	return true;
}

/* Whether the serial call waits for something that holds it up in the kernel: a lock, say. */
static bool is_held_up(pid_t runner)
{
	uint32_t active = active_threads();

	return !watched->running && !watched->ending &&
	       thread_state(runner, tid_of(__builtin_ctz(active), runner)) == 'D';
}

/*
 * If the serial call has been asleep since the last look, and for as long as the host
 * wants it to be, leave it waiting and have another thread go on. Returns whether it is asleep, and may be left.
 */
static bool leave_waiting(pid_t runner, uint32_t stalled_ms)
{
	static uint32_t asleep;
	uint32_t turn = __atomic_load_n(&watched->turn, __ATOMIC_ACQUIRE);
	uint32_t idle = __atomic_load_n(&watched->idle, __ATOMIC_ACQUIRE);
	uint32_t before = asleep, number = (turn & 0xff) - 1, next;

	asleep = 0;
	if (!turn || !idle || thread_state(runner, tid_of(number, runner)) != 'S' ||
	    __atomic_load_n(&watched->slow, __ATOMIC_ACQUIRE))
		return false;
	asleep = turn;
	if (turn != before || stalled_ms < header->wait_ms)
		return true;
	next = __builtin_ctz(idle);
	__atomic_fetch_or(&watched->waiting, 1u << number, __ATOMIC_ACQ_REL);
	if (!__atomic_compare_exchange_n(&watched->turn, &turn, 0, false,
					 __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
		__atomic_fetch_and(&watched->waiting, ~(1u << number),
				   __ATOMIC_ACQ_REL);
		return true;
	}
	((struct ch_result *)(channel + CH_RESULTS))[asleep >> 8].waited = 1;
	header->waited++;
	asleep = 0;
	__atomic_fetch_and(&watched->idle, ~(1u << next), __ATOMIC_ACQ_REL);
	__atomic_store_n(&watched->current, next, __ATOMIC_RELEASE);
	__atomic_store_n(&watched->thread[next].wanted, 1, __ATOMIC_RELEASE);
	futex_wake(&watched->thread[next].wanted);
	return true;
}

static void look_for_dead_threads(pid_t runner)
{
	uint32_t active = active_threads() | waiting_threads();

	for (uint32_t number = 0; number < N_THREADS; number++) {
		pid_t tid = tid_of(number, runner);

		if (!(active & 1u << number) || !tid || !has_ended(runner, tid))
			continue;
		/* The others would go on, with what it held for ever locked. */
		kill(runner, SIGKILL);
		attend(CH_DIED, call_of(number));
	}
}

/* How long to rest until the next look. */
static uint32_t next_look(uint32_t stalled_ms, uint32_t limit, bool close)
{
	uint32_t least = close ? CLOSE_TICK_MS : WATCH_TICK_MS;
	uint32_t most = limit < stalled_ms ? limit : stalled_ms;

	return most / LOOKS < least ? least : most / LOOKS;
}

void watch(pid_t runner)
{
	uint64_t seen = 0, now;
	uint32_t stalled_ms = 0, rest_ms = WATCH_TICK_MS, close = 0;

	for (;;) {
		uint32_t limit = time_limit();
		pid_t dead = waitpid(-1, NULL, WNOHANG);
		bool idle;

		if (dead == runner)
			attend(CH_DIED, blocked_call());
		idle = header->req_seq == header->done_seq;
		/* While the host asks for nothing there is nothing to watch. */
		if (!idle)
			rest_ms = next_look(stalled_ms, limit, close);
		else if (rest_ms < IDLE_TICK_MS)
			rest_ms *= 2;
		close -= close > 0;
		pause_ms(rest_ms);
		now = header->progress + header->req_seq;
		if (header->req_seq == header->done_seq || now != seen) {
			seen = now;
			stalled_ms = 0;
			continue;
		}
		look_for_dead_threads(runner);
		if (!is_timed(header->command))
			continue;
		stalled_ms += rest_ms;
		if (leave_waiting(runner, stalled_ms)) {
			close = CLOSE_TICKS;
			continue;
		}
		if (stalled_ms >= LOCK_LIMIT_MS && waiting_threads() &&
		    is_held_up(runner))
			interrupt_calls(runner, waiting_threads());
		if (!limit)
			continue;
		if (stalled_ms >= 2 * limit) {
			/* Should the call return yet, nothing must follow it. */
			kill(runner, SIGKILL);
			attend(CH_STUCK, blocked_call());
		}
		if (stalled_ms >= limit ||
		    (stalled_ms >= WAIT_LIMIT_MS &&
		     stalled_ms >= header->wait_ms && all_wait(runner))) {
			if (header->status != CH_TIMEOUT)
				header->stopped_call = blocked_call();
			header->status = CH_TIMEOUT;
			interrupt_calls(runner, active_threads() |
						(stalled_ms >= limit ?
						 waiting_threads() : 0));
		}
	}
}
