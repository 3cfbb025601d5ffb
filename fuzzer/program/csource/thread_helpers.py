# SPDX-License-Identifier: Apache-2.0

"""Helpers in C for threads, for calls that wait, and for the kernel's state."""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper

THREAD_HELPERS = {
    "hold": Helper(
        """\
/*
 * Hold this thread for up to twice so many ticks. The fuzzer's machine counts
 * instructions and holds it for exactly so long; elsewhere times vary.
 */
static void hold(uint64_t ticks)
{
	uint64_t end = __builtin_ia32_rdtsc();

	end += end % (2 * ticks + 1);
	while (__builtin_ia32_rdtsc() < end)
		__builtin_ia32_pause();
}
""",
        ("stdint.h",),
    ),
    "run_threads": Helper(
        """\
static int missing;

/* Wait until all of a part's threads are here, to leave at the same time. */
static void meet(void)
{
	__atomic_sub_fetch(&missing, 1, __ATOMIC_ACQ_REL);
	for (int i = 1; __atomic_load_n(&missing, __ATOMIC_ACQUIRE); i++)
		if (i % 64 == 0)
			sched_yield();
}

/* Run functions in threads, each on another CPU, and wait for all of them. */
static void run_threads(int n, void *(*const functions[])(void *))
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[4];
	pthread_attr_t attributes;
	cpu_set_t cpu;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 0x10000);
	__atomic_store_n(&missing, n, __ATOMIC_RELEASE);
	for (int i = 0; i < n; i++) {
		CPU_ZERO(&cpu);
		CPU_SET(i % cpus, &cpu);
		pthread_attr_setaffinity_np(&attributes, sizeof(cpu), &cpu);
		if (pthread_create(&threads[i], &attributes, functions[i], NULL)) {
			perror("pthread_create");
			exit(1);
		}
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_attr_destroy(&attributes);
}
""",
        ("pthread.h", "sched.h", "stdio.h", "stdlib.h", "unistd.h"),
    ),
    "flip": Helper(
        """\
/* The bytes that another thread changes, and what it writes there in turn. */
static __thread struct flipped {
	void *at;
	size_t size;
	uint64_t values[2];
	int begun, ends;
	pthread_t thread;
} flipped;

static void *keep_flipping(void *argument)
{
	struct flipped *of = argument;

	do {
		memcpy(of->at, &of->values[0], of->size);
		memcpy(of->at, &of->values[1], of->size);
		__atomic_store_n(&of->begun, 1, __ATOMIC_RELEASE);
	} while (!__atomic_load_n(&of->ends, __ATOMIC_ACQUIRE));
	return NULL;
}

/* From now on, these bytes become the value and what they were, again and again. */
static void flip(void *at, size_t size, uint64_t value)
{
	flipped = (struct flipped){ .at = at, .size = size, .values = { value } };
	memcpy(&flipped.values[1], at, size);
	if (pthread_create(&flipped.thread, NULL, keep_flipping, &flipped)) {
		perror("pthread_create");
		exit(1);
	}
	while (!__atomic_load_n(&flipped.begun, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void end_flip(void)
{
	__atomic_store_n(&flipped.ends, 1, __ATOMIC_RELEASE);
	pthread_join(flipped.thread, NULL);
}
""",
        ("pthread.h", "sched.h", "stdint.h", "stdio.h", "stdlib.h", "string.h"),
    ),
    "leave_waiting": Helper(
        """\
static pthread_t waiting[128];
static int n_waiting;

static void wake(int signal)
{
	(void)signal;
}

/* Make a call on a thread of its own; after some time it waits for something. */
static void leave_waiting(void *(*call)(void *))
{
	struct sigaction action = { .sa_handler = wake };

	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&waiting[n_waiting++], NULL, call, NULL)) {
		perror("pthread_create");
		exit(1);
	}
	usleep(20000);
}

/* Interrupt those that still wait. */
static void end_waiting(void)
{
	while (n_waiting) {
		pthread_t thread = waiting[n_waiting - 1];

		while (pthread_tryjoin_np(thread, NULL)) {
			pthread_kill(thread, SIGUSR1);
			usleep(2000);
		}
		n_waiting--;
	}
}
""",
        ("pthread.h", "signal.h", "stdio.h", "stdlib.h", "unistd.h"),
    ),
    "show": Helper(
        """\
/* Print bytes of a buffer: what was in the kernel's memory before. */
static void show(const char *from, int first, int last)
{
	printf("bytes %d to %d:", first, last);
	for (int i = first; i <= last; i++)
		printf(" %02x", (unsigned char)from[i]);
	printf("\\n");
}
""",
        ("stdio.h",),
    ),
    "taint": Helper(
        """\
#define ROUNDS	10000

/* What the kernel says of its health: most reports change it. */
static long taint(void)
{
	long flags = 0;
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");

	if (file && fscanf(file, "%ld", &flags) != 1)
		flags = 0;
	if (file)
		fclose(file);
	return flags;
}
""",
        ("stdio.h",),
    ),
}
