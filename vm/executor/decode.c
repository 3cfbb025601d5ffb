// SPDX-License-Identifier: Apache-2.0
/* Decodes wire programs: any bytes are one. */
#include <string.h>

#include "executor.h"

/* Decode the call at *at and go past it; false at the end. */
bool step_decode(const uint8_t *program, size_t length, size_t *at,
		 struct step *step)
{
	struct w_call *call = &step->call;
	size_t left = length - *at;

	if (left < sizeof(*call))
		return false;
	memcpy(call, program + *at, sizeof(*call));
	left -= sizeof(*call);
	call->op %= W_N_OPS;
	call->file %= W_N_FILES;
	call->thread %= W_N_THREADS + 1;
	if (call->n_fixups > W_MAX_FIXUPS)
		call->n_fixups = W_MAX_FIXUPS;
	if (call->n_fixups > left / sizeof(struct w_fixup))
		call->n_fixups = left / sizeof(struct w_fixup);
	left -= call->n_fixups * sizeof(struct w_fixup);
	if (call->length > left)
		call->length = left;
	step->fixups = program + *at + sizeof(*call);
	step->payload = step->fixups + call->n_fixups * sizeof(struct w_fixup);
	*at = step->payload + call->length - program;
	return true;
}
