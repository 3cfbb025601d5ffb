// SPDX-License-Identifier: Apache-2.0
/* The memory shared with the host. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "executor.h"

uint8_t *channel;
uint64_t channel_address;

/* Record why a command failed, for the host; returns the errno. */
int fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(header->message, sizeof(header->message), format, args);
	va_end(args);
	header->error = error;
	return error;
}

/* Map it where the kernel's command line says, or end the guest. */
void channel_map(void)
{
	const char *address = getenv("pkvfuzz_channel");
	int fd = open("/dev/mem", O_RDWR | O_CLOEXEC);

	if (!address || fd < 0) {
		printf("pkvfuzz: no channel: %s\n",
		       address ? strerror(errno) : "pkvfuzz_channel= is missing");
		exit(1);
	}
	channel_address = strtoull(address, NULL, 0);
	channel = mmap(NULL, CH_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_POPULATE, fd, channel_address);
	close(fd);
	if (channel == MAP_FAILED) {
		printf("pkvfuzz: mapping the channel: %s\n", strerror(errno));
		exit(1);
	}
	if (header->magic != CH_MAGIC || header->version != CH_VERSION) {
		printf("pkvfuzz: the channel speaks another version\n");
		exit(1);
	}
}

static void spare(size_t start, size_t end)
{
	if (madvise(channel + start, end - start, MADV_DONTFORK))
		perror("pkvfuzz: the channel in child processes");
}

/* Processes that the caller forks need what calls need, and copying the rest takes long. */
void channel_spare_children(void)
{
	spare(CH_LOG, CH_DEVICES);
	spare(CH_DEVICES + CH_DEVICES_SIZE, CH_SIZE);
}
