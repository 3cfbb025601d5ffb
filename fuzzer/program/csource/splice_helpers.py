# SPDX-License-Identifier: Apache-2.0

"""Helpers in C for splicing, and for files that are not the driver's."""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper

SPLICE_HELPERS = {
    "read_fdinfo": Helper(
        """\
/* Read what the kernel says of an open file. */
static void read_fdinfo(int fd)
{
	char text[4096];
	int info;

	snprintf(text, sizeof(text), "/proc/self/fdinfo/%d", fd);
	info = open(text, O_RDONLY);
	if (info < 0 || read(info, text, sizeof(text)) < 0)
		perror("fdinfo");
	if (info >= 0)
		close(info);
}
""",
        ("fcntl.h", "stdio.h", "unistd.h"),
    ),
    "pipe": Helper(
        """\
/* What is spliced goes through this pipe. */
static int ends[2] = { -1, -1 };

static void open_pipe(void)
{
	if (ends[0] < 0 && pipe2(ends, O_NONBLOCK))
		perror("pipe2");
}

static void close_pipe(void)
{
	close(ends[0]);
	close(ends[1]);
	ends[0] = ends[1] = -1;
}
""",
        ("fcntl.h", "stdio.h", "unistd.h"),
    ),
    "empty_pipe": Helper(
        """\
static void empty_pipe(void)
{
	char rest[4096];

	while (read(ends[0], rest, sizeof(rest)) > 0)
		;
}
""",
        ("unistd.h",),
        ("pipe",),
    ),
    "splice_from": Helper(
        """\
/* Splice from a file to the pipe. */
static void splice_from(int fd, size_t size)
{
	open_pipe();
	splice(fd, NULL, ends[1], NULL, size, SPLICE_F_NONBLOCK);
}
""",
        ("fcntl.h",),
        ("empty_pipe",),
    ),
    "splice_to": Helper(
        """\
/* Put data into the pipe, and splice what is there to a file. */
static void splice_to(int fd, const char *data, size_t size)
{
	open_pipe();
	if (size && write(ends[1], data, size) < 0)
		return;
	splice(ends[0], NULL, fd, NULL, 65536, SPLICE_F_NONBLOCK);
}
""",
        ("fcntl.h", "unistd.h"),
        ("empty_pipe",),
    ),
    "sendfile_from": Helper(
        """\
static void sendfile_from(int fd, size_t size)
{
	int memory = memfd_create("memory", 0);

	sendfile(memory, fd, NULL, size);
	close(memory);
}
""",
        ("sys/mman.h", "sys/sendfile.h", "unistd.h"),
    ),
    "sendfile_to": Helper(
        """\
static void sendfile_to(int fd, const char *data, size_t size)
{
	int memory = memfd_create("memory", 0);

	if (pwrite(memory, data, size, 0) >= 0)
		sendfile(fd, memory, NULL, size);
	close(memory);
}
""",
        ("sys/mman.h", "sys/sendfile.h", "unistd.h"),
    ),
    "make_pipe": Helper(
        """\
/* A pipe of which both ends are one file. */
static int make_pipe(void)
{
	char path[64];
	int both[2], fd;

	if (pipe2(both, O_NONBLOCK))
		return -1;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", both[0]);
	fd = open(path, O_RDWR | O_NONBLOCK);
	close(both[0]);
	close(both[1]);
	return fd;
}
""",
        ("fcntl.h", "stdio.h", "unistd.h"),
    ),
    "make_memfd": Helper(
        """\
/* Memory that is a file, and does not shrink. */
static int make_memfd(void)
{
	int fd = memfd_create("memory", MFD_ALLOW_SEALING);

	if (ftruncate(fd, 65536) || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK))
		perror("memfd");
	return fd;
}
""",
        ("fcntl.h", "stdio.h", "sys/mman.h", "unistd.h"),
    ),
    "make_dma_buf": Helper(
        """\
/* A buffer that drivers share, of a memfd's pages or of the system's heap. */
static int make_dma_buf(void)
{
	struct udmabuf_create create = { .memfd = make_memfd(), .size = 65536 };
	struct dma_heap_allocation_data data = { .len = 65536, .fd_flags = O_RDWR };
	int device = open("/dev/udmabuf", O_RDWR), fd = ioctl(device, UDMABUF_CREATE, &create);

	close(create.memfd);
	close(device);
	if (fd >= 0)
		return fd;
	device = open("/dev/dma_heap/system", O_RDONLY);
	fd = ioctl(device, DMA_HEAP_IOCTL_ALLOC, &data) ? -1 : (int)data.fd;
	close(device);
	return fd;
}
""",
        ("fcntl.h", "linux/dma-heap.h", "linux/udmabuf.h", "sys/ioctl.h", "unistd.h"),
        ("make_memfd",),
    ),
    "make_socket": Helper(
        """\
static int make_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	return fd >= 0 ? fd : socket(AF_NETLINK, SOCK_RAW, 0);
}
""",
        ("sys/socket.h",),
    ),
}
