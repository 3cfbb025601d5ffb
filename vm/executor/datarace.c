// SPDX-License-Identifier: Apache-2.0
/*
 * Data races: KCSAN holds a task up after some of its accesses, to see whether
 * another one comes to the same memory meanwhile. One thread alone waits for
 * nobody, and would spend most of its time so: it is held up from a program's
 * first parallel part to its last call. On other kernels nothing happens.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

#define PARAMETERS "/sys/module/kcsan/parameters/"
/*
 * Seldom, and then for as long as a call takes: where all threads are held up
 * all the time, none comes by.
 */
#define ACCESSES "64"
#define LONG_US "200"
/* 0 would have the kernel divide by it. */
#define SHORT_US "1"

static int delay = -1;
static bool looking;

static void set_delay(const char *text)
{
	if (pwrite(delay, text, strlen(text), 0) < 0)
		perror("pkvfuzz: KCSAN's delay");
}

/* Call it before the fork. */
void datarace_open(void)
{
	delay = descriptor_of_ours(open(PARAMETERS "udelay_task",
					O_WRONLY | O_CLOEXEC));
	if (delay < 0)
		return;
	write_file(PARAMETERS "skip_watch", ACCESSES);
	set_delay(SHORT_US);
}

void datarace_look(bool on)
{
	if (delay < 0 || on == looking)
		return;
	looking = on;
	set_delay(on ? LONG_US : SHORT_US);
}
