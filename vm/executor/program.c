// SPDX-License-Identifier: Apache-2.0
/* Runs wire programs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"

/*
 * Buffers handed to the driver end where an unmapped page begins, so that a
 * driver that reads or writes past what it was given faults, each time.
 */
#define SCRATCH_SIZE	0x10000
#define MMAP_MAX_PAGES	16
#define PAGE		4096

#define OPEN_FLAGS	(O_ACCMODE | O_APPEND | O_NONBLOCK | O_TRUNC | O_SYNC)

static uint8_t *scratch_end;
static int files[W_N_FILES];
static sigjmp_buf past_mapping;

static inline uint32_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return low;
}

/* A page that a driver maps may not be there to touch: that is an error. */
static void leave_mapping(int signal)
{
	siglongjmp(past_mapping, signal);
}

void program_open(void)
{
	struct sigaction action = { .sa_handler = leave_mapping };
	uint8_t *map = mmap(NULL, SCRATCH_SIZE + PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	sigaction(SIGBUS, &action, NULL);
	mprotect(map + SCRATCH_SIZE, PAGE, PROT_NONE);
	scratch_end = map + SCRATCH_SIZE;
	for (int i = 0; i < W_N_FILES; i++)
		files[i] = -1;
}

/* A buffer of length bytes (at most SCRATCH_SIZE), its end at the guard. */
static uint8_t *buffer(uint64_t length)
{
	if (length > SCRATCH_SIZE)
		length = SCRATCH_SIZE;
	return scratch_end - length;
}

static bool touch(volatile uint8_t *map, uint64_t pages)
{
	uint8_t sum = 0;

	if (sigsetjmp(past_mapping, 1))
		return false;
	for (uint64_t i = 0; i < pages; i++) {
		sum += map[i * PAGE];
		map[i * PAGE] = sum;
	}
	return true;
}

static int64_t touch_pages(int fd, const struct w_call *call)
{
	uint64_t pages = call->arg / PAGE + !!(call->arg % PAGE);
	uint8_t *map;
	bool touched;

	if (pages > MMAP_MAX_PAGES)
		pages = MMAP_MAX_PAGES;
	map = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		   (off_t)call->cmd * PAGE);
	if (map == MAP_FAILED)
		return -1;
	touched = touch(map, pages);
	munmap(map, pages * PAGE);
	if (!touched)
		errno = EFAULT;
	return touched ? 0 : -1;
}

static void place_payload(uint8_t *to, const struct w_call *call,
			  const struct w_fixup *fixups, const uint8_t *payload)
{
	memcpy(to, payload, call->length);
	for (int i = 0; i < call->n_fixups; i++) {
		uint16_t at = fixups[i].at, offset = fixups[i].to;
		uint64_t address;

		if (at + 8 > call->length)
			continue;
		if (offset > call->length)
			offset = call->length;
		address = (uintptr_t)to + offset;
		memcpy(to + at, &address, sizeof(address));
	}
}

static int64_t run_call(const struct w_call *call, const struct w_fixup *fixups,
			const uint8_t *payload, const uint8_t **out,
			int64_t *out_length)
{
	int *file = &files[call->file % W_N_FILES];
	struct pollfd pollfd = { .fd = *file, .events = (short)call->cmd };
	uint8_t *data;
	int64_t ret;

	switch (call->op % W_N_OPS) {
	case W_OPEN:
		if (*file >= 0)
			close(*file);
		*file = open(header->device,
			     (call->cmd & OPEN_FLAGS) | O_CLOEXEC);
		return *file < 0 ? -1 : 0;
	case W_CLOSE:
		ret = close(*file);
		*file = -1;
		return ret;
	case W_READ:
	case W_PREAD:
		data = buffer(call->arg);
		ret = call->op % W_N_OPS == W_READ ?
			read(*file, data, call->arg) :
			pread(*file, data, call->arg, call->cmd);
		*out = data;
		/* A driver may claim to have read more than it was asked for. */
		*out_length = ret > scratch_end - data ? scratch_end - data : ret;
		return ret;
	case W_WRITE:
	case W_PWRITE:
		data = buffer(call->length);
		place_payload(data, call, fixups, payload);
		return call->op % W_N_OPS == W_WRITE ?
			write(*file, data, call->length) :
			pwrite(*file, data, call->length, call->cmd);
	case W_LSEEK:
		return lseek(*file, (off_t)call->arg, (int)call->cmd);
	case W_IOCTL:
		if (call->flags & W_VALUE)
			return ioctl(*file, call->cmd, call->arg);
		data = buffer(call->length);
		place_payload(data, call, fixups, payload);
		ret = ioctl(*file, call->cmd, data);
		*out = data;
		*out_length = call->length;
		return ret;
	case W_POLL:
		ret = poll(&pollfd, 1, 0);
		return ret < 0 ? ret : pollfd.revents;
	case W_MMAP:
		return touch_pages(*file, call);
	}
	return 0;
}

