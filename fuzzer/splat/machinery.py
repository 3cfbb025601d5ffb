# SPDX-License-Identifier: Apache-2.0
"""Functions that a report goes through and that are not to blame for it.

A function is machinery when the kernel's core defines it: its source file tells, where the
log or debugging information has it, else a table made from kernel sources
(:mod:`fuzzer.splat.core_functions`). A function of a module never is, but for copies of the
core's inline functions.
"""

from __future__ import annotations

import re

from fuzzer.splat.core_files import in_tree, is_copied, is_core
from fuzzer.splat.core_functions import known_functions
from fuzzer.splat.frames import Frame
from fuzzer.splat.rust_names import is_rust_core

# Names that macros or the compiler make: no source defines them as they are.
_MADE = re.compile(
    r"""^(?:
    __(?:a|hwa|k?c|km|m|t)san_|__asan|__hwasan|__sanitizer_|__ubsan_|_sub_[DI]_|__k?cfi_|__pfx_
    |(?:asm_|fred_|__)?(?:exc|sysvec)_|asm_|entry_|ret_from_|el[01]t?h?_|__x86_(?:indirect|return)_
    |__irqentry_text|__softirqentry_text|(?:__)?trace_|perf_trace_|trace_event_|bpf_trace_
    |(?:raw_|arch_)*(?:atomic(?:64|_long)?_|cmpxchg|xchg)|(?:arch_)?(?:__)?(?:test_and_)?\w+_bit$
    |_raw_|__raw_|preempt_schedule|___preempt_schedule|__list_|stack_trace_|__srcu_|srcu_
    |(?:_?_?copy_(?:to|from|in|tofrom)_|__?arch_copy_|raw_copy_|copy_user_)|(?:__)?(?:get|put)_user
    )""",
    re.VERBOSE,
)
# Functions never worth a title: ways in and out, reports, locks, copies, allocators. The names
# are those of any kernel: older ones than the table's had others.
_LEAF = re.compile(
    r"""^(?:
    # Traps and interrupts: x86 has exc_ and sysvec_ since 5.8.
    (?:do_)?(?:invalid_op|divide_error|general_protection|page_fault|nmi|int3|double_fault|overflow
    |bounds|debug|stack_segment|device_not_available|alignment_check|async_page_fault)$
    |do_(?:error_trap|trap|async_page_fault|kern_addr|user_addr|sea|mem_abort|translation|tag_check
    |alignment|bad_area|sp_pc)|__do_(?:page_fault|kernel_fault)|error_(?:code|entry|exit)$
    |do_(?:DataAbort|PrefetchAbort|undefinstr)$|ipi_handler$|fixup_bug|handle_bug|math_error
    |bad_area|__bad_area|no_context|spurious_fault|vmalloc_fault
    |(?:smp_|trace_)*(?:apic_timer|reschedule|call_function\w*|irq_work|spurious|error)_interrupt
    |(?:common|ret_from)_(?:interrupt|intr)|interrupt_entry|retint_|restore_regs|do_IRQ$
    |(?:__)?(?:exiting|entering)_irq|irq_(?:enter|exit)|irqentry_|handle_(?:IPI|irq|domain_irq)$
    |generic_handle|gic_handle_irq|__handle_(?:domain_)?irq|run_on_irqstack|call_on_(?:irq_)?stack
    |do_interrupt_handler|__do_softirq|do_softirq|call_softirq|handle_(?:softirqs|bad_stack)$
    |prepare_exit_to_usermode|syscall_(?:return|enter|trace)|tracesys|ret_fast_syscall|clear_bhb
    |system_call|sysenter_|ia32_|do_(?:fast_)?syscall|invoke_syscall|x64_sys_call|do_el|bad_mode
    |__(?:dabt|und|irq|pabt)_(?:svc|usr|invalid)|vector_|arch_jump_|bug_handler|call_break_hook
    |brk_handler|_stext$|_text$|(?:data|instruction)_(?:access|storage)|\w+_common_virt$
    |program_check_|(?:hardware_)?interrupt_(?:common|return)|handle_(?:exception|tlb|ri)|except_vec
    |\w*(?:int|check)_handler$|psw_idle|enabled_wait|syscall_exit
    # Reports and stack dumps.
    |warn_(?:slowpath|alloc|bogus)|__warn|report_(?:bug|page_fault|cfi|usercopy)|oops_|die$|__die
    |_*v?panic(?:_\w+)?$|check_panic|get_taint|print_tainted
    |show_(?:regs|stack|trace|opcodes|ip|registers|fault|iret|free|mem|state)|_*sched_show
    |print_(?:address|report|circular|usage|bad|unlock|deadlock|irq|object|trailer|trace|dead|lock
    |memory|tail|section|cpu|other|bug|modules|freed|kernel|shadow|vma|error|unreferenced)
    |_*dump_(?:stack|backtrace|trace|page|cpu_task|header|tasks|mem|invalid)
    |(?:__)?save_(?:stack|trace)|set_track|describe_|_*k?[am]san|check_memory_region|memory_is_
    |(?:__)?kernel_text_address|is_bpf_text|unwind_|__unwind|arch_stack|walk_stack|stack_(?:depot
    |trace)|spin_(?:bug|dump)|rwlock_bug|slab_err|object_err|assertfail|ubsan|__ubsan|handle_overflow
    |kfence|__kfence|kcsan|__schedule_bug|trigger_\w*backtrace|(?:\w+_)?nmi$|nmi_|arch_trigger|watchdog
    |rcu_(?:check|dump|print|pending|sched_clock|stall)|fortify|__fortify|usercopy
    # The scheduler's and the timer's ways, waiting.
    |___might|__might|might_|_*cond_resched|_*schedule$|schedule_(?:timeout|hrtimeout|preempt|debug)|preempt_schedule
    |io_schedule|context_switch|__switch_to|finish_task_switch|kthread$|worker_thread|process_one
    |process_scheduled|update_process_times|tick_(?:sched_|handle_|periodic|do_|nohz_)|timer_interrupt
    |smpboot_|_*hrtimer_|local_apic_timer|rest_init|start_(?:secondary|kernel)
    |cpu_(?:startup_entry|idle)|default_idle|arch_cpu_idle|do_idle|native_safe_halt|pv_native
    |secondary_startup|x86_64_start|call_timer_fn|run_ksoft|_*task_rq_(?:un)?lock
    |_*wake_up(?:_(?:common|locked|sync|all|interruptible))*$
    # Locks and lockdep.
    |call_rwsem_|_*rwsem_|ldsem_|_*down(?:_|$)|_*up_(?:read|write)|up$|_*mutex_|_*rt_mutex|osq_|mcs_
    |(?:do_)?_*(?:raw_)*(?:spin|read|write)_(?:un|try)?lock|queued_|native_queued|__pv_|pv_
    |_*(?:lock|lockdep|validate|mark|check|register|add|lookup|look_up|reacquire|find)_(?:lock|chain
    |held|prev|deadlock|usage|noncircular|flags|irq|acquire|release|class|is_held|wait)
    |lockdep_|irq_usage|_*local_(?:bh|irq)|bit_spin|rcu_(?:read|lock|is|note|core)|do_raw_
    # Memory, lists, strings, copies.
    |_*(?:k|v|kv)(?:m|z|c|re)alloc(?:_(?:\d|array|cache|caller|exec|fault|huge|large|n|order|reserve|size
    |slab|trace|track|type|user)|$)|_*(?:kmem_cache|slab|cache)_|_*krealloc|_*slab
    |_*(?:kv?|v)free|_*alloc_(?:pages?|frozen|skb)|alloc_page|_*get_free|get_page_from|new_slab
    |_*free_(?:pages|one|frozen|large)|_*(?:kv|v)?memdup|mem(?:cpy|set|move|cmp|chr|scan)|__mem
    |_*str(?:n|l|s)?(?:len|cpy|cmp|cat|chr|rchr|str|dup)|_*list_(?:add|del|splice)
    |_*(?:rb|radix_tree|xas?|idr|ida|rhashtable|rht|klist)_|(?:v|s|vs)(?:n|c)?printf
    |_*(?:hex|string|number|pointer|format_decode)(?:_string)?$|read_word_at_a_time|crc(?:16|32|64|_)
    |_*debug_(?:object|check|smp|lockdep|print)|(?:timer|work)_(?:fixup|is_static)|aes_|sha\d+_|xts_
    |_*check_(?:object|heap|preemption)|_*(?:refcount|kref)_|_*should_fail|fail_|simple_copy
    |(?:_|v)*printk|vprintk|console_|_*dev_(?:err|warn|info|printk)|_dev_\w+$|iov_iter|kmemleak_
    |create_object|lookup_object|warn_bogus|instrument|_*clear_user|skb_panic|skb_over|bad_page
    |ref_tracker
    )""",
    re.VERBOSE,
)
# Names of the core in kernels older than those of the table; and device_release(), which is the
# driver core's although drivers have a function of that name.
_OLDER = re.compile(
    r"""^(?:
    wait_(?:on|for|woken)_|__wait_|out_of_line_wait|bit_wait|prepare_to_wait|finish_wait
    |autoremove_wake|default_wake|__wake_up|wake_up_|try_to_wake|remove_wait
    |run_timer|run_local|expire_timers|__run_(?:timers|hrtimer)|_*del_timer|_*mod_timer|_*try_to_del
    |synchronize_(?:sched|rcu|net|srcu)|_*wait_rcu|_*call_rcu|call_srcu|rcu_(?:process|barrier)
    |_*flush_(?:work|delayed)|_*cancel_work|drain_workqueue|destroy_workqueue|_*queue_(?:work|delayed)
    |sync_(?:page|buffer)$|free_thread_stack|put_task_stack|qlist_|qlink_|quarantine_|jump_label_|_*static_key|smp_call_|on_each_cpu|generic_exec|native_flush_tlb|flush_tlb
    |_*lock_page|lock_sock|release_sock|mempool_|percpu_|free_percpu|pcpu_|_*add_to_page_cache
    |_*(?:find|grab|read)_(?:get_page|cache_page|or_create)|pagecache_get|shrink_|_*get_user_pages
    |futex_wait_queue|queue_me|device_(?:del|add|release$|register|unregister)|kobject_|_*vfs_|do_vfs|vfs_
    |exit_to_user|_*prepare_exit|rollback_registered|unregister_netdevice_(?:many|queue)
    |(?:do_)?iter_(?:read|write)|_*new_sync_|do_readv|do_writev|_do_fork
    )""",
    re.VERBOSE,
)
# A subsystem's own ways to say that something is wrong: who calls them is to blame.
_REPORTER = re.compile(r"^_*[a-z]\w*_(?:panic|assert(?:ion)?_?fail(?:ed)?)$")
# Of modules that have assertions of their own.
_ASSERTS = re.compile(
    r"^(?:\w+_)?assfail$|^\w+_assertfail$|^spl_(?:panic|dumpstack)$|^lbug_with_loc$|^libcfs_call_trace$"
)
# Where the core enters what is not its own.
_ENTRY = re.compile(
    r"^(?:process_one_work|call_timer_fn|_*run_timers|run_timer|_*hrtimer_run|do_softirq"
    r"|__do_softirq|handle_softirqs|run_ksoftirqd|tasklet_|smpboot_thread|kthread$|start_secondary"
    r"|cpu_startup|ret_from|do_(?:fast_)?syscall|sysenter_|tracesys|el0_svc|invoke_syscall"
    r"|_*netif_receive_skb|_*napi_poll|net_rx_action|rtnetlink_rcv|nfnetlink_rcv|netlink_(?:dump|rcv)|genl_"
    r"|(?:compat_)?blkdev_(?:driver_)?ioctl|\w+_compat_ioctl$|x64_sys_call|vfs_|_*vfs_|do_iter_|call_(?:read|write)_iter|new_sync_"
    r"|ksys_ioctl|do_vfs_ioctl|do_dentry_open|mmap_region|do_mmap|sock_(?:send|recv)msg"
    r"|_*sock_release|sock_(?:do_)?ioctl|_*fput|task_work_run|exit_to_user|smp_call_|_*do_fault"
    r"|do_page_fault|do_user_addr|exc_page_fault|generic_handle|__handle_irq|handle_irq)"
)
# Modules of ours that a driver's functions go through.
_OURS = frozenset({"pkvfuzz_deferred", "pkvfuzz_stack"})
_SYSTEM_CALL = re.compile(
    r"^(?:__(?:x64|ia32|arm64|s390x?|riscv|powerpc|se|do)_)?(?:compat_)?"
    r"(?:sys|SyS|SYSC|C_SYSC|ksys)_(?P<name>\w+)$"
)


