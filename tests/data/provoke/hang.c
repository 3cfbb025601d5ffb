// SPDX-License-Identifier: GPL-2.0
/* Tasks that do not go on, and CPUs that do nothing else. */
#include <linux/delay.h>
#include <linux/irqflags.h>
#include <linux/kthread.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "provoke.h"

static bool prov_end;
static struct work_struct prov_work;
static struct work_struct prov_waiting_work;
static DEFINE_MUTEX(prov_mutex);
static DEFINE_SPINLOCK(prov_spinlock);
static DECLARE_WAIT_QUEUE_HEAD(prov_never);

static noinline void prov_stuck(void)
{
	wait_event(prov_never, READ_ONCE(prov_end));
}

static noinline int prov_thread_keeps_mutex(void *unused)
{
	mutex_lock(&prov_mutex);
	wait_event_idle(prov_never, READ_ONCE(prov_end));
	mutex_unlock(&prov_mutex);
	return 0;
}

static noinline void prov_stuck_mutex(void)
{
	kthread_run(prov_thread_keeps_mutex, NULL, "provoked");
	msleep(50);
	mutex_lock(&prov_mutex);
}

static noinline void prov_work_stuck(struct work_struct *work)
{
	wait_event(prov_never, READ_ONCE(prov_end));
}

static noinline void prov_stuck_work(void)
{
	INIT_WORK(&prov_work, prov_work_stuck);
	schedule_work(&prov_work);
}

static noinline void prov_spin(void)
{
	preempt_disable();
	while (!READ_ONCE(prov_end))
		cpu_relax();
	preempt_enable();
}

static noinline void prov_spin_spinlock(void)
{
	lockdep_off();
	spin_lock(&prov_spinlock);
	arch_spin_lock(&prov_spinlock.rlock.raw_lock);
}

static noinline void prov_rcu_stall(void)
{
	rcu_read_lock();
	while (!READ_ONCE(prov_end))
		cpu_relax();
	rcu_read_unlock();
}

static noinline void prov_spin_irqs_off(void)
{
	local_irq_disable();
	while (!READ_ONCE(prov_end))
		cpu_relax();
	local_irq_enable();
}

static noinline int prov_thread_spins(void *unused)
{
	prov_spin();
	return 0;
}

static noinline int prov_thread_spins_irqs_off(void *unused)
{
	prov_spin_irqs_off();
	return 0;
}

static void prov_on_other_cpu(int (*function)(void *unused))
{
	struct task_struct *task = kthread_create(function, NULL, "provoked");

	if (IS_ERR(task))
		return;
	kthread_bind(task, 1);
	wake_up_process(task);
	msleep(50);
}

static noinline void prov_other_cpu(void)
{
	set_cpus_allowed_ptr(current, cpumask_of(0));
	prov_on_other_cpu(prov_thread_spins);
}

static noinline void prov_other_cpu_irqs_off(void)
{
	set_cpus_allowed_ptr(current, cpumask_of(0));
	prov_on_other_cpu(prov_thread_spins_irqs_off);
}

static noinline void prov_rcu_expedited(void)
{
	set_cpus_allowed_ptr(current, cpumask_of(0));
	prov_on_other_cpu(prov_thread_spins);
	synchronize_rcu_expedited();
}

static noinline void prov_work_hogs(struct work_struct *work)
{
	while (!READ_ONCE(prov_end))
		cond_resched();
}

static void prov_work_idle(struct work_struct *work)
{
}

static noinline void prov_workqueue_lockup(void)
{
	INIT_WORK(&prov_work, prov_work_hogs);
	INIT_WORK(&prov_waiting_work, prov_work_idle);
	schedule_work_on(0, &prov_work);
	schedule_work_on(0, &prov_waiting_work);
}

const struct provoke_kind prov_hang_kinds[] = {
	PROVOKE_KIND(stuck),
	PROVOKE_KIND(stuck_mutex),
	PROVOKE_KIND(stuck_work),
	PROVOKE_KIND(spin),
	PROVOKE_KIND(spin_spinlock),
	PROVOKE_KIND(rcu_stall),
	PROVOKE_KIND(other_cpu),
	PROVOKE_KIND(other_cpu_irqs_off),
	PROVOKE_KIND(rcu_expedited),
	PROVOKE_KIND(workqueue_lockup),
	{ }
};