/* Run each call of a program; with results, store what each returned. */
static uint32_t run_calls(const uint8_t *program, size_t length,
			  struct ch_result *results)
{
	bool timed = header->flags & CH_F_TSC;
	size_t at = 0;
	uint32_t n = 0, out_used = 0;

	while (length - at >= sizeof(struct w_call) && n < CH_MAX_CALLS) {
		struct w_call call;
		struct w_fixup fixups[W_MAX_FIXUPS];
		const uint8_t *out = NULL;
		int64_t ret, out_length = 0;
		uint32_t start = 0;
		size_t skip;

		memcpy(&call, program + at, sizeof(call));
		at += sizeof(call);
		skip = call.n_fixups;
		if (skip > W_MAX_FIXUPS)
			skip = W_MAX_FIXUPS;
		if (skip > (length - at) / sizeof(struct w_fixup))
			skip = (length - at) / sizeof(struct w_fixup);
		call.n_fixups = skip;
		memcpy(fixups, program + at, skip * sizeof(struct w_fixup));
		at += skip * sizeof(struct w_fixup);
		if (call.length > length - at)
			call.length = length - at;

		if (results)
			header->current_call = n;
		header->progress++;
		if (timed)
			start = ticks();
		errno = 0;
		ret = run_call(&call, fixups, program + at, &out, &out_length);
		at += call.length;
		n++;
		if (!results)
			continue;

		results->tsc = timed ? ticks() - start : 0;
		results->ret = ret;
		results->error = ret == -1 ? errno : 0;
		results->out_offset = out_used;
		if (out_length < 0)
			out_length = 0;
		if (out_length > CH_OUTPUT_SIZE - out_used)
			out_length = CH_OUTPUT_SIZE - out_used;
		results->out_length = out_length;
		if (out_length)
			memcpy(channel + CH_OUTPUT + out_used, out, out_length);
		out_used += out_length;
		results++;
	}
	if (results) {
		header->output_length = out_used;
		header->current_call = n;
	}
	return n;
}

static void open_first_file(void)
{
	if (files[0] < 0)
		files[0] = open(header->device, O_RDWR | O_CLOEXEC);
}

static void close_files(void)
{
	for (int i = 0; i < W_N_FILES; i++) {
		if (files[i] >= 0)
			close(files[i]);
		files[i] = -1;
	}
}

/* Coverage is the program's own: opening and closing count, resetting not. */
void program_run(const uint8_t *program, size_t length)
{
	size_t ran, reset;

	coverage_start();
	open_first_file();
	header->n_results = run_calls(program, length,
				      (struct ch_result *)(channel + CH_RESULTS));
	ran = coverage_count();
	if (header->reset_length) {
		open_first_file();
		run_calls(channel + CH_RESET, header->reset_length, NULL);
	}
	reset = coverage_count();
	close_files();
	coverage_fold(0, ran);
	coverage_fold(reset, coverage_count());
	header->n_pcs = ran;
	header->programs++;
	if (header->reset_reload && module_reload())
		header->status = CH_ERROR;
	log_drain();
}

/*
 * Run a batch (for each program its length as uint32_t, then its bytes) count
 * times without the host: the ceiling that the host's loop is measured by.
 */
int program_loop(const uint8_t *batch, size_t length, uint32_t count)
{
	struct timespec start, end;
	uint64_t calls = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (uint32_t i = 0; i < count; i++) {
		for (size_t at = 0; at + 4 <= length;) {
			uint32_t size;

			memcpy(&size, batch + at, 4);
			at += 4;
			if (size > length - at)
				return fail(EINVAL, "the batch is cut short");
			program_run(batch + at, size);
			calls += header->n_results;
			at += size;
		}
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	header->loop_ns = (end.tv_sec - start.tv_sec) * 1000000000ull +
			  end.tv_nsec - start.tv_nsec;
	header->loop_calls = calls;
	return 0;
}
