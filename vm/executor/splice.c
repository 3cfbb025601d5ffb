// SPDX-License-Identifier: Apache-2.0
/*
 * Splicing from and to a file: through the program's one pipe, or a memfd. Both are made
 * when a program first asks for them, and go with its files.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "executor.h"

static int ends[2] = { -1, -1 };

static bool open_pipe(void)
{
	if (ends[0] >= 0)
		return true;
	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
		return false;
	for (int i = 0; i < 2; i++)
		ends[i] = descriptor_of_ours(ends[i]);
	return true;
}

/* Take out what is in the pipe; what finds no room is thrown away. */
static int64_t empty(uint8_t *data, uint64_t room)
{
	int error = errno;
	int64_t got = room ? read(ends[0], data, room) : 0;
	uint8_t rest[PAGE];

	while (read(ends[0], rest, sizeof(rest)) > 0)
		;
	errno = error;
	return got < 0 ? 0 : got;
}

static int64_t splice_read(int fd, const struct w_call *call, uint8_t *data,
			   uint64_t room, int64_t *got)
{
	int64_t ret;

	if (!open_pipe())
		return -1;
	ret = splice(fd, NULL, ends[1], NULL, call->arg, SPLICE_F_NONBLOCK);
	if (call->cmd % W_N_SPLICE != W_SPLICE_KEEP)
		*got = empty(data, room);
	return ret;
}

static int64_t splice_write(int fd, const struct step *step)
{
	uint8_t none[1];
	int64_t ret;

	if (!open_pipe() ||
	    (step->call.length &&
	     write(ends[1], step->payload, step->call.length) < 0))
		return -1;
	ret = splice(ends[0], NULL, fd, NULL, W_MEMFD_SIZE, SPLICE_F_NONBLOCK);
	if (step->call.cmd % W_N_SPLICE != W_SPLICE_KEEP)
		empty(none, 0);
	return ret;
}

/* Read up to room bytes of what was spliced from a file to data, *got in the end. */
int64_t splice_from(int fd, const struct w_call *call, uint8_t *data,
		    uint64_t room, int64_t *got)
{
	int64_t ret;
	int memory;

	*got = 0;
	if (call->cmd % W_N_SPLICE != W_SENDFILE)
		return splice_read(fd, call, data, room, got);
	memory = memfd_create("pkvfuzz", MFD_CLOEXEC);
	if (memory < 0)
		return -1;
	ret = sendfile(memory, fd, NULL, call->arg);
	if (ret > 0)
		*got = pread(memory, data, room, 0);
	close(memory);
	return ret;
}

int64_t splice_to(int fd, const struct step *step)
{
	int64_t ret = -1;
	int memory;

	if (step->call.cmd % W_N_SPLICE != W_SENDFILE)
		return splice_write(fd, step);
	memory = memfd_create("pkvfuzz", MFD_CLOEXEC);
	if (memory < 0)
		return -1;
	if (pwrite(memory, step->payload, step->call.length, 0) >= 0)
		ret = sendfile(fd, memory, NULL, step->call.length);
	close(memory);
	return ret;
}

void splice_end(void)
{
	for (int i = 0; i < 2; i++) {
		if (ends[i] >= 0)
			descriptor_close(ends[i]);
		ends[i] = -1;
	}
}
