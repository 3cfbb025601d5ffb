// SPDX-License-Identifier: Apache-2.0
/*
 * Fault injection: /proc/<thread>/fail-nth makes the nth allocation or user
 * copy of that thread fail (Documentation/fault-injection). Each thread keeps
 * its own open; on a kernel that has no such file nothing is ever failed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "executor.h"

#define DEBUGFS "/sys/kernel/debug/"

/* Let every allocation be one that can fail, and say nothing when it does. */
void fault_prepare(void)
{
	static const char *const files[][2] = {
		/* By default those that may wait, GFP_KERNEL, are spared. */
		{ DEBUGFS "failslab/ignore-gfp-wait", "N" },
		{ DEBUGFS "failslab/verbose", "0" },
		{ DEBUGFS "fail_page_alloc/ignore-gfp-wait", "N" },
		{ DEBUGFS "fail_page_alloc/min-order", "0" },
		{ DEBUGFS "fail_page_alloc/verbose", "0" },
		{ DEBUGFS "fail_usercopy/verbose", "0" },
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		write_file(files[i][0], files[i][1]);
}

/* The calling thread's file, or -1. */
int fault_open(void)
{
	return descriptor_of_ours(open("/proc/thread-self/fail-nth",
				       O_RDWR | O_CLOEXEC));
}

void fault_arm(int fail_nth, uint32_t nth)
{
	char text[16];
	int length = snprintf(text, sizeof(text), "%u", nth);

	if (fail_nth >= 0 && pwrite(fail_nth, text, length, 0) < 0)
		perror("pkvfuzz: fail-nth");
}

/* Returns whether the fault took place. */
bool fault_disarm(int fail_nth)
{
	char left;

	if (fail_nth < 0)
		return false;
	/*
	 * Reading and writing copy, too, and may be what fails. That leaves 0
	 * in the file, so that a second try succeeds.
	 */
	if (pread(fail_nth, &left, 1, 0) == 1 && left == '0')
		return true;
	if (pwrite(fail_nth, "0", 1, 0) < 0 && pwrite(fail_nth, "0", 1, 0) < 0)
		perror("pkvfuzz: fail-nth");
	return false;
}
