# SPDX-License-Identifier: Apache-2.0
"""Reports of KASAN, KFENCE, KMSAN, KCSAN, UBSAN and kmemleak.

Formats: mm/kasan/report.c, mm/kfence/report.c, mm/kmsan/report.c,
kernel/kcsan/report.c, lib/ubsan.c, mm/kmemleak.c of Linux 6.12.
"""

from __future__ import annotations

from fuzzer.splat.rules.rule import Family, rule

KASAN = (
    rule(
        r"BUG: KA[Ss][Aa][Nn]: (double-free|invalid-free) in ",
        "KASAN: {0} in {function}",
        "kasan",
        family=Family.FREE,
        hint="BUG",
        score=80,
        example="BUG: KASAN: double-free in drv_free+0x4e/0x70 [drv]",
        ruled=True,
        absorbs="slub",
    ),
    # Older kernels.
    rule(
        r"BUG: KA[Ss][Aa][Nn]: double-free or invalid-free in ",
        "KASAN: double-free in {function}",
        "kasan",
        family=Family.FREE,
        hint="BUG",
        score=80,
        example="BUG: KASAN: double-free or invalid-free in drv_free+0x4e/0x70 [drv]",
        ruled=True,
        absorbs="slub",
    ),
    rule(
        r"BUG: KA[Ss][Aa][Nn]: ([\w-]+)(?: on address | in )",
        "KASAN: {0} {access} in {function}",
        "kasan",
        family=Family.MEMORY,
        hint="BUG",
        score=60,
        example="BUG: KASAN: slab-use-after-free in drv_read+0x63/0x90 [drv]",
        ruled=True,
        absorbs="slub",
    ),
    # Before 4.4.
    rule(
        r"BUG: KA[Ss][Aa][Nn]: (out of bounds|use after free|wild memory|user memory|unknown crash)"
        r"(?: access)? in ",
        "KASAN: {0} {access} in {function}",
        "kasan",
        family=Family.MEMORY,
        hint="BUG",
        score=60,
        example="BUG: KASan: use after free in drv_read+0x63/0x90 [drv] at addr ffff888003c98400",
        ruled=True,
        absorbs="slub",
    ),
    # Hardware tags, asynchronous: by the time it is told, nobody knows where it was.
    rule(
        r"BUG: KASAN: invalid-access$",
        "KASAN: invalid-access",
        "kasan",
        family=Family.MEMORY,
        hint="BUG",
        score=50,
        example="BUG: KASAN: invalid-access",
        ruled=True,
        absorbs="slub",
    ),
)

# Tags of arm64: the fault that the hardware raised.
MTE = (
    rule(
        r"^Unable to handle kernel .*\(tag check fault\)|^Internal error: .*\btag check fault\b"
        r"|BUG: KASAN: tag check fault",
        "KASAN: invalid-access in {function}",
        "kasan",
        family=Family.MEMORY,
        hint="tag check fault",
        followed=True,
        score=50,
        example="Internal error: synchronous tag check fault: 0000000096000011 [#1] SMP",
    ),
)

KFENCE = (
    rule(
        r"BUG: KFENCE: (invalid free) in ",
        "KFENCE: {0} in {function}",
        "kfence",
        family=Family.FREE,
        hint="BUG",
        score=80,
        example="BUG: KFENCE: invalid free in drv_free+0x4e/0x70 [drv]",
        ruled=True,
    ),
    rule(
        r"BUG: KFENCE: ([\w -]+) in ",
        "KFENCE: {0} in {function}",
        "kfence",
        family=Family.MEMORY,
        hint="BUG",
        score=60,
        example="BUG: KFENCE: use-after-free read in drv_read+0x63/0x90 [drv]",
        ruled=True,
    ),
)

KMSAN = (
    rule(
        r"BUG: KMSAN: ([\w-]+) in ",
        "KMSAN: {0} in {function}",
        "kmsan",
        family=Family.UNINIT,
        hint="BUG",
        score=45,
        example="BUG: KMSAN: uninit-value in drv_read+0x63/0x90 [drv]",
        ruled=True,
    ),
)

KCSAN = (
    rule(
        r"BUG: KCSAN: ([\w-]+(?:: [\w-]+)*|assert: race) in ([\w.]+)(?:\+\S+)?(?: \[\w+\])?"
        r"(?: / ([\w.]+)(?: \[\w+\])?)?",
        "KCSAN: {0} in {function}",
        "kcsan",
        family=Family.RACE,
        hint="BUG",
        score=35,
        example="BUG: KCSAN: data-race in drv_read [drv] / drv_write [drv]",
        ruled=True,
    ),
)

UBSAN = (
    rule(
        r"UBSAN: (array-index-out-of-bounds|object-size-mismatch|null-ptr-deref) in ",
        "UBSAN: {0} in {function}",
        "ubsan",
        family=Family.MEMORY,
        hint="UBSAN",
        score=50,
        example="UBSAN: array-index-out-of-bounds in drivers/drv.c:183:11",
    ),
    # Kernels before 5.7; what it is stands in the next line.
    rule(
        r"UBSAN: (Undefined behaviour) in ",
        "UBSAN: {0} in {function}",
        "ubsan",
        family=Family.NUMBER,
        hint="UBSAN",
        score=30,
        example="UBSAN: Undefined behaviour in drivers/drv.c:183:11",
        ruled=True,
    ),
    rule(
        r"UBSAN: ([\w-]+) in ",
        "UBSAN: {0} in {function}",
        "ubsan",
        family=Family.NUMBER,
        hint="UBSAN",
        score=30,
        example="UBSAN: shift-out-of-bounds in drivers/drv.c:183:11",
    ),
    # CONFIG_UBSAN_TRAP: the check is a trap, and its name all that is known.
    rule(
        r"(?:Internal error|Oops)(?: - |: )UBSAN: ([\w/ -]+): [0-9a-f]+ \[#",
        "UBSAN: {0} in {function}",
        "ubsan",
        family=Family.NUMBER,
        hint="UBSAN",
        score=40,
        example="Internal error: UBSAN: array index out of bounds: 00000000f2005512 [#1] SMP",
    ),
)

KMEMLEAK = (
    rule(
        r"^unreferenced object 0x",
        "memory leak in {function}",
        "leak",
        family=Family.LEAK,
        hint="unreferenced object 0x",
        score=20,
        example="unreferenced object 0xffff888003c98400 (size 64):",
    ),
    # As syzkaller has it.
    rule(
        r"BUG: memory leak$",
        "memory leak in {function}",
        "leak",
        family=Family.LEAK,
        hint="BUG",
        score=20,
        example="BUG: memory leak",
        absorbs="leak",
    ),
)

# What pkvfuzz itself reports, see fuzzer/crash/leak_report.py.
INFO_LEAK = (
    rule(
        r"^pkvfuzz: (info leak|uninit return value): ",
        "{0} in {function}",
        "infoleak",
        family=Family.UNINIT,
        hint="pkvfuzz:",
        score=45,
        example="pkvfuzz: info leak: ioctl 0x80304901 hands out 7 bytes never set",
    ),
)

RULES = (*MTE, *KASAN, *KFENCE, *KMSAN, *KCSAN, *UBSAN, *KMEMLEAK, *INFO_LEAK)
