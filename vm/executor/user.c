// SPDX-License-Identifier: Apache-2.0
/*
 * Makes a program's calls as a user without privileges, if the host asks for it.
 * Credentials are a thread's own, and the saved user ID leads back to root.
 */
#include <sys/syscall.h>
#include <unistd.h>

#include "executor.h"

#define NOBODY	65534

static bool is_asked_for(const struct w_call *call)
{
	switch (call->op) {
	case W_LOAD:
	case W_UNLOAD:
		return false;
	case W_OPEN:
		return header->flags & CH_F_NOBODY_OPENS;
	}
	return header->flags & CH_F_NOBODY;
}

static void become(long user)
{
	/* The group first: another user may not change it. */
	if (user)
		syscall(SYS_setresgid, -1L, user, -1L);
	syscall(SYS_setresuid, -1L, user, -1L);
	if (!user)
		syscall(SYS_setresgid, -1L, user, -1L);
}

/* Be nobody for a call, until user_end(), if the host wants this one to be nobody's. */
bool user_begin(const struct w_call *call)
{
	if (!is_asked_for(call))
		return false;
	become(NOBODY);
	return true;
}

/* Be root again. */
void user_end(void)
{
	become(0);
}
