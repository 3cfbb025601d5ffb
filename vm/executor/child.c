// SPDX-License-Identifier: Apache-2.0
/*
 * A child process, which makes some of a program's calls while the runner waits for it.
 * What it opens and closes is its own. It stores results as the runner would, and what it
 * covers is folded by the runner, for the list of counters to clear is the runner's.
 */
#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "executor.h"

bool is_child;

/* PID 1 interrupts the runner when nothing moves: it is the child's call that is meant. */
static void await(pid_t child)
{
	int status = 0;

	while (waitpid(child, &status, __WALL) < 0 && errno == EINTR) {
		kill(child, SIGUSR1);
		/* Nobody is told of one that died while it exited. */
		if (thread_state(child, child) == 'X')
			status = SIGKILL;
		if (status)
			break;
	}
	/* It died in the kernel, perhaps with locks held: so would the runner have. */
	if (WIFSIGNALED(status))
		kill(getpid(), SIGKILL);
}

/*
 * Begin a child, in which it returns false, and wait until it ends. It returns false as
 * well if there can be none.
 */
bool child_begin(uint32_t number)
{
	uint64_t *cover = comparing ? NULL : coverage_of_child();
	pid_t child;

	coverage_drop(cover);
	/* Fork and exit take their time: only what is between them may be interrupted soon. */
	slow_begin();
	child = fork();
	if (child > 0) {
		await(child);
		slow_end();
		coverage_fold(cover);
		return true;
	}
	if (child < 0) {
		slow_end();
		return false;
	}
	is_child = true;
	comparing = false;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	threads[number].fail_nth = fault_open();
	threads[number].cover = cover;
	coverage_be_child(cover);
	uring_forget();
	slow_end();
	return false;
}

void child_end(void)
{
	slow_begin();
	_exit(0);
}
