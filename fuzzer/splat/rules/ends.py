# SPDX-License-Identifier: Apache-2.0
"""The end of a guest: panic, reboot, no memory; and modules that do not load.

Formats: kernel/panic.c, mm/oom_kill.c, kernel/module/main.c of Linux 6.12.
"""

from __future__ import annotations

from typing import Any

from fuzzer.splat.rules.rule import Family, Rule, rule

CONSEQUENCES = (
    r"(?:[\w -]+: )?(?:Fatal exception|panic_on_warn set)|Fatal machine check|kasan\.fault="
    r"|hung_task: blocked tasks|softlockup: hung tasks|Hard LOCKUP|RCU Stall|bad mode"
    r"|scheduling while atomic|Aiee, killing interrupt handler"
    r"|Attempted to kill (?:init|the idle task)|kernel stack overflow|Oops|stack guard"
    r"|Machine halted|Unrecoverable exception|LBUG"
)
"""Panics that only say that there was a report before."""

PANIC = (
    rule(
        r"Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: (\S+)?",
        "kernel panic: stack is corrupted in {function}",
        "panic",
        family=Family.STACK,
        hint="Kernel panic",
        score=75,
        example="Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: "
        "drv_guilty",
        # An address where the kernel does not know its functions' names.
        site=r"stack is corrupted in: (?![0-9a-f]{8,16}$)([\w.]+)",
    ),
    rule(
        r"Kernel panic - not syncing: corrupted stack end detected inside scheduler",
        "kernel panic: corrupted stack end in {function}",
        "panic",
        family=Family.STACK,
        hint="Kernel panic",
        score=60,
        example="Kernel panic - not syncing: corrupted stack end detected inside scheduler",
        interrupted=True,
    ),
    rule(
        rf"Kernel panic - not syncing: ({CONSEQUENCES})",
        "kernel panic: {0}",
        "panic",
        family=Family.PANIC,
        hint="Kernel panic",
        score=35,
        example="Kernel panic - not syncing: Fatal exception in interrupt",
        opener=False,
    ),
    rule(
        r"Kernel panic - not syncing: (VFS: Unable to mount root fs|[^:]+?(?= *\]---|:|$))",
        "kernel panic: {0}",
        "panic",
        family=Family.PANIC,
        hint="Kernel panic",
        score=40,
        example="Kernel panic - not syncing: testdrv asked for it",
    ),
)

REBOOT = (
    rule(
        r"^Linux version \d",
        "unexpected kernel reboot",
        "reboot",
        family=Family.OTHER,
        hint=" version",
        score=30,
        example="Linux version 6.12.1 (user@host) (gcc 12.2.0) #1 SMP",
    ),
)

LOST = (
    rule(
        r"^---\[ end trace [0-9a-f ]*\]---",
        "kernel report without its beginning",
        "lost",
        family=Family.OTHER,
        hint="[ end trace",
        score=30,
        example="---[ end trace 0000000000000000 ]---",
        opener=False,
    ),
)

_FRAME = r"^ *(?:\? )?(?:\[<[0-9a-f]+>\] )?"
# Tried on each of the first lines of a log; later on, where the hint is in the line.
REMNANTS = (
    rule(
        r"^The buggy address (?:belongs to|is located)|^Memory state around the buggy address"
        rf"|^(?:Read|Write) of size \d+ at addr "
        rf"|{_FRAME}(?:kasan_report\w*|__asan_report_\w+)(?:\+0x| \()",
        "KASAN report without its beginning in {function}",
        "lost",
        family=Family.MEMORY,
        hint="he buggy address",
        followed=True,
        score=50,
        example="The buggy address belongs to the object at ffff888003c98400",
        opener=False,
    ),
    rule(
        r"^note: \S+\[\d+\] exited with (?:irqs disabled|preempt_count)|^#PF: |^PGD [0-9a-f]+ P"
        rf"|{_FRAME}(?:report_bug|__warn|warn_slowpath_\w+|page_fault_oops|oops_end|die_addr"
        r"|__die_body|no_context|ubsan_epilogue|__ubsan_handle_\w+|__schedule_bug|print_circular_bug"
        r"|___?might_sleep|__might_resched|print_deadlock_bug|__report_bad_irq|check_panic_on_warn"
        r"|die_kernel_fault|bug_handler)(?:\+0x| \()"
        r"|^(?:RIP: 0010:|PC is at |EIP: |pc : |NIP \[\w+\] |epc : )[A-Za-z_][\w.]*(?:\+0x| \()",
        "kernel report without its beginning in {function}",
        "lost",
        family=Family.OTHER,
        hint="] exited with ",
        followed=True,
        score=30,
        example="note: init[27] exited with irqs disabled",
        opener=False,
    ),
)


