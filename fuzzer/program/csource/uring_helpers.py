# SPDX-License-Identifier: Apache-2.0
"""Requests in a ring of io_uring in C: their arguments, and the helpers.

They do what vm/executor/uring.c does.
"""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper
from fuzzer.program.csource.literals import c_integer, poll_events
from fuzzer.program.ops import URING_ASYNC, URING_LEAVE, Op
from fuzzer.program.program import Call, position

_CODES = {
    Op.READ: "IORING_OP_READ",
    Op.PREAD: "IORING_OP_READ",
    Op.WRITE: "IORING_OP_WRITE",
    Op.PWRITE: "IORING_OP_WRITE",
    Op.POLL: "IORING_OP_POLL_ADD",
}


def request_arguments(call: Call, number: str, size: str) -> tuple[str, str]:
    """Return the arguments of a request behind the file, before and behind its buffer.

    ``number`` is the C expression of a command, ``size`` that of the buffer's size.
    """
    flags = "IOSQE_ASYNC" if call.mode & URING_ASYNC else "0"
    end = f"{flags}, {'RING_LEAVE' if call.mode & URING_LEAVE else 'RING_WAIT'});"
    match call.op:
        case Op.IOCTL:
            return f"{number}, ", f", {size}, {end}"
        case Op.POLL:
            return f"{_CODES[call.op]}, ", f", 0, {poll_events(call.cmd)}, {end}"
        case Op.PREAD | Op.PWRITE:
            at = position(call)
            offset = c_integer(at - (1 << 64) if at >> 63 else at)
            return f"{_CODES[call.op]}, ", f", {size}, {offset}, {end}"
        case _:
            return f"{_CODES[call.op]}, ", f", {size}, -1, {end}"


URING_HELPERS = {
    "close_ring": Helper(
        """\
/* The ring of requests, see io_uring(7). Requests have 128 bytes, completions 32. */
static int ring = -1;
static pthread_mutex_t ring_lock = PTHREAD_MUTEX_INITIALIZER;
static struct io_uring_params ring_params;
static char *ring_queues, *ring_requests;

enum { RING_ENTRIES = 8, RING_SIZE = 4096, RING_LEAVE = 0, RING_WAIT = 1 };

/* Close it; the kernel then ends the requests that are in flight. */
static void close_ring(void)
{
	if (ring < 0)
		return;
	munmap(ring_queues, RING_SIZE);
	munmap(ring_requests, RING_SIZE);
	close(ring);
	ring = -1;
	usleep(2000);
}
""",
        ("linux/io_uring.h", "pthread.h", "sys/mman.h", "unistd.h"),
    ),
    "ring_submit": Helper(
        """\
static void open_ring(void)
{
	memset(&ring_params, 0, sizeof(ring_params));
	ring_params.flags = IORING_SETUP_SQE128 | IORING_SETUP_CQE32;
	ring = syscall(SYS_io_uring_setup, RING_ENTRIES, &ring_params);
	ring_queues = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		IORING_OFF_SQ_RING);
	ring_requests = mmap(NULL, RING_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		IORING_OFF_SQES);
	if (ring < 0 || ring_queues == MAP_FAILED || ring_requests == MAP_FAILED) {
		perror("io_uring");
		exit(1);
	}
}

static uint32_t *ring_word(uint32_t offset)
{
	return (uint32_t *)(ring_queues + offset);
}

/* The ring is one thread's at a time, from here to ring_submit(). */
static struct io_uring_sqe *new_request(int fd, int code, int flags)
{
	struct io_uring_sqe *made;
	uint32_t number;

	pthread_mutex_lock(&ring_lock);
	if (ring < 0)
		open_ring();
	number = *ring_word(ring_params.sq_off.tail);
	made = (void *)(ring_requests + number % RING_ENTRIES * 128);
	memset(made, 0, 128);
	made->opcode = code;
	made->flags = flags;
	made->fd = fd;
	made->user_data = number;
	return made;
}

/* Take all completions; whether that of a request is there, and then its result. */
static int ring_completes(uint32_t number, long *result)
{
	uint32_t *head = ring_word(ring_params.cq_off.head);
	uint32_t *tail = ring_word(ring_params.cq_off.tail);
	char *completions = ring_queues + ring_params.cq_off.cqes;
	int found = 0;

	for (; *head != __atomic_load_n(tail, __ATOMIC_ACQUIRE); ++*head) {
		uint32_t place = *head & *ring_word(ring_params.cq_off.ring_mask);
		struct io_uring_cqe *each = (void *)(completions + place * 32);

		if (each->user_data != number)
			continue;
		*result = each->res < 0 ? -1 : each->res;
		found = 1;
	}
	return found;
}

/* Submit a request, and with RING_WAIT wait a moment for it; -1 if it fails or is in flight. */
static long ring_submit(struct io_uring_sqe *request, int wait)
{
	struct timespec moment = { .tv_nsec = 30000000 };
	struct io_uring_getevents_arg arg = { .ts = (uintptr_t)&moment };
	int flags = IORING_ENTER_EXT_ARG | (wait ? IORING_ENTER_GETEVENTS : 0);
	uint32_t number = request->user_data, place = number % RING_ENTRIES;
	long entered, result = -1;

	*ring_word(ring_params.sq_off.array + place * 4) = place;
	__atomic_store_n(ring_word(ring_params.sq_off.tail), number + 1, __ATOMIC_RELEASE);
	entered = syscall(SYS_io_uring_enter, ring, 1, wait, flags, &arg, sizeof(arg));
	while (!ring_completes(number, &result) && wait && entered >= 0)
		entered = syscall(SYS_io_uring_enter, ring, 0, wait, flags, &arg, sizeof(arg));
	pthread_mutex_unlock(&ring_lock);
	return result;
}
""",
        (
            *("linux/io_uring.h", "pthread.h", "stdio.h", "stdlib.h", "string.h"),
            *("sys/mman.h", "sys/syscall.h", "time.h", "unistd.h"),
        ),
        ("close_ring",),
    ),
    "ring_request": Helper(
        """\
/* A read or write at an offset, -1: where the file is, or a poll, for events. */
static long ring_request(int fd, int code, const void *data, uint32_t size, uint64_t at,
	int flags, int wait)
{
	struct io_uring_sqe *made = new_request(fd, code, flags);

	made->addr = (uintptr_t)data;
	made->len = size;
	if (code == IORING_OP_POLL_ADD)
		made->poll32_events = at;
	else
		made->off = at;
	return ring_submit(made, wait);
}
""",
        ("poll.h", "stddef.h"),
        ("ring_submit",),
    ),
    "ring_command": Helper(
        """\
/* A command of the file's own, of which the request has the first 80 bytes. */
static long ring_command(int fd, uint32_t number, const void *data, uint32_t size, int flags,
	int wait)
{
	struct io_uring_sqe *made = new_request(fd, IORING_OP_URING_CMD, flags);

	made->cmd_op = number;
	made->addr = (uintptr_t)data;
	made->len = size;
	memcpy(made->cmd, data, size < 80 ? size : 80);
	return ring_submit(made, wait);
}
""",
        ("string.h",),
        ("ring_submit",),
    ),
}
"""Functions in C for requests."""
