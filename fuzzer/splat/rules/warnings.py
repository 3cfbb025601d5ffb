# SPDX-License-Identifier: Apache-2.0
"""WARN() and what prints through it, and damage that core code found.

Formats: kernel/panic.c, lib/{refcount,list_debug,debugobjects}.c,
mm/{usercopy,slub,page_alloc,memory}.c, kernel/{fork,cfi}.c of Linux 6.12.
"""

from __future__ import annotations

from typing import Any

from fuzzer.splat.rules.rule import Family, Rule, rule


def _irq(what: str, hint: str, more: str) -> Rule:
    """Return the rule of an interrupt that is wrong; its handlers are told below the stack."""
    return rule(
        rf"^irq (?:event )?\d+: ({what})",
        "irq: {0} in {function}",
        "irq",
        family=Family.OTHER,
        hint=hint,
        score=30,
        example=f"irq 18: {what} {more}",
        site=r"^ ?(?:\[<[0-9a-f]*>\] )?([A-Za-z_][\w.]*)(?: \[\w+\])?(?: threaded .*)?$",
    )


HEADED = (
    # FORTIFY_SOURCE and copy_to_user(): what is written is longer than what it is written to.
    rule(
        r"^(?:\w+: )?detected (?:field-spanning (?:write|read)|buffer over(?:flow|read): \d+ byte)",
        "WARNING: buffer overflow in {function}",
        "warning",
        family=Family.MEMORY,
        hint="detected ",
        followed=True,
        score=55,
        example='memcpy: detected field-spanning write (size 12) of single field "p" at drv.c:3',
        absorbs="warning bug fault oops",
    ),
    rule(
        r"^(?:\w+: )?detected buffer over(?:flow|read) in \w+",
        "kernel BUG: buffer overflow in {function}",
        "bug",
        family=Family.MEMORY,
        hint="detected ",
        followed=True,
        score=60,
        example="detected buffer overflow in memcpy",
        absorbs="warning bug fault oops",
    ),
    rule(
        r"^Buffer overflow detected \(\d+ < \d+\)!",
        "WARNING: buffer overflow in {function}",
        "warning",
        family=Family.MEMORY,
        hint="Buffer overflow detected",
        followed=True,
        score=55,
        example="Buffer overflow detected (12 < 24)!",
        absorbs="warning",
    ),
    rule(
        r"^sysfs: cannot create duplicate filename '",
        "sysfs: cannot create duplicate filename in {function}",
        "warning",
        family=Family.ASSERT,
        hint="cannot create duplicate filename",
        score=25,
        example="sysfs: cannot create duplicate filename '/class/misc/drv'",
        absorbs="warning",
    ),
    rule(
        r"^unchecked MSR access error: ",
        "unchecked MSR access error in {function}",
        "warning",
        family=Family.ASSERT,
        hint="unchecked MSR access error",
        score=25,
        example="unchecked MSR access error: RDMSR from 0x1 at rIP: 0xffff (drv_guilty+0x4/0x9)",
        site=r"at rIP: \S+ \(([A-Za-z_][\w.]*)(?:\+0x| \()",
    ),
    _irq("nobody cared", ": nobody cared (try", '(try booting with the "irqpoll" option)'),
    _irq("bogus return value", ": bogus return value", "fffffff4"),
    rule(
        r"VFS: Busy inodes after unmount",
        "VFS: Busy inodes after unmount",
        "bug",
        family=Family.MEMORY,
        hint="VFS: Busy inodes after unmount",
        score=40,
        example="VFS: Busy inodes after unmount of sda1. Self-destruct in 5 seconds.",
        absorbs="bug fault oops warning",
    ),
    rule(
        r"VFS: Close: file count is (?:0|zero)",
        "VFS: Close: file count is zero",
        "bug",
        family=Family.MEMORY,
        hint="VFS: Close: file count is ",
        score=50,
        example="VFS: Close: file count is 0",
        absorbs="bug fault oops warning",
    ),
    rule(
        r"^unregister_netdevice: waiting for \S+ to become free\. Usage count = -?\d+",
        "unregister_netdevice: waiting for a device to become free",
        "hang",
        family=Family.HANG,
        hint="unregister_netdevice: waiting for ",
        score=25,
        example="unregister_netdevice: waiting for eth0 to become free. Usage count = 2",
        single=True,
    ),
    # What follows it, where the kernel keeps track of who has a reference.
    rule(
        r"^ref_tracker: \S+ has \d+/\d+ users at",
        "reference leak in {function}",
        "leak",
        family=Family.LEAK,
        hint="ref_tracker: ",
        score=25,
        example="ref_tracker: eth0@ffff888003c98400 has 1/1 users at",
    ),
    # Modules that have assertions of their own: SPL and ZFS, file systems, Lustre.
    rule(
        r"^(?:VERIFY|ASSERT)\w*\(.*\) (?:is )?(?:failed|false)"
        r"|(?:^|\b\w+: )\d+:\d+:\(\S+\.c:\d+:\w+\(\)\) ASSERTION\(.*\) failed",
        "assertion failed in {function}",
        "bug",
        family=Family.ASSERT,
        hint=") failed",
        followed=True,
        score=40,
        example="VERIFY3(a == b) failed (1 == 2)",
        absorbs="bug panic",
        site=r"(?:PANIC at \S+:\d+:|\(\S+\.c:\d+:)(\w+)\(\)",
    ),
    rule(
        r"^(?:SPL )?PANIC at \S+:\d+:\w+\(\)",
        "assertion failed in {function}",
        "bug",
        family=Family.ASSERT,
        hint="PANIC at ",
        score=40,
        example="PANIC at drv.c:316:drv_guilty()",
        absorbs="bug",
        site=r"PANIC at \S+:\d+:(\w+)\(\)",
    ),
    rule(
        r"\b[Aa]ssertion failed: .*(?:,? file: |, in | at |\()\S+[.:]",
        "assertion failed in {function}",
        "bug",
        family=Family.ASSERT,
        hint="ssertion failed",
        followed=True,
        score=40,
        example="XFS: Assertion failed: a == b, file: fs/xfs/xfs_log.c, line: 12",
        absorbs="bug fault oops warning",
    ),
    rule(
        r"^\w+: panicked at ",
        "Rust panic in {function}",
        "panic",
        family=Family.PANIC,
        hint=": panic",
        followed=True,
        score=40,
        example="rust_kernel: panicked at drivers/drv.rs:12:3:",
        absorbs="bug panic fault oops",
    ),
    # Android's operating system beside the kernel.
    rule(
        r"^trusty: (panic\b|ASSERT FAILED)",
        "trusty: {0}",
        "panic",
        family=Family.PANIC,
        hint="trusty: ",
        followed=True,
        score=40,
        example="trusty: panic: failed(-8) to start app 3",
    ),
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
        r"refcount_t: (?!\w+ is)",
        "WARNING: refcount bug in {function}",
        "warning",
        family=Family.MEMORY,
        hint="refcount_t: ",
        followed=True,
        score=50,
        example="refcount_t: underflow; use-after-free.",
        absorbs="warning",
    ),
    rule(
        r"kobject(?:: kobject)? \(\S+\): (tried to init an initialized object)",
        "kobject: {0} in {function}",
        "warning",
        family=Family.MEMORY,
        hint=" tried to init an initialized object",
        score=40,
        example="kobject: kobject (0000000012345678): tried to init an initialized object, somethi",
    ),
    rule(
        r"list_(?:add|del) corruption|list_del_entry corruption",
        "list corruption in {function}",
        "warning",
        family=Family.MEMORY,
        hint="corruption",
        followed=True,
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
        followed=True,
        score=55,
        example="list_add double add: new=ffff888003c98400, prev=ffff888003c98420, next=ffff8880",
        absorbs="warning bug fault oops",
    ),
    rule(
        r"usercopy: (?:BUG: )?[Kk]ernel memory (exposure|overwrite)",
        "usercopy: kernel memory {0} in {function}",
        "bug",
        family=Family.MEMORY,
        hint="usercopy: ",
        followed=True,
        score=60,
        example="usercopy: Kernel memory exposure attempt detected from SLUB object 'x' (offset 0)",
        absorbs="bug fault oops",
    ),
    # What follows names the core's call_timer_fn(): the function that left a lock held is gone.
    rule(
        r"timer: [\w.]+(?:\+\S+| \(.*\))(?: \[?\w+\]?)? preempt leak: ",
        "WARNING in {function}",
        "warning",
        family=Family.CONTEXT,
        hint="preempt leak",
        followed=True,
        score=25,
        example="timer: drv_guilty+0x0/0x20 [drv] preempt leak: 00000101 -> 00000102",
        absorbs="warning",
        site=r"^timer: ([\w.]+)(?:\+| \()",
    ),
    rule(
        r"CFI failure at ",
        "CFI failure in {function}",
        "cfi",
        family=Family.MEMORY,
        hint="CFI failure",
        followed=True,
        score=70,
        example="CFI failure at drv_ioctl+0x10/0x20 [drv] (target: drv_x+0x0/0x10; expected type)",
        absorbs="warning fault oops",
    ),
)

