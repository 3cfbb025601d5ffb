// SPDX-License-Identifier: GPL-2.0
/* Accesses that KASAN reports, and what hardened usercopy does. */
#include <linux/cleanup.h>
#include <linux/completion.h>
#include <linux/kthread.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched/task_stack.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#include "provoke.h"

#define OBJECT_SIZE 128

static char prov_global[64];
static char *prov_object;
static struct timer_list prov_timer;
static struct work_struct prov_work;
static struct rcu_head prov_rcu;
static DECLARE_COMPLETION(prov_done);

/* A pointer to memory that was freed. */
static char *prov_freed(void)
{
	char *object = kmalloc(OBJECT_SIZE, GFP_KERNEL);

	kfree(object);
	OPTIMIZER_HIDE_VAR(object);
	return object;
}

static char *prov_allocated(void)
{
	char *object = kzalloc(OBJECT_SIZE - 5, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(object);
	return object;
}

static noinline void prov_slab_uaf_read(void)
{
	READ_ONCE(prov_freed()[8]);
}

static noinline void prov_slab_uaf_write(void)
{
	WRITE_ONCE(*(u64 *)prov_freed(), 1);
}

static noinline void prov_slab_oob_read(void)
{
	char *object = prov_allocated();

	READ_ONCE(object[OBJECT_SIZE - 5]);
	kfree(object);
}

static noinline void prov_slab_oob_write(void)
{
	char *object = prov_allocated();

	WRITE_ONCE(object[OBJECT_SIZE - 5], 1);
	kfree(object);
}

static noinline void prov_uaf_memcpy(void)
{
	char copy[OBJECT_SIZE];

	memcpy(copy, prov_freed(), sizeof(copy));
	OPTIMIZER_HIDE_VAR(copy[0]);
}

static noinline void prov_uaf_strlen(void)
{
	char *object = prov_freed();

	prov_global[0] = strlen(object);
}

static noinline void prov_uaf_copy_to_user(void)
{
	if (copy_to_user(prov_user, prov_freed(), 8))
		return;
}

static noinline void prov_uaf_copy_from_user(void)
{
	if (copy_from_user(prov_freed(), prov_user, 8))
		return;
}

static noinline void prov_uaf_list(void)
{
	struct list_head *entry = (struct list_head *)prov_allocated();
	struct list_head next;
	LIST_HEAD(head);

	list_add(entry, &head);
	kfree(entry);
	list_add_tail(&next, &head);
}

static noinline void prov_uaf_printk(void)
{
	pr_info("provoke: %s\n", prov_freed());
}

static noinline void prov_timer_reads(struct timer_list *timer)
{
	READ_ONCE(prov_object[0]);
	complete(&prov_done);
}

static noinline void prov_uaf_timer(void)
{
	prov_object = prov_freed();
	timer_setup(&prov_timer, prov_timer_reads, 0);
	mod_timer(&prov_timer, jiffies);
	wait_for_completion(&prov_done);
}

static noinline void prov_work_reads(struct work_struct *work)
{
	READ_ONCE(prov_object[0]);
}

static noinline void prov_uaf_work(void)
{
	prov_object = prov_freed();
	INIT_WORK(&prov_work, prov_work_reads);
	schedule_work(&prov_work);
	flush_work(&prov_work);
}

static noinline void prov_rcu_reads(struct rcu_head *head)
{
	READ_ONCE(prov_object[0]);
}

static noinline void prov_uaf_rcu(void)
{
	prov_object = prov_freed();
	call_rcu(&prov_rcu, prov_rcu_reads);
	rcu_barrier();
}

static noinline int prov_thread_reads(void *object)
{
	READ_ONCE(*(char *)object);
	complete(&prov_done);
	return 0;
}

static noinline void prov_uaf_kthread(void)
{
	kthread_run(prov_thread_reads, prov_freed(), "provoked");
	wait_for_completion(&prov_done);
}

static noinline void prov_double_free(void)
{
	kfree(prov_freed());
}

static noinline void prov_invalid_free(void)
{
	kfree(prov_allocated() + 8);
}

static noinline void prov_stack_oob_read(void)
{
	char array[8] = { }, *start = array;

	OPTIMIZER_HIDE_VAR(start);
	READ_ONCE(start[sizeof(array)]);
}

static noinline void prov_stack_oob_write(void)
{
	char array[8] = { }, *start = array;

	OPTIMIZER_HIDE_VAR(start);
	WRITE_ONCE(start[sizeof(array) + 1], 1);
}

static noinline void prov_alloca_oob_read(void)
{
	size_t size = 13;
	char *array;

	OPTIMIZER_HIDE_VAR(size);
	array = __builtin_alloca(size);
	barrier_data(array);
	READ_ONCE(array[size]);
}

static noinline void prov_scope_read(void)
{
	char *outlived;

	{
		char array[16] = { };

		outlived = array;
		barrier_data(array);
	}
	OPTIMIZER_HIDE_VAR(outlived);
	READ_ONCE(outlived[2]);
}

static noinline void prov_global_oob_read(void)
{
	char *start = prov_global;

	OPTIMIZER_HIDE_VAR(start);
	READ_ONCE(start[sizeof(prov_global)]);
}

static noinline void prov_vmalloc_oob_read(void)
{
	char *area = vmalloc(PAGE_SIZE - 8);

	OPTIMIZER_HIDE_VAR(area);
	READ_ONCE(area[PAGE_SIZE - 8]);
	vfree(area);
}

static noinline void prov_vmalloc_uaf_write(void)
{
	char *area = vmalloc(PAGE_SIZE);

	vfree(area);
	OPTIMIZER_HIDE_VAR(area);
	WRITE_ONCE(*area, 1);
}

static noinline void prov_page_uaf_read(void)
{
	unsigned long page = __get_free_page(GFP_KERNEL);

	free_page(page);
	READ_ONCE(*(char *)page);
}

static noinline void prov_large_oob_write(void)
{
	char *object = kmalloc(4 * PAGE_SIZE - 16, GFP_KERNEL);

	OPTIMIZER_HIDE_VAR(object);
	WRITE_ONCE(object[4 * PAGE_SIZE - 16], 1);
	kfree(object);
}

/* memcpy() is checked in a function; what the compiler checks faults instead. */
static noinline void prov_null_memcpy(void)
{
	void *nothing = NULL;

	OPTIMIZER_HIDE_VAR(nothing);
	memcpy(prov_global, nothing, 8);
}

static noinline void prov_user_memcpy(void)
{
	memcpy(prov_global, (void __force *)prov_user, 8);
}

static noinline void prov_wild_memcpy(void)
{
	void *wild = (void *)0x5a5a5a5a5a5a5a5aul;

	OPTIMIZER_HIDE_VAR(wild);
	memcpy(wild, prov_global, 8);
}

static noinline void prov_usercopy_exposure(void)
{
	char *object = prov_allocated();
	size_t size = 2 * OBJECT_SIZE;

	OPTIMIZER_HIDE_VAR(size);
	if (copy_to_user(prov_user, object, size))
		return;
	kfree(object);
}

static noinline void prov_usercopy_overwrite(void)
{
	char *object = prov_allocated();
	size_t size = 2 * OBJECT_SIZE;

	OPTIMIZER_HIDE_VAR(size);
	if (copy_from_user(object, prov_user, size))
		return;
	kfree(object);
}

static noinline void prov_usercopy_stack(void)
{
	char *stack = task_stack_page(current) + THREAD_SIZE - 16;
	size_t size = 128;

	OPTIMIZER_HIDE_VAR(size);
	if (copy_to_user(prov_user, stack - 64, size))
		return;
}

static noinline void prov_usercopy_text(void)
{
	void *text = schedule;
	size_t size = 16;

	OPTIMIZER_HIDE_VAR(size);
	if (copy_to_user(prov_user, text, size))
		return;
}

static noinline void prov_usercopy_array(void)
{
	char array[8] = { };
	size_t size = 16;

	OPTIMIZER_HIDE_VAR(size);
	if (copy_from_user(array, prov_user, size))
		return;
	OPTIMIZER_HIDE_VAR(array[0]);
}

const struct provoke_kind prov_kasan_kinds[] = {
	PROVOKE_KIND(slab_uaf_read),
	PROVOKE_KIND(slab_uaf_write),
	PROVOKE_KIND(slab_oob_read),
	PROVOKE_KIND(slab_oob_write),
	PROVOKE_KIND(uaf_memcpy),
	PROVOKE_KIND(uaf_strlen),
	PROVOKE_KIND(uaf_copy_to_user),
	PROVOKE_KIND(uaf_copy_from_user),
	PROVOKE_KIND(uaf_list),
	PROVOKE_KIND(uaf_printk),
	PROVOKE_KIND(uaf_timer),
	PROVOKE_KIND(uaf_work),
	PROVOKE_KIND(uaf_rcu),
	PROVOKE_KIND(uaf_kthread),
	PROVOKE_KIND(double_free),
	PROVOKE_KIND(invalid_free),
	PROVOKE_KIND(stack_oob_read),
	PROVOKE_KIND(stack_oob_write),
	PROVOKE_KIND(alloca_oob_read),
	PROVOKE_KIND(scope_read),
	PROVOKE_KIND(global_oob_read),
	PROVOKE_KIND(vmalloc_oob_read),
	PROVOKE_KIND(vmalloc_uaf_write),
	PROVOKE_KIND(page_uaf_read),
	PROVOKE_KIND(large_oob_write),
	PROVOKE_KIND(null_memcpy),
	PROVOKE_KIND(user_memcpy),
	PROVOKE_KIND(wild_memcpy),
	PROVOKE_KIND(usercopy_exposure),
	PROVOKE_KIND(usercopy_overwrite),
	PROVOKE_KIND(usercopy_stack),
	PROVOKE_KIND(usercopy_text),
	PROVOKE_KIND(usercopy_array),
	{ }
};
