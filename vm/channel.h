/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The channel: memory shared by the fuzzer on the host and the executor in
 * the guest. This header is the one definition of its layout and of the wire
 * form of a program; the host reads it with a compiler (fuzzer/machine/
 * channel.py, fuzzer/program/wire.py are checked against it by a test).
 * Everything is little-endian.
 */
#ifndef PKVFUZZ_CHANNEL_H
#define PKVFUZZ_CHANNEL_H

#include <stdint.h>

#define CH_MAGIC	0x6b76667a7a756631ull
#define CH_VERSION	20

/* Layout, in bytes from the start of the region. */
#define CH_SIZE		0x1000000	/* the whole region: 16 MiB */
#define CH_RESULTS	0x001000	/* struct ch_result[CH_MAX_CALLS] */
#define CH_RESET	0x003000	/* wire program run between programs */
#define CH_RESET_SIZE	0x001000
#define CH_PROGRAM	0x004000	/* wire program to run */
#define CH_PROGRAM_SIZE	0x010000
#define CH_OUTPUT	0x014000	/* bytes that calls returned */
#define CH_OUTPUT_SIZE	0x020000
#define CH_LOG		0x034000	/* /dev/kmsg records, raw */
#define CH_LOG_SIZE	0x040000
#define CH_COUNTERS	0x080000	/* uint8_t, one for each block */
#define CH_COUNTERS_SIZE 0x040000
#define CH_SEEN		0x0c0000	/* uint8_t, buckets seen of each counter */
#define CH_SEEN_SIZE	0x040000
#define CH_LAST		0x100000	/* counters of the batch before */
#define CH_BELL		0x140000	/* the bell's queue */
#define CH_BELL_SIZE	0x001000
#define CH_DEVICES	0x141000	/* struct ch_device[CH_MAX_DEVICES] */
#define CH_DEVICES_SIZE	0x004000
#define CH_TABLE	0x400000	/* uint32_t: block number + 1 by pc */
#define CH_TABLE_SIZE	0x400000
#define CH_BULK		0x800000	/* module image, batch of programs, executable */
#define CH_BULK_SIZE	0x800000
#define CH_BATCH_SIZE	0x400000	/* half of it: a batch, and the next one */

/*
 * Counters stop here. Loops that run 8 times or 80 are the same to the
 * fuzzer: telling them apart fills the corpus with ever longer writes.
 */
#define CH_COUNTER_MAX	8

/*
 * The counter of a block that no call of the program ran, but deferred work of the
 * driver's: workqueues, timers, interrupts and threads of its own.
 */
#define CH_COUNTER_DEFERRED 16

/*
 * In CH_SEEN a counter has a bit for each bucket of its values that the host
 * knows of: 1, 2, 3, 4 to 7, 8, and CH_COUNTER_DEFERRED.
 */

/*
 * How a block was reached counts, too, by counters after those of the blocks:
 * the one at n_counters + hash of the block and of the one before it in a
 * call. So does what ioctls cover, by number, for those in contexts: what they
 * share, such as the check of a header, is new for each of them. There the
 * hash is of block and context. With CH_F_OUTCOMES so do the outcomes of calls: each
 * error of a kind of call, and how often it succeeded. These counters are 0 or 1.
 */
#define CH_MAX_CONTEXTS	48
#define CH_MAX_SLEEP_TOLD	4
#define CH_PATH_COUNTERS 16384	/* a power of two */

/* What the host asks for. */
enum ch_command {
	CH_PING = 1,	/* answer; used to see that the guest is alive */
	CH_LOAD,	/* load the module image in CH_BULK, wait for device 0 */
	CH_UNLOAD,	/* unload module_name */
	CH_RUN,		/* run the program, then reset */
	CH_LOOP,	/* run the programs in CH_BULK loop_count times */
	CH_SHELL,	/* start a shell on the console */
	CH_EXEC,	/* run the executable in CH_BULK, or exec_args[0] */
	CH_BATCH,	/* run batches of programs until there is news */
	CH_PRELOAD,	/* run the program, keep the module as it loads it */
};

