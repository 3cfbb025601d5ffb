// SPDX-License-Identifier: GPL-2.0
/*
 * testdrv: does, on demand, what a broken driver does. Each fault is in a
 * function of its own, not inlined, so that a report can name it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/reboot.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "testdrv.h"

#define TD_OBJECT_SIZE 128

static unsigned long td_kept;
static unsigned long td_read_extra;
static unsigned long td_read_lie;
static unsigned long td_branches;
static void *td_page;
static atomic_t td_arrived = ATOMIC_INIT(0);

static unsigned long start;
module_param(start, ulong, 0444);
MODULE_PARM_DESC(start, "what is kept at first");

static DECLARE_WAIT_QUEUE_HEAD(td_meeting);
static DECLARE_WAIT_QUEUE_HEAD(td_never);
static DEFINE_MUTEX(td_mutex);
static DEFINE_SPINLOCK(td_spinlock);

/* A pointer to memory that was freed. */
static char *td_freed(void)
{
	char *object = kmalloc(TD_OBJECT_SIZE, GFP_KERNEL);

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	return object;
}

static noinline int td_branch(void)
{
	td_branches++;
	return 1;
}

static noinline long td_reset(unsigned long arg)
{
	td_kept = arg;
	td_read_extra = 0;
	td_read_lie = 0;
	atomic_set(&td_arrived, 0);
	return 0;
}

static noinline long td_noise(void)
{
	pr_info("all is well\n");
	pr_warn("warning: the sky is blue\n");
	pr_err("DEBUG: KASAN and BUG are words\n");
	pr_info("two\nlines\n");
	return 0;
}

static noinline long td_fill(const struct td_fill __user *argument)
{
	struct td_fill fill;

	if (copy_from_user(&fill, argument, sizeof(fill)))
		return -EFAULT;
	for (u32 i = 0; i < fill.len; i++)
		if (put_user((u8)i, (u8 __user *)u64_to_user_ptr(fill.buf) + i))
			return -EFAULT;
	return fill.len;
}

static noinline long td_alloc(unsigned long count)
{
	for (td_kept = 0; td_kept < count; td_kept++) {
		void *object = kmalloc(TD_OBJECT_SIZE, GFP_KERNEL);

		if (!object)
			return -ENOMEM;
		kfree(object);
	}
	return 0;
}

/* Those that arrive make pairs: the first with the second, and so on. */
static bool td_have_met(int arrival)
{
	return atomic_read(&td_arrived) >= round_up(arrival, 2);
}

static noinline long td_meet(unsigned long ms)
{
	int arrival = atomic_inc_return(&td_arrived);
	long left;

	wake_up_all(&td_meeting);
	left = wait_event_interruptible_timeout(td_meeting, td_have_met(arrival),
						msecs_to_jiffies(ms));
	if (left < 0)
		return left;
	return left ? 0 : -ETIME;
}

/* Nobody else gets this CPU, so the other one must be on another. */
static noinline long td_meet_cpu(unsigned long ms)
{
	u64 end = ktime_get_ns() + ms * NSEC_PER_MSEC;
	int arrival = atomic_inc_return(&td_arrived);
	long cpu;

	preempt_disable();
	cpu = smp_processor_id();
	while (!td_have_met(arrival) && ktime_get_ns() < end)
		cpu_relax();
	if (!td_have_met(arrival))
		cpu = -ETIME;
	preempt_enable();
	return cpu;
}

static noinline long td_sleep(void)
{
	return wait_event_interruptible(td_never, READ_ONCE(td_page) == NULL);
}

static noinline long td_stuck(void)
{
	wait_event(td_never, READ_ONCE(td_page) == NULL);
	return 0;
}

static noinline long td_spin(void)
{
	preempt_disable();
	while (READ_ONCE(td_page))
		cpu_relax();
	preempt_enable();
	return 0;
}

static noinline long td_warn(void)
{
	WARN_ON(td_page);
	return 0;
}

static noinline long td_bug(void)
{
	BUG_ON(td_page);
	return 0;
}

static noinline long td_null(void)
{
	unsigned long *nothing = NULL;

	OPTIMIZER_HIDE_VAR(nothing);
	return READ_ONCE_NOCHECK(*nothing);
}

static noinline long td_wild(void)
{
	unsigned long *wild = (unsigned long *)0x5a5a5a5a5a5a5a5aul;

	OPTIMIZER_HIDE_VAR(wild);
	return READ_ONCE(*wild);
}

static noinline long td_uaf(void)
{
	return *td_freed();
}

static noinline long td_uaf_memcpy(void)
{
	char copy[TD_OBJECT_SIZE];

	memcpy(copy, td_freed(), sizeof(copy));
	OPTIMIZER_HIDE_VAR(copy[0]);
	return copy[0];
}

static noinline long td_uaf_user(const struct td_fill __user *argument)
{
	struct td_fill fill;

	if (copy_from_user(&fill, argument, sizeof(fill)))
		return -EFAULT;
	if (copy_to_user(u64_to_user_ptr(fill.buf), td_freed(),
			 min_t(u32, fill.len, TD_OBJECT_SIZE)))
		return -EFAULT;
	return 0;
}

static noinline long td_double_free(void)
{
	kfree(td_freed());
	return 0;
}

static noinline long td_stack_oob(unsigned long arg)
{
	char array[8] = { };
	unsigned long index = arg + sizeof(array);
	char *start = array;

	OPTIMIZER_HIDE_VAR(start);
	return start[index];
}

static noinline long td_atomic_sleep(void)
{
	spin_lock(&td_spinlock);
	might_sleep();
	spin_unlock(&td_spinlock);
	return 0;
}

static noinline long td_shift(unsigned long arg)
{
	return 1 << (arg + 40);
}

