# SPDX-License-Identifier: Apache-2.0
"""WARN() and what prints through it, and damage that core code found.

Formats: kernel/panic.c, lib/{refcount,list_debug,debugobjects}.c,
mm/{usercopy,slub,page_alloc,memory}.c, kernel/{fork,cfi}.c of Linux 6.12.
"""

from __future__ import annotations

from typing import Any

from fuzzer.splat.rules.rule import Family, Rule, rule

HEADED = (
    rule(
        r"ODEBUG: (?:\w+ (?:active|not)|object \S+ is (?:NOT )?on stack)",
        "WARNING: ODEBUG bug in {function}",
        "warning",
        family=Family.MEMORY,
        hint="BUG",
        score=45,
        example="ODEBUG: free active (active state 0) object: ffff888003c98400 object type: timer",
        absorbs="warning",
    ),
    rule(
        r"refcount_t: ",
        "WARNING: refcount bug in {function}",
        "warning",
        family=Family.MEMORY,
        hint="refcount_t: ",
        score=50,
        example="refcount_t: underflow; use-after-free.",
        absorbs="warning",
    ),
    rule(
        r"kobject: kobject \(\S+\): (tried to init an initialized object)",
        "kobject: {0} in {function}",
        "warning",
        family=Family.MEMORY,
        hint="kobject: ",
        score=40,
        example="kobject: kobject (0000000012345678): tried to init an initialized object, somethi",
    ),
    rule(
        r"list_(?:add|del) corruption",
        "list corruption in {function}",
        "warning",
        family=Family.MEMORY,
        hint="corruption",
        score=55,
        example="list_del corruption. prev->next should be ffff888003c98400, but was dead00",
        absorbs="warning bug fault oops",
    ),
    rule(
        r"list_add double add",
        "list corruption in {function}",
        "warning",
        family=Family.MEMORY,
        hint="list_add double",
        score=55,
        example="list_add double add: new=ffff888003c98400, prev=ffff888003c98420, next=ffff8880",
        absorbs="warning bug fault oops",
    ),
    rule(
        r"usercopy: [Kk]ernel memory (exposure|overwrite)",
        "usercopy: kernel memory {0} in {function}",
        "bug",
        family=Family.MEMORY,
        hint="usercopy: ",
        score=60,
        example="usercopy: Kernel memory exposure attempt detected from SLUB object 'x' (offset 0)",
        absorbs="bug fault oops",
    ),
    # What follows names the core's call_timer_fn(): the function that left a lock held is gone.
    rule(
        r"timer: [\w.]+\+\S+(?: \[\w+\])? preempt leak: ",
        "WARNING in {function}",
        "warning",
        family=Family.CONTEXT,
        hint="preempt leak",
        score=25,
        example="timer: drv_guilty+0x0/0x20 [drv] preempt leak: 00000101 -> 00000102",
        absorbs="warning",
        site=r"^timer: ([\w.]+)\+",
    ),
    rule(
        r"CFI failure at ",
        "CFI failure in {function}",
        "cfi",
        family=Family.MEMORY,
        hint="CFI failure",
        score=70,
        example="CFI failure at drv_ioctl+0x10/0x20 [drv] (target: drv_x+0x0/0x10; expected type)",
        absorbs="warning fault oops",
    ),
)

WARN = (
    # From Linux 6.16 on the file comes first, then CPU and task.
    rule(
        r"WARNING: (?:CPU: \d+ PID: \d+ at |\S+:\d+ at .*, CPU#\d+: )",
        "WARNING in {function}",
        "warning",
        family=Family.ASSERT,
        hint="WARNING: ",
        score=25,
        example="WARNING: CPU: 0 PID: 27 at drivers/drv.c:105 drv_warn+0x21/0x30 [drv]",
    ),
)


def _slub(pattern: str, title: str, example: str, score: int, **more: Any) -> Rule:
    # The stack is that of a warning that SLUB prints after its dump of the object.
    return rule(
        pattern,
        title + " in {function}",
        "slub",
        family=more.get("family", Family.MEMORY),
        hint=more.get("hint", "BUG"),
        score=score,
        example=example,
        absorbs="slub warning",
    )


DAMAGE = (
    _slub(
        r"^\[(?:\w+ )?(Redzone|Poison|Padding|Freepointer) overwritten\] 0x",
        "SLUB: {0} overwritten",
        "[Right Redzone overwritten] 0xffff888003c98440-0xffff888003c98440 @offset=72.",
        65,
        hint="overwritten]",
    ),
    _slub(
        r"^BUG [\w-]+ \([^)]*\): .*(?:already free|Invalid object pointer|wrong slab)",
        "SLUB: bad free",
        "BUG kmalloc-64 (Tainted: G    B): Object already free",
        70,
        family=Family.FREE,
    ),
    _slub(
        r"^BUG [\w-]+ \([^)]*\): (?:\w+ )?(Redzone|Poison|Padding|Freepointer)",
        "SLUB: {0} overwritten",
        "BUG kmalloc-64 (Not tainted): Right Redzone overwritten",
        65,
    ),
    _slub(
        r"^BUG [\w-]+ \([^)]*\): Objects remaining",
        "SLUB: objects remaining",
        "BUG drv_cache (Not tainted): Objects remaining in drv_cache on shutdown",
        25,
        family=Family.LEAK,
    ),
    _slub(
        r"^BUG [\w-]+ \([^)]*\): ",
        "SLUB: damaged slab",
        "BUG kmalloc-64 (Not tainted): Freechain corrupt",
        60,
    ),
    rule(
        r"\bBUG: (Bad page state|Bad page map|Bad page cache)\b(?!: \d)",
        "BUG: {0} in {function}",
        "bug",
        family=Family.MEMORY,
        hint="BUG",
        score=55,
        example="BUG: Bad page state in process init  pfn:03c98",
    ),
    rule(
        r"\bBUG: (Bad rss-counter state|non-zero pgtables_bytes)",
        "BUG: {0}",
        "bug",
        family=Family.OTHER,
        hint="BUG",
        score=30,
        example="BUG: Bad rss-counter state mm:ffff888003c98400 type:MM_FILEPAGES val:1",
    ),
    rule(
        r"\bBUG: (Bad \w+ \w+)(?!: \d)\b",
        "BUG: {0} in {function}",
        "bug",
        family=Family.OTHER,
        hint="BUG",
        score=40,
        example="BUG: Bad swap file entry 4000000000000000",
    ),
    rule(
        r"^BUG: Dentry .* still in use",
        "BUG: Dentry still in use",
        "bug",
        family=Family.OTHER,
        hint="BUG",
        score=35,
        example="BUG: Dentry ffff888003c98400{i=1,n=x} still in use (1) [unmount of tmpfs tmpfs]",
        absorbs="warning",
    ),
    # Not in the middle of a word: drivers print "DEBUG: ...".
    rule(
        r"\bBUG: ([^:]+)",
        "BUG: {0} in {function}",
        "bug",
        family=Family.OTHER,
        hint="BUG",
        score=35,
        example="BUG: mempool element poison mismatch",
        absorbs="warning",
    ),
)
