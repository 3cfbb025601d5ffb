// SPDX-License-Identifier: GPL-2.0
/* What lockdep and the checks of the locks themselves report. */
#include <linux/completion.h>
#include <linux/delay.h>
#include <linux/kthread.h>
#include <linux/lockdep.h>
#include <linux/mutex.h>
#include <linux/rculist.h>
#include <linux/rcupdate.h>
#include <linux/rwsem.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/timer.h>
#include <linux/workqueue.h>

#include "provoke.h"

static DEFINE_MUTEX(prov_a);
static DEFINE_MUTEX(prov_b);
static DECLARE_RWSEM(prov_rwsem);
static DEFINE_SPINLOCK(prov_outer);
static DEFINE_SPINLOCK(prov_inner);
static DEFINE_RWLOCK(prov_shared);
static DECLARE_COMPLETION(prov_done);
static struct timer_list prov_timer;
static struct work_struct prov_work;
static void __rcu *prov_pointer;
static bool prov_locks;

/* Have a function run by a timer, in interrupt context. */
static void prov_in_interrupt(void (*function)(struct timer_list *timer))
{
	timer_setup(&prov_timer, function, TIMER_IRQSAFE);
	mod_timer(&prov_timer, jiffies);
	msleep(50);
	del_timer_sync(&prov_timer);
}

static noinline void prov_circular(void)
{
	mutex_lock(&prov_a);
	mutex_lock(&prov_b);
	mutex_unlock(&prov_b);
	mutex_unlock(&prov_a);
	mutex_lock(&prov_b);
	mutex_lock(&prov_a);
	mutex_unlock(&prov_a);
	mutex_unlock(&prov_b);
}

static noinline void prov_work_locks(struct work_struct *work)
{
	if (READ_ONCE(prov_locks)) {
		mutex_lock(&prov_a);
		mutex_unlock(&prov_a);
	}
}

/* The second time it would wait for ever, if the work locked again. */
static noinline void prov_circular_flush(void)
{
	INIT_WORK(&prov_work, prov_work_locks);
	WRITE_ONCE(prov_locks, true);
	schedule_work(&prov_work);
	flush_work(&prov_work);
	WRITE_ONCE(prov_locks, false);
	mutex_lock(&prov_a);
	schedule_work(&prov_work);
	flush_work(&prov_work);
	mutex_unlock(&prov_a);
}

static noinline void prov_recursive(void)
{
	mutex_lock(&prov_a);
	if (!mutex_lock_interruptible(&prov_a))
		mutex_unlock(&prov_a);
	mutex_unlock(&prov_a);
}

static noinline void prov_recursive_spinlock(void)
{
	spin_lock(&prov_outer);
	spin_lock(&prov_outer);
}

static noinline void prov_timer_locks(struct timer_list *timer)
{
	spin_lock(&prov_outer);
	spin_unlock(&prov_outer);
}

static noinline void prov_irq_state(void)
{
	spin_lock(&prov_outer);
	spin_unlock(&prov_outer);
	prov_in_interrupt(prov_timer_locks);
}

/* The other way round: the report comes from the task. */
static noinline void prov_irq_state_task(void)
{
	prov_in_interrupt(prov_timer_locks);
	spin_lock(&prov_outer);
	spin_unlock(&prov_outer);
}

static noinline void prov_irq_order(void)
{
	prov_in_interrupt(prov_timer_locks);
	spin_lock(&prov_inner);
	spin_unlock(&prov_inner);
	spin_lock_irq(&prov_outer);
	spin_lock(&prov_inner);
	spin_unlock(&prov_inner);
	spin_unlock_irq(&prov_outer);
}

static noinline void prov_timer_reads(struct timer_list *timer)
{
	read_lock(&prov_shared);
	read_unlock(&prov_shared);
}

/* A lock that is taken in interrupts has others taken inside it with them on. */
static noinline void prov_irq_inversion(void)
{
	spin_lock(&prov_inner);
	spin_unlock(&prov_inner);
	spin_lock_irq(&prov_outer);
	spin_lock(&prov_inner);
	spin_unlock(&prov_inner);
	spin_unlock_irq(&prov_outer);
	prov_in_interrupt(prov_timer_locks);
}

static noinline void prov_irq_state_read(void)
{
	spin_lock(&prov_inner);
	write_lock(&prov_shared);
	write_unlock(&prov_shared);
	spin_unlock(&prov_inner);
	prov_in_interrupt(prov_timer_reads);
}

static noinline void prov_unlock(void)
{
	mutex_unlock(&prov_a);
}

static noinline void prov_held_freed(void)
{
	struct mutex *mutex = kmalloc(sizeof(*mutex), GFP_KERNEL);

	if (!mutex)
		return;
	mutex_init(mutex);
	mutex_lock(mutex);
	kfree(mutex);
}

