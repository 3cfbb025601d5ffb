// SPDX-License-Identifier: Apache-2.0
/* Runs wire programs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "executor.h"

/* The calls that preloaded the machine, and whether such calls are running. */
static uint8_t preloaded[CH_PRELOAD_SIZE];
static size_t preloaded_length;
static bool preloading;

void program_open(void)
{
	channel_spare_children();
	compat_probe();
	schedule_open();
	mapping_open();
	file_open();
	thread_open(0);
	handed_begin();
}

/* The bytes of a program's calls that were made when the machine was preloaded. */
static size_t preloaded_part(const uint8_t *program, size_t length)
{
	if (!preloaded_length || length < preloaded_length ||
	    memcmp(program, preloaded, preloaded_length))
		return 0;
	return preloaded_length;
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

/* Have a child make the calls up to its end, and go on behind that. */
static void go_without_child(uint32_t number)
{
	static uint8_t own[CH_PROGRAM_SIZE];
	size_t left = going.length - going.at;

	/* A batch is not there for the child. */
	if (left > sizeof(own))
		left = sizeof(own);
	memcpy(own, going.program + going.at, left);
	memset(&going.results[going.n], 0,
	       (CH_MAX_CALLS - going.n) * sizeof(*going.results));
	if (!child_begin(number)) {
		if (is_child) {
			going.program = own;
			going.length = left;
			going.at = 0;
			going.skipped = 0;
		}
		return;
	}
	while (going.n < CH_MAX_CALLS &&
	       step_decode(going.program, going.length, &going.at,
			   &going.steps[going.n]))
		if (going.steps[going.n++].call.op == W_EXIT)
			break;
	going.first = going.n;
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
	if (!is_child && (step->call.op == W_LOAD || step->call.op == W_UNLOAD))
		waits_end(false);
	if (tracing)
		log_mark_call(index);
	if (comparing)
		coverage_forget();
	if (is_child) {
		if (step->call.op == W_EXIT)
			child_end();
		call_make(&threads[number], step, &going.results[index]);
		return true;
	}
	waits_begin(number, index, &step->call);
	call_make(&threads[number], step, &going.results[index]);
	if (step->call.op == W_CHILD)
		go_without_child(number);
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
	       step_decode(going.program, going.length, &going.at,
			   &going.steps[going.n])) {
		uint32_t index = going.n++;

		if (going.at <= going.skipped) {
			memset(&going.results[index], 0,
			       sizeof(*going.results));
			going.first = going.n;
			continue;
		}
		if (going.steps[index].call.thread && going.results && !is_child)
			continue;
		if (going.first < index)
			go_parallel(index);
		if (going.error)
			break;
		going.first = going.n;
		if (!go_serial(number, index))
			return false;
	}
	if (is_child)
		child_end();
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
	going.skipped = results ? preloaded_part(program, length) : 0;
	going.results = results;
	going.n = 0;
	going.first = 0;
	going.error = 0;
	flips_begin();
	while (!program_go_on(0))
		if (!waits_rest(0))
			break;
	if (results) {
		header->n_results = going.error ? going.first : going.n;
		header->output_length = watched->output_used < CH_OUTPUT_SIZE ?
			watched->output_used : CH_OUTPUT_SIZE;
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
	bool stays = header->flags & CH_F_STAY;
	int error;

	header->programs++;
	name_process();
	header->n_pcs = 0;
	header->waited = 0;
	watched->output_used = 0;
	links_begin();
	waits_prepare();
	coverage_begin();
	trace_begin();
	coverage_drop(cover);
	if (!stays)
		open_first_file();
	error = run_calls(program, length,
			  (struct ch_result *)(channel + CH_RESULTS));
	deferred_let_run();
	datarace_look(false);
	if (stays) {
		coverage_fold(cover);
		deferred_fold();
		goto done;
	}
	if (preloading)
		header->preloaded = !error && module_keep();
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
	deferred_fold();
	if (reload)
		error |= module_restore();
	else if (!error)
		error = module_let_go();
done:
	if (error)
		header->status = module_is_held() ? CH_HELD : CH_ERROR;
	/* Of other programs the host wants to have all that was said. */
	if (header->command != CH_BATCH || header->status || !log_pass_known())
		log_drain();
	if (header->log_length)
		rearm_reports();
}

/* Run calls that load the module anew, and keep it as they load it. */
int program_preload(const uint8_t *program, size_t length)
{
	if (length > sizeof(preloaded))
		return fail(E2BIG, "%zu bytes of calls to preload with", length);
	preloaded_length = 0;
	header->preloaded = 0;
	preloading = true;
	program_run(program, length);
	preloading = false;
	if (header->preloaded) {
		memcpy(preloaded, program, length);
		preloaded_length = length;
	}
	return 0;
}
