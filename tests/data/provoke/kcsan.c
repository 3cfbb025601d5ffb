// SPDX-License-Identifier: GPL-2.0
/* Data races: two threads at one word, which KCSAN alone reports. */
#include <linux/compiler.h>
#include <linux/cpumask.h>
#include <linux/delay.h>
#include <linux/jiffies.h>
#include <linux/kcsan-checks.h>
#include <linux/kthread.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/timex.h>

#include "provoke.h"

/* How long a race is given; many accesses are made in that time. */
#define PROV_RACE_TIME (HZ / 4)

static unsigned long prov_word;
static unsigned long prov_seen;

/*
 * KCSAN reports a race only if it saw the value change, so each write is of
 * another one.
 */
static noinline void prov_race_plain_read(void)
{
	prov_seen += prov_word;
}

static noinline void prov_race_plain_write(void)
{
	prov_word = get_cycles() + 1;
}

static noinline void prov_race_other_write(void)
{
	prov_word = get_cycles() + 2;
}

static noinline void prov_race_count(void)
{
	prov_word++;
}

static noinline void prov_race_marked_write(void)
{
	WRITE_ONCE(prov_word, get_cycles() + 3);
}

static noinline void prov_race_assert(void)
{
	ASSERT_EXCLUSIVE_WRITER(prov_word);
}

static int prov_race_thread(void *access)
{
	void (*repeat)(void) = access;

	while (!kthread_should_stop()) {
		repeat();
		cond_resched();
	}
	return 0;
}

static void prov_race(void (*here)(void), void (*there)(void))
{
	unsigned long end = jiffies + PROV_RACE_TIME;
	struct task_struct *thread;
	unsigned int cpu;

	/* On one CPU they would take turns. */
	migrate_disable();
	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	thread = kthread_run_on_cpu(prov_race_thread, there, cpu, "provoked/%u");
	if (IS_ERR(thread))
		goto out;
	while (time_before(jiffies, end)) {
		here();
		cond_resched();
	}
	kthread_stop(thread);
out:
	migrate_enable();
}

static void prov_race_read_write(void)
{
	prov_race(prov_race_plain_read, prov_race_plain_write);
}

static void prov_race_write_write(void)
{
	prov_race(prov_race_plain_write, prov_race_other_write);
}

static void prov_race_read_marked(void)
{
	prov_race(prov_race_plain_read, prov_race_marked_write);
}

static void prov_race_update(void)
{
	prov_race(prov_race_count, prov_race_count);
}

static void prov_race_exclusive(void)
{
	prov_race(prov_race_assert, prov_race_plain_write);
}

const struct provoke_kind prov_kcsan_kinds[] = {
	PROVOKE_KIND(race_read_write),
	PROVOKE_KIND(race_write_write),
	PROVOKE_KIND(race_read_marked),
	PROVOKE_KIND(race_update),
	PROVOKE_KIND(race_exclusive),
	{ },
};
