# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E101 - C is indented as the kernel does

"""Helpers in C for files, their mappings, and handles."""

from __future__ import annotations

from fuzzer.program.csource.helper import Helper

FILE_HELPERS = {
    "null": Helper(
        """\
/* An address that the compiler does not know to be NULL, and so does not warn of. */
static char *volatile null;
"""
    ),
    "take": Helper(
        """\
/* Take a file, so that no other thread closes it as well. */
static int take(int *file)
{
	return __atomic_exchange_n(file, -1, __ATOMIC_RELAXED);
}
"""
    ),
    "replace": Helper(
        """\
/* Put an open file in the place of another one, which is closed. */
static void replace(int *file, int fd)
{
	if (fd < 0)
		return;
	fd = __atomic_exchange_n(file, fd, __ATOMIC_RELAXED);
	if (fd >= 0)
		close(fd);
}
""",
        ("unistd.h",),
    ),
    "leave_mapping": Helper(
        """\
static __thread sigjmp_buf past_mapping;

static void leave_mapping(int signal)
{
	siglongjmp(past_mapping, signal);
}
""",
        ("setjmp.h", "signal.h"),
    ),
    "maps": Helper(
        """\
/* The mappings that stay, and which of their pages are there. */
static struct {
	char *base;
	unsigned int there;
} maps[8];
"""
    ),
    "unmap": Helper(
        """\
/* Unmap pages of a mapping, if they are there. */
static void unmap(int number, unsigned int first, unsigned int pages)
{
	for (unsigned int page = first; page < first + pages && page < 8;) {
		unsigned int end = page;

		while (end < first + pages && end < 8 && maps[number].there >> end & 1)
			maps[number].there &= ~(1u << end++);
		if (end > page)
			munmap(maps[number].base + page * 4096, (end - page) * 4096);
		page = end + 1;
	}
}
""",
        ("sys/mman.h",),
        ("maps",),
    ),
    "place": Helper(
        """\
/* Mappings are far from each other: there is room for more pages behind each. */
static char *place = (char *)0x200000000000;
"""
    ),
    "map": Helper(
        """\
/* Map pages of a file and leave them so, in place of those that were. */
static void map(int number, int fd, size_t pages, off_t offset, int protection, int kind)
{
	char *base = mmap(place += 0x200000, pages * 4096, protection, kind, fd, offset);

	if (base == MAP_FAILED)
		return;
	unmap(number, 0, 8);
	maps[number].base = base;
	maps[number].there = (1u << pages) - 1;
}
""",
        ("sys/mman.h",),
        ("unmap", "place"),
    ),
    "remap": Helper(
        """\
/* Have the pages that are there from one on be more or fewer, in place or elsewhere. */
static void remap(int number, unsigned int first, unsigned int pages, int moves)
{
	int flags = moves ? MREMAP_MAYMOVE | MREMAP_FIXED : 0;
	unsigned int there = maps[number].there, end;
	char *from, *to;

	while (first < 8 && !(there >> first & 1))
		first++;
	for (end = first; end < 8 && there >> end & 1; end++)
		there &= ~(1u << end);
	if (pages > 8 - first)
		pages = 8 - first;
	from = maps[number].base + first * 4096;
	to = moves ? (place += 0x200000) + first * 4096 : from;
	to = mremap(from, (end - first) * 4096, pages * 4096, flags, to);
	if (to == MAP_FAILED)
		return;
	if (moves) {
		maps[number].there = there;
		unmap(number, 0, 8);
	}
	maps[number].base = to - first * 4096;
	maps[number].there = (moves ? 0 : there) | ((1u << pages) - 1) << first;
}
""",
        ("sys/mman.h",),
        ("unmap", "place"),
    ),
    "store": Helper(
        """\
/* Read and write the start of a page; that it may not be there is no end of the program. */
static void store(int number, unsigned int page, uint64_t value)
{
	volatile uint64_t *at;

	if (page > 7 || !(maps[number].there >> page & 1))
		return;
	signal(SIGBUS, leave_mapping);
	signal(SIGSEGV, leave_mapping);
	at = (uint64_t *)(maps[number].base + page * 4096);
	if (sigsetjmp(past_mapping, 1))
		return;
	(void)*at;
	*at = value;
}
""",
        ("setjmp.h", "signal.h", "sys/mman.h"),
        ("maps", "leave_mapping"),
    ),
    "fetch": Helper(
        """\
/* Read the start of a page; that it may not be there is no end of the program. */
static void fetch(int number, unsigned int page)
{
	if (page > 7 || !(maps[number].there >> page & 1))
		return;
	signal(SIGBUS, leave_mapping);
	signal(SIGSEGV, leave_mapping);
	if (!sigsetjmp(past_mapping, 1))
		(void)*(volatile uint64_t *)(maps[number].base + page * 4096);
}
""",
        ("setjmp.h", "signal.h", "sys/mman.h"),
        ("maps", "leave_mapping"),
    ),
    "fill": Helper(
        """\
/* Put bytes at the start of a mapping, as far as they can be written there. */
static void fill(int number, const void *from, size_t size)
{
	signal(SIGBUS, leave_mapping);
	signal(SIGSEGV, leave_mapping);
	if (!sigsetjmp(past_mapping, 1))
		memcpy(maps[number].base, from, size);
}
""",
        ("setjmp.h", "signal.h", "string.h"),
        ("maps", "leave_mapping"),
    ),
    "look_through": Helper(
        """\
#define OWN_WORD	0x6f776e20776f7264
#define PIPES	256

/* Fill half of the free memory, as pipes, with a word, and look for it in a mapping. */
static void look_through(int number)
{
	static int pipes[PIPES][2];
	long left = sysconf(_SC_AVPHYS_PAGES) / 2;
	uint64_t page[512];
	volatile int n = 0;

	for (int i = 0; i < 512; i++)
		page[i] = OWN_WORD;
	for (; left > 0 && n < PIPES && !pipe(pipes[n]); n++, left -= 256) {
		fcntl(pipes[n][1], F_SETPIPE_SZ, 1 << 20);
		fcntl(pipes[n][1], F_SETFL, O_NONBLOCK);
		while (write(pipes[n][1], page, sizeof(page)) > 0)
			;
	}
	signal(SIGBUS, leave_mapping);
	signal(SIGSEGV, leave_mapping);
	if (!sigsetjmp(past_mapping, 1))
		for (int i = 0; i < 8; i++)
			if (maps[number].there >> i & 1 &&
			    *(uint64_t *)(maps[number].base + i * 4096) == OWN_WORD)
				printf("page %d of a mapping is a pipe's by now\\n", i);
	while (n--) {
		close(pipes[n][0]);
		close(pipes[n][1]);
	}
}
""",
        ("setjmp.h", "signal.h", "stdio.h", "unistd.h"),
        ("maps", "leave_mapping"),
    ),
    "fork_once": Helper(
        """\
/* A process with all files and mappings, which ends at once. */
static void fork_once(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	if (child > 0)
		waitpid(child, NULL, 0);
}
""",
        ("sys/wait.h", "unistd.h"),
    ),
    "control_epoll": Helper(
        """\
/* Add, change or remove a file of the one epoll instance, or look at what is ready. */
static int epoll = -1;

static void control_epoll(int fd, int control, uint32_t events)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (epoll < 0)
		epoll = epoll_create1(0);
	if (control)
		epoll_ctl(epoll, control, fd, &event);
	else
		epoll_wait(epoll, &event, 1, 0);
}
""",
        ("sys/epoll.h", "unistd.h"),
    ),
    "adopt": Helper(
        """\
/* Take a descriptor that a call handed out as a file; one that was there is closed. */
static void adopt(int *file, uint64_t fd)
{
	if (fd > 2 && fcntl(fd, F_GETFD) >= 0)
		replace(file, fd);
}
""",
        ("fcntl.h",),
        ("replace",),
    ),
    "give": Helper(
        """\
/* Keep what a call returned, if it succeeded, for later calls. */
static long give(uint64_t *handle, long ret)
{
	if (ret != -1)
		*handle = ret;
	return ret;
}
"""
    ),
    "number_at": Helper(
        """\
/* Read a number out of a buffer. */
static uint64_t number_at(const void *at, size_t size)
{
	uint64_t number = 0;

	memcpy(&number, at, size);
	return number;
}
""",
        ("string.h",),
    ),
}
