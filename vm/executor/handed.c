// SPDX-License-Identifier: Apache-2.0
/*
 * Descriptors that a driver hands out, by an ioctl for instance. They are the
 * program's, which knows nothing of them: all are closed after it. Those of the
 * executor that are opened late have higher numbers, so that they are no obstacle.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

/* The first of ours: a program has few, and the kernel's table grows with the highest. */
#define OURS	200
/*
 * The lowest free number is always taken: so many are looked at after each program, and
 * all if the next one is taken as well.
 */
#define NEAR	16

#ifndef SYS_close_range
#define SYS_close_range	436
#endif

static unsigned int lowest;

/* Give a descriptor a number that no program's has; -1 stays. */
int descriptor_of_ours(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, OURS);

	if (high < 0)
		return fd;
	close(fd);
	return high;
}

/* What is open now is the executor's for good. */
void handed_begin(void)
{
	DIR *directory = opendir("/proc/self/fd");
	struct dirent *entry;

	lowest = 3;
	while (directory && (entry = readdir(directory))) {
		unsigned int fd = strtoul(entry->d_name, NULL, 10);

		if (fd >= lowest && fd < OURS)
			lowest = fd + 1;
	}
	if (directory)
		closedir(directory);
}

/* Close those that a program left; with all, also those beyond the usual number. */
void handed_close(bool all)
{
	unsigned int next = lowest + NEAR;

	all |= fcntl(next, F_GETFD) >= 0;
	syscall(SYS_close_range, lowest, all ? OURS - 1 : next - 1, 0);
}

/* Whether a call may have handed it out, and no file of the program has it. */
bool handed_is(int64_t fd)
{
	if (fd < lowest || fd >= OURS || is_file(fd))
		return false;
	return fcntl(fd, F_GETFD) >= 0;
}
