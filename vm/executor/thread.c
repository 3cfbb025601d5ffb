// SPDX-License-Identifier: Apache-2.0
/* Threads of the executor: what each needs to make calls. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "buffer.h"
#include "executor.h"

#define COVER_ENTRIES	(64 << 10)
/* The kernel takes its time to make these buffers, and a part of a program needs less. */
#define PART_ENTRIES	(16 << 10)

struct thread threads[N_THREADS];

/* Give the calling thread what it needs, and tell whoever waits in thread_make(). */
void thread_open(uint32_t number)
{
	struct thread *thread = &threads[number];
	pid_t *tid = &watched->thread[number].tid;

	thread->scratch_end = buffer_open();
	thread->fail_nth = fault_open();
	thread->cover = coverage_open(number ? PART_ENTRIES : COVER_ENTRIES);
	if (!number)
		return;
	__atomic_store_n(tid, syscall(SYS_gettid), __ATOMIC_RELEASE);
	futex_wake((uint32_t *)tid);
}

/* Make a thread, which is to call thread_open(), and wait until it is ready. */
int thread_make(uint32_t number, void *(*work)(void *))
{
	pid_t *tid = &watched->thread[number].tid;
	pthread_t handle;
	int error = pthread_create(&handle, NULL, work,
				   (void *)(uintptr_t)number);

	while (!error && !__atomic_load_n(tid, __ATOMIC_ACQUIRE))
		futex_wait((uint32_t *)tid, 0, 0);
	return error;
}
