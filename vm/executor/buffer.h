/* SPDX-License-Identifier: Apache-2.0 */
/* Memory that calls hand to the driver. */
#ifndef PKVFUZZ_BUFFER_H
#define PKVFUZZ_BUFFER_H

#include <sys/uio.h>

#include "executor.h"

#define SCRATCH_SIZE	0x10000
#define GUARD_SIZE	(SCRATCH_SIZE + PAGE)
#define VIEW_SIZE	(SCRATCH_SIZE + GUARD_SIZE)

/* Whether a call's buffer lies in the mapping of a file. */
static inline bool buffer_in_mapping(const struct w_call *call)
{
	if (!call->mode || call->mode & (W_POINTS | W_URING) ||
	    call->flags & W_NULL)
		return false;
	switch (call->op) {
	case W_READ:
	case W_PREAD:
	case W_WRITE:
	case W_PWRITE:
		return true;
	case W_IOCTL:
		return !(call->flags & (W_VALUE | W_COMPAT));
	}
	return false;
}

/* How much of a call's buffer of length bytes is mapped, unless it is in a mapping. */
static inline uint64_t buffer_mapped(const struct w_call *call, uint64_t length)
{
	if (length > SCRATCH_SIZE)
		length = SCRATCH_SIZE;
	if (buffer_in_mapping(call))
		return length;
	if (length <= call->cut || call->flags & W_NULL)
		return 0;
	return length - call->cut;
}

/* The address that the driver is given for a buffer at data. */
static inline uint8_t *buffer_address(const struct w_call *call, uint8_t *data)
{
	if (!(call->flags & (W_NULL | W_READONLY)) || buffer_in_mapping(call))
		return data;
	return call->flags & W_NULL ? NULL : data + VIEW_SIZE;
}

uint8_t *buffer_open(void);
uint8_t *buffer_fill(const struct step *step, uint8_t *end);
void buffer_place(struct thread *thread, const struct step *step);
int buffer_split(const struct w_call *call, uint8_t *data, uint8_t *end,
		 uint64_t length, struct iovec *parts);

#endif
