// SPDX-License-Identifier: Apache-2.0
/* Runs wire programs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "executor.h"

#define COVER_ENTRIES	(64 << 10)

/* The calls by which the machine was settled, and whether it is being so. */
static uint8_t settled[CH_SETTLED_SIZE];
static size_t settled_length;
static bool settling;

void program_open(void)
{
	compat_probe();
	schedule_open();
	thread_open(&threads[0], COVER_ENTRIES);
	handed_begin();
}

/* Decode the call at *at and go past it; false at the end. */
static bool decode(const uint8_t *program, size_t length, size_t *at,
		   struct step *step)
{
	struct w_call *call = &step->call;
	size_t left = length - *at;

	if (left < sizeof(*call))
		return false;
	memcpy(call, program + *at, sizeof(*call));
	left -= sizeof(*call);
	call->op %= W_N_OPS;
	call->file %= W_N_FILES;
	call->thread %= W_N_THREADS + 1;
	if (call->n_fixups > W_MAX_FIXUPS)
		call->n_fixups = W_MAX_FIXUPS;
	if (call->n_fixups > left / sizeof(struct w_fixup))
		call->n_fixups = left / sizeof(struct w_fixup);
	left -= call->n_fixups * sizeof(struct w_fixup);
	if (call->length > left)
		call->length = left;
	step->fixups = program + *at + sizeof(*call);
	step->payload = step->fixups + call->n_fixups * sizeof(struct w_fixup);
	*at = step->payload + call->length - program;
	return true;
}

/* The bytes of a program's calls that were made when the machine was settled. */
static size_t settled_part(const uint8_t *program, size_t length)
{
	if (!settled_length || length < settled_length ||
	    memcmp(program, settled, settled_length))
		return 0;
	return settled_length;
}

/* A program that runs, or the reset, for whichever thread goes on with it. */
static struct {
	const uint8_t *program;
	size_t length, at;
	size_t skipped;			/* bytes of calls that are not made */
	struct ch_result *results;	/* NULL: it is the reset */
	struct step steps[CH_MAX_CALLS];
	uint32_t n;			/* calls decoded */
	uint32_t first;			/* of these, the first not made yet */
	int error;
} going;

/* Make the calls of a parallel part, which are those before the last n. */
static void go_parallel(uint32_t end)
{
	waits_end(false);
	going.error = part_run(going.steps, going.first, end, going.results);
	if (!going.error)
		going.first = end;
}

/* Make a serial call; false: another thread has gone on meanwhile. */
static bool go_serial(uint32_t number, uint32_t index)
{
	const struct step *step = &going.steps[index];

	if (!going.results) {
		call_make(&threads[number], step, NULL);
		return true;
	}
	header->current_call = index;
	if (step->call.op == W_LOAD || step->call.op == W_UNLOAD)
		waits_end(false);
	if (tracing)
		log_mark_call(index);
	if (comparing)
		coverage_forget();
	waits_begin(number, index, &step->call);
	call_make(&threads[number], step, &going.results[index]);
	if (!waits_return(number))
		return false;
	waits_let_run();
	if (comparing)
		compare_take(index);
	return true;
}

/*
 * Make the program's calls on a thread, up to its end, or until another thread
 * goes on with it; then it returns false. Calls of a parallel part are put off
 * until the serial call behind them. The reset is serial.
 */
bool program_go_on(uint32_t number)
{
	while (!going.error && going.n < CH_MAX_CALLS &&
	       decode(going.program, going.length, &going.at,
		      &going.steps[going.n])) {
		uint32_t index = going.n++;

		if (going.at <= going.skipped) {
			memset(&going.results[index], 0,
			       sizeof(*going.results));
			going.first = going.n;
			continue;
		}
		if (going.steps[index].call.thread && going.results)
			continue;
		if (going.first < index)
			go_parallel(index);
		if (going.error)
			break;
		going.first = going.n;
		if (!go_serial(number, index))
			return false;
	}
	if (!going.error && going.first < going.n)
		go_parallel(going.n);
	if (going.results) {
		header->current_call = going.n;
		waits_end(true);
	}
	return true;
}

/* Run each call of a program and store what each returned; without results, the reset. */
static int run_calls(const uint8_t *program, size_t length,
		     struct ch_result *results)
{
	going.program = program;
	going.length = length;
	going.at = 0;
	going.skipped = results ? settled_part(program, length) : 0;
	going.results = results;
	going.n = 0;
	going.first = 0;
	going.error = 0;
	while (!program_go_on(0))
		if (!waits_rest(0))
			break;
	if (results) {
		header->n_results = going.error ? going.first : going.n;
		header->output_length = output_used < CH_OUTPUT_SIZE ?
			output_used : CH_OUTPUT_SIZE;
	}
	return going.error;
}

