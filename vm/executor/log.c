// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel log. Whatever the kernel printed since the last look is handed
 * to the host as it is; the host knows what a splat is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "executor.h"

/*
 * One open file, shared by PID 1 and the runner it forks, so that they share
 * the position: PID 1 takes over when the runner is dead or stuck.
 */
static int kmsg = -1;

void log_open(void)
{
	kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (kmsg >= 0)
		lseek(kmsg, 0, SEEK_END);
}

/*
 * What the kernel says of a host that let the guest wait. It is not about the
 * driver, and when it is said is a matter of time: what runs next must not
 * depend on it.
 */
static const char *const of_the_host[] = {
	"hrtimer: interrupt took ",
	"sched: RT throttling activated",
};

#define N_OF_THE_HOST	(sizeof(of_the_host) / sizeof(*of_the_host))

static bool is_of_the_host(const char *record)
{
	const char *message = strchr(record, ';');

	for (size_t i = 0; message && i < N_OF_THE_HOST; i++) {
		const char *start = of_the_host[i];

		if (!strncmp(message + 1, start, strlen(start)))
			return true;
	}
	return false;
}

/*
 * Append the new records to CH_LOG, each ended by a newline. It is emptied
 * when a command begins: a CH_LOOP's programs add to one log.
 */
void log_drain(void)
{
	static char record[8192];
	uint32_t used = header->log_length;

	for (;;) {
		ssize_t n = read(kmsg, record, sizeof(record) - 1);

		if (n < 0 && (errno == EPIPE || errno == EINTR))
			continue;	/* overrun: go on with what is left */
		if (n <= 0)
			break;
		record[n] = '\0';
		if (is_of_the_host(record))
			continue;
		if (used > CH_LOG_SIZE || used + n > CH_LOG_SIZE)
			continue;	/* full: drop the newest, keep the cause */
		__builtin_memcpy(channel + CH_LOG + used, record, n);
		used += n;
	}
	header->log_length = used;
}

/* Whether the host wants to know which call the kernel said something in. */
bool tracing;

/* Call it before each program; one that is not traced pays for a look at a flag. */
void trace_begin(void)
{
	tracing = header->flags & CH_F_TRACE;
	/*
	 * Else the kernel drops what is written more than ten times in 5 s. It
	 * insists on the newline.
	 */
	if (tracing)
		write_file("/proc/sys/kernel/printk_devkmsg", "on\n");
}

/* Write a mark to the kernel log, for the calling thread. */
void log_mark(const char *what)
{
	char text[64];
	int length = snprintf(text, sizeof(text), "<15>" CH_MARK "%s\n", what);
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, length) < 0)
		perror("pkvfuzz: /dev/kmsg");
	close(fd);
}

void log_mark_call(uint32_t call)
{
	char text[16];

	snprintf(text, sizeof(text), "%u", call);
	log_mark(text);
}
