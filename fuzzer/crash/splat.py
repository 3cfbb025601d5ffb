# SPDX-License-Identifier: Apache-2.0
"""Splats in a kernel log: found, and given a title.

The rules are data: how the first line of each kind of report looks, and how
its title is made, in the form that the kernel community knows from syzbot. The
guilty function is the first one of the first stack that is not sanitizer,
allocator, lock, copy or printk machinery.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PREFIX = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? ?")
_FRAME = re.compile(
    r"^ *(\? )?(?:RIP: \d+:)?([A-Za-z_][\w.]*)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[(\w+)\])?"
)
_SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm)(?:\.\d+)*.*$")
_KERNEL_RIP = re.compile(r"^RIP: 0010:")
_STACK_START = re.compile(r"^ *(?:Call Trace|backtrace(?: \(crc [0-9a-f]+\))?):")
# Also an address that no symbol is known for: a stale word of the stack, or a module that is gone.
_STACK_PART = re.compile(r"^ *(?:<(?:TASK|IRQ|NMI|#\w+)>|(?:\? )?0x[0-9a-f]+)$")
_MAX_REPORT_LINES = 400


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of report: its first line, its title and its kind.

    ``{0}`` and so on in ``title`` are the pattern's groups, ``{access}`` is
    ``Read`` or ``Write``, ``{function}`` the guilty function. For a report
    that has no stack but says where it happened, ``site`` finds the function
    in one of its lines.
    """

    pattern: re.Pattern[str]
    title: str
    kind: str
    site: re.Pattern[str] | None = None


def _rule(pattern: str, title: str, kind: str, site: str | None = None) -> Rule:
    return Rule(re.compile(pattern), title, kind, re.compile(site) if site else None)


RULES = (
    _rule(r"BUG: KASAN: (double-free|invalid-free) in ", "KASAN: {0} in {function}", "kasan"),
    _rule(
        r"BUG: KASAN: ([\w-]+) in ",
        "KASAN: {0} {access} in {function}",
        "kasan",
    ),
    _rule(r"BUG: KFENCE: ([\w -]+) in ", "KFENCE: {0} in {function}", "kfence"),
    _rule(r"BUG: KCSAN: ([\w-]+) in ", "KCSAN: {0} in {function}", "kcsan"),
    _rule(r"UBSAN: ([\w-]+) in ", "UBSAN: {0} in {function}", "ubsan"),
    _rule(
        r"WARNING: possible circular locking dependency detected",
        "possible deadlock in {function}",
        "lockdep",
    ),
    _rule(
        r"WARNING: possible recursive locking detected",
        "possible deadlock in {function}",
        "lockdep",
    ),
    _rule(r"WARNING: inconsistent lock state", "inconsistent lock state in {function}", "lockdep"),
    _rule(
        r"WARNING: bad unlock balance detected",
        "WARNING: bad unlock balance in {function}",
        "lockdep",
    ),
    _rule(
        r"WARNING: lock held when returning to user space",
        "WARNING: lock held when returning to user space in {function}",
        "lockdep",
        r"^ *#\d+: .* at: ([\w.]+)\+0x",
    ),
    _rule(r"WARNING: held lock freed", "WARNING: held lock freed in {function}", "lockdep"),
    _rule(
        r"WARNING: (possible irq lock inversion|Nested lock was not taken)",
        "WARNING: {0} in {function}",
        "lockdep",
    ),
    _rule(
        r"WARNING: (\w+-safe -> \w+-unsafe lock order detected)",
        "WARNING: {0} in {function}",
        "lockdep",
    ),
    _rule(r"BUG: (Invalid wait context)", "BUG: {0} in {function}", "lockdep"),
    _rule(
        r"INFO: trying to register non-static key",
        "INFO: trying to register non-static key in {function}",
        "lockdep",
    ),
    _rule(
        r"WARNING: suspicious RCU usage",
        "WARNING: suspicious RCU usage in {function}",
        "lockdep",
    ),
    _rule(
        r"BUG: sleeping function called from invalid context",
        "BUG: sleeping function called from invalid context in {function}",
        "atomic-sleep",
    ),
    _rule(r"BUG: scheduling while atomic", "BUG: scheduling while atomic in {function}", "atomic"),
    _rule(r"kernel BUG at ", "kernel BUG in {function}", "bug"),
    _rule(
        r"BUG: kernel NULL pointer dereference",
        "BUG: NULL pointer dereference in {function}",
        "fault",
    ),
    _rule(
        r"BUG: unable to handle page fault",
        "BUG: unable to handle page fault in {function}",
        "fault",
    ),
    _rule(
        r"(?:Oops: )?general protection fault",
        "general protection fault in {function}",
        "fault",
    ),
    _rule(r"Oops: (divide error|int3|stack segment)", "{0} in {function}", "fault"),
    _rule(r"INFO: task .* blocked for more than", "INFO: task hung in {function}", "hang"),
    _rule(r"watchdog: BUG: soft lockup", "BUG: soft lockup in {function}", "hang"),
    _rule(
        r"rcu: INFO: .* (?:self-)?detected (?:expedited )?stall",
        "INFO: rcu stall in {function}",
        "hang",
    ),
    _rule(r"ODEBUG: (\w+) (?:active|not)", "WARNING: ODEBUG bug in {function}", "warning"),
    _rule(r"^unreferenced object 0x", "memory leak in {function}", "leak"),
    _rule(r"refcount_t: ", "WARNING: refcount bug in {function}", "warning"),
    _rule(r"list_(?:add|del) corruption", "list corruption in {function}", "warning"),
    _rule(r"usercopy: Kernel memory", "usercopy: kernel memory exposure in {function}", "bug"),
    _rule(r"WARNING: CPU: \d+ PID: \d+ at ", "WARNING in {function}", "warning"),
    _rule(r"Kernel panic - not syncing: ([^:]+)", "kernel panic: {0}", "panic"),
    _rule(r"\bBUG: (Bad \w+ \w+)", "BUG: {0} in {function}", "bug"),
    # Not in the middle of a word: drivers print "DEBUG: ...".
    _rule(r"\bBUG: ([^:]+)", "BUG: {0} in {function}", "bug"),
)

