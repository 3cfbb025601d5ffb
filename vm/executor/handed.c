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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

/* The first of ours: a program has few, and the kernel's table grows with the highest. */
#define OURS	200
/*
 * The lowest free number is always taken: so many are closed after each program, and all
 * if more are open than usual.
 */
#define NEAR	16

#ifndef SYS_close_range
#define SYS_close_range	436
#endif

/* What a process may have open at a time, unless root says otherwise; we do not. */
#define MOST	1024

static unsigned int lowest;

/* Which of the numbers from OURS on are ours: a program with many has some of them too. */
static bool is_ours[MOST];

/* Give a descriptor a number that no program's has; -1 stays. */
int descriptor_of_ours(int fd)
{
	int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, OURS);

	if (high < 0)
		return fd;
	close(fd);
	if (high < MOST)
		is_ours[high] = true;
	return high;
}

/* Close one of ours, whose number is a program's from now on. */
void descriptor_close(int fd)
{
	close(fd);
	if (fd >= OURS && fd < MOST)
		is_ours[fd] = false;
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

/* How many are open, which kernels from 6.2 on tell as a size; 0 otherwise. */
static off_t count(void)
{
	static int directory = -1;
	struct stat st;

	if (directory < 0)
		directory = descriptor_of_ours(open("/proc/self/fd",
						    O_PATH | O_CLOEXEC));
	return fstat(directory, &st) ? 0 : st.st_size;
}

static void close_all(void)
{
	syscall(SYS_close_range, lowest, OURS - 1, 0);
	for (unsigned int first = OURS, i = OURS; i <= MOST; i++) {
		if (i < MOST && !is_ours[i])
			continue;
		if (first < i)
			syscall(SYS_close_range, first, i - 1, 0);
		first = i + 1;
	}
}

/* Close those that a program left; with all, also those that are not expected. */
void handed_close(bool all)
{
	static off_t usual;
	unsigned int next = lowest + NEAR;

	syscall(SYS_close_range, lowest, next - 1, 0);
	/* A program that closes some of many leaves gaps, with others behind them. */
	if (all || fcntl(next, F_GETFD) >= 0 || count() != usual) {
		close_all();
		usual = count();
	}
}

/* Whether a call may have handed it out, and no file of the program has it. */
bool handed_is(int64_t fd)
{
	if (fd < lowest || fd >= OURS || is_file(fd))
		return false;
	return fcntl(fd, F_GETFD) >= 0;
}
