/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * palette: the user space interface of /dev/palette, which keeps palettes: rows of colours.
 *
 * Each open file has palettes of its own, by ids that nobody can guess. A view of a
 * palette is a file descriptor, which may outlive the palette's id: read(2) gives colours,
 * a byte each.
 */
#ifndef _UAPI_PALETTE_H
#define _UAPI_PALETTE_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define PALETTE_SIZE_MAX	64	/* colours */
#define PALETTE_RUNS_MAX	4	/* of one call */
#define PALETTE_RUN_MAX		8	/* colours of a run */
#define PALETTE_GAMMAS		8

enum palette_kind {
	PALETTE_DOT = 1,
	PALETTE_LINE = 2,
	PALETTE_NAME = 3,
};

/**
 * struct palette_new - argument of PALETTE_IOC_NEW
 * @size: colours, 1 to PALETTE_SIZE_MAX
 * @id: set to what the palette is called
 */
struct palette_new {
	__u32 size;
	__u32 id;
};

/**
 * struct palette_dot - one colour
 * @at: its place
 * @colour: what it becomes
 */
struct palette_dot {
	__u32 at;
	__u32 colour;
};

/**
 * struct palette_line - a row of one colour
 * @from: the first place
 * @to: the place behind the last one
 * @colour: what they become
 */
struct palette_line {
	__u16 from;
	__u16 to;
	__u32 colour;
};

/**
 * struct palette_draw - argument of PALETTE_IOC_DRAW
 * @id: the palette
 * @kind: of enum palette_kind
 * @smooth: colours are changed by a gamma
 * @gamma: which one, below PALETTE_GAMMAS
 * @level: added to each colour
 * @dot: for PALETTE_DOT
 * @line: for PALETTE_LINE
 * @name: for PALETTE_NAME
 */
struct palette_draw {
	__u32 id;
	__u32 kind;
	__u32 smooth : 1,
	      gamma : 6,
	      level : 8;
	union {
		struct palette_dot dot;
		struct palette_line line;
		char name[16];
	} u;
};

/**
 * struct palette_run - some colours
 * @n: how many, up to PALETTE_RUN_MAX
 * @colours: the colours
 */
struct palette_run {
	__u32 n;
	__u8 colours[PALETTE_RUN_MAX];
};

/**
 * struct palette_fill - argument of PALETTE_IOC_FILL
 * @id: the palette
 * @n_runs: up to PALETTE_RUNS_MAX
 * @runs: the colours, one run behind the other
 */
struct palette_fill {
	__u32 id;
	__u32 n_runs;
	struct palette_run runs[PALETTE_RUNS_MAX];
};

#define PALETTE_IOC_NEW		_IOWR('P', 1, struct palette_new)
#define PALETTE_IOC_FREE	_IO('P', 2)	/* the argument is the id */
#define PALETTE_IOC_DRAW	_IOW('P', 3, struct palette_draw)
#define PALETTE_IOC_FILL	_IOW('P', 4, struct palette_fill)
#define PALETTE_IOC_VIEW	_IO('P', 5)	/* the argument is the id; gives a descriptor */

/* Of a view. */
#define PALETTE_IOC_ROTATE	_IO('P', 16)	/* by so many places */

#endif
