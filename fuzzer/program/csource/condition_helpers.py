# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E101 - C is indented as the kernel does
"""Helpers in C for calls under other conditions: gaps, failing allocations, 32-bit calls."""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper

CONDITION_HELPERS = {
    "before_gap": Helper(
        """\
#define ROOM	0x10000

/* Where the calling thread's buffers end: nothing is mapped from there on. */
static __thread char *gap;

/* Below 4 GiB, for 32-bit calls. */
static char *make_gap(void)
{
	char *map = mmap(NULL, 3 * ROOM, PROT_NONE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (map == MAP_FAILED || mprotect(map, ROOM, PROT_READ | PROT_WRITE)) {
		perror("mmap");
		exit(1);
	}
	return (char *)memset(map, 0, ROOM) + ROOM;
}

/* Memory of size zero bytes that ends at the gap. */
static void *before_gap(size_t size)
{
	return memset(gap - size, 0, size);
}
""",
        ("stdio.h", "stdlib.h", "string.h", "sys/mman.h"),
    ),
    "thread_gap": Helper(
        """\
static char *thread_gap(int number)
{
	static char *gaps[4];

	if (!gaps[number])
		gaps[number] = make_gap();
	return gaps[number];
}
""",
        needs=("before_gap",),
    ),
    "read_only": Helper(
        """\
/* Have the kernel not write to the memory before the gap, or let it again. */
static void read_only(int yes)
{
	mprotect(gap - ROOM, ROOM, yes ? PROT_READ : PROT_READ | PROT_WRITE);
}
""",
        ("sys/mman.h",),
        ("before_gap",),
    ),
    "write_file": Helper(
        """\
static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		perror(path);
	if (fd >= 0)
		close(fd);
}
""",
        ("fcntl.h", "stdio.h", "string.h", "unistd.h"),
    ),
    "prepare_faults": Helper(
        """\
/* Let every allocation be one that can fail, and have no page fault among them. */
static void prepare_faults(void)
{
	write_file("/sys/kernel/debug/failslab/ignore-gfp-wait", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/ignore-gfp-wait", "N");
	write_file("/sys/kernel/debug/fail_page_alloc/min-order", "0");
	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		perror("mlockall");
}
""",
        ("stdio.h", "sys/mman.h"),
        ("write_file",),
    ),
    "fail_nth": Helper(
        """\
/*
 * From now on, the nth allocation or user copy of this thread fails; with 0
 * none does. That copies from user space, too, and may be what fails.
 */
static void fail_nth(int n)
{
	static __thread int file;
	char text[16];
	int length = snprintf(text, sizeof(text), "%d", n);

	if (n)
		file = open("/proc/thread-self/fail-nth", O_RDWR);
	if (pwrite(file, text, length, 0) < 0 &&
	    pwrite(file, text, length, 0) < 0)
		perror("/proc/thread-self/fail-nth");
	if (!n)
		close(file);
}
""",
        ("fcntl.h", "stdio.h", "unistd.h"),
        ("prepare_faults",),
    ),
    "shift": Helper(
        """\
/*
 * Which allocation of loading fails depends on what ran before: it is the one that
 * was seen, or one of the next.
 */
#define SHIFTS\t4
static int shift;
"""
    ),
    "compat_ioctl": Helper(
        """\
/* An ioctl as a 32-bit program makes it. */
static int compat_ioctl(int fd, uint32_t number, uint32_t argument)
{
	int64_t ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "0"((uint64_t)54), "b"((uint64_t)fd),
			   "c"((uint64_t)number), "d"((uint64_t)argument)
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return ret;
}
""",
        ("stdint.h",),
    ),
    "touch_pages": Helper(
        """\
/* Add to each page the bytes of those before it. */
static void touch_pages(volatile unsigned char *map, size_t pages)
{
	volatile unsigned char sum = 0;

	signal(SIGBUS, leave_mapping);
	if (!sigsetjmp(past_mapping, 1))
		for (size_t i = 0; i < pages; i++)
			map[i * 4096] = sum = sum + map[i * 4096];
}
""",
        ("setjmp.h", "signal.h"),
        ("leave_mapping",),
    ),
    "touch": Helper(
        """\
/* Map pages of a file, and touch them. */
static void touch(int fd, size_t pages, off_t offset)
{
	void *map = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, offset);

	if (map == MAP_FAILED)
		return;
	touch_pages(map, pages);
	munmap(map, pages * 4096);
}
""",
        ("sys/mman.h",),
        ("touch_pages",),
    ),
    "touch_failing": Helper(
        """\
/*
 * Map pages of a file and have the kernel touch them, where an allocation may fail.
 * Then nothing does: a signal's frame must not be what it hits.
 */
static void touch_failing(int fd, size_t pages, off_t offset)
{
	void *map = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, offset);

	if (map != MAP_FAILED) {
		madvise(map, pages * 4096, MADV_POPULATE_READ);
		madvise(map, pages * 4096, MADV_POPULATE_WRITE);
	}
	fail_nth(0);
	if (map == MAP_FAILED)
		return;
	touch_pages(map, pages);
	munmap(map, pages * 4096);
}
""",
        ("sys/mman.h",),
        ("touch_pages", "fail_nth"),
    ),
}
