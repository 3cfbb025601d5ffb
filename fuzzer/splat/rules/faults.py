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
    doubtful: bool = False,
    followed: bool = False,
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
        doubtful=doubtful,
        followed=followed,
    )


BUG = (
    rule(
        r"[kK]ernel BUG at (?:\S+/)?lib/list_debug\.c:\d+",
        "list corruption in {function}",
        "warning",
        family=Family.MEMORY,
        hint="BUG",
        score=55,
        example="kernel BUG at lib/list_debug.c:29!",
        absorbs="fault oops bug",
    ),
    # What FORTIFY_SOURCE does after its warning.
    rule(
        r"[kK]ernel BUG at (?:\S+/)?lib/string_helpers\.c:\d+",
        "kernel BUG: buffer overflow in {function}",
        "bug",
        family=Family.MEMORY,
        hint="BUG",
        score=50,
        example="kernel BUG at lib/string_helpers.c:1036!",
        absorbs="fault oops bug",
    ),
    rule(
        r"[kK]ernel BUG at |BUG: failure at |[Kk]ernel BUG \[#",
        "kernel BUG in {function}",
        "bug",
        family=Family.ASSERT,
        hint="BUG",
        score=40,
        example="kernel BUG at drivers/drv.c:12!",
        absorbs="fault oops bug",
    ),
    rule(
        r"^Kernel bug detected|^Internal error: Oops - BUG:? ?[0-9a-f]* ?\[#",
        "kernel BUG in {function}",
        "bug",
        family=Family.ASSERT,
        hint="[#",
        score=40,
        example="Kernel bug detected[#1]:",
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
        "Insufficient stack space",
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
        followed=True,
        family=Family.STACK,
        absorbs="fault oops panic",
    ),
)

X86 = (
    _fault(
        r"BUG: (?:unable to handle )?[kK]ernel NULL pointer dereference",
        "BUG: NULL pointer dereference",
        "BUG",
        35,
        "BUG: kernel NULL pointer dereference, address: 0000000000000008",
    ),
    _fault(
        r"BUG: [uU]nable to handle (?:page fault for address|kernel (?:paging|data access"
        r"|instruction fetch))"
        r"|Unable to handle kernel (?:data access|instruction fetch)",
        "BUG: unable to handle page fault",
        "BUG",
        50,
        "BUG: unable to handle page fault for address: ffffc90000001000",
    ),
    _fault(
        r"^(?:Oops: )?(?:segment-related )?general protection fault\b(?!.* ip:)",
        "general protection fault",
        "[#",
        50,
        "Oops: general protection fault, probably for non-canonical address 0xeb4b: 0000 [#1] SMP",
    ),
    _fault(
        r"^(?:Oops: )?stack segment\b[^\[]*\[#\d+\]",
        "stack segment fault",
        "[#",
        50,
        "Oops: stack segment: 0000 [#1] PREEMPT SMP KASAN",
    ),
    # Beside these, every BUG() and every fault above prints an Oops line of its own.
    _fault(
        r"^(?:Oops: )?divide[_ ]error\b[^\[]*\[#\d+\]",
        "divide error",
        "[#",
        40,
        "Oops: divide error: 0000 [#1] PREEMPT SMP KASAN",
        family=Family.NUMBER,
    ),
    _fault(
        r"^(?:Oops: )?(int3|invalid opcode|alignment check|bounds"
        r"|control protection|double fault|iret exception|coprocessor error|simd exception"
        r"|invalid TSS|segment not present|machine check|exc_\w+|x86 EXCEPTION"
        r"|unhandled \w+ exception)"
        r"[^\[]*\[#\d+\]",
        "{0}",
        "[#",
        40,
        "Oops: invalid opcode: 0000 [#1] PREEMPT SMP KASAN",
        family=Family.NUMBER,
    ),
)

