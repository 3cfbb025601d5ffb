// SPDX-License-Identifier: Apache-2.0
/* Files that are not the driver's, for calls that take a descriptor. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/dma-heap.h>
#include <linux/udmabuf.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"

/* A pipe whose one descriptor reads what was written to it. */
static int create_pipe(void)
{
	char path[64];
	int ends[2], fd;

	if (pipe2(ends, O_NONBLOCK | O_CLOEXEC))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", ends[0]);
	fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	close(ends[0]);
	close(ends[1]);
	return fd;
}

static int create_memfd(void)
{
	int fd = memfd_create("pkvfuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd >= 0 && (ftruncate(fd, W_MEMFD_SIZE) ||
			fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))) {
		close(fd);
		return -1;
	}
	return fd;
}

static int create_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	return fd >= 0 ? fd : socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0);
}

/* Of a memfd's pages. */
static int create_udmabuf(int device)
{
	struct udmabuf_create request = {
		.memfd = create_memfd(),
		.flags = UDMABUF_FLAGS_CLOEXEC,
		.size = W_MEMFD_SIZE,
	};
	int fd = ioctl(device, UDMABUF_CREATE, &request);

	close(request.memfd);
	close(device);
	return fd;
}

static int create_dma_buf(void)
{
	struct dma_heap_allocation_data request = {
		.len = W_MEMFD_SIZE,
		.fd_flags = O_RDWR | O_CLOEXEC,
	};
	int device = open("/dev/udmabuf", O_RDWR | O_CLOEXEC), error;

	if (device >= 0)
		return create_udmabuf(device);
	device = open("/dev/dma_heap/system", O_RDONLY | O_CLOEXEC);
	if (device < 0)
		return -1;
	error = ioctl(device, DMA_HEAP_IOCTL_ALLOC, &request);
	close(device);
	return error ? -1 : (int)request.fd;
}

int create(uint32_t kind)
{
	switch (kind % W_N_CREATE) {
	case W_EVENTFD:
		return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	case W_PIPE:
		return create_pipe();
	case W_MEMFD:
		return create_memfd();
	case W_TIMERFD:
		return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	case W_SOCKET:
		return create_socket();
	case W_NULL_DEVICE:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case W_DMA_BUF:
		return create_dma_buf();
	}
	return -1;
}
