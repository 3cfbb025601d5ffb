// SPDX-License-Identifier: GPL-2.0
/*
 * Coverage of deferred work: of what a driver runs in workqueues, timers, interrupts and
 * threads of its own, where KCOV records nothing.
 *
 * The driver calls pkvfuzz_trace_pc() at each block in place of the kernel's
 * __sanitizer_cov_trace_pc(). For tasks that KCOV records it does the same. For all
 * others it leaves the pc in a ring, once in a generation. The reader maps the ring, and
 * begins a generation whenever it has taken something.
 */
#include <linux/atomic.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/kcov.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/vmalloc.h>

/* That of vm/executor/deferred.c. */
#define RING_SIZE	16384
#define RECENT_BITS	13

struct ring {
	u32 head;		/* pcs recorded so far; the next one's place, modulo the size */
	u32 generation;		/* the reader's */
	u32 pcs[RING_SIZE];	/* their lower halves; 0: being written, or taken */
};

static struct ring *ring;

/* Pcs that are in the ring, each with its generation in the upper half. */
static u64 recent[1 << RECENT_BITS];

/* The pc of what KCOV records of a task in another mode is left out: it is no deferred work. */
static noinline notrace void record_deferred(struct task_struct *task, u32 pc)
{
	u64 entry = (u64)READ_ONCE(ring->generation) << 32 | pc;
	u64 *known = &recent[hash_32(pc, RECENT_BITS)];
	u32 place;

	if (in_task() && READ_ONCE(task->kcov_mode) != KCOV_MODE_DISABLED)
		return;
	if (READ_ONCE(*known) == entry)
		return;
	WRITE_ONCE(*known, entry);
	place = __atomic_fetch_add(&ring->head, 1, __ATOMIC_RELAXED);
	/* The reader, in user space, takes it once it is there. */
	smp_store_release(&ring->pcs[place % RING_SIZE], pc);
}

void notrace pkvfuzz_trace_pc(void);

/* With as many instructions as the kernel's own, where KCOV is on. */
void notrace pkvfuzz_trace_pc(void)
{
	struct task_struct *task = current;
	unsigned long pc = _RET_IP_, place;
	unsigned long *area;

	if (unlikely(!in_task() ||
		     READ_ONCE(task->kcov_mode) != KCOV_MODE_TRACE_PC)) {
		record_deferred(task, pc);
		return;
	}
	/* As kernel/kcov.c has it: the mode is read before the area. */
	barrier();
	area = task->kcov_area;
	place = READ_ONCE(area[0]) + 1;
	if (likely(place < task->kcov_size)) {
		WRITE_ONCE(area[0], place);
		barrier();
		area[place] = pc;
	}
}
EXPORT_SYMBOL(pkvfuzz_trace_pc);

static int pkvfuzz_deferred_mmap(struct file *file, struct vm_area_struct *vma)
{
	return remap_vmalloc_range(vma, ring, vma->vm_pgoff);
}

static const struct file_operations pkvfuzz_deferred_fops = {
	.owner = THIS_MODULE,
	.mmap = pkvfuzz_deferred_mmap,
};

static struct miscdevice pkvfuzz_deferred = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "pkvfuzz_deferred",
	.fops = &pkvfuzz_deferred_fops,
};

static int __init pkvfuzz_deferred_init(void)
{
	int error;

	ring = vmalloc_user(sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	error = misc_register(&pkvfuzz_deferred);
	if (error)
		vfree(ring);
	return error;
}

static void __exit pkvfuzz_deferred_exit(void)
{
	misc_deregister(&pkvfuzz_deferred);
	vfree(ring);
}

module_init(pkvfuzz_deferred_init);
module_exit(pkvfuzz_deferred_exit);

MODULE_DESCRIPTION("Coverage of a driver's deferred work");
MODULE_LICENSE("GPL");
