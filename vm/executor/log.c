// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel log. Whatever the kernel printed since the last look is handed
 * to the host as it is; the host knows what a splat is.
 */
#include <errno.h>
#include <fcntl.h>
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
 * Append the new records to CH_LOG, each ended by a newline. It is emptied
 * when a command begins: a CH_LOOP's programs add to one log.
 */
void log_drain(void)
{
	static char record[8192];
	uint32_t used = header->log_length;

	for (;;) {
		ssize_t n = read(kmsg, record, sizeof(record));

		if (n < 0 && (errno == EPIPE || errno == EINTR))
			continue;	/* overrun: go on with what is left */
		if (n <= 0)
			break;
		if (used > CH_LOG_SIZE || used + n > CH_LOG_SIZE)
			continue;	/* full: drop the newest, keep the cause */
		__builtin_memcpy(channel + CH_LOG + used, record, n);
		used += n;
	}
	header->log_length = used;
}