/* Request flags. */
#define CH_F_TSC	0x1	/* time each call in TSC ticks */
#define CH_F_COMPARE	0x2	/* CH_RUN: comparisons, not coverage; once */
#define CH_F_NEW	0x4	/* CH_BATCH: what is not in CH_SEEN is news */
#define CH_F_TRACE	0x8	/* each call is announced in the kernel log */
#define CH_F_NAME	0x10	/* a program's process is called "program N" */
#define CH_F_KEEP	0x20	/* CH_LOAD: keep the image for programs to load */
#define CH_F_WAITS	0x40	/* while a call waits the next ones are made */
#define CH_F_HEARD	0x80	/* CH_BATCH: the last log is no reason to stop */
#define CH_F_NOBODY	0x100	/* calls are those of a user without privileges */
#define CH_F_NOBODY_OPENS 0x200	/* and that user opens files, too */
#define CH_F_SETTLE	0x400	/* deferred work is waited for before files are closed */
#define CH_F_OUTCOMES	0x800	/* outcomes of calls are coverage as well */
#define CH_F_STAY	0x2000	/* CH_RUN: see below */

/*
 * A batch ends with a program after which the kernel says something, except for
 * lines of which the host has said, with CH_F_HEARD in a later CH_BATCH, that it
 * knows them. Lines that differ in numbers only are the same line. All of a
 * program's lines are in CH_LOG if one of them is not known.
 */

/*
 * A batch is in CH_BULK: of each program its length as uint32_t, and its bytes.
 * While the guest runs it, the host may leave the next one in the other half
 * of CH_BULK and its length in next_length. When a batch ends and there is
 * nothing to look at, the guest takes that, sets next_length to 0, copies the
 * counters to CH_LAST, counts the batch in batches, and goes on with the one it
 * took. Else it answers, and what is in next_length did not run.
 */

/*
 * With CH_F_STAY a program has the files that the one before left open, and leaves its own
 * open: nothing is opened before it, and nothing closed, reset or loaded again after it.
 * The next one without it ends all of that.
 */

/*
 * With CH_F_TRACE the executor writes to the kernel log, from the thread that
 * makes the call, CH_MARK and the call's index before each call, and CH_MARK
 * with "reset" or "close" before the reset and before files are closed.
 */
#define CH_MARK		"pkvfuzz: call "

/*
 * With poison, the free part of the kernel's stack is filled with that byte whenever a
 * function of the driver's is called for a file, by the module pkvfuzz_stack.
 */
#define CH_POISON	0x100

enum ch_status {
	CH_OK,
	CH_ERROR,	/* the command failed; message says why */
	CH_TIMEOUT,	/* a call, or what CH_EXEC runs, passed its limit: ended */
	CH_STUCK,	/* a call passed its limit and cannot be interrupted */
	CH_DIED,	/* the process that ran the program is gone */
	CH_HELD,	/* the module cannot be unloaded, and no file is open */
};

struct ch_header {
	/* written by the host */
	uint64_t magic;
	uint32_t version;
	uint32_t req_seq;		/* last: a new value starts a command */
	uint32_t command;
	uint32_t flags;
	uint32_t length;		/* bytes in CH_PROGRAM or CH_BULK */
	uint32_t call_timeout_ms;
	uint32_t reset_length;		/* bytes in CH_RESET; 0: no calls */
	uint32_t reset_reload;		/* reload the module between programs */
	uint32_t loop_count;
	uint32_t n_counters;
	uint64_t table_base;		/* pc of CH_TABLE[0] */
	uint32_t table_length;		/* entries in CH_TABLE */
	uint32_t exec_argc;		/* strings in exec_args */
	uint32_t n_devices;		/* in CH_DEVICES */
	char module_name[64];
	char module_params[512];
	char exec_args[1024];		/* each ends with a NUL */
	uint32_t exec_timeout_ms;
	uint32_t n_contexts;
	uint32_t contexts[CH_MAX_CONTEXTS];	/* ioctl numbers */
	uint32_t next_length;		/* bytes of the next batch */
	uint64_t banner;		/* where in memory the kernel's version is */
	uint64_t kasan_flags;		/* and what KASAN has reported; 0: leave it */
	uint64_t log_ring;		/* and a pointer to its log; 0: not known */
	uint32_t wait_ms;		/* so long a call may sleep before it is left or ended */
	uint32_t poison;		/* CH_POISON | byte that free stack is filled with; 0: none */
	uint64_t sleep_told[CH_MAX_SLEEP_TOLD];	/* and since when it does not repeat
						 * that it may not sleep; 0: none */
	uint64_t page_table;		/* and its page table; 0: not known */
	char pad[0x800 - 1912 - 8 * CH_MAX_SLEEP_TOLD];