# From Linux 6.16 on the file comes first, then CPU and task, and from 6.19 on the condition before
# it; before 4.4 and on some architectures neither. A file is not always known.
_WARN = r"WARNING: (?:CPU: \d+ PID: \d+ at |at \S+:\d+|(?:\[.*\] )?(?:\S+:\d+ )?at .*, CPU#\d+: )"


def _warned(files: str, title: str, *, family: Family, score: int, example: str) -> Rule:
    """Return the rule of warnings from some files of the kernel's, which say what is wrong."""
    return rule(
        rf"WARNING: .*(?<![\w/.-])(?:/[\w./+-]*/|\./)?{files}",
        title + " in {function}",
        "warning",
        family=family,
        hint="WARNING:",
        score=score,
        example=f"WARNING: CPU: 0 PID: 27 at {example} f+0x21/0x30",
        absorbs="warning",
    )


WARN = (
    _warned(
        r"lib/refcount\.c:\d",
        "WARNING: refcount bug",
        family=Family.MEMORY,
        score=50,
        example="lib/refcount.c:28",
    ),
    _warned(
        r"lib/list_debug\.c:\d",
        "list corruption",
        family=Family.MEMORY,
        score=55,
        example="lib/list_debug.c:59",
    ),
    _warned(
        r"lib/debugobjects\.c:\d",
        "WARNING: ODEBUG bug",
        family=Family.MEMORY,
        score=45,
        example="lib/debugobjects.c:514",
    ),
    _warned(
        r"lib/kobject\.c:\d",
        "WARNING: kobject bug",
        family=Family.ASSERT,
        score=30,
        example="lib/kobject.c:727",
    ),
    _warned(
        r"fs/proc/generic\.c:\d",
        "WARNING: proc registration bug",
        family=Family.ASSERT,
        score=25,
        example="fs/proc/generic.c:376",
    ),
    _warned(
        r"mm/usercopy\.c:\d",
        "WARNING: bad usercopy",
        family=Family.MEMORY,
        score=50,
        example="mm/usercopy.c:78",
    ),
    _warned(
        r"mm/vmalloc\.c:\d+ .*vmalloc",
        "WARNING: zero-size vmalloc",
        family=Family.ASSERT,
        score=25,
        example="mm/vmalloc.c:3139 __vmalloc_node_range+0x1/0x2 in",
    ),
    _warned(
        r"mm/slab_common\.c:\d+ .*free_large_kmalloc",
        "WARNING: bad free",
        family=Family.FREE,
        score=55,
        example="mm/slab_common.c:935 free_large_kmalloc+0x1/0x2 in",
    ),
    _warned(
        r"mm/\w+\.[ch]:\d+ .*(?:k.?malloc|alloc_\w*pages|kvmalloc_node)",
        "WARNING: kmalloc bug",
        family=Family.ASSERT,
        score=25,
        example="mm/page_alloc.c:4829 __alloc_pages+0x1/0x2 in",
    ),
    _warned(
        r"kernel/locking/lockdep\.c:\d",
        "WARNING: locking bug",
        family=Family.LOCK,
        score=30,
        example="kernel/locking/lockdep.c:231",
    ),
    rule(
        _WARN,
        "WARNING in {function}",
        "warning",
        family=Family.ASSERT,
        hint="WARNING:",
        score=25,
        example="WARNING: CPU: 0 PID: 27 at drivers/drv.c:105 drv_warn+0x21/0x30 [drv]",
        plain=True,
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
        followed=more.get("followed", False),
    )


DAMAGE = (
    _slub(
        r"^\[(?:\w+ )?(Redzone|Poison|Padding|Freepointer) overwritten\] 0x",
        "SLUB: {0} overwritten",
        "[Right Redzone overwritten] 0xffff888003c98440-0xffff888003c98440 @offset=72.",
        65,
        hint="overwritten]",
        followed=True,
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
        of_page=True,
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
