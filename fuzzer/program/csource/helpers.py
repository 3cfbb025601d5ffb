# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E101 - C is indented as the kernel does
"""Functions that a reproducer in C may need, each with the headers and functions it needs.

They do the same as the executor in vm/executor, in as few lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Helper:
    """The C text of a function, the headers that it includes, and the helpers that it calls."""

    text: str
    includes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


HELPERS = {
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
    "map": Helper(
        """\
/* Map pages of a file and leave them so, in place of those that were. */
static void map(int number, int fd, size_t pages, off_t offset)
{
	char *base = mmap(NULL, pages * 4096, PROT_READ | PROT_WRITE, MAP_SHARED,
			  fd, offset);

	if (base == MAP_FAILED)
		return;
	unmap(number, 0, 8);
	maps[number].base = base;
	maps[number].there = (1u << pages) - 1;
}
""",
        ("sys/mman.h",),
        ("unmap",),
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
    "unload": Helper(
        """\
static void unload(void)
{
	syscall(SYS_delete_module, MODULE, O_NONBLOCK);
}
""",
        ("fcntl.h", "sys/syscall.h", "unistd.h"),
    ),
    "load": Helper(
        """\
static char *image;
static long image_size;
static int load_error;

static void read_image(const char *path)
{
	FILE *file = fopen(path, "rb");

	if (!file || fseek(file, 0, SEEK_END) || (image_size = ftell(file)) < 0 ||
	    !(image = malloc(image_size + 1)) || fseek(file, 0, SEEK_SET) ||
	    fread(image, 1, image_size, file) != (size_t)image_size) {
		perror(path);
		exit(2);
	}
	fclose(file);
}

static void load(const char *parameters)
{
	load_error = syscall(SYS_init_module, image, image_size, parameters);
}

/* The device's node may come a bit later than the module. */
static void await_device(void)
{
	for (int i = 0; !load_error && access(DEVICE, F_OK) && i < 400; i++)
		usleep(5000);
}
""",
        ("stdio.h", "stdlib.h", "sys/syscall.h", "unistd.h"),
    ),
    "open_either": Helper(
        """\
/* Files of sysfs may allow only one of reading and writing. */
static int open_either(const char *path)
{
	int fd = open(path, O_RDWR);

	if (fd < 0)
		fd = open(path, O_RDONLY);
	return fd < 0 ? open(path, O_WRONLY) : fd;
}
""",
        ("fcntl.h",),
    ),
    "find_major": Helper(
        """\
/* The number that a driver has, by its name in /proc/devices. */
static int find_major(const char *name, int block)
{
	char line[128];
	int major, at = 0, found = -1, in_block = 0;
	FILE *file = fopen("/proc/devices", "r");

	while (file && found < 0 && fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\\n")] = 0;
		in_block |= !strncmp(line, "Block", 5);
		if (in_block == block && sscanf(line, "%d %n", &major, &at) == 1 &&
		    !strcmp(line + at, name))
			found = major;
	}
	if (file)
		fclose(file);
	return found;
}
""",
        ("stdio.h", "string.h"),
    ),
    "make_node": Helper(
        """\
/* Make a node that the driver leaves to user space. */
static void make_node(const char *path, mode_t type, int major, int minor)
{
	unlink(path);
	if (major >= 0 && mknod(path, type | 0600, makedev(major, minor)))
		perror(path);
}
""",
        ("stdio.h", "sys/stat.h", "sys/sysmacros.h", "unistd.h"),
    ),
    "hold": Helper(
        """\
/*
 * Hold this thread for up to twice so many ticks. The fuzzer's machine counts
 * instructions and holds it for exactly so long; elsewhere times vary.
 */
static void hold(uint64_t ticks)
{
	uint64_t end = __builtin_ia32_rdtsc();

	end += end % (2 * ticks + 1);
	while (__builtin_ia32_rdtsc() < end)
		__builtin_ia32_pause();
}
""",
        ("stdint.h",),
    ),
    "run_threads": Helper(
        """\
static int missing;

/* Wait until all of a part's threads are here, to leave at the same time. */
static void meet(void)
{
	__atomic_sub_fetch(&missing, 1, __ATOMIC_ACQ_REL);
	for (int i = 1; __atomic_load_n(&missing, __ATOMIC_ACQUIRE); i++)
		if (i % 64 == 0)
			sched_yield();
}

/* Run functions in threads, each on another CPU, and wait for all of them. */
static void run_threads(int n, void *(*const functions[])(void *))
{
	int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t threads[4];
	pthread_attr_t attributes;
	cpu_set_t cpu;

	pthread_attr_init(&attributes);
	pthread_attr_setstacksize(&attributes, 0x10000);
	__atomic_store_n(&missing, n, __ATOMIC_RELEASE);
	for (int i = 0; i < n; i++) {
		CPU_ZERO(&cpu);
		CPU_SET(i % cpus, &cpu);
		pthread_attr_setaffinity_np(&attributes, sizeof(cpu), &cpu);
		if (pthread_create(&threads[i], &attributes, functions[i], NULL)) {
			perror("pthread_create");
			exit(1);
		}
	}
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_attr_destroy(&attributes);
}
""",
        ("pthread.h", "sched.h", "stdio.h", "stdlib.h", "unistd.h"),
    ),
    "leave_waiting": Helper(
        """\
static pthread_t waiting[128];
static int n_waiting;

static void wake(int signal)
{
	(void)signal;
}

/* Make a call on a thread of its own; after some time it waits for something. */
static void leave_waiting(void *(*call)(void *))
{
	struct sigaction action = { .sa_handler = wake };

	sigaction(SIGUSR1, &action, NULL);
	if (pthread_create(&waiting[n_waiting++], NULL, call, NULL)) {
		perror("pthread_create");
		exit(1);
	}
	usleep(20000);
}

/* Interrupt those that still wait. */
static void end_waiting(void)
{
	while (n_waiting) {
		pthread_t thread = waiting[n_waiting - 1];

		while (pthread_tryjoin_np(thread, NULL)) {
			pthread_kill(thread, SIGUSR1);
			usleep(2000);
		}
		n_waiting--;
	}
}
""",
        ("pthread.h", "signal.h", "stdio.h", "stdlib.h", "unistd.h"),
    ),
    "taint": Helper(
        """\
#define ROUNDS	10000

/* What the kernel says of its health: most reports change it. */
static long taint(void)
{
	long flags = 0;
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");

	if (file && fscanf(file, "%ld", &flags) != 1)
		flags = 0;
	if (file)
		fclose(file);
	return flags;
}
""",
        ("stdio.h",),
    ),
}


def closure(names: Iterable[str]) -> list[str]:
    """Return these helpers and all that they need, in the order of ``HELPERS``."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += HELPERS[name].needs
    return [name for name in HELPERS if name in wanted]
