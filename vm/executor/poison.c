// SPDX-License-Identifier: Apache-2.0
/* Free stack of the kernel's, filled for what a driver hands out of it to be told. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "executor.h"

static int device = -1;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

static void open_device(void)
{
	device = descriptor_of_ours(open("/dev/pkvfuzz_stack",
					 O_RDWR | O_CLOEXEC));
	if (device < 0)
		fprintf(stderr, "pkvfuzz: /dev/pkvfuzz_stack: %s\n",
			strerror(errno));
}

/* Have free stack filled whenever a function of the driver's is called for a file of its own. */
int stack_watch(int fd)
{
	int error = errno;

	if (fd < 0 || !header->poison)
		return fd;
	pthread_once(&opened, open_device);
	if (device >= 0 && ioctl(device, fd, header->poison & 0xff))
		perror("pkvfuzz: /dev/pkvfuzz_stack");
	errno = error;
	return fd;
}
