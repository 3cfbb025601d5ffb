# SPDX-License-Identifier: Apache-2.0
"""Kernel reports as text, by what tells one bug from another."""

from __future__ import annotations

from fuzzer.splat.find import find_splat
from fuzzer.splat.splat import Splat

SIZE = 0x900
"""Bytes of a function: of another size, it is of another build."""


def _frame(function: str, at: int = 0x60, size: int = SIZE) -> str:
    return f" {function}+{at:#x}/{size:#x} [drv]\n"


def _trace(function: str, at: int = 0x60, size: int = SIZE) -> str:
    return (
        "Call Trace:\n <TASK>\n"
        f"{_frame(function, at, size)}{_frame('drv_entry')} vfs_read+0x1/0x2\n </TASK>\n"
    )


def freed(
    function: str,
    *,
    access: str = "Read",
    allocated: str = "drv_new",
    by: str = "drv_del",
    at: int = 0x60,
    size: int = SIZE,
) -> str:
    """Return KASAN's report of a freed object that is used, or freed again (``Free``)."""
    what = "double-free" if access == "Free" else "slab-use-after-free"
    of = "Free of addr" if access == "Free" else f"{access} of size 8 at addr"
    return (
        f"BUG: KASAN: {what} in {function}+{at:#x}/{size:#x} [drv]\n"
        f"{of} ffff888003c98400 by task init/27\n"
        f"{_trace(function, at, size)}\n"
        f"Allocated by task 27:\n kmalloc+0x1/0x2\n{_frame(allocated)} vfs_write+0x1/0x2\n\n"
        f"Freed by task 27:\n kfree+0x1/0x2\n{_frame(by)} vfs_write+0x1/0x2\n\n"
    )


def beyond(function: str, *, access: str = "Write", at: int = 0x90) -> str:
    """Return KASAN's report of an access beyond an object."""
    return (
        f"BUG: KASAN: slab-out-of-bounds in {function}+{at:#x}/{SIZE:#x} [drv]\n"
        f"{access} of size 8 at addr ffff888003c98400 by task init/27\n"
        f"{_trace(function, at)}\n"
        f"Allocated by task 27:\n kmalloc+0x1/0x2\n{_frame(function)} vfs_write+0x1/0x2\n\n"
    )


def usercopy(function: str, what: str = "exposure", at: int = 0x120) -> str:
    """Return the report of a copy to or from user space that is too long."""
    return (
        f"usercopy: Kernel memory {what} attempt detected from SLUB object 'x' (offset 0, "
        "size 9)!\n"
        "kernel BUG at mm/usercopy.c:102!\nOops: invalid opcode: 0000 [#1] PREEMPT SMP\n"
        f"RIP: 0010:usercopy_abort+0x6c/0x80\n{_trace(function, at)}"
        "---[ end trace 0000000000000000 ]---\n"
    )


def fault(function: str) -> str:
    """Return the report of a general protection fault in the driver."""
    return (
        "Oops: general protection fault, probably for non-canonical address 0xdead000000000100: "
        f"0000 [#1]\nRIP: 0010:{function}+0x33/0x70 [drv]\n{_trace(function)}"
        "---[ end trace 0000000000000000 ]---\n"
    )


def ubsan(function: str, line: int, *, size: int = SIZE) -> str:
    """Return UBSAN's report of a shift that is too wide."""
    return (
        f"UBSAN: shift-out-of-bounds in drv.c:{line}:3\n"
        "shift exponent 40 is too large for 32-bit type 'int'\n"
        f"{_trace(function, size=size)}---[ end trace ]---\n"
    )


def lockdep(function: str, *locks: str, held: str = "") -> str:
    """Return lockdep's report of one lock taken twice, or of two in either order."""
    circular = len(locks) > 1
    what = "circular locking dependency" if circular else "recursive locking"
    (first, second) = (locks * 2)[:2]
    text = (
        f"WARNING: possible {what} detected\n"
        "init/27 is trying to acquire lock:\n"
        f"ffffffffa0008770 ({first}){{+.+.}}-{{3:3}}, at: {function}+0x1c/0x30 [drv]\n"
        "but task is already holding lock:\n"
        f"ffffffffa0008ad8 ({second}){{+.+.}}-{{3:3}}, at: drv_outer+0x32/0x170 [drv]\n\n"
        f"1 lock held by init/27:\n"
    )
    text += f" #0: ffffffffa0008ad8 ({held}){{+.+.}}-{{3:3}}, at: drv_outer+0x32\n" * bool(held)
    return f"{text}\nstack backtrace:\n{_trace(function)}"


LEFT_TIMER = """\
ODEBUG: free active (active state 0) object: ffffffffa0002ce0 object type: timer_list hint: tick
WARNING: CPU: 0 PID: 27 at lib/debugobjects.c:514 debug_print_object+0x1ad/0x2b0
Modules linked in: [last unloaded: drv(O)]
RIP: 0010:debug_print_object+0x1ad/0x2b0
Call Trace:
 <TASK>
 debug_check_no_obj_freed+0x45b/0x5a0
 remove_vm_area+0x5b/0x90
 vfree+0x5b/0x90
 free_module+0x5b/0x90
 </TASK>
---[ end trace 0000000000000000 ]---
"""


def in_timers(function: str, *, warns: bool = False) -> str:
    """Return a report of the kernel's own code for timers."""
    head = (
        f"WARNING: CPU: 0 PID: 0 at kernel/time/timer.c:1 {function}+0x1/0x20\n"
        if warns
        else "BUG: unable to handle page fault for address: ffffffffa0002ce8\n"
        "#PF: supervisor write access in kernel mode\nOops: Oops: 0002 [#1] SMP\n"
    )
    return (
        f"{head}RIP: 0010:{function}+0x1/0x20\nCall Trace:\n <IRQ>\n"
        f" {function}+0x1/0x20\n run_timer_softirq+0x1/0x20\n </IRQ>\n"
        "---[ end trace 0000000000000000 ]---\n"
    )


def splat(report: str) -> Splat:
    """Return the splat that a report is of."""
    found = find_splat(report.splitlines())
    assert found
    return found