	/* written by the guest */
	uint32_t done_seq;		/* last: equals req_seq when done */
	uint32_t status;		/* enum ch_status */
	int32_t error;			/* errno of a CH_ERROR */
	uint32_t n_results;
	uint32_t output_length;		/* of a CH_EXEC: all, also if not kept */
	uint32_t log_length;
	uint32_t n_pcs;			/* pcs seen, before folding */
	uint32_t stopped_call;		/* for CH_TIMEOUT, CH_STUCK, CH_DIED:
					 * its index; n calls: the reset */
	uint64_t programs;		/* programs begun since boot: N of CH_F_NAME */
	uint64_t loop_ns;		/* guest time a CH_LOOP took */
	uint64_t loop_calls;		/* of a CH_LOOP, or all batches of a CH_BATCH */
	uint64_t text_start;		/* load address of the module's .text */
	uint64_t progress;		/* moves with every call */
	uint64_t tsc;			/* ticks from request to reply */
	uint32_t current_call;		/* the call that is running */
	int32_t exec_status;		/* exit status; -n: ended by signal n */
	uint32_t batch_at;		/* the last program that began */
	uint32_t batch_new;		/* 1: it covered what is not in CH_SEEN */
	uint32_t preloaded;		/* 1: the last CH_PRELOAD loaded the module */
	uint32_t batches;		/* of this CH_BATCH that are over, another begun */
	uint32_t rings;			/* 1: the bell works */
	uint32_t waited;		/* calls that were left waiting, with CH_F_WAITS */
	uint32_t load_ms;		/* the longest that the module took to load */
	uint32_t slowest[2];		/* the program of a batch that took longest: */
	uint32_t pad2;
	uint64_t slowest_tsc[2];	/* its index and ticks; batches take turns */
	char message[256];
};

/*
 * A file of the driver. A node that nothing else makes is made after each load,
 * as the driver's number may be another one then: from the name that it has in
 * /proc/devices, or from a number.
 */
#define CH_MAX_DEVICES	64

enum ch_node {
	CH_NODE_THERE,		/* nothing to make */
	CH_NODE_CHAR,
	CH_NODE_BLOCK,
};

struct ch_device {
	char path[192];
	char major_name[48];	/* empty: major is the number */
	uint32_t major;
	uint32_t minor;
	uint32_t node;		/* enum ch_node */
	uint32_t pad;
};

struct ch_result {
	int64_t ret;		/* return value, -1 for an error */
	int32_t error;		/* errno, or 0 */
	uint32_t out_offset;	/* in CH_OUTPUT */
	uint32_t out_length;	/* bytes read, or an ioctl's buffer after it */
	uint32_t tsc;		/* ticks, with CH_F_TSC */
	uint32_t faulted;	/* 1: the fault that was asked for took place,
				 * 0: it did not; before, what the host wrote */
	uint16_t waited;	/* 1: the next calls were made while it waited */
	uint16_t handed;	/* 1: it returned a descriptor that no file has yet */
};

/*
 * In CH_BULK after a CH_RUN with CH_F_COMPARE, which the executor takes back:
 * what the driver compared in the serial calls, each comparison once in a
 * call for each place. Left out are those of equals without a constant, and those of
 * kernel addresses.
 */
#define CH_CALL_COMPARISONS 512	/* of a call; half without a constant */

struct ch_comparison {
	uint64_t a;		/* zero-extended */
	uint64_t b;
	uint32_t site;		/* where: as far behind text_start, in part */
	uint16_t call;		/* its index */
	uint8_t size;		/* bytes of an operand: 1, 2, 4 or 8 */
	uint8_t constant;	/* 1: a is a constant of the driver */
};

