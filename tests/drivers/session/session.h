/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * session: the user space interface of /dev/session, which does jobs.
 *
 * Each open file is a session of its own, with up to SESSION_JOBS_MAX jobs that
 * are to be done or whose results were not read yet. Jobs are done one beside
 * the other, in threads of the kernel's.
 *
 * write(2) submits a job SESSION_UPPER without delay. read(2) gives the bytes
 * of the first job that is done, and takes it off; it waits for one, unless
 * there is no job at all. poll(2) tells whether there is one.
 */
#ifndef _UAPI_SESSION_H
#define _UAPI_SESSION_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define SESSION_JOBS_MAX	16
#define SESSION_LENGTH_MAX	128	/* bytes of a job */
#define SESSION_DELAY_MAX	20	/* milliseconds */
#define SESSION_TIMEOUT_MAX	50	/* milliseconds */

enum session_op {
	SESSION_UPPER = 1,	/* small letters become large ones */
	SESSION_REVERSE = 2,	/* the last byte comes first */
};

/**
 * struct session_submit - argument of SESSION_IOC_SUBMIT
 * @op: of enum session_op
 * @delay_ms: what the job takes, up to SESSION_DELAY_MAX
 * @data: address of the bytes
 * @length: how many, 1 to SESSION_LENGTH_MAX
 * @id: set to what the job is called from now on: 1, 2 and so on
 */
struct session_submit {
	__u32 op;
	__u32 delay_ms;
	__u64 data;
	__u32 length;
	__u32 id;
};

/**
 * struct session_wait - argument of SESSION_IOC_WAIT
 * @id: which job
 * @timeout_ms: how long to wait until it is done, up to SESSION_TIMEOUT_MAX
 */
struct session_wait {
	__u32 id;
	__u32 timeout_ms;
};

#define SESSION_IOC_MAGIC	0xB3

#define SESSION_IOC_SUBMIT	_IOWR(SESSION_IOC_MAGIC, 0, struct session_submit)
#define SESSION_IOC_WAIT	_IOW(SESSION_IOC_MAGIC, 1, struct session_wait)
/* The argument is the job's id. Whether it is done or not, it is gone. */
#define SESSION_IOC_CANCEL	_IO(SESSION_IOC_MAGIC, 2)

#endif /* _UAPI_SESSION_H */