def _notice(pattern: str, title: str, kind: str, hint: str, example: str, **more: Any) -> Rule:
    return rule(
        pattern,
        title,
        kind,
        family=Family.OTHER,
        hint=hint,
        score=10,
        example=example,
        crash=False,
        **more,
    )


_REBUILD = "build the module against the headers of the kernel that runs (uname -r)"
_SIGN = (
    "sign the module with a key that the kernel trusts (scripts/sign-file, mokutil --import), or "
    "turn Secure Boot off"
)
_DEPENDS = "load the module that exports it first, or enable it in the kernel's configuration"


def _unloadable(pattern: str, title: str, hint: str, example: str, advice: str) -> Rule:
    """Return the rule of a module that the kernel does not load."""
    return _notice(pattern, title, "module", hint, example, advice=advice, single=True)


# A module that does not load is no crash, and often the reason why there is none.
MODULES = (
    _unloadable(
        r"^(\w+): (Unknown symbol \w+)",
        "module {0}: {1}",
        " symbol",
        "drv: Unknown symbol drv_helper (err -2)",
        _DEPENDS,
    ),
    _unloadable(
        r"^(\w+): version magic '",
        "module {0}: built for another kernel",
        " version",
        "drv: version magic '6.1.0 SMP' should be '6.12.1 SMP'",
        _REBUILD,
    ),
    _unloadable(
        r"^(\w+): (disagrees about version of symbol \w+|no symbol version for \w+)",
        "module {0}: {1}",
        " version",
        "drv: disagrees about version of symbol module_layout",
        _REBUILD,
    ),
    _unloadable(
        r"^module (\S+): \.gnu\.linkonce\.this_module section size must match",
        "module {0}: built for another kernel (size of struct module)",
        "this_module section size must match",
        "module drv: .gnu.linkonce.this_module section size must match the kernel's built struct "
        "module size at run time",
        _REBUILD,
    ),
    _unloadable(
        r"^(\w+): exports duplicate symbol (\w+)",
        "module {0}: exports duplicate symbol {1}",
        " symbol",
        "drv: exports duplicate symbol drv_helper (owned by other)",
        "unload the module that owns it, or rename the symbol",
    ),
    _unloadable(
        r"^(?:\w+: )?Loading of (unsigned module|module with [a-z ]+) is rejected",
        "module: loading of {0} is rejected",
        " is rejected",
        "Loading of unsigned module is rejected",
        _SIGN,
    ),
    _unloadable(
        r"^Lockdown: .*?(unsigned module loading|[Ll]oading of unsigned modules?) is restricted",
        "module: lockdown: {0} is restricted",
        " is restricted; see man kernel_lockdown",
        "Lockdown: insmod: unsigned module loading is restricted; see man kernel_lockdown.7",
        _SIGN,
    ),
    _unloadable(
        r"^(?:module )?(\w+):? (?:module )?uses symbol \(?(\w+)\)? from namespace (\w+), but does",
        "module {0}: symbol {1} of namespace {2} is not imported",
        " symbol",
        "drv: module uses symbol (dma_buf_get) from namespace DMA_BUF, but does not import it.",
        "add MODULE_IMPORT_NS() to the module",
    ),
    _unloadable(
        r"^(?:BPF: *)?failed to validate module \[(\w+)\] BTF: (-\d+)",
        "module {0}: its BTF is not the kernel's",
        "failed to validate module",
        "failed to validate module [drv] BTF: -22",
        "build the module with the vmlinux of the kernel that runs, or strip its .BTF section",
    ),
    _unloadable(
        r"^(?:module: )?x86/modules: (?:Skipping i|I)nvalid relocation target",
        "module: invalid relocation target",
        " relocation ",
        "x86/modules: Skipping invalid relocation target, existing value is nonzero for type 1",
        "build the module anew, with the compiler and binutils of the kernel's build",
    ),
    _unloadable(
        r"^(?:module )?(\w+): (?:unsupported RELA? relocation|[Uu]nknown (?:rela? )?relocation"
        r"|overflow in relocation type|[Rr]elocation .*overflow)",
        "module {0}: a relocation that the kernel cannot do",
        " relocation",
        "module drv: unsupported RELA relocation: 275",
        "build the module with the kernel's own flags, for this architecture",
    ),
    _unloadable(
        r"^(?:FATAL: modpost: )?GPL-incompatible module (\w+)\S* uses GPL-only symbol '?(\w+)",
        "module {0}: its licence forbids symbol {1}",
        " symbol",
        "GPL-incompatible module drv.ko uses GPL-only symbol 'drv_helper'",
        "give it a MODULE_LICENSE() that is compatible with the GPL, or use another function",
    ),
    _unloadable(
        r"^(\w+): module using GPL-only symbols uses symbols (\w+) from proprietary module (\w+)",
        "module {0}: symbol {1} of the proprietary module {2}",
        " symbol",
        "drv: module using GPL-only symbols uses symbols help from proprietary module other.",
        "use no module that is not under the GPL, or no symbol that is for such modules only",
    ),
    _unloadable(
        r"^(\w+): exports protected symbol (\w+)",
        "module {0}: exports protected symbol {1}",
        " symbol",
        "drv: exports protected symbol drv_helper",
        "rename the symbol: it is one that only signed modules may export",
    ),
    _unloadable(
        r"^Invalid ELF header (?:magic|type|len|version)",
        "module: not an object file of this kernel's machine",
        "Invalid ELF header",
        "Invalid ELF header magic: != ELF",
        "give a module that was built whole, for this architecture",
    ),
    _unloadable(
        r"^(\w+): '\w+'->init suspiciously returned",
        "module {0}: init returned a number above 0",
        "->init suspiciously returned",
        "drv: 'drv'->init suspiciously returned 1, it should follow 0/-E convention",
        "return 0 or a negative errno from the function of module_init()",
    ),
)

