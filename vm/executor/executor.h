/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the executor share. */
#ifndef PKVFUZZ_EXECUTOR_H
#define PKVFUZZ_EXECUTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../channel.h"

#define PAGE	4096

/* util.c */
void pause_ms(long ms);
void write_file(const char *path, const char *text);
void futex_wait(uint32_t *word, uint32_t value, long ms);
void futex_wake(uint32_t *word);

/* channel.c: CH_SIZE bytes, shared with the host */
extern uint8_t *channel;
extern uint64_t channel_address;	/* guest-physical */
#define header ((struct ch_header *)channel)
void channel_map(void);
void channel_spare_children(void);
int fail(int error, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* bell.c */
void bell_open(void);
void bell_ring(void);

/* 0 is the runner itself; the next ones make parallel parts, the last are spare. */
#define FIRST_SPARE	(1 + W_N_THREADS)
#define N_THREADS	(FIRST_SPARE + W_N_THREADS)

/* watch.c: what PID 1 knows of the runner's threads */
struct watched {
	uint32_t running;	/* bit n: thread n is at work on a parallel part */
	uint32_t slow;		/* threads between slow_begin() and slow_end() */
	uint32_t current;	/* the thread that makes the serial calls */
	uint32_t turn;		/* waits.c's; not 0: its call may be left waiting */
	uint32_t waiting;	/* bit n: so was the call of thread n */
	uint32_t idle;		/* bit n: thread n may go on with the program */
	uint32_t ending;	/* waits_end() is at work */
	uint32_t load_ms;	/* the longest that the module took to be loaded */
	uint32_t output_used;	/* bytes in CH_OUTPUT */
	struct {
		pid_t tid;	/* 0: not made yet */
		uint32_t call;	/* the call it is making */
		uint32_t wanted;	/* it is to go on */
	} thread[N_THREADS];
};

extern struct watched *watched;
void watch_open(void);
char thread_state(pid_t runner, pid_t tid);
void watch(pid_t runner) __attribute__((noreturn));

/* log.c: /dev/kmsg */
void log_open(void);
void log_drain(void);
void log_heard(bool harmless);
bool log_is_known(void);
bool log_pass_known(void);
extern bool tracing;
void trace_begin(void);
void log_mark(const char *what);
void log_mark_call(uint32_t call);

/* ring.c: the log in the kernel's memory */
#define RING_LINE	1024
#define RING_NONE	(-1)
#define RING_UNKNOWN	(-2)
bool ring_open(uint64_t seq, const char *text);
int ring_read(uint64_t seq, char *text, size_t room);

/* coverage.c: KCOV, for each thread */
uint64_t *coverage_open(size_t entries);
uint64_t *coverage_of_child(void);
void coverage_be_child(uint64_t *cover);
void coverage_drop(uint64_t *cover);
void coverage_begin(void);
void coverage_count_deferred(uint64_t pc);
void coverage_mark(void);
void coverage_fold(uint64_t *cover);
bool coverage_is_new(void);
void coverage_clear(void);
void coverage_keep(void);
uint32_t coverage_context(const struct w_call *call);
size_t coverage_count(const uint64_t *cover);
void coverage_fold_context(const uint64_t *cover, size_t first,
			   uint32_t context);
void coverage_count_outcome(const struct w_call *call, uint32_t context,
			    int error);
size_t coverage_copy(const uint64_t *cover, uint64_t *to, size_t room);
bool coverage_record(unsigned int mode);
void coverage_forget(void);
size_t coverage_comparisons(const uint64_t **records, bool *all);
#define COMPARISON_WORDS	4

/* deferred.c: coverage of what the driver does later */
void deferred_open(void);
void deferred_drop(void);
void deferred_fold(void);
void deferred_let_run(void);

/* compare.c: what the runner's calls compare, while the host wants to know */
extern bool comparing;
void compare_begin(void);
void compare_take(uint32_t call);
void compare_end(void);

/* fault.c: fault injection */
void fault_prepare(void);
int fault_open(void);
void fault_arm(int fail_nth, uint32_t nth);
bool fault_disarm(int fail_nth);

/* poison.c */
int stack_watch(int fd);

/* rearm.c */
void rearm_reports(void);

/* module.c */
int module_load(const void *image, size_t length, const char *params);
int module_unload(void);
int module_insert(const char *params);
int module_remove(void);
int module_await(bool programs);
bool module_is_altered(void);
bool module_is_held(void);
int module_let_go(void);
bool module_keep(void);
int module_restore(void);
void module_list_sections(void);

/* handed.c: descriptors that a driver hands out */
int descriptor_of_ours(int fd);
void descriptor_close(int fd);
void handed_begin(void);
void handed_close(bool all);
bool handed_is(int64_t fd);

/* device.c: the driver's files */
uint32_t device_number(uint64_t number);
const struct ch_device *device_at(uint64_t number);
int device_open(uint64_t number, int flags);
int device_open_usual(uint64_t number);
void devices_make_nodes(void);

/* compat.c: the entry for 32-bit programs */
void compat_probe(void);
int64_t compat_ioctl(int fd, uint32_t cmd, uint32_t arg);

/* thread.c: what each thread needs to make calls */
struct thread {
	uint8_t *scratch_end;	/* buffers end here, at an unmapped page */
	uint8_t *buffer;	/* that of the call at hand, if it is in a mapping */
	uint64_t *cover;
	int fail_nth;
	bool spared;		/* the fault was taken back before it took place */
	bool flips;		/* the next call's buffer is to change */
	bool pinned;		/* to a vCPU, since its first call with a flip */
	bool flipping;		/* the buffer of the call at hand does */
	struct w_call flip;	/* and how */
};

extern struct thread threads[N_THREADS];
void thread_open(uint32_t number);
int thread_make(uint32_t number, void *(*work)(void *));

/* decode.c: a call of a program, numbers in range, counts cut to what is there */
struct step {
	struct w_call call;
	const uint8_t *fixups;
	const uint8_t *payload;
};

bool step_decode(const uint8_t *program, size_t length, size_t *at,
		 struct step *step);

/* link.c: what calls give and take */
void links_begin(void);
bool fixup_at(const struct step *step, int index, struct w_fixup *fixup);
void link_take(const struct w_fixup *link, uint8_t *data, uint64_t mapped);
void links_take_argument(struct step *step);
void links_give(const struct step *step, int64_t ret, const uint8_t *out,
		int64_t length);

/* mapping.c: mappings of the driver's files */
void mapping_open(void);
int64_t mapping_touch(struct thread *thread, int fd, const struct w_call *call);
int64_t mapping_keep(int fd, const struct w_call *call);
int64_t mapping_unmap(const struct w_call *call);
int64_t mapping_remap(const struct w_call *call);
int64_t mapping_protect(const struct w_call *call);
int64_t mapping_advise(const struct w_call *call);
int64_t mapping_store(struct thread *thread, const struct w_call *call);
uint8_t *mapping_buffer(const struct w_call *call);
void mapping_fill(uint8_t *to, const uint8_t *from, size_t size);
int64_t fork_once(void);
void mappings_look(void);
void mappings_end(void);

/* freed.c: pages that are free though they are mapped */
void freed_forget(void);
void freed_look(const uint8_t *at, int pages);

/* epoll.c */
int64_t epoll_do(int fd, const struct w_call *call);
void epoll_end(void);

/* file.c: a file's flags, locks and owner, and what it tells */
void file_open(void);
int64_t file_control(int fd, const struct w_call *call);
int64_t file_lock(int fd, uint32_t operation);
int64_t file_sync(int fd, uint32_t only_data);
int64_t file_entries(int fd, uint8_t *data, uint64_t room);
int64_t file_info(int fd, uint8_t *data, uint64_t room);

/* splice.c */
int64_t splice_from(int fd, const struct w_call *call, uint8_t *data,
		    uint64_t room, int64_t *got);
int64_t splice_to(int fd, const struct step *step);
void splice_end(void);

/* uring.c: requests in the program's ring */
void uring_prepare(void);
int64_t uring_request(int fd, const struct step *step, const uint8_t **out,
		      int64_t *out_length);
int64_t uring_close(void);
void uring_forget(void);

/* Whether a call is a request in the program's ring. */
static inline bool is_request(const struct w_call *call)
{
	if (!(call->mode & W_URING))
		return false;
	switch (call->op) {
	case W_READ:
	case W_WRITE:
	case W_PREAD:
	case W_PWRITE:
	case W_POLL:
	case W_IOCTL:
		return true;
	}
	return false;
}

/* create.c: files that are not the driver's */
int create(uint32_t kind);

/* user.c */
bool user_begin(const struct w_call *call);
void user_end(void);

/* call.c: single calls */
off_t call_position(const struct w_call *call);
uint64_t call_read_count(const struct w_call *call);
uint32_t call_write_count(const struct w_call *call);
void open_first_file(void);
void close_files(void);
int file_descriptor(uint32_t number);
bool is_file(int64_t fd);
void call_make(struct thread *thread, const struct step *step,
	       struct ch_result *result);

/* schedule.c: waits in a part */
bool schedule_is_exact(void);
void pin(uint32_t cpu);
void schedule_open(void);
uint64_t schedule_time(const struct w_call *call);
uint32_t schedule_cpu(uint32_t rank, uint32_t n_cpus);
uint64_t schedule_start(const struct step *steps, uint32_t n);
void schedule_begin(uint64_t start);
void schedule_wait(uint64_t until);

/* datarace.c: whether KCSAN holds tasks up */
void datarace_open(void);
void datarace_look(bool on);

/* flip.c: buffers that change while a call runs */
void flips_begin(void);
void flip_note(struct thread *thread, const struct w_call *call);
void flip_prepare(struct thread *thread, const struct w_call *call);
void flip_start(struct thread *thread, uint8_t *data);
void flip_stop(struct thread *thread);

/* parallel.c: parts of a program that several threads run at a time */
int part_run(const struct step *steps, uint32_t first, uint32_t end,
	     struct ch_result *results);

/* waits.c: calls that wait while the program goes on */
void waits_prepare(void);
void waits_begin(uint32_t number, uint32_t index, const struct w_call *call);
bool waits_return(uint32_t number);
void waits_let_run(void);
void waits_end(bool last);
void waits_over(void);
bool waits_rest(uint32_t number);

/* child.c: a process that makes some of a program's calls */
extern bool is_child;
bool child_begin(uint32_t number);
void child_end(void) __attribute__((noreturn));

/* program.c: programs, one at a time */
void program_open(void);
bool program_go_on(uint32_t number);
void program_run(const uint8_t *program, size_t length);
int program_preload(const uint8_t *program, size_t length);

/* batch.c: programs that the host hands over at once */
int batch_run_all(size_t length);
int batch_loop(const uint8_t *batch, size_t length, uint32_t count);

/* execute.c: other programs */
int execute(void);

static inline uint64_t ticks(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

/* The host and PID 1 look at this to tell slow from stuck. */
static inline void note_progress(void)
{
	__atomic_fetch_add(&header->progress, 1, __ATOMIC_RELAXED);
}

/*
 * In between, a call may take longer than others: the kernel waits for RCU and
 * checks a whole image where a module is loaded, however fast the driver is.
 */
static inline void slow_begin(void)
{
	note_progress();
	__atomic_fetch_add(&watched->slow, 1, __ATOMIC_RELEASE);
}

static inline void slow_end(void)
{
	note_progress();
	__atomic_fetch_sub(&watched->slow, 1, __ATOMIC_RELEASE);
}

#endif
