// SPDX-License-Identifier: Apache-2.0
/* Calls on a file that neither read nor write: its flags, locks and owner, what it tells. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

/* Drivers tell owners of a file of events: that is for the driver to get right. */
void file_open(void)
{
	signal(SIGIO, SIG_IGN);
	signal(SIGURG, SIG_IGN);
}

static int64_t lock(int fd, int command, uint32_t what)
{
	struct flock lock = {
		.l_type = what % (1 << W_LOCK_START),
		.l_start = what % (1 << W_LOCK_LENGTH) >> W_LOCK_START,
		.l_len = what >> W_LOCK_LENGTH,
	};

	return fcntl(fd, command, &lock);
}

int64_t file_control(int fd, const struct w_call *call)
{
	switch (call->arg % W_N_FCNTL) {
	case W_F_GETFL:
		return fcntl(fd, F_GETFL);
	case W_F_SETFL:
		return fcntl(fd, F_SETFL, call->cmd);
	case W_F_SETOWN:
		return fcntl(fd, F_SETOWN, getpid());
	case W_F_SETSIG:
		return fcntl(fd, F_SETSIG, call->cmd ? SIGURG : 0);
	case W_F_GETLK:
		return lock(fd, F_GETLK, call->cmd);
	case W_F_SETLK:
		return lock(fd, F_SETLK, call->cmd);
	case W_F_OFD_SETLK:
		return lock(fd, F_OFD_SETLK, call->cmd);
	case W_F_SETLEASE:
		return fcntl(fd, F_SETLEASE, (int)(call->cmd % (1 << W_LOCK_START)));
	}
	return 0;
}

int64_t file_lock(int fd, uint32_t operation)
{
	return flock(fd, (int)operation | LOCK_NB);
}

int64_t file_sync(int fd, uint32_t only_data)
{
	return only_data == 1 ? fdatasync(fd) : fsync(fd);
}

int64_t file_entries(int fd, uint8_t *data, uint64_t room)
{
	return syscall(SYS_getdents64, fd, data, room);
}

/* Read what the kernel, and with it the driver, says of an open file. */
int64_t file_info(int fd, uint8_t *data, uint64_t room)
{
	char path[64];
	int64_t ret;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = open(path, O_RDONLY | O_CLOEXEC);
	if (info < 0) {
		errno = EBADF;
		return -1;
	}
	ret = read(info, data, room);
	close(info);
	return ret;
}
