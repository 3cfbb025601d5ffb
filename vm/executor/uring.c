// SPDX-License-Identifier: Apache-2.0
/*
 * Requests in the program's ring of io_uring. The ring is made when a program first asks
 * for it, and is the next program's if nothing is in flight at the end. Its requests are
 * twice as long as usual, and so are its completions: a driver that needs either has it.
 * Each request is submitted on its own, and has a buffer that no other call uses, as it
 * may be in flight for long.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "executor.h"

#define ENTRIES		8
#define REQUEST_SIZE	128
#define COMPLETION_SIZE	32
/* A buffer ends at a page that is not mapped. */
#define SLOT_SIZE	(SCRATCH_SIZE + PAGE)

/* Longest wait for a completion. */
#define WAIT_NS		30000000
/* What the kernel has to end the requests of a ring that was closed. */
#define TURNS		4
#define SETTLE_MS	2
/* Looks at whether another thread is done with the queues. */
#define TRIES		1000

static int ring = -1;
static struct io_uring_params params;
static uint8_t *queues, *requests, *slots;
static size_t queues_size;

/* The queues are one thread's at a time. */
static bool busy;
static uint32_t in_flight;

/* By the slot: the last request there, and its completion. */
static struct {
	uint32_t number;
	bool done;
	int32_t result;
} kept[ENTRIES];

static bool lock(void)
{
	for (int i = 0; i < TRIES; i++) {
		if (!__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
			return true;
		sched_yield();
	}
	errno = EBUSY;
	return false;
}

static void unlock(void)
{
	__atomic_clear(&busy, __ATOMIC_RELEASE);
}

static uint32_t *queue_word(uint32_t offset)
{
	return (uint32_t *)(queues + offset);
}

static bool open_slots(void)
{
	size_t size = ENTRIES * SLOT_SIZE;
	uint8_t *map;

	if (slots)
		return true;
	map = mmap(NULL, size, PROT_NONE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (map == MAP_FAILED)
		return false;
	for (size_t at = 0; at < size; at += SLOT_SIZE)
		if (mprotect(map + at, SCRATCH_SIZE, PROT_READ | PROT_WRITE))
			return false;
	slots = map;
	return true;
}

static uint8_t *map_ring(size_t size, off_t what)
{
	uint8_t *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_POPULATE, ring, what);

	return map == MAP_FAILED ? NULL : map;
}

/* Make the ring, unless it is there; whether it is. With the lock. */
static bool open_ring(void)
{
	size_t submitted, completed;

	if (ring >= 0)
		return true;
	if (!open_slots())
		return false;
	memset(&params, 0, sizeof(params));
	params.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	ring = descriptor_of_ours(syscall(SYS_io_uring_setup, ENTRIES, &params));
	if (ring < 0)
		return false;
	submitted = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
	completed = params.cq_off.cqes + params.cq_entries * COMPLETION_SIZE;
	queues_size = submitted > completed ? submitted : completed;
	queues = map_ring(queues_size, IORING_OFF_SQ_RING);
	requests = map_ring(ENTRIES * REQUEST_SIZE, IORING_OFF_SQES);
	in_flight = 0;
	memset(kept, 0, sizeof(kept));
	if (!queues || !requests) {
		uring_forget();
		return false;
	}
	return true;
}

/* Make the ring before a call, of which an allocation is to fail. */
void uring_prepare(void)
{
	if (!lock())
		return;
	open_ring();
	unlock();
}

/* Take all completions; with the lock. Another thread may have closed the ring. */
static void take_completions(void)
{
	uint32_t *head, tail, mask, at;

	if (ring < 0)
		return;
	head = queue_word(params.cq_off.head);
	tail = __atomic_load_n(queue_word(params.cq_off.tail), __ATOMIC_ACQUIRE);
	mask = *queue_word(params.cq_off.ring_mask);
	for (at = *head; at != tail; at++) {
		const struct io_uring_cqe *completion = (const void *)
			(queues + params.cq_off.cqes + (at & mask) * COMPLETION_SIZE);
		uint32_t number = completion->user_data, slot = number % ENTRIES;

		in_flight -= in_flight > 0;
		if (kept[slot].number != number)
			continue;
		kept[slot].result = completion->res;
		__atomic_store_n(&kept[slot].done, true, __ATOMIC_RELEASE);
	}
	__atomic_store_n(head, at, __ATOMIC_RELEASE);
}

/* The part of a call that a request has, with a buffer of its own. */
static struct step plain(const struct step *step)
{
	struct step made = *step;

	made.call.flags &= W_VALUE | W_WIDE | W_COUNT;
	made.call.mode = 0;
	made.call.cut = 0;
	return made;
}

/* Fill in a request; *data becomes its buffer. */
static void fill(struct io_uring_sqe *request, int fd, const struct step *step,
		 uint8_t *end, uint8_t **data)
{
	const struct w_call *call = &step->call;
	uint64_t count;

	memset(request, 0, REQUEST_SIZE);
	request->fd = fd;
	*data = end;
	switch (call->op) {
	case W_READ:
	case W_PREAD:
		count = call_read_count(call);
		*data -= buffer_mapped(call, count);
		request->opcode = IORING_OP_READ;
		request->len = count > UINT32_MAX ? UINT32_MAX : count;
		request->off = call->op == W_PREAD ? (uint64_t)call_position(call) : -1ull;
		break;
	case W_WRITE:
	case W_PWRITE:
		*data = buffer_fill(step, end);
		request->opcode = IORING_OP_WRITE;
		request->len = call_write_count(call);
		request->off = call->op == W_PWRITE ? (uint64_t)call_position(call) : -1ull;
		break;
	case W_POLL:
		request->opcode = IORING_OP_POLL_ADD;
		request->poll32_events = (uint16_t)call->cmd;
		return;
	case W_IOCTL:
		request->opcode = IORING_OP_URING_CMD;
		request->cmd_op = call->cmd;
		if (call->flags & W_VALUE) {
			memcpy(request->cmd, &call->arg, sizeof(call->arg));
			return;
		}
		*data = buffer_fill(step, end);
		request->len = end - *data;
		memcpy(request->cmd, *data, request->len < W_URING_COMMAND ?
						    request->len : W_URING_COMMAND);
		break;
	}
	request->addr = (uintptr_t)*data;
}

/* Submit a request with this number; with the lock. */
static int64_t submit(uint32_t number)
{
	uint32_t *tail = queue_word(params.sq_off.tail);
	uint32_t place = number & *queue_word(params.sq_off.ring_mask);
	int64_t ret;

	*queue_word(params.sq_off.array + place * sizeof(uint32_t)) =
		number % ENTRIES;
	__atomic_store_n(tail, number + 1, __ATOMIC_RELEASE);
	ret = syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0);
	if (ret == 1) {
		in_flight++;
		take_completions();
		return 0;
	}
	/* It was not taken. */
	__atomic_store_n(tail, number, __ATOMIC_RELEASE);
	if (!ret)
		errno = EAGAIN;
	return -1;
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void await(uint32_t slot)
{
	int64_t end = now_ns() + WAIT_NS, left;

	while (!__atomic_load_n(&kept[slot].done, __ATOMIC_ACQUIRE) &&
	       (left = end - now_ns()) > 0) {
		struct timespec time = { .tv_nsec = left };
		struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&time };

		if (syscall(SYS_io_uring_enter, ring, 0, 1,
			    IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &arg,
			    sizeof(arg)) < 0 && errno != ETIME)
			return;
		if (!lock())
			return;
		take_completions();
		unlock();
	}
}

