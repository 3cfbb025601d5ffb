/*
 * KASAN: slab-out-of-bounds Write in pkv_store_write
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
static char buffer[64];

static void run(void)
{
	f0 = open(DEVICE, O_RDWR);
	pwrite(f0, "kkkkkkkkkkkkkkkkkkkkkkkkkkkNkkkkk=\n", 35, 0);
	write(f0, "c=hdllo\n", 8);
	pread(f0, buffer, 64, 512);
	write(f0,
		"a=\003\0001\n\000\000\000\000\000\000\000\000\000\000\000\000\000"
		"\000", 20);
	write(f0,
		"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk=x=y\n"
		"\217", 38);

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
