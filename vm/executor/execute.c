// SPDX-License-Identifier: Apache-2.0
/* CH_EXEC: runs another program in the guest and hands over what it prints. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"

#define LOOK_MS		20
#define PIPE_BLOCKS	32

struct child {
	pid_t pid;
	int output;	/* what it prints; -1 when it has closed that */
	int failure;	/* the errno of an exec that failed, else nothing */
};

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000ull + now.tv_nsec / 1000000;
}

/* Returns whether exec_args holds as many strings as it should. */
static bool read_arguments(char **argv)
{
	char *at = header->exec_args, *end = at + sizeof(header->exec_args);

	for (uint32_t i = 0; i < header->exec_argc; i++) {
		char *nul = memchr(at, '\0', end - at);

		if (!nul)
			return false;
		*argv++ = at;
		at = nul + 1;
	}
	*argv = NULL;
	return header->exec_argc > 0;
}

/* A file with the image in CH_BULK; -1 and errno. */
static int image_open(void)
{
	int fd = memfd_create("image", MFD_CLOEXEC);
	uint32_t done = 0;

	while (fd >= 0 && done < header->length) {
		ssize_t n = write(fd, channel + CH_BULK + done,
				  header->length - done);

		if (n <= 0) {
			close(fd);
			return -1;
		}
		done += n;
	}
	return fd;
}

static void __attribute__((noreturn)) become(char **argv, int image, int output,
					     int failure)
{
	static char *environment[] = { "PATH=/bin", "HOME=/", NULL };
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC), error;

	setsid();
	dup2(null, 0);
	dup2(output, 1);
	dup2(output, 2);
	if (image >= 0)
		fexecve(image, argv, environment);
	else
		execve(argv[0], argv, environment);
	error = errno;
	if (write(failure, &error, sizeof(error)) < 0)
		_exit(126);
	_exit(127);
}

static int start(char **argv, int image, struct child *child)
{
	int output[2], failure[2];

	if (pipe2(output, O_CLOEXEC))
		return fail(errno, "a pipe: %s", strerror(errno));
	if (pipe2(failure, O_CLOEXEC)) {
		close(output[0]);
		close(output[1]);
		return fail(errno, "a pipe: %s", strerror(errno));
	}
	child->pid = fork();
	if (!child->pid)
		become(argv, image, output[1], failure[1]);
	close(output[1]);
	close(failure[1]);
	child->output = output[0];
	child->failure = failure[0];
	if (child->pid < 0) {
		close(output[0]);
		close(failure[0]);
		return fail(errno, "fork: %s", strerror(errno));
	}
	return 0;
}

/* Take some of what the child has printed; output_length counts all of it. */
static void take_output(struct child *child, int wait_ms)
{
	static uint8_t block[4096];
	struct pollfd pollfd = { .fd = child->output, .events = POLLIN };
	uint32_t used = header->output_length, room;
	ssize_t n;

	if (poll(&pollfd, 1, wait_ms) <= 0)
		return;
	n = read(child->output, block, sizeof(block));
	if (n <= 0) {
		close(child->output);
		child->output = -1;
		return;
	}
	if (used < CH_OUTPUT_SIZE) {
		room = CH_OUTPUT_SIZE - used;
		memcpy(channel + CH_OUTPUT + used, block, n < room ? n : room);
	}
	header->output_length = used > UINT32_MAX - n ? UINT32_MAX : used + n;
}

/* Wait for the child, or kill it and all it started when its time is over. */
static int await(struct child *child)
{
	uint64_t end = now_ms() + header->exec_timeout_ms;
	int status;

	while (waitpid(child->pid, &status, WNOHANG) != child->pid) {
		note_progress();
		take_output(child, child->output < 0 ? 1 : LOOK_MS);
		/* One that has the kernel say much must not lose what came first. */
		log_drain();
		if (now_ms() < end)
			continue;
		header->status = CH_TIMEOUT;
		kill(-child->pid, SIGKILL);
		kill(child->pid, SIGKILL);
	}
	return status;
}

int execute(void)
{
	static char *argv[sizeof(header->exec_args) + 1];
	struct child child;
	int image = -1, error, status;

	header->output_length = 0;
	if (!read_arguments(argv))
		return fail(EINVAL, "the arguments are cut short");
	if (header->length) {
		image = image_open();
		if (image < 0)
			return fail(errno, "the image: %s", strerror(errno));
	}
	error = start(argv, image, &child);
	if (image >= 0)
		close(image);
	if (error)
		return error;
	status = await(&child);
	/* What it left in the pipe. Others may still hold that open, and print. */
	for (int i = 0; i < PIPE_BLOCKS && child.output >= 0; i++)
		take_output(&child, 0);
	if (read(child.failure, &error, sizeof(error)) != sizeof(error))
		error = 0;
	close(child.failure);
	if (child.output >= 0)
		close(child.output);
	header->exec_status = WIFEXITED(status) ? WEXITSTATUS(status) :
						  -WTERMSIG(status);
	log_drain();
	return error ? fail(error, "%s: %s", argv[0], strerror(error)) : 0;
}
