# SPDX-License-Identifier: Apache-2.0
"""Functions that a report goes through and that are not to blame for it."""

from __future__ import annotations

import re

MACHINERY = re.compile(
    r"""^(?:
    dump_stack|show_stack|print_\w+|__?kasan|kasan_|__asan|__ubsan|ubsan|__hwasan|report_|
    check_region|check_memory|check_noncircular|check_deadlock|check_prev|validate_chain|
    __lock_acquire|lock_acquire|lock_release|_?_?mutex_|__mutex|rt_mutex|down_|up_|_raw_|
    __down|__up|rwsem|__might|might_|lockdep|debug_|__debug|rcu_|__rcu|srcu|
    kmemleak_|kfree|kvfree|vfree|kmem_cache|__kmem|kmalloc|__kmalloc|slab_|__slab|
    ___slab|__cache|kmemdup|memdup|vmalloc|__vmalloc|
    mem(?:cpy|set|move|cmp|chr)|__mem(?:cpy|set|move)|
    str(?:n?len|n?cpy|n?cmp|lcpy|scpy|n?cat|n?chr|dup)|
    _?_?copy_(?:to|from|in)|_?_?clear_user|instrument|simple_(?:read|write)|__fortify|fortify|
    usercopy_|__check_object|__check_heap|check_heap|refcount_|kref_|list_|__list|
    warn_slowpath|__warn|panic|oops_|die|exc_|asm_|handle_|do_error|do_trap|fixup_|page_fault|
    schedule|__schedule|preempt|io_schedule|wait_for|__wait|
    lock_timer|hrtimer|process_timeout|should_fail|fail_dump|printk|_printk|vprintk|dev_printk|
    ret_from|entry_|do_syscall|x64_sys|__x64_sys|__se_sys|__do_sys|ksys|vfs_|kthread|worker_thread|
    process_one|watchdog|sched_show|show_|nmi|__pfx|
    dump_backtrace|invoke_syscall|el0_|el0t_|el1_|el1h_|do_el0|do_mem_abort|do_translation|do_debug|
    __arm64_sys|bug_handler|call_break|brk_handler|die_kernel|
    __alloc_pages|alloc_pages|__get_free_pages|get_free_pages|warn_alloc|dump_header|oom_kill|
    out_of_memory|kmsan_|__msan|kfence_|__kfence|kcsan_|__tsan|__cfi_|ubsan_|
    native_|__sanitizer|__read_once|stack_trace|stack_depot|unwind|arch_stack
    )""",
    re.VERBOSE,
)
"""Beginnings of names: sanitizers, allocators, locks, copies, lists, printk, and the way in."""