struct ch_comparisons {
	uint32_t able;		/* 0: the kernel cannot record them */
	uint32_t count;
	uint32_t dropped;	/* at least so many did not fit; may repeat */
	uint32_t pad;
	struct ch_comparison list[];
};

/*
 * The wire form of a program: calls one after the other, each a header, then
 * n_fixups fixups, then length bytes of payload. Decoding is total: op is
 * taken modulo W_N_OPS, file modulo W_N_FILES, counts are cut to what is
 * left, calls past CH_MAX_CALLS and a tail too short for a header are
 * ignored. File 0 is device 0, opened before the first call.
 *
 * Calls with thread 0 are serial: each begins when all before it are done. A
 * run of calls with other threads is a parallel part: its threads start
 * together, each makes its own calls in order, and the next serial call
 * begins when all of them are done. thread is taken modulo W_N_THREADS + 1.
 *
 * With CH_F_WAITS a serial call that sleeps for some milliseconds, and may be told not
 * to, is left waiting, and the next ones begin: W_N_THREADS calls wait at a time, at
 * most. Those that still do at the program's end, or where the module is loaded or
 * unloaded or a parallel part begins, are interrupted then. Otherwise, with
 * CH_F_COMPARE and on an exact machine calls that wait are interrupted soon.
 *
 * What a child process opens, closes and is given is its own. Its calls are serial, it
 * neither loads nor unloads the module, and none of its calls is left waiting. The program
 * goes on behind its end when it has ended. A child has no children.
 *
 * A program that loads or unloads the module leaves it as it likes: before
 * the reset it is loaded again as it was.
 *
 * CH_PRELOAD is for programs that begin with the same few calls, which load the
 * module with other parameters. It runs these calls once, and from then on
 * the module's own parameters are the ones they loaded it with. A program
 * that begins with the same bytes then skips these calls; what they return
 * reads as 0. If they do not load it, the machine is what it was before.
 */
#define CH_PRELOAD_SIZE	0x400	/* most bytes of such calls */
#define CH_MAX_CALLS	128
#define W_N_FILES	8
#define W_MAX_FIXUPS	32
#define W_N_HANDLES	8
#define W_N_THREADS	3
#define W_MAX_SLEEP	2000	/* milliseconds */
#define W_MAX_WAIT	10000000 /* ticks of the TSC */

enum w_op {
	W_OPEN,		/* file = open(device arg % n_devices, cmd); replaces
			 * an open file */
	W_CLOSE,
	W_READ,		/* arg: count */
	W_WRITE,	/* payload */
	W_PREAD,	/* arg: count, cmd: offset, see W_WIDE */
	W_PWRITE,	/* payload, cmd: offset, see W_WIDE */
	W_LSEEK,	/* arg: offset (signed), cmd: whence */
	W_IOCTL,	/* cmd: number; payload's address, or arg: value */
	W_POLL,		/* cmd: events; never waits */
	W_MMAP,		/* arg: bytes, cmd: page offset; touches each page */
	W_SLEEP,	/* arg: milliseconds, cut to W_MAX_SLEEP */
	W_UNLOAD,	/* unload the target's module */
	W_LOAD,		/* load it again; payload: its parameters */
	W_DUP,		/* file = dup of file cmd % W_N_FILES; replaces it */
	W_WAIT,		/* arg: ticks of the TSC since the parallel part began */
	W_ADOPT,	/* file = descriptor arg, which a call handed out; replaces it */
	W_MAP,		/* arg: bytes, cmd: page offset, mode; untouched, it stays as
			 * the file number's one mapping, of 8 pages, also when closed */
	W_UNMAP,	/* of file's mapping, arg: bytes, cmd: first page */
	W_STORE,	/* read, and unless W_READONLY write arg, at the start of its page cmd */
	W_FORK,		/* a process with all files and mappings, which ends at once */
	W_EPOLL,	/* of the program's epoll instance, arg: enum w_epoll, cmd: events */
	W_FLIP,		/* what is at cmd in the next call's buffer changes to arg and back */
	W_REMAP,	/* of file's mapping, from page cmd on: arg bytes from now on, mode */
	W_PROTECT,	/* of file's mapping, arg: bytes, cmd: first page, mode: protection */
	W_ADVISE,	/* of file's mapping, arg: bytes, cmd: first page, mode: advice */
	W_FCNTL,	/* arg: enum w_fcntl, cmd: its argument */
	W_FLOCK,	/* cmd: operation; never waits */
	W_FSYNC,	/* cmd: 1 for fdatasync */
	W_GETDENTS,	/* arg: count */
	W_FDINFO,	/* reads what /proc says of it */
	W_SPLICE_READ,	/* arg: count, cmd: enum w_splice */
	W_SPLICE_WRITE,	/* payload, cmd: enum w_splice */
	W_CREATE,	/* file = one that is not the driver's, cmd: enum w_create; replaces it */
	W_CHILD,	/* the calls that follow are another process's, which has all files */
	W_EXIT,		/* which ends here, or with the program, with its files open */
	W_URING_CLOSE,	/* of the program's ring, see W_URING */
	W_N_OPS,
};