_MACHINERY = re.compile(
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
    ret_from|entry_|do_syscall|x64_sys|__x64_sys|__se_sys|ksys|vfs_|kthread|worker_thread|
    process_one|watchdog|sched_show|show_|nmi|__pfx|
    native_|__sanitizer|__read_once|stack_trace|stack_depot|unwind|arch_stack
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Splat:
    """One kernel report. ``text`` is all of it, as a console would show it.

    ``complete`` is false when the report has no stack: then the title names
    no function.
    """

    title: str
    kind: str
    function: str | None
    complete: bool
    text: str


def _frames(lines: list[str]) -> list[tuple[str, str | None]]:
    """Return (function, module) of where a report happened, innermost first.

    That is the instruction pointer, when the report names one, and the first
    stack: not those of other tasks, and not what an interrupt interrupted.
    """
    found: list[tuple[str, str | None]] = []
    inside = False
    for line in lines:
        match = _FRAME.match(line)
        if not inside:
            inside = _STACK_START.match(line) is not None
            if match and not found and _KERNEL_RIP.match(line):
                found.append((_SUFFIX.sub("", match[2]), match[3]))
        elif match:
            if not match[1]:
                found.append((_SUFFIX.sub("", match[2]), match[3]))
        elif not _STACK_PART.match(line):
            break
    return found


def guilty_function(lines: list[str]) -> str | None:
    """Return the first function of a report's first stack that is not machinery.

    A frame of a module is preferred: core code that is not in the list above
    was still called by the driver under test.
    """
    frames = [frame for frame in _frames(lines) if not _MACHINERY.match(frame[0])]
    for name, module in frames:
        if module:
            return name
    return frames[0][0] if frames else None


def _site(rule: Rule, lines: list[str]) -> str | None:
    for line in lines if rule.site else []:
        if rule.site and (found := rule.site.match(line)):
            return _SUFFIX.sub("", found[1])
    return None


def _title(rule: Rule, match: re.Match[str], lines: list[str]) -> tuple[str, str | None]:
    function = guilty_function(lines) or _site(rule, lines)
    access = "access"
    for line in lines[:6]:
        if found := re.match(r"(Read|Write) of size ", line):
            access = found[1]
    title = rule.title
    if function is None:
        title = title.replace(" in {function}", " (report cut short)")
    return title.format(*match.groups(), access=access, function=function), function


def find_splat(lines: list[str]) -> Splat | None:
    """Return the first splat in a console log, or None.

    What follows the first line of a report belongs to it.
    """
    bare = [_PREFIX.sub("", line) for line in lines]
    for number, line in enumerate(bare):
        for rule in RULES:
            match = rule.pattern.search(line)
            if match is None:
                continue
            end = min(len(lines), number + _MAX_REPORT_LINES)
            start = number - 1 if number and set(bare[number - 1].strip()) == {"="} else number
            title, function = _title(rule, match, bare[number:end])
            text = "\n".join(lines[start:end]) + "\n"
            return Splat(title, rule.kind, function, function is not None, text)
    return None
