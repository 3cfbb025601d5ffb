// SPDX-License-Identifier: GPL-2.0
/* Exceptions, BUG(), panics and what else ends a kernel. */
#include <linux/bug.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/objtool.h>
#include <linux/panic.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/sched/task_stack.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>

#include "provoke.h"

#define NON_CANONICAL 0x5a5a5a5a5a5a5a5aul

static unsigned long prov_sink;
static struct timer_list prov_timer;

/* An address that the compiler knows nothing of. */
static void *prov_hidden(unsigned long address)
{
	OPTIMIZER_HIDE_VAR(address);
	return (void *)address;
}

static unsigned long *prov_unmapped(void)
{
	void *area = vmalloc(16 * PAGE_SIZE);

	vfree(area);
	return area;
}

static noinline void prov_null_read(void)
{
	prov_sink = READ_ONCE_NOCHECK(*(unsigned long *)prov_hidden(8));
}

static noinline __no_sanitize_address void prov_null_write(void)
{
	WRITE_ONCE(*(unsigned long *)prov_hidden(0), 1);
}

static noinline void prov_null_call(void)
{
	((void (*)(void))prov_hidden(0))();
}

/* The same where KASAN checks first: the address of its shadow faults. */
static noinline void prov_null_checked(void)
{
	prov_sink = READ_ONCE(*(unsigned long *)prov_hidden(8));
}

static noinline void prov_wild_checked(void)
{
	WRITE_ONCE(*(unsigned long *)prov_hidden(NON_CANONICAL), 1);
}

static noinline void prov_wild_read(void)
{
	prov_sink = READ_ONCE_NOCHECK(*(unsigned long *)prov_hidden(NON_CANONICAL));
}

static noinline void prov_page_fault_read(void)
{
	prov_sink = READ_ONCE_NOCHECK(*prov_unmapped());
}

/* No memory has ever been there, so that there is no shadow either. */
static noinline void prov_page_fault_shadow(void)
{
	WRITE_ONCE(*(unsigned long *)(VMALLOC_END - (1ul << 40)), 1);
}

static noinline __no_sanitize_address void prov_write_to_text(void)
{
	WRITE_ONCE(*(char *)schedule, 1);
}

static noinline void prov_run_data(void)
{
	((void (*)(void))prov_hidden((unsigned long)&prov_sink))();
}

static noinline void prov_divide(void)
{
	unsigned long zero = 0;

	OPTIMIZER_HIDE_VAR(zero);
	prov_sink = 100 / zero;
}

static noinline void prov_bug(void)
{
	BUG_ON(prov_user);
}

static noinline void prov_invalid_opcode(void)
{
	asm volatile(".byte 0x0f, 0xff");
}

static noinline void prov_int3(void)
{
	asm volatile("int3");
}

/* Nothing is left from which a stack could be unwound. */
static noinline void prov_broken_frame(void)
{
	asm volatile("push %%rbp\n\t"
		     "mov %0, %%rbp\n\t"
		     "mov (%%rbp), %%rax\n\t"
		     "pop %%rbp"
		     : : "r" (NON_CANONICAL) : "rax", "memory");
}

STACK_FRAME_NON_STANDARD(prov_broken_frame);

static noinline void prov_double_fault(void)
{
	asm volatile("xor %%esp, %%esp\n\t"
		     "push $0"
		     : : : "memory");
}

STACK_FRAME_NON_STANDARD(prov_double_fault);

static noinline unsigned long prov_recurse(unsigned long depth)
{
	char room[512];

	room[depth % sizeof(room)] = depth;
	barrier_data(room);
	if (depth == ULONG_MAX)
		return 0;
	return prov_recurse(depth + 1) + room[depth % sizeof(room)];
}

static noinline void prov_stack_guard(void)
{
	prov_sink = prov_recurse(0);
}

static noinline void prov_stack_end(void)
{
	*end_of_stack(current) = 0;
	schedule_timeout_uninterruptible(1);
}

static noinline void prov_panic(void)
{
	panic("%s asked for it", KBUILD_MODNAME);
}

static noinline void prov_timer_bug(struct timer_list *timer)
{
	BUG();
}

static noinline void prov_bug_in_interrupt(void)
{
	timer_setup(&prov_timer, prov_timer_bug, 0);
	mod_timer(&prov_timer, jiffies);
	schedule_timeout_uninterruptible(HZ);
}

/* The timer goes off when the module is no longer there. */
static noinline void prov_timer_left(void)
{
	timer_setup(&prov_timer, prov_timer_bug, 0);
	mod_timer(&prov_timer, jiffies + HZ / 2);
}

static noinline void prov_restart(void)
{
	kernel_restart(NULL);
}

const struct provoke_kind prov_fault_kinds[] = {
	PROVOKE_KIND(null_read),
	PROVOKE_KIND(null_write),
	PROVOKE_KIND(null_call),
	PROVOKE_KIND(null_checked),
	PROVOKE_KIND(wild_checked),
	PROVOKE_KIND(wild_read),
	PROVOKE_KIND(page_fault_read),
	PROVOKE_KIND(page_fault_shadow),
	PROVOKE_KIND(write_to_text),
	PROVOKE_KIND(run_data),
	PROVOKE_KIND(divide),
	PROVOKE_KIND(bug),
	PROVOKE_KIND(invalid_opcode),
	PROVOKE_KIND(int3),
	PROVOKE_KIND(broken_frame),
	PROVOKE_KIND(double_fault),
	PROVOKE_KIND(stack_guard),
	PROVOKE_KIND(stack_end),
	PROVOKE_KIND(panic),
	PROVOKE_KIND(bug_in_interrupt),
	PROVOKE_KIND(timer_left),
	PROVOKE_KIND(restart),
	{ }
};
