// SPDX-License-Identifier: GPL-2.0
/* Later: an ioctl for each way in which a driver does something outside of calls. */
#include <linux/fs.h>
#include <linux/interrupt.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/timer.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "later.h"

static atomic_t done;
static DECLARE_WAIT_QUEUE_HEAD(wanted);
static bool thread_wanted;
static struct task_struct *thread;

static void later_work(struct work_struct *work)
{
	atomic_inc(&done);
}

static DECLARE_WORK(work, later_work);

static void later_delayed(struct work_struct *unused)
{
	atomic_inc(&done);
}

static DECLARE_DELAYED_WORK(delayed, later_delayed);

static void later_timer(struct timer_list *unused)
{
	atomic_inc(&done);
}

static DEFINE_TIMER(timer, later_timer);

static void later_tasklet(struct tasklet_struct *unused)
{
	atomic_inc(&done);
}

static DECLARE_TASKLET(tasklet, later_tasklet);

static noinline void thread_once(void)
{
	WRITE_ONCE(thread_wanted, false);
	atomic_inc(&done);
}

static int later_thread(void *unused)
{
	while (!kthread_should_stop()) {
		wait_event_interruptible(wanted, READ_ONCE(thread_wanted) ||
					 kthread_should_stop());
		if (READ_ONCE(thread_wanted))
			thread_once();
	}
	return 0;
}

static long later_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LATER_WORK:
		schedule_work(&work);
		return 0;
	case LATER_DELAYED:
		mod_delayed_work(system_wq, &delayed,
				 msecs_to_jiffies(arg % 1000));
		return 0;
	case LATER_TIMER:
		mod_timer(&timer, jiffies + msecs_to_jiffies(arg % 1000));
		return 0;
	case LATER_TASKLET:
		tasklet_schedule(&tasklet);
		return 0;
	case LATER_THREAD:
		WRITE_ONCE(thread_wanted, true);
		wake_up(&wanted);
		return 0;
	}
	return -ENOTTY;
}

static const struct file_operations later_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = later_ioctl,
};

static struct miscdevice later = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "later",
	.fops = &later_fops,
};

static int __init later_init(void)
{
	int error;

	thread = kthread_run(later_thread, NULL, "later");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	error = misc_register(&later);
	if (error)
		kthread_stop(thread);
	return error;
}

static void __exit later_exit(void)
{
	misc_deregister(&later);
	kthread_stop(thread);
	tasklet_kill(&tasklet);
	del_timer_sync(&timer);
	cancel_delayed_work_sync(&delayed);
	cancel_work_sync(&work);
}

module_init(later_init);
module_exit(later_exit);
MODULE_DESCRIPTION("Work outside of calls");
MODULE_LICENSE("GPL");
