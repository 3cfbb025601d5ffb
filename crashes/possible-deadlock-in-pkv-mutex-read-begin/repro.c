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

static int f0 = -1, f1 = -1, f2 = -1;
static char buffer[64];

static void run(void)
{
	f0 = open(DEVICE, O_RDWR);
	write(f0,
		"c\003\000\000\000\000\000\000\000\000\000\000\000\000\000\000=\000"
		"\004\000\000\000\000\000\000\000a=1\000\000a=\n"
		"key0=\000\004\000\000\000\000\000\000\000a=1\000\000a=\n", 56);
	write(f0,
		"c\003\000\000\000\000\000\000\000\000\000\000\000\000\000\000=he"
		"llo\na=1\n", 27);
	read(f0, buffer, 64);
	f1 = open(DEVICE, O_RDONLY);
	pread(f2, buffer, 64, 0);
	close(f1);
	f1 = -1;
	write(f0,
		"c\003\000\000\000\000\000\000\000\000\000\000\000\000\000\000=\000"
		"\004\000\000\000\000\000\000\000a=1\000\000a=\n"
		"b=\000\004\000\000\000\000\000\000\000a=1\000\000a=\n", 53);
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