static int64_t result_of(uint32_t slot)
{
	if (!__atomic_load_n(&kept[slot].done, __ATOMIC_ACQUIRE)) {
		errno = EINPROGRESS;
		return -1;
	}
	if (kept[slot].result >= 0)
		return kept[slot].result;
	errno = -kept[slot].result;
	return -1;
}

/* Make a call that is_request(), and return what its completion says. */
int64_t uring_request(int fd, const struct step *step, const uint8_t **out,
		      int64_t *out_length)
{
	struct step made = plain(step);
	const struct w_call *call = &made.call;
	struct io_uring_sqe *request;
	uint8_t *end, *data;
	uint32_t number, slot;
	int64_t ret;

	if (!lock())
		return -1;
	if (!open_ring()) {
		unlock();
		return -1;
	}
	number = *queue_word(params.sq_off.tail);
	slot = number % ENTRIES;
	end = slots + slot * SLOT_SIZE + SCRATCH_SIZE;
	request = (struct io_uring_sqe *)(requests + slot * REQUEST_SIZE);
	fill(request, fd, &made, end, &data);
	request->user_data = number;
	if (step->call.mode & W_URING_ASYNC)
		request->flags = IOSQE_ASYNC;
	kept[slot].number = number;
	kept[slot].done = false;
	ret = submit(number);
	unlock();
	if (ret)
		return -1;
	if (!(step->call.mode & W_URING_LEAVE))
		await(slot);
	ret = result_of(slot);
	*out = data;
	*out_length = end - data;
	if (call->op == W_READ || call->op == W_PREAD)
		*out_length = ret > end - data ? end - data : ret;
	else if (call->op != W_IOCTL)
		*out_length = 0;
	return ret;
}

/* Let go of the ring. As long as its memory is mapped, it is not closed. */
void uring_forget(void)
{
	if (ring < 0)
		return;
	if (queues)
		munmap(queues, queues_size);
	if (requests)
		munmap(requests, ENTRIES * REQUEST_SIZE);
	queues = requests = NULL;
	descriptor_close(ring);
	ring = -1;
}

/*
 * Close the ring, if it has requests in flight, which a worker of the kernel's ends. One
 * without any is as good as a new one, and costs nothing.
 */
int64_t uring_close(void)
{
	if (ring < 0)
		return 0;
	if (!lock())
		return -1;
	take_completions();
	if (ring >= 0 && in_flight) {
		uring_forget();
		for (int i = 0; i < TURNS; i++)
			sched_yield();
		pause_ms(SETTLE_MS);
	}
	unlock();
	return 0;
}