/* A lock is its type, F_RDLCK, F_WRLCK or F_UNLCK, then where it begins, and its length. */
enum w_fcntl {
	W_F_GETFL,	/* takes nothing */
	W_F_SETFL,	/* flags */
	W_F_SETOWN,	/* nothing: the owner is the program */
	W_F_SETSIG,	/* 0: SIGIO, else SIGURG; both are ignored */
	W_F_GETLK,
	W_F_SETLK,
	W_F_OFD_SETLK,
	W_F_SETLEASE,	/* a lock's type */
	W_N_FCNTL,
};

#define W_LOCK_START	2
#define W_LOCK_LENGTH	16

/*
 * Splicing goes through the program's pipe, which is emptied afterwards: what was read is
 * the call's output. With W_SPLICE_KEEP it is not, so that the pages stay up to the next
 * such call, or until the files are closed. A memfd stands in for the pipe with W_SENDFILE.
 */
enum w_splice {
	W_SPLICE,
	W_SPLICE_KEEP,
	W_SENDFILE,
	W_N_SPLICE,
};

enum w_create {
	W_EVENTFD,
	W_PIPE,		/* of both ends in one */
	W_MEMFD,	/* of W_MEMFD_SIZE bytes, and does not shrink */
	W_TIMERFD,
	W_SOCKET,
	W_NULL_DEVICE,	/* /dev/null */
	W_DMA_BUF,	/* of W_MEMFD_SIZE bytes, by /dev/udmabuf or the system's heap */
	W_N_CREATE,
};

#define W_MEMFD_SIZE	0x10000

enum w_epoll {
	W_EPOLL_ADD,
	W_EPOLL_MODIFY,
	W_EPOLL_DELETE,
	W_EPOLL_WAIT,	/* never waits */
	W_N_EPOLL,
};

/*
 * A flip is of the next call of its thread, if that writes or is an ioctl with a
 * buffer. While that call runs, another vCPU writes arg and what was there in turn;
 * where there is none, or on an exact machine, nothing changes. The lower half of
 * cmd is the place, in bytes from the buffer's start. The next two bits say how
 * many bytes of arg there are: 4, 1, 2 or 8; those above are ignored.
 */
#define W_FLIP_SIZE	16

/*
 * Call flags. Those that an operation does not look at are ignored. A vector
 * has parts of cmd bytes, W_MAX_PARTS at most: the last takes the rest, and
 * with cmd 0 it is the only one. Null is stronger than read-only and cut.
 *
 * With W_WIDE an offset has 64 bits, of which the upper half of arg is the upper
 * one; a count is then what is left of arg, its lower half. With W_COUNT a write
 * hands over so many bytes of its payload as the lower half of arg says, all of
 * it at most. The rest is there for fixups to point to.
 */
#define W_VALUE		0x01	/* ioctl: pass arg, not the payload's address */
#define W_VECTOR	0x02	/* read, write: readv, writev */
#define W_NULL		0x04	/* of a buffer: its address is NULL */
#define W_READONLY	0x08	/* of a buffer: the kernel cannot write to it; store: read */
#define W_COMPAT	0x10	/* ioctl: by the entry for 32-bit programs */
#define W_WIDE		0x20	/* pread, pwrite: arg >> 32 is the offset's upper half */
#define W_COUNT		0x40	/* write, pwrite: (uint32_t)arg bytes are written */
#define W_WAITS		0x80	/* it was seen to wait: for who reads the program */
#define W_MAX_PARTS	16

