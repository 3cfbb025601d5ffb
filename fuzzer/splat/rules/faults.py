# SPDX-License-Identifier: Apache-2.0
"""Faults: what the CPU refused to do, and BUG().

Formats: arch/x86/mm/fault.c, arch/x86/kernel/{traps,dumpstack}.c,
arch/arm64/mm/fault.c, arch/arm64/kernel/traps.c of Linux 6.12; older kernels
write "unable to handle kernel ...".
"""

from __future__ import annotations

from fuzzer.splat.rules.rule import Family, Rule, rule


def _fault(
    pattern: str,
    title: str,
    hint: str,
    score: int,
    example: str,
    *,
    family: Family = Family.MEMORY,
    absorbs: str = "oops fault",
) -> Rule:
    return rule(
        pattern,
        title + " in {function}",
        "fault",
        family=family,
        hint=hint,
        score=score,
        example=example,
        absorbs=absorbs,
    )


BUG = (
    rule(
        r"[kK]ernel BUG at ",
        "kernel BUG in {function}",
        "bug",
        family=Family.ASSERT,
        hint="BUG",
        score=40,
        example="kernel BUG at drivers/drv.c:12!",
        absorbs="fault oops",
    ),
)

STACK = (
    _fault(
        r"BUG: (?:\w+ )?stack guard page was hit",
        "BUG: stack guard page was hit",
        "BUG",
        55,
        "BUG: TASK stack guard page was hit at ffffc90000000000 (stack is ffffc9..ffffca)",
        family=Family.STACK,
    ),
    _fault(
        r"^Insufficient stack space to handle exception!",
        "BUG: kernel stack overflow",
        "stack space",
        55,
        "Insufficient stack space to handle exception!",
        family=Family.STACK,
        absorbs="fault oops panic",
    ),
    _fault(
        r"^kernel stack overflow \(.*\[#\d+\]",
        "BUG: kernel stack overflow",
        "[#",
        55,
        "kernel stack overflow (page fault): 0000 [#1] SMP",
        family=Family.STACK,
    ),
    _fault(
        r"PANIC: double fault",
        "PANIC: double fault",
        "double fault",
        60,
        "traps: PANIC: double fault, error_code: 0x0",
        family=Family.STACK,
        absorbs="fault oops panic",
    ),
)

X86 = (
    _fault(
        r"BUG: (?:unable to handle )?kernel NULL pointer dereference",
        "BUG: NULL pointer dereference",
        "BUG",
        35,
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    ),
    _fault(
        r"BUG: unable to handle (?:page fault for address|kernel paging request)",
        "BUG: unable to handle page fault",
        "BUG",
        50,
        "BUG: unable to handle page fault for address: ffffc90000001000",
    ),
    _fault(
        r"^(?:Oops: )?general protection fault\b",
        "general protection fault",
        "[#",
        50,
        "Oops: general protection fault, probably for non-canonical address 0xeb4b: 0000 [#1] SMP",
    ),
    # Beside these, every BUG() and every fault above prints an Oops line of its own.
    _fault(
        r"^(?:Oops: )?(divide error|int3|invalid opcode|stack segment|alignment check|bounds"
        r"|control protection|double fault|iret exception|coprocessor error|simd exception"
        r"|invalid TSS|segment not present|machine check)[^\[]*\[#\d+\]",
        "{0}",
        "[#",
        40,
        "Oops: divide error: 0000 [#1] PREEMPT SMP KASAN",
        family=Family.NUMBER,
    ),
)

ARM64 = (
    _fault(
        r"^Unable to handle kernel NULL pointer dereference at virtual address",
        "BUG: NULL pointer dereference",
        "nable to handle",
        35,
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
    ),
    _fault(
        r"^Unable to handle kernel (?:paging request|access to user memory|read from unreadable"
        r"|write to read-only|execute from non-executable|execution of user memory)",
        "BUG: unable to handle page fault",
        "nable to handle",
        50,
        "Unable to handle kernel paging request at virtual address dfff800000000001",
    ),
    _fault(
        r"^Internal error: (synchronous external abort|Oops - (?:Undefined instruction|BTI|FPAC))",
        "{0}",
        "[#",
        40,
        "Internal error: Oops - Undefined instruction: 0000000002000000 [#1] SMP",
        family=Family.OTHER,
    ),
)

OOPS = (
    # A line that no rule above knows, with the number that the kernel counts its deaths by.
    rule(
        r"^(?:Oops|Internal error): (?:Oops - )?(?:(\w[\w -]*?): )?[0-9a-f]+ \[#\d+\]",
        "Oops: {0} in {function}",
        "oops",
        family=Family.OTHER,
        hint="[#",
        score=40,
        example="Oops: something new: 0000 [#1] PREEMPT SMP KASAN",
    ),
)

RULES = (*BUG, *STACK, *X86, *ARM64, *OOPS)
