// SPDX-License-Identifier: GPL-2.0
/* WARN(), refcount_t, lists, debug objects, and calls where they must not be. */
#include <linux/bug.h>
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kobject.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/refcount.h>
#include <linux/scatterlist.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "provoke.h"

static refcount_t prov_count;
static struct timer_list prov_timer;
static struct rcu_head prov_rcu;
static DEFINE_SPINLOCK(prov_lock);
static DEFINE_MUTEX(prov_mutex);

static noinline void prov_warn(void)
{
	WARN_ON(prov_user);
}

static noinline void prov_warn_once(void)
{
	WARN_ON_ONCE(prov_user);
	WARN_ON_ONCE(prov_user);
}

static noinline void prov_warn_message(void)
{
	WARN(1, "provoke: count is %d\n", 7);
}

static noinline void prov_refcount_add_zero(void)
{
	refcount_set(&prov_count, 0);
	refcount_inc(&prov_count);
}

static noinline void prov_refcount_underflow(void)
{
	refcount_set(&prov_count, 0);
	if (refcount_dec_and_test(&prov_count))
		pr_info("provoke: the last reference\n");
}

static noinline void prov_refcount_leak(void)
{
	refcount_set(&prov_count, 1);
	refcount_dec(&prov_count);
}

static noinline void prov_refcount_saturated(void)
{
	refcount_set(&prov_count, REFCOUNT_SATURATED);
	refcount_inc(&prov_count);
}

static noinline void prov_refcount_overflow(void)
{
	refcount_set(&prov_count, INT_MAX);
	refcount_inc(&prov_count);
}

static noinline void prov_list_add(void)
{
	struct list_head first, second;
	LIST_HEAD(head);

	list_add(&first, &head);
	first.prev = &second;
	list_add(&second, &head);
}

static noinline void prov_list_add_twice(void)
{
	struct list_head entry;
	LIST_HEAD(head);

	list_add(&entry, &head);
	list_add(&entry, &head);
}

static noinline void prov_list_del_twice(void)
{
	struct list_head entry;
	LIST_HEAD(head);

	list_add(&entry, &head);
	list_del(&entry);
	list_del(&entry);
}

static noinline void prov_list_del(void)
{
	struct list_head first, second;
	LIST_HEAD(head);

	list_add(&first, &head);
	head.next = &second;
	list_del(&first);
}

static void prov_timer_idle(struct timer_list *timer)
{
}

static noinline void prov_odebug_free_active(void)
{
	struct timer_list *timer = kmalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return;
	timer_setup(timer, prov_timer_idle, 0);
	mod_timer(timer, jiffies + 100 * HZ);
	kfree(timer);
}

static noinline void prov_odebug_init_active(void)
{
	timer_setup(&prov_timer, prov_timer_idle, 0);
	mod_timer(&prov_timer, jiffies + 100 * HZ);
	timer_setup(&prov_timer, prov_timer_idle, 0);
}

static noinline void prov_odebug_on_stack(void)
{
	struct work_struct work;

	INIT_WORK(&work, NULL);
}

static void prov_rcu_idle(struct rcu_head *head)
{
}

static noinline void prov_odebug_rcu_twice(void)
{
	call_rcu(&prov_rcu, prov_rcu_idle);
	call_rcu(&prov_rcu, prov_rcu_idle);
}

static noinline void prov_atomic_sleep(void)
{
	spin_lock(&prov_lock);
	mutex_lock(&prov_mutex);
	mutex_unlock(&prov_mutex);
	spin_unlock(&prov_lock);
}

static noinline void prov_atomic_kmalloc(void)
{
	spin_lock(&prov_lock);
	kfree(kmalloc(64, GFP_KERNEL));
	spin_unlock(&prov_lock);
}

static noinline void prov_atomic_copy(void)
{
	spin_lock(&prov_lock);
	if (put_user(1, prov_user))
		pr_info("provoke: no user memory\n");
	spin_unlock(&prov_lock);
}

static noinline void prov_timer_sleeps(struct timer_list *timer)
{
	kfree(kmalloc(64, GFP_KERNEL));
}

static noinline void prov_atomic_timer(void)
{
	timer_setup(&prov_timer, prov_timer_sleeps, 0);
	mod_timer(&prov_timer, jiffies);
	msleep(50);
}

static noinline void prov_rcu_sleep(void)
{
	rcu_read_lock();
	kfree(kmalloc(64, GFP_KERNEL));
	rcu_read_unlock();
}

static noinline void prov_atomic_schedule(void)
{
	spin_lock(&prov_lock);
	msleep(20);
	spin_unlock(&prov_lock);
}

static noinline void prov_not_running(void)
{
	set_current_state(TASK_INTERRUPTIBLE);
	mutex_lock(&prov_mutex);
	mutex_unlock(&prov_mutex);
	__set_current_state(TASK_RUNNING);
}

static noinline void prov_preempt_leak(void)
{
	preempt_disable();
}

static noinline void prov_irqs_left_off(void)
{
	local_irq_disable();
}

static noinline void prov_timer_leaks(struct timer_list *timer)
{
	preempt_disable();
}

static noinline void prov_timer_preempt_leak(void)
{
	timer_setup(&prov_timer, prov_timer_leaks, 0);
	mod_timer(&prov_timer, jiffies);
	msleep(50);
}

static noinline void prov_kobject_twice(void)
{
	static const struct kobj_type type = { };
	struct kobject *object = kzalloc(sizeof(*object), GFP_KERNEL);

	if (!object)
		return;
	kobject_init(object, &type);
	kobject_init(object, &type);
	kfree(object);
}

static noinline void prov_kobject_uninitialised(void)
{
	struct kobject *object = kzalloc(sizeof(*object), GFP_KERNEL);

	kobject_put(object);
}

static noinline void prov_scatterlist(void)
{
	struct scatterlist list = { };

	sg_set_buf(&list, &prov_count, sizeof(prov_count));
}

/* A stack in the log and nothing wrong: no report. */
static noinline void prov_stack_only(void)
{
	dump_stack();
}

const struct provoke_kind prov_warning_kinds[] = {
	PROVOKE_KIND(warn),
	PROVOKE_KIND(warn_once),
	PROVOKE_KIND(warn_message),
	PROVOKE_KIND(refcount_add_zero),
	PROVOKE_KIND(refcount_underflow),
	PROVOKE_KIND(refcount_leak),
	PROVOKE_KIND(refcount_saturated),
	PROVOKE_KIND(refcount_overflow),
	PROVOKE_KIND(list_add),
	PROVOKE_KIND(list_add_twice),
	PROVOKE_KIND(list_del_twice),
	PROVOKE_KIND(list_del),
	PROVOKE_KIND(odebug_free_active),
	PROVOKE_KIND(odebug_init_active),
	PROVOKE_KIND(odebug_on_stack),
	PROVOKE_KIND(odebug_rcu_twice),
	PROVOKE_KIND(atomic_sleep),
	PROVOKE_KIND(atomic_kmalloc),
	PROVOKE_KIND(atomic_copy),
	PROVOKE_KIND(atomic_timer),
	PROVOKE_KIND(rcu_sleep),
	PROVOKE_KIND(atomic_schedule),
	PROVOKE_KIND(not_running),
	PROVOKE_KIND(preempt_leak),
	PROVOKE_KIND(irqs_left_off),
	PROVOKE_KIND(timer_preempt_leak),
	PROVOKE_KIND(kobject_twice),
	PROVOKE_KIND(kobject_uninitialised),
	PROVOKE_KIND(scatterlist),
	PROVOKE_KIND(stack_only),
	{ }
};
