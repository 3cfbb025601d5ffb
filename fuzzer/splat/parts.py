# SPDX-License-Identifier: Apache-2.0
"""The look of a report's lines: which can be a part of one, and which only a report has."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.splat.line import Line
from fuzzer.splat.prefix import ReportStart
from fuzzer.splat.rules import REMNANTS, Rule

_PART = re.compile(
    r"""^(?:\s|$|=+\ *$|-+\ *$|\?\ |>|\#|CPU:|CPU\d?\ |Hardware\ name|RIP|RSP:|R[A-Z0-9]{2}:
    |[FCDEGS]S:|CR2:|DR\d:
    |PKRU|EFLAGS|Code:|Call\ [Tt]race|Modules\ linked|Tainted|pc\ :|lr\ :|sp\ :|x\d+\ *:|pstate
    |irq\ event|(?:hard|soft)irqs|[Aa]llocated\ |[Ff]reed\ |The\ buggy|page|flags|raw:|head
    |Memory\ |(?:Read|Write|Free)\ (?:of|at)|Last\ pot|Second\ to\ last|other\ info|which\ |but\ |->
    |\d+\ locks?\ held|no\ locks\ held|INFO:\ lockdep\ is|stack\ backtrace|---\[|note:
    |Kernel\ Offset|Rebooting|Disabling\ (?:lock|IRQ)|Showing\ |task:|NMI\ |Sending\ NMI|rcu:
    |Workqueue:|Uninit|Bytes?\ \d|value\ changed|Reported\ by|kfence-|\*\*\*|Mem\ abort|Data\ abort
    |swapper\ pg
    |\[[0-9a-f]{16}\]|\#PF|PGD|Oops|Internal\ error|Object|Slab|Padding|Redzone|FIX|the\ |Possible
    |preempt|in_atomic|\(?\[\ ?<|\[\]|read|write|race|no\ |Dumping|Thread\ overran|comm|hex\ dump
    |backtrace|[Ww]atchdog:|Mem-Info|active_|Node\ |Normal|DMA|lowmem|Out\ of\ memory|oom
    |Kernel\ panic
    |This\ frame|Local\ var|pool\ |workqueue\ |\S+/\d+\ (?:is|just)|INFO:\ task|\d+\.\d+\.\d+
    # Without the blank before it, and decoded.
    |[A-Za-z_][\w.$]*(?:\+0x[0-9a-f]|\ \([\w./<-]+\.[chSs]:\d|\ [\w./-]+\.[chSs]:\d+\ \[inline)
    # Other architectures, and older kernels.
    |PC\ is\ at|LR\ is\ at|pgd\ =|[Pp]rocess\ |Stack|Backtrace|Function\ entered|Exception\ stack
    |Flags:|Control:|r\d+\ *:|[0-9a-f]{3,4}:\ |NIP|LR|GPR\d|MSR:|CFAR|REGS:|XER|Instruction\ dump
    |epc|ra\b|Cause|Status|status:|BadVA|PrId|gp\ :|tp\ :|[ats]\d+\ *:|\$\ *\d+|Krnl|Last\ Breaking
    |Unexpected\ kernel|E?IP:|E[A-Z]{2}:|DS:|Unhandled\ fault|SP/PC|ESR|FAR|TSTATE|TPC:|Kernel\ code
    |handlers:|trap|Unable\ to\ handle|Kernel\ attempted|Faulting|DAR:|IRQMASK|Hi|Lo|ecr|sepc|pte
    |p[4gum]d\b|\[ *<?[0-9a-f]{8,16}>?\]|Fault|[Uu]nwind|ti:|corrupted|Register\ r\d|\[c[0-9a-f]{7}
    |8<---|CS:|kobject_add|fbcon:|Trying\ to|The\ shutdown)""",
    re.VERBOSE,
)
_EVIDENCE = re.compile(
    r"""\+0x[0-9a-f]{1,8}(?:/0x[0-9a-f]|\))
    |^\s{0,4}(?:CPU:\ \d+\ |Modules\ linked\ in:|Call\ [Tt]race|RIP:?\ |Hardware\ name:|Oops
        |Internal\ error:|Code:\ |PGD\ |\#PF:|---\[\ |(?:Read|Write)\ of\ size|backtrace:
        |PC\ is\ at|pc\ :\ |NIP\ |EIP|epc\ *:|Krnl\ PSW|Workqueue:|task:|\ \ comm\ "|Tainted:
        |<TASK>|<IRQ>|irq\ event\ stamp|R[A-D]X:\ |handlers:$|Kernel\ Offset)
    |^\ ?[A-Za-z_][\w.$]*\ \([\w./-]+\.[chSs]:\d+
    |^\d+\ locks?\ held\ by\ \S+/\d+:|^\ {0,2}\#\d+:\ \S+\ \(""",
    re.VERBOSE,
)
# What makes a first line one that the kernel printed, where nothing else is left.
_NUMBERS = re.compile(
    r"\+0x[0-9a-f]+/0x|0x[0-9a-f]{3,}|\b[0-9a-f]{8,16}\b|:\d+[!:]?$|\[[^\[\]\s]+:\d+\]"
    r"|for more than \d+ seconds|stuck for \d+s|[Uu]sage count = \d|\S+/\d+/0x|CPU: \d+ PID: \d+"
    r"|\[#\d+\]|\(size \d+\)|err -?\d+|Kernel panic - not syncing: |, CPU#\d+: "
    r"|^Linux version \d+\.\d+\S* \("
)
_TALK = re.compile(r"[.?!] +(?!Usage)[A-Z]?[a-z]|[?\"“”’]| (?:I|we|my|this|when|after|since|with) ")
# Sentences that nobody else has.
_WHOLE = re.compile(
    r"VFS: (?:Close: file count is (?:0|zero)"
    r"|Busy inodes after unmount of \S+(?: \([^()]*\))?(?:\. Self-destruct in .*)?)$"
)
_WORDS = re.compile(
    r"[^\W\d_]{2,} [^\W\d_]{2,}|[\"“'‘`]$|\b(?:crash|title|subject): $", re.IGNORECASE
)
_CPU = re.compile(r"^CPU: \d+ (?:UID: \d+ )?PID: (\d+)")
# Words of the patterns of rules.REMNANTS, and of ends.LOST.
_REMNANT = re.compile(
    rb"kasan_report|__asan_|he buggy|emory state|of size|\[ end trace|exited with|#PF|PGD"
    rb"|report_bug|__warn|warn_slowpath|page_fault_oops|oops_end|die_addr|__die|no_context|ubsan|might_"
    rb"|schedule_bug|_bug|bad_irq|panic_on_warn|die_kernel|bug_handler|RIP: 0010|PC is at|EIP: "
    rb"|pc : |NIP \[|epc : "
)
_CONFIRMED = re.compile(r"\[#\d+\]|blocked (?:for more|in I/O|on a)|can't die for more")
_STAMP = re.compile(r"\[ *(\d+\.\d+)")
_ASKED = re.compile(
    r"^(?:NMI backtrace|Sending NMI|sysrq|SysRq|task:|INFO:)|page allocation failure"
)


def is_part(text: str) -> bool:
    """Tell whether a line may be a part of a report."""
    return _PART.match(text) is not None


def is_evidence(text: str) -> bool:
    """Tell whether a line is one that only a report has, and no prose."""
    return _EVIDENCE.search(text) is not None


def is_talk(text: str) -> bool:
    """Tell whether what stands before a first line is words."""
    return _WORDS.search(text) is not None


def is_complete(text: str, rule: Rule) -> bool:
    """Tell whether a first line is the kernel's although nothing else says so."""
    if _WHOLE.match(text):
        return True
    return (
        rule.crash and len(text) < 400 and bool(_NUMBERS.search(text)) and not _TALK.search(text)
    ) or (not rule.crash and not _TALK.search(text))


def has_remnant(log: bytes) -> bool:
    """Tell whether a log may have a line that only the rest of a report has."""
    return _REMNANT.search(log) is not None


def find_remnant(text: str, before: Sequence[Line]) -> ReportStart | None:
    """Return what is left of a report by a line of it, where the first line is missing."""
    for rule in REMNANTS:
        if match := rule.pattern.search(text):
            # Stacks that somebody asked for look the same.
            asked = any(_ASKED.search(line.text) for line in before)
            return None if asked else ReportStart(rule, match)
    return None


def seconds_of(raw: str) -> float | None:
    """Return a line's time stamp."""
    stamp = _STAMP.search(raw)
    return float(stamp[1]) if stamp else None


def are_confirmed(lines: Sequence[Line]) -> bool:
    """Tell whether a report of a line that others print too goes on as one."""
    return any(_CONFIRMED.search(line.text) for line in lines)


def are_mixed(lines: Sequence[Line]) -> bool:
    """Tell whether lines are of two reports: of two tasks, or two stacks begin in one."""
    tasks = {task[1] for line in lines if (task := _CPU.match(line.text))}
    if len(tasks) > 1:
        return True
    opened = False
    for line in lines:
        if line.text.startswith("Call Trace:"):
            if opened:
                return True
            opened = True
        elif line.text.startswith((" </", "---[ end", "NMI backtrace", "Sending NMI")):
            opened = False
    return False
