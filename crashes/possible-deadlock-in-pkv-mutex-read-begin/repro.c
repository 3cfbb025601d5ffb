/*
 * possible deadlock in pkv_mutex_read_begin
 *
 * Build: cc -Wall -Wextra -static -pthread repro.c -o repro
 * Run, as root and with the module loaded: ./repro
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "pkv.h"

#define DEVICE	"/dev/pkv"

static int f0 = -1;

static void run(void)
{
	f0 = open(DEVICE, O_RDWR);
	write(f0, "a=a\n", 4);
	lseek(f0, 0, SEEK_END);

	/* Back to how it was. */
	ioctl(f0, PKV_IOC_CLEAR, 0);
	close(f0);
	f0 = -1;
}

int main(void)
{
	run();
	return 0;
}