def system_call(function: str) -> str | None:
    """Return the system call that a function enters, as ``sys_read``; None for others."""
    found = _SYSTEM_CALL.match(function)
    return f"sys_{found['name']}" if found else None


def is_machinery(frame: Frame) -> bool:
    """Tell whether a frame is not to blame for a report that goes through it."""
    file = in_tree(frame.file) if frame.file else None
    if frame.module in _OURS:
        return True
    if frame.module:
        if frame.inline and file is not None:
            return is_copied(file)
        name = frame.function
        return name in known_functions().copied or is_rust_core(name) or bool(_ASSERTS.match(name))
    if file is not None and file.endswith(".h") and not frame.inline:
        # The place in a function that was inlined into this one.
        file = None
    if file is not None and is_core(file):
        return True
    if _MADE.match(frame.function) or _SYSTEM_CALL.match(frame.function):
        return True
    if is_rust_core(frame.function) or _REPORTER.match(frame.function):
        return True
    if file is not None:
        return False
    known = known_functions()
    name = frame.function
    return (
        name in known.core
        or bool(_ASSERTS.match(name))
        or name in known.copied
        or is_leaf(name)
        or bool(_OLDER.match(name))
    )


def is_leaf(function: str) -> bool:
    """Tell whether a function is not even to name where all of a stack is machinery."""
    return _LEAF.match(function) is not None or _MADE.match(function) is not None


def is_made(function: str) -> bool:
    """Tell whether a macro or the compiler made a function, or it is in assembly."""
    return _MADE.match(function) is not None


def is_entry(frame: Frame) -> bool:
    """Tell whether a frame is where the core enters a driver, a file system or a protocol."""
    if system_call(frame.function):
        return True
    return frame.module is None and _ENTRY.match(frame.function) is not None