ARM64 = (
    _fault(
        r"^(?:CPU \d+ )?Unable to handle kernel NULL pointer (?:dereference|access)",
        "BUG: NULL pointer dereference",
        "Unable to handle kernel ",
        35,
        "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000008",
    ),
    _fault(
        r"^(?:CPU \d+ )?Unable to handle kernel (?:paging request|access to user memory"
        r"|read from unreadable|write to read-only|execute from non-executable"
        r"|execution of user memory|unaligned access|pointer dereference|access at)"
        r"|^Unable to handle kernel \w+ \w+ at virtual (?:kernel )?address",
        "BUG: unable to handle page fault",
        "Unable to handle kernel ",
        50,
        "Unable to handle kernel paging request at virtual address dfff800000000001",
    ),
    # The kernel prints its "Internal error" after it, with the name (newer ones) or without.
    _fault(
        r"^Unhandled fault: ([a-z -]*external abort(?: on [a-z-]+)?|[a-z][a-z ]+?) \(0x",
        "{0}",
        "nhandled fault",
        40,
        "Unhandled fault: synchronous external abort (0x96000210) at 0xffffff80096c61b0",
        # A program's own fault has the same line.
        doubtful=True,
        followed=True,
        family=Family.OTHER,
    ),
    _fault(
        r"^Internal error: (synchronous external abort|Oops - (?:[Uu]ndefined instruction|BTI|FPAC"
        r"|CFI|GCS|MOPS|SP/PC alignment exception|bad mode|unknown exception)"
        r"|SP/PC alignment exception"
        r"|SP or PC alignment\w*|[Aa]ttempting to execute userspace memory|level \d [a-z ]+ fault"
        r"|[a-z][a-z ]+ (?:fault|abort|exception)|BRK handler|ptrace BRK handler)",
        "{0}",
        "[#",
        40,
        "Internal error: Oops - Undefined instruction: 0000000002000000 [#1] SMP",
        family=Family.OTHER,
    ),
    _fault(
        r"^Bad mode in (?:\w+ )+handler detected on CPU\d+, code 0x",
        "bad mode",
        ", code 0x",
        40,
        "Bad mode in Error handler detected on CPU0, code 0xbf000002 -- SError",
        family=Family.OTHER,
        absorbs="fault oops panic",
    ),
    _fault(
        r"^SError Interrupt on CPU\d+, code 0x",
        "SError Interrupt",
        ", code 0x",
        40,
        "SError Interrupt on CPU2, code 0x00000000bf000002 -- SError",
        family=Family.OTHER,
        absorbs="fault oops panic",
    ),
    _fault(
        r"^(?:Unexpected kernel (BRK exception|single-step exception) at EL1)",
        "{0}",
        "nexpected kernel",
        40,
        "Unexpected kernel BRK exception at EL1",
        followed=True,
        family=Family.OTHER,
    ),
)

# mips, powerpc, riscv, s390.
OTHERS = (
    _fault(
        r"^Unhandled kernel unaligned access|^Oops - (?:load|store)[\w /()]* misaligned",
        "unaligned access",
        "[#",
        35,
        "Unhandled kernel unaligned access[#1]:",
        family=Family.OTHER,
    ),
    _fault(
        r"^(?:Oops - )?((?:Reserved|Break|Trap|illegal|Illegal) instruction(?: in kernel code)?"
        r"|do_\w+ invoked from kernel context!|(?:[Dd]ata|Instruction) bus error|illegal operation"
        r"|(?:specification|addressing|protection|data|operand|privileged operation|fixpoint divide"
        r"|monitor event|execute|special operation|translation specification|stack overflow)"
        r"(?: exception| overflow)?|instruction (?:access fault|page fault|address misaligned)"
        r"|(?:load|store)(?:/AMO| \(or AMO\))? (?:access|page) fault|environment call from \S+"
        r"|unknown exception)(?:,.*|!|: [0-9a-f]{4} ilc:\d)? ?\[#\d+\]",
        "{0}",
        "[#",
        40,
        "illegal operation: 0001 ilc:1 [#1] SMP",
        family=Family.OTHER,
    ),
)

OOPS = (
    # A line that no rule above knows, with the number that the kernel counts its deaths by.
    rule(
        r"^(?:Oops|Internal error): (?:Oops - )?(?!Oops:)([A-Za-z][\w ,/-]*?)"
        r"(?:: [0-9a-f]+|, sig: \d+)? ?\[#\d+\]",
        "Oops: {0} in {function}",
        "oops",
        family=Family.OTHER,
        hint="[#",
        score=40,
        example="Oops: something new: 0000 [#1] PREEMPT SMP KASAN",
        absorbs="fault oops",
    ),
    # A page fault whose first line is gone; the number is its code.
    rule(
        r"^(?:Oops|Internal error): (?:Oops: )?(?:(?:: )?[0-9a-f]+(?: ilc:\d)?)? ?\[#\d+\]"
        r"|^Oops ?\[#\d+\]",
        "Oops in {function}",
        "oops",
        family=Family.MEMORY,
        hint="[#",
        score=40,
        example="Internal error: Oops: 0000000096000005 [#1] PREEMPT SMP",
        absorbs="fault oops",
    ),
)

RULES = (*BUG, *STACK, *X86, *ARM64, *OTHERS, *OOPS)
