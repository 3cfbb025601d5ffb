# SPDX-License-Identifier: Apache-2.0
"""The stacks of a report: the role of each, and its frames, innermost first."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fuzzer.splat.forms import is_saved
from fuzzer.splat.frames import Frame, parse_frame
from fuzzer.splat.machinery import system_call


class Role(enum.StrEnum):
    """The role of a stack in a report."""

    FAULT = "fault"
    """The place of the fault."""
    ALLOC = "alloc"
    FREE = "free"
    ORIGIN = "origin"
    """The origin of an uninitialised value."""
    WORK = "work"
    """The place that queued work, or a callback, which involves the object."""
    OTHER_TASK = "other-task"
    """The other side of a race, or another CPU."""
    LOCK_CHAIN = "lock-chain"
    """The place that took a lock of lockdep's chain."""
    INTERRUPTED = "interrupted"
    """The code that an interrupt interrupted."""
    PAGE = "page"
    """The place that allocated or freed the page."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Stack:
    """A stack. ``heading`` is the line before it; ``closed`` tells that its end was seen."""

    role: Role
    frames: tuple[Frame, ...]
    heading: str = ""
    closed: bool = True


_HEADINGS: tuple[tuple[re.Pattern[str], Role], ...] = tuple(
    (re.compile(pattern), role)
    for pattern, role in (
        (r"^ *Call [Tt]race:", Role.FAULT),
        (r"^ *backtrace(?: \(crc [0-9a-f]+\))?:", Role.FAULT),
        (r"^[Aa]llocated (?:by task|in )", Role.ALLOC),
        (r"^[Ff]reed (?:by task|in )", Role.FREE),
        (r"^Uninit was |^Local variable .* created at:", Role.ORIGIN),
        (r"^(?:Second to last|Last) potentially related work creation:", Role.WORK),
        (r"^-> #\d+ ", Role.LOCK_CHAIN),
        (r"^(?:race at unknown origin, with )?(?:read|write)[\w ()-]* to 0x", Role.FAULT),
        (r"^(?:assert no|read-write|read) .* by (?:task|interrupt)", Role.FAULT),
        (r"^page last (?:allocated|free)", Role.PAGE),
        (r"^ref_tracker: .* users at", Role.FAULT),
    )
)
# The stack of where it happened, in its parts.
_MAIN = frozenset({Role.FAULT, Role.INTERRUPTED})
# Headings that have no colon, or had one before they were wrapped.
_COLONLESS = ("Alloc", "Freed", "page last", "read", "write", "assert", "race", "ref_tracker")
_CONTEXT_IN = re.compile(r"^ *<(?:TASK|IRQ|NMI|SOFTIRQ|#\w+|ENTRY_TRAMPOLINE)>")
_CONTEXT_OUT = re.compile(r"^ *</(?:TASK|IRQ|NMI|SOFTIRQ|#\w+|ENTRY_TRAMPOLINE)>")
# Old kernels write the mark in front of a frame, and <EOI> where new ones write </IRQ>.
_CONTEXT_BEFORE = re.compile(r"^ *<(?P<mark>/?[A-Z#]\w*)> +(?=\S)")
# An address that no symbol is known for: a stale word of the stack, or a module that is gone.
_NO_SYMBOL = re.compile(r"^ *(?:\? )?(?:\[<)?0x[0-9a-f]+(?:>\])?$")
# Of a kernel thread that RCU waits for, printed before the stacks of those that stall.
_HELPER = re.compile(r"grace-period kthread stack dump")
_DUMP_OF = re.compile(r"^(?:CPU: |NMI backtrace for cpu |Task dump for CPU )(?P<cpu>\d+)\b")
_STUCK_CPU = re.compile(
    r"lockup - CPU#(?P<cpu>\d+)|hard LOCKUP on cpu (?P<cpu2>\d+)"
    r"|^(?:rcu: )?\s+(?P<cpu3>\d+)-[.!OoNn]|self-detected stall on CPU \{ ?(?P<cpu4>\d+)\}"
)
_REGISTERED = re.compile(r"state was registered at:|-irq-|lock(?:'s)? dependencies")
_KERNEL_IP = re.compile(r"^(?:RIP: 0010:|IP: |pc : |PC is at )")
_WILD = re.compile(r"^(?:pc : |PC is at |NIP (?:\[\w+\] )?)(?:0x)?[0-9a-f]+(?: |$)")
_RETURN = re.compile(r"^(?:lr : |LR is at )")
# What the kernel prints after a stack, or inside it where an exception was taken.
_AFTER = re.compile(
    r"^(?: *$|RIP: |RSP: |R[A-D]X: |RBP: |R\d\d: |ORIG_RAX|Code: |CPU: |=+$|-{3,}|Modules linked"
    r"|Tainted|irq event|The buggy|Memory state|Kernel Offset|value changed|\w.*:$|Bytes? \d)"
)
_LAST = re.compile(
    r"^(?:entry_|ret_from_fork|ret_fast_syscall|secondary_startup|x86_64_start|start_kernel"
    r"|el0t?_|kthread$|asm_|invoke_syscall|do_(?:fast_)?syscall_|sysenter_|system_call|tracesys"
    r"|start_secondary|rest_init|cpu_startup_entry)"
)
_REGISTERS = re.compile(
    r"^(?:Code: |RSP: |R[A-D]X: |RBP: |R\d\d: |[FCD]S: |CR2: |DR\d: |PKRU: |pstate: |sp : "
    r"|x\d+ *: )"
)
# Where a report says which CPU is stuck.
_HEAD_LINES = 12
# Lines of somebody else in the middle of a stack, before it counts as over.
_MAX_FOREIGN = 3


def _heading(text: str) -> Role | None:
    # Most lines are frames: do not try every pattern on each.
    if ":" not in text and not text.startswith(_COLONLESS):
        return None
    for pattern, role in _HEADINGS:
        if pattern.search(text):
            return role
    return None


class _Collector:
    """Goes through a report's lines and collects its stacks."""

    def __init__(self, headless: bool) -> None:
        self._headless = headless
        self.stacks: list[Stack] = []
        self._ip: Frame | None = None
        self._role: Role | None = None
        self._heading = ""
        self._frames: list[Frame] = []
        self._foreign = 0
        self._main_seen = False
        self._last = ""
        # The instruction pointer is no function's: who called it is where it returns to.
        self._is_wild = False
        self._nmi = False
        self._helper = False
        self._registers = False
        # The role of a stack that an empty line ended.
        self._resumed: Role | None = None

    def _begin(self, role: Role, heading: str) -> None:
        if self._role is Role.FAULT and not self._frames and self._last.strip() != self._heading:
            # A heading with nothing but words under it.
            self._main_seen = False
        self._end(closed=True)
        if role is Role.FAULT:
            # Only the first "Call Trace" is where it happened: a second one is another
            # task's, or the panic's. KMSAN and KCSAN have none.
            if self._main_seen or self._helper:
                other = self._nmi or self._helper or " by " in heading
                role = Role.OTHER_TASK if other else Role.OTHER
            self._main_seen = self._main_seen or not self._helper
            self._helper = False
        self._role, self._heading = role, heading

    def _end(self, *, closed: bool) -> None:
        if self._role is not None and self._frames:
            self.stacks.append(Stack(self._role, _placed(self._frames), self._heading, closed))
        self._role, self._frames, self._foreign, self._registers = None, [], 0, False

    def feed(self, text: str) -> None:
        """Look at the next line."""
        if before := _CONTEXT_BEFORE.match(text):
            self._context(before["mark"], text)
            text = " " + text[before.end() :]
        self._nmi = self._nmi or text.startswith("NMI backtrace for cpu")
        self._helper = self._helper or _HELPER.search(text) is not None
        role = _heading(text)
        if role is not None:
            self._begin(role, text.strip())
            # SLUB names the caller in the heading.
            frame = parse_frame(text.partition(" in ")[2]) if " in " in text else None
            if frame and role in {Role.ALLOC, Role.FREE}:
                self._frames.append(frame)
            self._last = text
            return
        frame = parse_frame(text)
        if self._role is None:
            self._outside(text, frame)
        elif frame and not (text.startswith("RIP: ") and not _KERNEL_IP.match(text)):
            self._frames.append(frame)
            self._foreign = 0
            self._registers = self._registers or text.startswith("RIP: ")
        elif (self._registers and _REGISTERS.match(text)) or (self._frames and is_saved(text)):
            # An exception was taken here; what took it follows its registers.
            pass
        elif _CONTEXT_OUT.match(text):
            self._context(text.strip(" <>"), text)
        elif _CONTEXT_IN.match(text) or _NO_SYMBOL.match(text):
            pass
        elif self._role is Role.INTERRUPTED and text.strip() and not text.startswith("RIP: 00"):
            # Registers at the time of the interrupt: the stack goes on after them.
            pass
        elif _AFTER.match(text) and (self._frames or self._role is Role.INTERRUPTED):
            self._resumed = self._role if self._frames and not text.strip() else None
            self._end(closed=True)
        elif self._frames:
            self._foreign += 1
            if self._foreign > _MAX_FOREIGN:
                self._end(closed=True)
        if text.strip():
            self._last = text

    def _context(self, mark: str, text: str) -> None:
        """Begin what an interrupt interrupted, where its own stack ends."""
        if self._role is None or not (mark.startswith("/") or mark in {"EOI", "EOE"}):
            return
        self._end(closed=True)
        if "TASK" not in mark:
            self._role, self._heading = Role.INTERRUPTED, text.strip()

    def _outside(self, text: str, frame: Frame | None) -> None:
        if frame is None and not self._main_seen and _CONTEXT_IN.match(text):
            # All that is left of a heading.
            self._begin(Role.FAULT, text.strip())
            return
        if frame is None:
            if text.strip():
                self._resumed = None
            self._is_wild = self._is_wild or _WILD.match(text) is not None
            return
        if self._is_wild and _RETURN.match(text) and self._ip is None and not self._main_seen:
            self._ip = dataclasses.replace(frame, reliable=True)
            self.stacks.append(Stack(Role.FAULT, (self._ip,), "instruction pointer"))
            return
        if self._resumed is not None and text.startswith(" "):
            # What ended the stack was the empty line of another program.
            before = self.stacks.pop()
            self._role, self._heading = self._resumed, before.heading
            self._frames, self._resumed = [*before.frames, frame], None
            return
        if _KERNEL_IP.match(text):
            if self._ip is None and not self._main_seen:
                self._ip = frame
                self.stacks.append(Stack(Role.FAULT, (frame,), "instruction pointer"))
        elif text.startswith(" ") and not self._main_seen and frame.reliable:
            if self._headless:
                self._begin(Role.FAULT, self._last.strip())
                self._frames.append(frame)
            elif self._last.endswith(":"):
                chain = _REGISTERED.search(self._last) is not None
                self._begin(Role.LOCK_CHAIN if chain else Role.OTHER, self._last.strip())
                self._frames.append(frame)

    def finish(self) -> list[Stack]:
        """Return the stacks. One that the log ends in is not closed, unless it got to its end."""
        last = next((each.function for each in reversed(self._frames) if each.reliable), "")
        done = _LAST.match(last) is not None or system_call(last) is not None
        self._end(closed=done)
        if not any(stack.role is Role.FAULT for stack in self.stacks):
            # Its heading is damaged.
            first = next((i for i, each in enumerate(self.stacks) if each.role is Role.OTHER), None)
            if first is not None:
                self.stacks[first] = dataclasses.replace(self.stacks[first], role=Role.FAULT)
        self._trust_guesses()
        return self.stacks

    def _trust_guesses(self) -> None:
        """Take guesses of an unwinder for the stack, where it knew nothing better."""
        main = [s for s in self.stacks if s.role in _MAIN and s.heading != "instruction pointer"]
        if not main or any(frame.reliable for stack in main for frame in stack.frames):
            return
        for index, stack in enumerate(self.stacks):
            if stack.role in _MAIN:
                frames = tuple(
                    dataclasses.replace(each, reliable=True)
                    for each in stack.frames
                    # A call returns into the middle of a function.
                    if each.offset not in {0, each.size} or each.offset is None
                )
                self.stacks[index] = dataclasses.replace(stack, frames=frames)