NOTICES = (
    *MODULES,
    _notice(
        r"[\w./-]{1,32} invoked oom-killer: ",
        "out of memory in {function}",
        "oom",
        " invoked oom-killer",
        "init invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE), order=0",
    ),
    _notice(
        r"[\w./-]{1,32}: page allocation failure: order:\d+",
        "page allocation failure in {function}",
        "oom",
        ": page allocation failure: order",
        "tool: page allocation failure: order:4, mode:0x40dc0(GFP_KERNEL|__GFP_ZERO)",
    ),
    _notice(
        r"^workqueue: (\w+)(?: \[\w+\])? hogged CPU for ",
        "workqueue: {0} hogs a CPU",
        "workqueue",
        " hogged CPU for ",
        "workqueue: drv_work [drv] hogged CPU for >10000us 4 times, consider WQ_UNBOUND",
        advice="queue it on a workqueue with WQ_UNBOUND, or let it call cond_resched()",
        single=True,
    ),
    # Of the unwinder, which was at a loss: it says nothing of the code that ran.
    _notice(
        r"WARNING: kernel stack (regs|frame pointer) at +\S+ in .* has bad ('?\w*'? ?value)",
        "WARNING: kernel stack {0} has bad {1}",
        "warning",
        "WARNING:",
        "WARNING: kernel stack regs at 00000000c0ffee00 in init:27 has bad 'bp' value 000000001",
        single=True,
    ),
    # Where an allocation was made to fail while a module was loaded, which does it no harm.
    _notice(
        r"^WARNING: .*\bat (?:lib/dynamic_debug\.c:\d+ )?ddebug_module_notify\b",
        "no memory for dynamic debug messages",
        "warning",
        "WARNING:",
        "WARNING: CPU: 0 PID: 27 at lib/dynamic_debug.c:1353 ddebug_module_notify+0x57/0x2b0",
    ),
    # Not a bug, but from here on lockdep sees none.
    _notice(
        r"BUG: (MAX_LOCK\w+|MAX_STACK_TRACE_ENTRIES) too low!",
        "BUG: {0} too low!",
        "lockdep-off",
        "BUG",
        "BUG: MAX_LOCKDEP_ENTRIES too low!",
    ),
)