static int reset(void)
{
	int error = 0;

	if (header->reset_length) {
		if (tracing)
			log_mark("reset");
		open_first_file();
		error = run_calls(channel + CH_RESET, header->reset_length, NULL);
	}
	return error;
}

/* The kernel says of memory that is lost by which process it was allocated. */
static void name_process(void)
{
	char name[16];

	if (!(header->flags & CH_F_NAME))
		return;
	snprintf(name, sizeof(name), "program %u", (uint32_t)header->programs);
	prctl(PR_SET_NAME, name);
}

/*
 * Coverage is the program's own: opening and closing count, resetting not.
 * So files are closed twice if the module has to be loaded again.
 */
void program_run(const uint8_t *program, size_t length)
{
	uint64_t *cover = threads[0].cover;
	bool reload = header->reset_reload;
	int error;

	header->programs++;
	name_process();
	header->n_pcs = 0;
	header->waited = 0;
	output_used = 0;
	waits_prepare();
	coverage_begin();
	trace_begin();
	coverage_drop(cover);
	open_first_file();
	error = run_calls(program, length,
			  (struct ch_result *)(channel + CH_RESULTS));
	datarace_look(false);
	if (settling)
		header->settled = !error && module_keep();
	if (!reload && module_is_altered()) {
		close_files();
		handed_close(true);
		coverage_fold(cover);
		error |= module_restore();
	} else {
		coverage_fold(cover);
	}
	error |= reset();
	if (tracing)
		log_mark("close");
	coverage_drop(cover);
	close_files();
	handed_close(reload);
	coverage_fold(cover);
	if (reload)
		error |= module_restore();
	else if (!error)
		error = module_let_go();
	if (error)
		header->status = module_is_held() ? CH_HELD : CH_ERROR;
	/* Of other programs the host wants to have all that was said. */
	if (header->command != CH_BATCH || header->status || !log_pass_known())
		log_drain();
	if (header->log_length)
		rearm_reports();
}

/* Run calls that load the module anew, and stay with how they do. */
int program_settle(const uint8_t *program, size_t length)
{
	if (length > sizeof(settled))
		return fail(E2BIG, "%zu bytes of calls to settle with", length);
	settled_length = 0;
	header->settled = 0;
	settling = true;
	program_run(program, length);
	settling = false;
	if (header->settled) {
		memcpy(settled, program, length);
		settled_length = length;
	}
	return 0;
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

/*
 * Run a batch's programs one after the other, up to the first after which
 * there is something to look at: the kernel said something, a call waited or did
 * not end by itself, or with CH_F_NEW the counters show what the host has not seen.
 * They are those of the last program that ran.
 */
static int run_batch(const uint8_t *batch, size_t length, uint32_t turn,
		     bool *stopped)
{
	uint32_t n = 0;

	header->batch_at = 0;
	header->batch_new = 0;
	header->slowest_tsc[turn] = 0;
	for (size_t at = 0; at + 4 <= length; n++) {
		uint64_t start = ticks(), took;
		uint32_t size;

		memcpy(&size, batch + at, 4);
		at += 4;
		if (size > length - at)
			return fail(EINVAL, "the batch is cut short");
		if (n)
			coverage_clear();
		header->batch_at = n;
		program_run(batch + at, size);
		took = ticks() - start;
		if (took > header->slowest_tsc[turn]) {
			header->slowest_tsc[turn] = took;
			header->slowest[turn] = n;
		}
		header->loop_calls += header->n_results;
		at += size;
		header->batch_new = header->flags & CH_F_NEW && coverage_is_new();
		if (header->log_length && !header->status && log_is_known())
			header->log_length = 0;
		*stopped = header->batch_new || header->log_length ||
			   header->status || header->waited;
		if (*stopped)
			break;
	}
	return 0;
}

/*
 * Run a batch, and the next ones as long as they are there in time. The
 * counters must be 0 before.
 */
int program_batches(size_t length)
{
	uint32_t done = 0;
	bool stopped = false;

	header->loop_calls = 0;
	header->batches = 0;
	for (;;) {
		uint32_t turn = done % 2;
		const uint8_t *half = channel + CH_BULK + turn * CH_BATCH_SIZE;
		int error = run_batch(half, length, turn, &stopped);

		if (error || stopped)
			return error;
		length = __atomic_exchange_n(&header->next_length, 0,
					     __ATOMIC_ACQ_REL);
		if (!length)
			return 0;
		coverage_keep();
		coverage_clear();
		__atomic_store_n(&header->batches, ++done, __ATOMIC_RELEASE);
		bell_ring();
	}
}