static noinline long td_deadlock(void)
{
	mutex_lock(&td_mutex);
	/* lockdep reports before it would block: the second may be interrupted */
	if (!mutex_lock_interruptible(&td_mutex))
		mutex_unlock(&td_mutex);
	mutex_unlock(&td_mutex);
	return 0;
}

static noinline long td_unlock(void)
{
	mutex_unlock(&td_mutex);
	return 0;
}

static noinline long td_keep_lock(void)
{
	mutex_lock(&td_mutex);
	return 0;
}

static noinline long td_list(void)
{
	LIST_HEAD(head);
	struct list_head entry;

	list_add(&entry, &head);
	list_del(&entry);
	list_del(&entry);
	return 0;
}

static noinline long td_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(0);

	refcount_inc(&count);
	return 0;
}

static noinline long td_reboot(void)
{
	emergency_restart();
	return 0;
}

static noinline long td_panic(void)
{
	panic("%s asked for it", KBUILD_MODNAME);
}

static noinline long td_nap(void)
{
	return schedule_timeout_uninterruptible(HZ);
}

static noinline long td_timer(void)
{
	long left = wait_event_interruptible_timeout(td_never,
						     READ_ONCE(td_page) == NULL,
						     HZ / 2);

	return left < 0 ? left : 7;
}

static long td_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case TD_SET:
		td_kept = arg;
		return 0;
	case TD_RESET:
		return td_reset(arg);
	case TD_GET:
		return td_kept;
	case TD_READ_EXTRA:
		td_read_extra = arg;
		return 0;
	case TD_READ_LIE:
		td_read_lie = arg;
		return 0;
	case TD_BRANCH:
		return arg == 1 ? td_branch() : 0;
	case TD_NOISE:
		return td_noise();
	case TD_FILL:
		return td_fill((const struct td_fill __user *)arg);
	case TD_ALLOC:
		return td_alloc(arg);
	case TD_MEET:
		return td_meet(arg);
	case TD_MEET_CPU:
		return td_meet_cpu(arg);
	case TD_PIN:
		__module_get(THIS_MODULE);
		return 0;
	case TD_SLEEP:
		return td_sleep();
	case TD_STUCK:
		return td_stuck();
	case TD_SPIN:
		return td_spin();
	case TD_WARN:
		return td_warn();
	case TD_BUG:
		return td_bug();
	case TD_NULL:
		return td_null();
	case TD_WILD:
		return td_wild();
	case TD_UAF:
		return td_uaf();
	case TD_UAF_MEMCPY:
		return td_uaf_memcpy();
	case TD_UAF_USER:
		return td_uaf_user((const struct td_fill __user *)arg);
	case TD_DOUBLE_FREE:
		return td_double_free();
	case TD_STACK_OOB:
		return td_stack_oob(arg);
	case TD_ATOMIC_SLEEP:
		return td_atomic_sleep();
	case TD_SHIFT:
		return td_shift(arg);
	case TD_DEADLOCK:
		return td_deadlock();
	case TD_UNLOCK:
		return td_unlock();
	case TD_KEEP_LOCK:
		return td_keep_lock();
	case TD_LIST:
		return td_list();
	case TD_REFCOUNT:
		return td_refcount();
	case TD_PANIC:
		return td_panic();
	case TD_REBOOT:
		return td_reboot();
	case TD_NAP:
		return td_nap();
	case TD_TIMER:
		return td_timer();
	}
	return -ENOTTY;
}

/* As many bytes as there are, or as TD_READ_EXTRA says beyond what was asked for. */
static ssize_t td_read(struct file *file, char __user *buf, size_t count, loff_t *pos)
{
	size_t n = td_read_extra ? count + td_read_extra : min_t(size_t, count, TD_READ_SIZE);

	if (td_read_lie)
		return td_read_lie;
	for (size_t i = 0; i < n; i++)
		if (put_user('r', buf + i))
			return -EFAULT;
	return n;
}

/* Keeps how many bytes it could look at. */
static ssize_t td_write(struct file *file, const char __user *buf, size_t count, loff_t *pos)
{
	char byte __maybe_unused;

	for (td_kept = 0; td_kept < count; td_kept++)
		if (get_user(byte, buf + td_kept))
			return -EFAULT;
	return count;
}

static __poll_t td_poll(struct file *file, poll_table *wait)
{
	poll_wait(file, &td_never, wait);
	return td_kept ? EPOLLIN : 0;
}

/* The first page is there, the others are not. */
static vm_fault_t td_fault(struct vm_fault *fault)
{
	if (fault->pgoff)
		return VM_FAULT_SIGBUS;
	fault->page = virt_to_page(td_page);
	get_page(fault->page);
	return 0;
}

static const struct vm_operations_struct td_vm_ops = {
	.fault = td_fault,
};

static int td_mmap(struct file *file, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff > 1)
		return -EINVAL;
	vma->vm_ops = &td_vm_ops;
	return 0;
}

static const struct file_operations td_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = td_ioctl,
	.read = td_read,
	.write = td_write,
	.poll = td_poll,
	.mmap = td_mmap,
	.llseek = noop_llseek,
};

static struct miscdevice td_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "testdrv",
	.fops = &td_fops,
};

static int __init td_init(void)
{
	int error;

	td_kept = start;
	td_page = (void *)get_zeroed_page(GFP_KERNEL);
	if (!td_page)
		return -ENOMEM;
	error = misc_register(&td_device);
	if (error)
		free_page((unsigned long)td_page);
	return error;
}

static void __exit td_exit(void)
{
	misc_deregister(&td_device);
	free_page((unsigned long)td_page);
}

module_init(td_init);
module_exit(td_exit);
MODULE_DESCRIPTION("Misbehaves on demand, for tests");
MODULE_LICENSE("GPL");