def _placed(frames: Sequence[Frame]) -> tuple[Frame, ...]:
    """Give each inlined frame the module of the frame that it is inlined into."""
    placed: list[Frame] = []
    module: str | None = None
    for frame in reversed(frames):
        if frame.inline:
            placed.append(dataclasses.replace(frame, module=module))
        else:
            module = frame.module
            placed.append(frame)
    return tuple(reversed(placed))


def find_stacks(texts: Sequence[str], *, headless: bool = False) -> tuple[Stack, ...]:
    """Return the stacks of a report, in order.

    An instruction pointer that the report names before its first stack is a
    stack of one frame. ``headless`` is for KMSAN and KFENCE, which print the first
    stack without a heading.
    """
    start = own_dump(texts)
    others: list[Stack] = []
    if start:
        before = _Collector(headless)
        for text in texts[:start]:
            before.feed(text)
        others = [dataclasses.replace(s, role=Role.OTHER_TASK) for s in before.finish()]
    collector = _Collector(headless)
    for text in texts[start:]:
        collector.feed(text)
    return (*others, *collector.finish())


def own_dump(texts: Sequence[str]) -> int:
    """Return where the stack of a CPU that is stuck begins, if another one's is before it."""
    stuck = {cpu for text in texts[:_HEAD_LINES] if (cpu := _stuck_cpu(text))}
    if not stuck:
        return 0
    dumps = [(at, found["cpu"]) for at, text in enumerate(texts) if (found := _DUMP_OF.match(text))]
    if not dumps or dumps[0][1] in stuck:
        return 0
    return next((at for at, cpu in dumps if cpu in stuck), 0)


def _stuck_cpu(text: str) -> str | None:
    found = _STUCK_CPU.search(text)
    return next((cpu for cpu in found.groups() if cpu), None) if found else None
