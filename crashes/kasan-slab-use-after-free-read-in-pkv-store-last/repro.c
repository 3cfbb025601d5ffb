/*
 * KASAN: slab-use-after-free Read in pkv_store_last
 *
 * Build: cc -Wall -Wextra -static -pthread repro.c -o repro
 * Run, as root and with the module loaded: ./repro
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <poll.h>
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
	write(f0, "a=1\nb=2\n", 8);
	ioctl(f0, PKV_IOC_DELETE, &(struct pkv_delete){ .key_len = 1, .key = "b" });
	ioctl(f0, PKV_IOC_DELETE, &(struct pkv_delete){ .key_len = 1, .key = "a" });
	read(f0, buffer, 64);
	write(f0,
		"a}1\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230"
		"\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230"
		"\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230\230"
		"\230\230\230\230\n", 56);
	poll(&(struct pollfd){ .fd = f0, .events = POLLIN | POLLOUT }, 1, 0);
	ioctl(f0, PKV_IOC_CLEAR, 0xffff888000000000);
	write(f0, "a=1\n", 4);
	poll(&(struct pollfd){ .fd = f0, .events = POLLIN | POLLOUT }, 1, 0);
	ioctl(f0, PKV_IOC_DELETE, &(struct pkv_delete){ .key_len = 4, .key = "key0" });
	read(f0, buffer, 64);
	write(f0, "a=1\n", 4);
	write(f0, "\001\000a=x=y\nkey0=", 13);
	write(f0,
		"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk=hello\n"
		"a=hello\n", 47);
	read(f0, buffer, 64);
	write(f0, "c=\n", 3);

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
