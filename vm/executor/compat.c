// SPDX-License-Identifier: Apache-2.0
/* System calls by the entry for 32-bit programs, int 0x80. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>

#include "executor.h"

#define NR_GETPID	20	/* numbers of 32-bit calls */
#define NR_IOCTL	54
#define MAX_ERRNO	4095

static bool is_there;
static sigjmp_buf no_entry;

static void leave_entry(int signal)
{
	siglongjmp(no_entry, signal);
}

/* Kernels before 4.17 do not keep r8 to r11. */
static int32_t enter(uint32_t number, uint32_t first, uint32_t second,
		     uint32_t third)
{
	uint64_t ret;

	__asm__ volatile("int $0x80"
			 : "=a"(ret)
			 : "0"((uint64_t)number), "b"((uint64_t)first),
			   "c"((uint64_t)second), "d"((uint64_t)third)
			 : "memory", "cc", "r8", "r9", "r10", "r11");
	return (int32_t)ret;
}

/*
 * See whether the kernel has the entry. Without it there is a SIGSEGV, so this
 * comes before there are other threads.
 */
void compat_probe(void)
{
	struct sigaction action = { .sa_handler = leave_entry }, before;

	sigaction(SIGSEGV, &action, &before);
	if (!sigsetjmp(no_entry, 1))
		is_there = enter(NR_GETPID, 0, 0, 0) > 0;
	sigaction(SIGSEGV, &before, NULL);
}

/* As ioctl() of a 32-bit program; ENOSYS if the kernel runs none. */
int64_t compat_ioctl(int fd, uint32_t cmd, uint32_t arg)
{
	int32_t ret = is_there ? enter(NR_IOCTL, fd, cmd, arg) : -ENOSYS;

	if (ret < -MAX_ERRNO || ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}
