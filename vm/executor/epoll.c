// SPDX-License-Identifier: Apache-2.0
/* A program's one epoll instance, whose waiters stay in the driver's wait queues. */
#include <sys/epoll.h>
#include <unistd.h>

#include "executor.h"

static int instance = -1;

int64_t epoll_do(int fd, const struct w_call *call)
{
	struct epoll_event event = { .events = call->cmd, .data.fd = fd };
	static const int controls[] = {
		EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL,
	};

	if (instance < 0)
		instance = descriptor_of_ours(epoll_create1(EPOLL_CLOEXEC));
	if (call->arg % W_N_EPOLL == W_EPOLL_WAIT)
		return epoll_wait(instance, &event, 1, 0);
	return epoll_ctl(instance, controls[call->arg % W_N_EPOLL], fd, &event);
}

void epoll_end(void)
{
	if (instance >= 0)
		descriptor_close(instance);
	instance = -1;
}