struct w_call {
	uint8_t op;
	uint8_t file;
	uint8_t flags;
	uint8_t n_fixups;
	uint32_t cmd;
	uint64_t arg;
	uint16_t length;
	uint16_t fault;		/* n > 0: its nth allocation or user copy fails */
	uint16_t cut;		/* so many bytes at its buffer's end are unmapped */
	uint8_t thread;		/* 0: serial */
	uint8_t mode;
} __attribute__((packed));

/*
 * The mode of a call that has a buffer is where that lies: 0 in memory of the executor's,
 * n at the start of the mapping of file number n - 1, which is taken modulo W_N_FILES. What
 * is to be there is stored before the call, unless all of it is 0: then it is what there
 * is, and its pages are as they were, there or not. Such a buffer is neither cut nor
 * read-only nor of a 32-bit call, nothing changes it meanwhile, and nothing is given
 * from it. With W_POINTS it is the memory that 8-byte addresses in the buffer are of which
 * lies there, as far from its start as it is from the buffer's, with what there is.
 *
 * That of W_MAP is W_MAP_PRIVATE, and the protection (PROT_READ, PROT_WRITE, PROT_EXEC) in
 * which these bits are turned over, so that 0 is a shared mapping to read and write. That
 * of W_PROTECT is a protection, that of W_ADVISE an advice of madvise() below 64. With
 * W_REMAP_MOVE the pages that are there from page cmd on go elsewhere, and those before
 * them are unmapped; else there are fewer or more of them in place.
 */
#define W_POINTS	0x40
#define W_MAP_PRIVATE	0x08
#define W_MAP_TURNED	0x03
#define W_REMAP_MOVE	0x01
#define W_MOST_ADVICE	0x3f

/*
 * With W_URING in its mode a read, write, pread, pwrite, poll or ioctl is a request in the
 * program's ring of io_uring, which is made for the first one. A read or write is at
 * cmd, see W_WIDE, and an ioctl is a command of the file's own (IORING_OP_URING_CMD): the
 * first W_URING_COMMAND bytes of its payload, or of its value, are in the request. Its buffer
 * is at the request's address, and not the next call's. Of the flags only W_VALUE, W_WIDE and
 * W_COUNT are looked at. The call returns what the completion says, if that comes soon, and
 * else fails with EINPROGRESS. The ring is closed with W_URING_CLOSE, or behind the program's
 * files, and the kernel then ends the requests that are left. A child has a ring of its own.
 */
#define W_URING		0x80
#define W_URING_ASYNC	0x01	/* a thread of the kernel makes it from the start */
#define W_URING_LEAVE	0x02	/* it is not waited for */
#define W_URING_COMMAND	80

/*
 * The 8 bytes at payload[at] are made the address of payload[to]; with to >= W_LOW the
 * 4 bytes there, and payload[to - W_LOW]: buffers are where 32-bit programs have theirs.
 *
 * With to >= W_LINK it is a link instead, between calls: to is W_LINK | kind << 8 |
 * W_LINK_WIDE | W_LINK_FILE | number, other bits are ignored. Handles are numbers of 64
 * bits, 0 before the first call, that calls give and later calls take. Given is what is at
 * buffer[at] after a call that succeeded, taken what is put at payload[at] before a call:
 * 4 bytes, with W_LINK_WIDE 8. With at == W_LINK_CALL what the call returned is given, and
 * its arg is taken: of W_MMAP the offset, in bytes. With W_LINK_FILE the descriptor
 * of file number is taken, and not a handle.
 */
struct w_fixup {
	uint16_t at;
	uint16_t to;
};

#define W_LOW		0xe000
#define W_LINK		0xf000
#define W_LINK_WIDE	0x080
#define W_LINK_FILE	0x040
#define W_LINK_CALL	0xffff

enum w_link {
	W_GIVE,
	W_TAKE,
	W_TAKE_NEXT,	/* a number that is wrong: one more */
	W_TAKE_LAST,	/* or one less */
	W_N_LINKS,
};

#endif
