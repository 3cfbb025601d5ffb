/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the executor share. */
#ifndef PKVFUZZ_EXECUTOR_H
#define PKVFUZZ_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../channel.h"

/* channel.c: CH_SIZE bytes, shared with the host */
extern uint8_t *channel;
#define header ((struct ch_header *)channel)
void channel_map(void);
int fail(int error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* log.c: /dev/kmsg */
void log_open(void);
void log_drain(void);

/* module.c */
int module_load(const void *image, size_t length, const char *params);
int module_unload(void);
int module_reload(void);
void module_list_sections(void);

/* coverage.c: KCOV */
void coverage_open(void);
void coverage_start(void);
size_t coverage_count(void);
void coverage_fold(size_t from, size_t to);
size_t coverage_copy(uint64_t *to, size_t room);

/* program.c: wire programs */
void program_open(void);
void program_run(const uint8_t *program, size_t length);
int program_loop(const uint8_t *batch, size_t length, uint32_t count);

#endif