static noinline void prov_keep_lock(void)
{
	mutex_lock(&prov_a);
}

static noinline int prov_thread_keeps_lock(void *unused)
{
	mutex_lock(&prov_a);
	complete(&prov_done);
	return 0;
}

static noinline void prov_exit_with_lock(void)
{
	kthread_run(prov_thread_keeps_lock, NULL, "provoked");
	wait_for_completion(&prov_done);
	msleep(50);
}

static noinline void prov_rcu_pointer(void)
{
	if (rcu_dereference(prov_pointer))
		pr_info("provoke: a pointer\n");
}

/* A list that is walked as under RCU, without its lock. */
static noinline void prov_rcu_list(void)
{
	static LIST_HEAD(list);
	struct prov_listed {
		struct list_head node;
	} *each;

	list_for_each_entry_rcu(each, &list, node)
		pr_info("provoke: an entry\n");
}

static noinline void prov_rcu_wait(void)
{
	rcu_read_lock();
	synchronize_rcu();
	rcu_read_unlock();
}

static noinline void prov_wait_context(void)
{
	static struct lock_class_key key;
	static struct lockdep_map map __maybe_unused;

	lockdep_init_map_wait(&map, "prov_map", &key, 0, LD_WAIT_SLEEP);
	spin_lock(&prov_outer);
	lock_map_acquire(&map);
	lock_map_release(&map);
	spin_unlock(&prov_outer);
}

static noinline void prov_non_static_key(void)
{
	spinlock_t *lock = kzalloc(sizeof(*lock), GFP_KERNEL);

	if (!lock)
		return;
	spin_lock(lock);
	spin_unlock(lock);
	kfree(lock);
}

static noinline void prov_unregistered_key(void)
{
	struct lock_class_key *key = kzalloc(sizeof(*key), GFP_KERNEL);
	static struct lockdep_map map __maybe_unused;

	if (key)
		lockdep_init_map(&map, "prov_map", key, 0);
	kfree(key);
}

static noinline void prov_nest_lock(void)
{
	mutex_lock_nest_lock(&prov_b, &prov_a);
	mutex_unlock(&prov_b);
}

static noinline void prov_spinlock_magic(void)
{
	spin_lock_init(&prov_inner);
#ifdef CONFIG_DEBUG_SPINLOCK
	prov_inner.rlock.magic = 0x5a5a5a5a;
#endif
	spin_lock(&prov_inner);
	spin_unlock(&prov_inner);
}

static noinline void prov_mutex_magic(void)
{
	struct mutex *mutex = kzalloc(sizeof(*mutex), GFP_KERNEL);

	if (!mutex)
		return;
	mutex_init(mutex);
	mutex_destroy(mutex);
	mutex_lock(mutex);
	mutex_unlock(mutex);
	kfree(mutex);
}

static noinline int prov_thread_unlocks(void *unused)
{
	lockdep_off();
	up_write(&prov_rwsem);
	lockdep_on();
	complete(&prov_done);
	return 0;
}

static noinline void prov_rwsem_owner(void)
{
	down_write(&prov_rwsem);
	kthread_run(prov_thread_unlocks, NULL, "provoked");
	wait_for_completion(&prov_done);
}

static noinline void prov_assert_held(void)
{
	lockdep_assert_held(&prov_a);
}

static noinline void prov_work_leaves_lock(struct work_struct *work)
{
	mutex_lock(&prov_a);
}

static noinline void prov_workqueue_leak(void)
{
	INIT_WORK(&prov_work, prov_work_leaves_lock);
	schedule_work(&prov_work);
	flush_work(&prov_work);
}

const struct provoke_kind prov_lockdep_kinds[] = {
	PROVOKE_KIND(circular),
	PROVOKE_KIND(circular_flush),
	PROVOKE_KIND(recursive),
	PROVOKE_KIND(recursive_spinlock),
	PROVOKE_KIND(irq_state),
	PROVOKE_KIND(irq_state_task),
	PROVOKE_KIND(irq_order),
	PROVOKE_KIND(irq_inversion),
	PROVOKE_KIND(irq_state_read),
	PROVOKE_KIND(unlock),
	PROVOKE_KIND(held_freed),
	PROVOKE_KIND(keep_lock),
	PROVOKE_KIND(exit_with_lock),
	PROVOKE_KIND(rcu_list),
	PROVOKE_KIND(rcu_pointer),
	PROVOKE_KIND(rcu_wait),
	PROVOKE_KIND(wait_context),
	PROVOKE_KIND(non_static_key),
	PROVOKE_KIND(unregistered_key),
	PROVOKE_KIND(nest_lock),
	PROVOKE_KIND(spinlock_magic),
	PROVOKE_KIND(mutex_magic),
	PROVOKE_KIND(rwsem_owner),
	PROVOKE_KIND(assert_held),
	PROVOKE_KIND(workqueue_leak),
	{ }
};
