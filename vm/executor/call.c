// SPDX-License-Identifier: Apache-2.0
/* Makes single calls of a program, on any thread. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"
#include "executor.h"

#define SLEEP_SLICE_NS	5000000
#define NO_DEVICE	UINT32_MAX

#define OPEN_FLAGS	(O_ACCMODE | O_EXCL | O_APPEND | O_NONBLOCK | O_TRUNC | O_SYNC)

static int files[W_N_FILES] = { [0 ... W_N_FILES - 1] = -1 };
/* The device of each, from the last time that it was opened. */
static uint32_t devices[W_N_FILES];

/*
 * Threads may use a file while another one closes it, which is for the driver
 * to bear. Taking its number out of the table first keeps the executor from
 * closing it twice, or never.
 */
static int replace_file(int *file, int fd)
{
	return __atomic_exchange_n(file, fd, __ATOMIC_RELAXED);
}

static int64_t open_file(int *file, const struct w_call *call)
{
	int fd = replace_file(file, -1);

	if (fd >= 0)
		close(fd);
	devices[call->file] = device_number(call->arg);
	fd = device_open(call->arg, call->cmd & OPEN_FLAGS);
	if (fd < 0)
		return -1;
	fd = replace_file(file, fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* A dup that fails leaves the file as it is. */
static int64_t dup_file(int *file, uint32_t number)
{
	int from = __atomic_load_n(&files[number % W_N_FILES], __ATOMIC_RELAXED);
	int fd = fcntl(from, F_DUPFD_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	devices[file - files] = devices[number % W_N_FILES];
	fd = replace_file(file, fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* Of a descriptor that a driver made the program knows no device. */
static int64_t adopt_file(int *file, uint64_t number)
{
	int fd = number;

	if (number > INT32_MAX || !handed_is(fd)) {
		errno = EBADF;
		return -1;
	}
	devices[file - files] = NO_DEVICE;
	fd = replace_file(file, fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

/* What is not the driver's has no device either. One that cannot be made changes nothing. */
static int64_t create_file(int *file, uint32_t kind)
{
	int fd = create(kind);

	if (fd < 0)
		return -1;
	devices[file - files] = NO_DEVICE;
	fd = replace_file(file, fd);
	if (fd >= 0)
		close(fd);
	return 0;
}

int file_descriptor(uint32_t number)
{
	return __atomic_load_n(&files[number % W_N_FILES], __ATOMIC_RELAXED);
}

bool is_file(int64_t fd)
{
	for (int i = 0; i < W_N_FILES; i++)
		if (file_descriptor(i) == fd)
			return true;
	return false;
}

static int64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

/*
 * In slices, for the time limit is one of calls that do not return. Slices
 * that end at points in time would take twice as long where the clock moves
 * by ticks.
 */
static int64_t sleep_ms(uint64_t ms)
{
	int64_t left, end;

	if (ms > W_MAX_SLEEP)
		ms = W_MAX_SLEEP;
	end = clock_ns() + ms * 1000000;
	while ((left = end - clock_ns()) > 0) {
		struct timespec slice = { .tv_nsec = SLEEP_SLICE_NS };

		if (left < SLEEP_SLICE_NS)
			slice.tv_nsec = left;
		clock_nanosleep(CLOCK_MONOTONIC, 0, &slice, NULL);
		note_progress();
	}
	return 0;
}

static int64_t load(struct thread *thread, const struct step *step)
{
	uint16_t length = step->call.length;
	char *params = (char *)thread->scratch_end - length - 1;

	memcpy(params, step->payload, length);
	params[length] = '\0';
	return module_insert(params);
}

/* Where a pread or pwrite takes place: 64 bits, which may be negative. */
off_t call_position(const struct w_call *call)
{
	uint64_t upper = call->flags & W_WIDE ? call->arg >> 32 : 0;

	return (off_t)(upper << 32 | call->cmd);
}

uint64_t call_read_count(const struct w_call *call)
{
	bool half = call->op == W_PREAD && call->flags & W_WIDE;

	return half ? (uint32_t)call->arg : call->arg;
}

/* How much of its payload a write hands over. */
uint32_t call_write_count(const struct w_call *call)
{
	uint32_t count = (uint32_t)call->arg;

	return call->flags & W_COUNT && count < call->length ? count :
							       call->length;
}

static int64_t read_parts(const struct w_call *call, int fd, uint8_t *data,
			  uint8_t *end)
{
	struct iovec parts[W_MAX_PARTS];

	return readv(fd, parts,
		     buffer_split(call, data, end, call->arg, parts));
}

static int64_t write_parts(const struct w_call *call, int fd, uint8_t *data,
			   uint8_t *end)
{
	struct iovec parts[W_MAX_PARTS];

	return writev(fd, parts,
		      buffer_split(call, data, end, call_write_count(call), parts));
}

static int64_t control(const struct w_call *call, int fd, uint64_t arg)
{
	return call->flags & W_COMPAT ? compat_ioctl(fd, call->cmd, arg) :
					ioctl(fd, call->cmd, arg);
}

static int64_t run_call(struct thread *thread, const struct step *step,
			const uint8_t **out, int64_t *out_length)
{
	const struct w_call *call = &step->call;
	int *file = &files[call->file];
	int fd = __atomic_load_n(file, __ATOMIC_RELAXED);
	struct pollfd pollfd = { .fd = fd, .events = (short)call->cmd };
	bool in_mapping = buffer_in_mapping(call);
	uint8_t *end = thread->scratch_end;
	uint8_t *data = thread->buffer, *buffer;
	uint64_t size;
	int64_t ret;

	if (is_request(call))
		return uring_request(fd, step, out, out_length);
	switch (call->op) {
	case W_OPEN:
		return open_file(file, call);
	case W_CLOSE:
		return close(replace_file(file, -1));
	case W_READ:
	case W_PREAD:
		size = buffer_mapped(call, call_read_count(call));
		if (!in_mapping)
			data = end - size;
		buffer = buffer_address(call, data);
		if (call->op == W_PREAD)
			ret = pread(fd, buffer, call_read_count(call),
				    call_position(call));
		else if (call->flags & W_VECTOR)
			ret = read_parts(call, fd, data, data + size);
		else
			ret = read(fd, buffer, call->arg);
		if (in_mapping)
			return ret;
		*out = data;
		/* A driver may claim to have read more than it was asked for. */
		*out_length = ret > end - data ? end - data : ret;
		return ret;
	case W_WRITE:
	case W_PWRITE:
		size = buffer_mapped(call, call->length);
		if (!in_mapping)
			data = buffer_fill(step, end);
		buffer = buffer_address(call, data);
		flip_start(thread, data);
		if (call->op == W_PWRITE)
			return pwrite(fd, buffer, call_write_count(call),
				      call_position(call));
		if (call->flags & W_VECTOR)
			return write_parts(call, fd, data, data + size);
		return write(fd, buffer, call_write_count(call));
	case W_LSEEK:
		return lseek(fd, (off_t)call->arg, (int)call->cmd);
	case W_IOCTL:
		if (call->flags & W_VALUE)
			return control(call, fd, call->arg);
		if (!in_mapping)
			data = buffer_fill(step, end);
		buffer = buffer_address(call, data);
		flip_start(thread, data);
		ret = control(call, fd, (uintptr_t)buffer);
		if (in_mapping)
			return ret;
		*out = data;
		*out_length = end - data;
		return ret;
	case W_POLL:
		ret = poll(&pollfd, 1, 0);
		return ret < 0 ? ret : pollfd.revents;
	case W_MMAP:
		return mapping_touch(thread, fd, call);
	case W_SLEEP:
		return sleep_ms(call->arg);
	case W_UNLOAD:
	case W_LOAD:
		/* The module is the runner's to keep track of. */
		if (is_child)
			return 0;
		return call->op == W_LOAD ? load(thread, step) : module_remove();
	case W_DUP:
		return dup_file(file, call->cmd);
	case W_WAIT:
		return 0;	/* parallel.c has seen to it */
	case W_ADOPT:
		return adopt_file(file, call->arg);
	case W_MAP:
		return mapping_keep(fd, call);
	case W_UNMAP:
		return mapping_unmap(call);
	case W_STORE:
		return mapping_store(thread, call);
	case W_REMAP:
		return mapping_remap(call);
	case W_PROTECT:
		return mapping_protect(call);
	case W_ADVISE:
		return mapping_advise(call);
	case W_FORK:
		return fork_once();
	case W_EPOLL:
		return epoll_do(fd, call);
	case W_FLIP:
		if (!is_child)
			flip_note(thread, call);
		return 0;
	case W_FCNTL:
		return file_control(fd, call);
	case W_FLOCK:
		return file_lock(fd, call->cmd);
	case W_FSYNC:
		return file_sync(fd, call->cmd);
	case W_GETDENTS:
		data = end - buffer_mapped(call, call->arg);
		ret = file_entries(fd, data, end - data);
		*out = data;
		*out_length = ret > end - data ? end - data : ret;
		return ret;
	case W_FDINFO:
		data = end - PAGE;
		ret = file_info(fd, data, PAGE);
		*out = data;
		*out_length = ret;
		return ret;
	case W_SPLICE_READ:
		data = end - buffer_mapped(call, call->arg);
		ret = splice_from(fd, call, data, end - data, out_length);
		*out = data;
		return ret;
	case W_SPLICE_WRITE:
		return splice_to(fd, step);
	case W_CHILD:
	case W_EXIT:
		return 0;	/* program.c sees to it */
	case W_CREATE:
		return create_file(file, call->cmd);
	case W_URING_CLOSE:
		return uring_close();
	}
	return 0;
}

/* Copy a call's output to where there is room, which is not in order of calls. */
static void store_output(struct ch_result *result, const uint8_t *out,
			 int64_t length)
{
	uint32_t at;

	result->out_offset = watched->output_used;
	result->out_length = 0;
	if (length <= 0)
		return;
	at = __atomic_fetch_add(&watched->output_used, length,
				__ATOMIC_RELAXED);
	if (at > CH_OUTPUT_SIZE)
		at = CH_OUTPUT_SIZE;
	if (length > CH_OUTPUT_SIZE - at)
		length = CH_OUTPUT_SIZE - at;
	memcpy(channel + CH_OUTPUT + at, out, length);
	result->out_offset = at;
	result->out_length = length;
}

/*
 * Make a call, and if result is not NULL, store what it returned there.
 *
 * A module that is loaded has a new address. What is covered of the old one
 * is folded before; of a load that failed the address is not known. Other
 * threads of the same parallel part may lose coverage by this.
 */
void call_make(struct thread *thread, const struct step *step,
	       struct ch_result *result)
{
	const struct w_call *call = &step->call;
	bool timed = header->flags & CH_F_TSC;
	bool faulted = false, is_nobody;
	const uint8_t *out = NULL;
	int64_t ret, out_length = 0;
	struct step linked;
	uint32_t took = 0, context = 0;
	size_t covered = 0;
	int error;

	if (result)
		result->waited = 0;
	note_progress();
	coverage_mark();
	if (call->op == W_LOAD && !is_child)
		coverage_fold(thread->cover);
	if (result && !is_child)
		context = coverage_context(call);
	if (context)
		covered = coverage_count(thread->cover);
	thread->spared = false;
	if (thread->flips)
		flip_prepare(thread, call);
	if (buffer_in_mapping(call))
		buffer_place(thread, step);
	if (call->fault) {
		/* What fails is the request, not the ring's making. */
		if (is_request(call))
			uring_prepare();
		fault_arm(thread->fail_nth, call->fault);
	}
	if (timed)
		took = ticks();
	if (call->n_fixups) {
		linked = *step;
		links_take_argument(&linked);
		step = &linked;
	}
	is_nobody = user_begin(call);
	errno = 0;
	ret = run_call(thread, step, &out, &out_length);
	error = errno;
	if (thread->flipping)
		flip_stop(thread);
	if (is_nobody)
		user_end();
	if (timed)
		took = (uint32_t)ticks() - took;
	if (call->fault)
		faulted = fault_disarm(thread->fail_nth) && !thread->spared;
	mappings_look();
	if (call->n_fixups)
		links_give(step, ret, out, out_length);
	if (context)
		coverage_fold_context(thread->cover, covered, context);
	if (result && !is_child)
		coverage_count_outcome(call, context, ret == -1 ? error : 0);
	if (is_child)
		;
	else if (call->op == W_LOAD && ret)
		coverage_drop(thread->cover);
	else if (call->op == W_LOAD)
		module_await(true);
	if (!result)
		return;
	result->ret = ret;
	result->error = ret == -1 ? error : 0;
	result->tsc = took;
	result->faulted = faulted;
	result->handed = call->op == W_IOCTL && handed_is(ret);
	store_output(result, out, out_length);
}

/* Have file 0 be device 0, as a program and the reset expect it. */
void open_first_file(void)
{
	const struct w_call call = { .op = W_OPEN };
	bool is_nobody;

	if (files[0] >= 0 && !devices[0])
		return;
	if (files[0] >= 0)
		close(files[0]);
	devices[0] = 0;
	is_nobody = user_begin(&call);
	files[0] = device_open_usual(0);
	if (is_nobody)
		user_end();
}

/* Waiters, mappings, requests and pages in the pipe outlive a file: they go last. */
void close_files(void)
{
	for (int i = 0; i < W_N_FILES; i++) {
		if (files[i] >= 0)
			close(files[i]);
		files[i] = -1;
	}
	epoll_end();
	mappings_end();
	splice_end();
	uring_close();
}
