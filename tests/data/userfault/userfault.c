// SPDX-License-Identifier: Apache-2.0
/* A process that dies of its own fault, as the argument says: no crash of the kernel's. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

static volatile int zero;

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "segfault"))
		*(volatile int *)8 = zero;
	else if (!strcmp(how, "protection"))
		*(volatile int *)0x5a5a5a5a5a5a5a5aul = zero;
	else if (!strcmp(how, "divide"))
		return 100 / zero;
	else if (!strcmp(how, "opcode"))
		__asm__ volatile("ud2");
	else if (!strcmp(how, "jump"))
		((void (*)(void))0x10)();
	else
		abort();
	return 0;
}
