// SPDX-License-Identifier: Apache-2.0
/* PID 1 of the guest. It forks a runner, which serves the channel, and watches it. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "executor.h"

#define SPIN_ROUNDS	200000	/* about 0.2 ms; a busy host answers sooner */
#define IDLE_REST_US	40000	/* a machine that waits must not take a core */
#define KLOG_CONSOLE_LEVEL 8

/*
 * The kernel measures the TSC for a second after boot and then switches to it.
 * A template frozen before that would do so in each of its machines.
 */
static void wait_for_clock(void)
{
	static const char path[] =
		"/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char name[32] = "tsc-early";

	for (int i = 0; i < 500 && !strncmp(name, "tsc-early", 9); i++) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, name, sizeof(name));

		if (fd >= 0)
			close(fd);
		if (n < 0)
			return;
		pause_ms(10);
	}
}

static void mount_all(void)
{
	static const struct {
		const char *type, *path;
	} mounts[] = {
		{ "devtmpfs", "/dev" },
		{ "proc", "/proc" },
		{ "sysfs", "/sys" },
		{ "debugfs", "/sys/kernel/debug" },
		{ "tmpfs", "/tmp" },
	};

	for (size_t i = 0; i < sizeof(mounts) / sizeof(*mounts); i++) {
		mkdir(mounts[i].path, 0755);
		if (mount(mounts[i].type, mounts[i].path, mounts[i].type, 0, NULL))
			printf("pkvfuzz: mount %s: %s\n", mounts[i].path,
			       strerror(errno));
	}
}

static void start_shell(void)
{
	if (fork())
		return;
	setsid();
	for (int fd = 0; fd < 3; fd++)
		close(fd);
	if (open("/dev/ttyS0", O_RDWR) < 0)
		_exit(1);
	dup2(0, 1);
	dup2(0, 2);
	ioctl(0, TIOCSCTTY, 0);
	klogctl(KLOG_CONSOLE_LEVEL, NULL, 7);
	execl("/bin/busybox", "sh", "-i", NULL);
	_exit(1);
}

static int obey(void)
{
	switch (header->command) {
	case CH_PING:
		log_drain();
		return 0;
	case CH_LOAD: {
		int error;

		coverage_drop(threads[0].cover);
		error = module_load(channel + CH_BULK, header->length,
				    header->module_params);
		deferred_open();
		deferred_drop();
		module_list_sections();
		header->n_pcs = coverage_copy(threads[0].cover,
					      (uint64_t *)(channel + CH_BULK),
					      CH_BULK_SIZE / sizeof(uint64_t));
		log_drain();
		return error;
	}
	case CH_UNLOAD: {
		int error = module_unload();

		log_drain();
		return error;
	}
	case CH_RUN:
		deferred_drop();
		compare_begin();
		program_run(channel + CH_PROGRAM, header->length);
		compare_end();
		return 0;
	case CH_LOOP:
		return batch_loop(channel + CH_BULK, header->length,
				  header->loop_count);
	case CH_BATCH:
		deferred_drop();
		log_heard(header->flags & CH_F_HEARD);
		bell_open();
		return batch_run_all(header->length);
	case CH_PRELOAD:
		return program_preload(channel + CH_PROGRAM, header->length);
	case CH_SHELL:
		start_shell();
		return 0;
	case CH_EXEC:
		return execute();
	}
	return fail(ENOSYS, "unknown command %u", header->command);
}

static void wait_for_request(void)
{
	uint32_t done = header->done_seq;
	long rest_us = 20;

	for (uint32_t i = 0;; i++) {
		struct timespec rest = { .tv_nsec = rest_us * 1000 };

		if (__atomic_load_n(&header->req_seq, __ATOMIC_ACQUIRE) != done)
			return;
		if (i < SPIN_ROUNDS)
			continue;
		nanosleep(&rest, NULL);
		if (rest_us < IDLE_REST_US)
			rest_us *= 2;
	}
}

static void serve(void)
{
	program_open();
	for (;;) {
		uint64_t start;

		wait_for_request();
		start = ticks();
		header->status = CH_OK;
		header->error = 0;
		header->log_length = 0;
		header->message[0] = '\0';
		if (obey())
			header->status = CH_ERROR;
		header->tsc = ticks() - start;
		__atomic_store_n(&header->done_seq, header->req_seq,
				 __ATOMIC_RELEASE);
		if (header->command == CH_BATCH)
			bell_ring();
	}
}

static void interrupt(int signal)
{
	(void)signal;	/* its only use: a blocking call returns EINTR */
}

int main(void)
{
	struct sigaction action = { .sa_handler = interrupt };
	const char *console = getenv("pkvfuzz_console");
	const char *exact = getenv("pkvfuzz_exact");
	const char *hasty = getenv("pkvfuzz_hasty");
	pid_t runner;

	setvbuf(stdout, NULL, _IONBF, 0);
	mount_all();
	channel_map();
	/* Where a hang is known it is looked at again and again, and need not be waited for long. */
	write_file("/proc/sys/kernel/hung_task_timeout_secs", hasty ? "1" : "5");
	write_file("/proc/sys/kernel/watchdog_thresh", hasty ? "1" : "3");
	/*
	 * Unloading a module waits for several grace periods. On an exact machine
	 * what expedites them would have turns between those of a program's threads.
	 */
	if (!exact || *exact != '1')
		write_file("/sys/kernel/rcu_expedited", "1");
	fault_prepare();
	datarace_open();
	wait_for_clock();
	log_open();
	/*
	 * The host's view of the log is the channel. The console is for what
	 * comes when nobody serves that any more: panics, lockups.
	 */
	klogctl(KLOG_CONSOLE_LEVEL, NULL, console ? atoi(console) : 1);
	watch_open();
	runner = fork();
	if (!runner) {
		sigaction(SIGUSR1, &action, NULL);
		serve();
	}
	printf("pkvfuzz: executor ready\n");
	watch(runner);
}
