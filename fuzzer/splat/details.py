# SPDX-License-Identifier: Apache-2.0
"""Details of a report beside its stacks: the access, the object, the task, the kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fuzzer.splat.memory import Access, AddressClass, SlabObject
from fuzzer.splat.splat import Task

# RHEL prints dashes for taints that it does not have, and one of its own; syzbot's kernels have
# a name for a version.
_STATE = (
    r"(?:Kdump: loaded )?(?:Not tainted|Tainted: (?P<taint>[A-Z ]*?))(?: +-[- ]*(?:T(?= ))?)? +\(?"
    r"(?P<kernel>\d+\.\S+|[\w.+~-]+(?= #\d))"
)
_CPU = re.compile(
    r"^(?:CPU: (?P<cpu>\d+)(?: UID: \d+)? PID: |Pid: )(?P<pid>\d+),? [Cc]omm: (?P<name>.*?) "
    + _STATE
)
# Of a task that hangs, and of kernels before 3.11.
_TASKLESS = re.compile(rf"^(?:CPU: \d+)? *{_STATE}")
_TAINT = re.compile(
    r"^(?P<kernel>\d+\.\d+\S*|[\w.+~-]+(?= #\d)) #.*? (?:Not tainted|Tainted: (?P<taint>[A-Z ]+))"
)
_BY = re.compile(
    r"by task (?P<name>.+)/(?P<pid>\d+)$|^(?P<name2>\S+)/(?P<pid2>\d+) (?:is |just )"
    r'|^  comm "(?P<name4>.*)", pid (?P<pid4>\d+),'
    r"|\[(?P<name3>[^\[\]:]+):(?P<pid3>\d+)\]$"
)
_HUNG = re.compile(r"^INFO: task (?P<name>.+):(?P<pid>\d+) (?:blocked|can't die)")
# arm, mips.
_PROCESS = re.compile(r"^Process (?P<name>.+?) \(pid: (?P<pid>\d+),")
_MODULES = re.compile(r"^Modules linked in:(?P<names>.*)")
_HELD = re.compile(r"\blocks? held by \S")
_OF_HELD = re.compile(r"lock held when returning to user space|still has locks held")
_LOCK = re.compile(r"\((?P<name>[^()]*(?:\([^()]*\)[^()]*)*)\)\{[^}]*\}")

_KASAN = re.compile(
    r"^(?P<what>Read|Write|Free) (?:of size (?P<size>\d+) at|at|of) addr (?P<addr>[0-9a-f]+)"
    r"|^(?P<what2>Read|Write) of size (?P<size2>\d+) by task "
)
_KFENCE = re.compile(
    r"^(?:Out-of-bounds|Use-after-free|Corrupted|Invalid) .*(?:at|of) 0x(?P<addr>[0-9a-f]+)"
)
_HASHED = re.compile(r"^0{8}[0-9a-f]{8}$")
_KCSAN = re.compile(
    r"(?P<what>read|write)[\w ()-]* to 0x(?P<addr>[0-9a-f]+) of (?P<size>\d+) bytes"
)
_FAULT = re.compile(
    r"(?:address|virtual address|non-canonical address|for address|paging request at"
    r"|dereference at|Failing address|dereference on \w+ at|access at)"
    r"[: ]+(?:0x)?(?P<addr>[0-9a-f]{2,16})\b"
)
# powerpc, and arm since 6.2.
_ACCESS_AT = re.compile(r" (?:on|when) (?P<what>read|write|execute)\b")
_PF = re.compile(r"^#PF: \w+ (?P<what>read|write|instruction)")
_WNR = re.compile(r"WnR = (?P<write>[01])")
# The code of the exception: a page fault's on x86, ESR on arm64, FSR on arm.
_CODE = re.compile(
    r"^(?P<arm>Internal error: )?(?:Oops[:,] )*(?:: )?(?P<code>[0-9a-f]{1,16})"
    r" \[#\d+\](?P<isa>.* ARM$)?"
)
_KMSAN = re.compile(r"^Memory access of size (?P<size>\d+) starts at (?P<addr>[0-9a-f]+)")
_LEAK = re.compile(r"^unreferenced object 0x(?P<addr>[0-9a-f]+) \(size (?P<size>\d+)\)")

_CACHE = re.compile(r"belongs to the cache (?P<cache>\S+) of size (?P<size>\d+)")
_PLACE = re.compile(
    r"^(?:The buggy address is located )?(?P<offset>\d+) bytes "
    r"(?P<where>inside|to the left|to the right) of"
)
_REGION = re.compile(r"^ *(?P<state>allocated |freed )?(?P<size>\d+)-byte region")
_KFENCE_OBJECT = re.compile(r"^kfence-#\d+: .*size=(?P<size>\d+), cache=(?P<cache>\S+)")
_KFENCE_PLACE = re.compile(r"\((?P<offset>\d+)B (?P<where>left|right) of kfence")
_SLUB = re.compile(r"^BUG (?P<cache>[^\s:(]+)(?: \(|: )")
_USERCOPY = re.compile(
    r"SLUB object '(?P<cache>[^']+)' \(offset (?P<offset>\d+), size (?P<size>\d+)"
)

_PAGE = 4096
_MAX_ERRNO = 4095
_USER_END = 1 << 47
_KERNEL_START = 0xFFFF_8000_0000_0000
# include/linux/poison.h; a pointer that was read from such memory is near one.
_POISON = (
    (0xDEAD_0000_0000_0000, 0xDEAD_0000_0001_0000),
    (0x6B6B_6B6B_6B6B_0000, 0x6B6B_6B6B_6B6C_0000),
    (0x5A5A_5A5A_5A5A_0000, 0x5A5A_5A5A_5A5B_0000),
)


def classify(address: int, bits: int = 64) -> AddressClass:
    """Return the class of an address, on a machine with 48-bit addresses, or of 32 bits."""
    if address < _PAGE:
        return AddressClass.NULL
    if address >= (1 << bits) - _MAX_ERRNO:
        return AddressClass.ERROR
    if bits == 32:
        return AddressClass.KERNEL if address >= 1 << 31 else AddressClass.USER
    if address < _USER_END:
        return AddressClass.USER
    if any(low <= address < high for low, high in _POISON):
        return AddressClass.POISON
    # arm64 has its kernel addresses from 0xffff000000000000 on.
    if address >= _KERNEL_START or address >> 48 == 0xFFFF:
        return AddressClass.KERNEL
    return AddressClass.NONCANONICAL


def _search(pattern: re.Pattern[str], texts: Sequence[str]) -> re.Match[str] | None:
    for text in texts:
        if match := pattern.search(text):
            return match
    return None


def _access(what: str | None, size: str | None, address: str | None) -> Access:
    number = int(address, 16) if address else None
    bits = 32 if address and len(address) == 8 else 64
    where = None if number is None else classify(number, bits)
    return Access(what, int(size) if size else None, number, where)


def find_access(texts: Sequence[str], kind: str) -> Access | None:
    """Return the access to memory, as far as the report tells."""
    head = texts[:12]
    if kind == "kasan" and (match := _search(_KASAN, head)):
        what, size = match["what"] or match["what2"], match["size"] or match["size2"]
        return _access(what.lower(), size, match["addr"])
    if kind == "kfence":
        match = _search(_KFENCE, texts[1:6])
        first = texts[0]
        what = next((w for w in ("read", "write", "free") if f"{w} in " in first), None)
        if "memory corruption" in first:
            what = "write"
        address = match["addr"] if match else None
        # The kernel hashes what it prints with %p: 32 bits that say nothing.
        return _access(what, None, None if address and _HASHED.match(address) else address)
    if kind == "kcsan" and (match := _search(_KCSAN, texts)):
        return _access(match["what"], match["size"], match["addr"])
    if kind == "kmsan" and (match := _search(_KMSAN, texts)):
        return _access("read", match["size"], match["addr"])
    if kind == "leak" and (match := _search(_LEAK, texts[:1])):
        return _access(None, match["size"], match["addr"])
    if kind in {"fault", "oops"}:
        match = _search(_FAULT, head)
        what = None
        if found := _search(_ACCESS_AT, texts[:1]):
            what = found["what"]
        elif found := _search(_PF, head):
            what = "execute" if found["what"] == "instruction" else found["what"]
        elif found := _search(_WNR, texts[:20]):
            what = "write" if found["write"] == "1" else "read"
        elif found := _search(_CODE, texts[:20]):
            what = _direction(found)
        # KASAN's guess is the address that was meant; the one of the fault is of its shadow.
        if meant := _search(_RANGE, head):
            return _access(what, None, meant["addr"])
        address = match["addr"] if match else "0" if "(null)" in texts[0] else None
        if address or what:
            return _access(what, None, address)
    if "usercopy: " in texts[0] or "usercopy: " in " ".join(head[:3]):
        match = _search(_USERCOPY, head)
        what = "write" if "overwrite" in " ".join(head[:3]) else "read"
        return _access(what, match["size"] if match else None, None)
    return None


def _direction(code: re.Match[str]) -> str | None:
    """Return what an access was, by the code of its exception."""
    number = int(code["code"], 16)
    if not code["arm"]:
        # Others than x86 number their signals here.
        if len(code["code"]) != 4:
            return None
        return "execute" if number & 1 << 4 else "write" if number & 1 << 1 else "read"
    if number >> 26 in {0x24, 0x25}:
        return "write" if number & 1 << 6 else "read"
    if code["isa"]:
        return "write" if number & 1 << 11 else "read"
    return None


_RANGE = re.compile(r"^KASAN: .* in range \[0x(?P<addr>[0-9a-f]+)-")


def find_object(texts: Sequence[str]) -> SlabObject | None:
    """Return the slab object that was hit, as far as the report says."""
    if match := _search(_CACHE, texts):
        place, region = _search(_PLACE, texts), _search(_REGION, texts)
        where = place["where"].removeprefix("to the ") if place else None
        state = (region["state"] or "").strip() or None if region else None
        # The region is what was asked for, the cache's size what there is.
        size = int((region or match)["size"])
        return SlabObject(
            match["cache"], size, int(place["offset"]) if place else None, where, state
        )
    if match := _search(_KFENCE_OBJECT, texts):
        place = _search(_KFENCE_PLACE, texts)
        return SlabObject(
            match["cache"],
            int(match["size"]),
            int(place["offset"]) if place else None,
            place["where"] if place else None,
        )
    if match := _search(_USERCOPY, texts[:4]):
        return SlabObject(match["cache"], None, int(match["offset"]), "inside")
    if match := _search(_SLUB, texts[:1]):
        return SlabObject(match["cache"], None)
    return None


def find_task(texts: Sequence[str]) -> Task:
    """Return the task that ran when the report was made; of a hang the one that hangs."""
    if texts and (hung := _HUNG.match(texts[0])):
        return Task(hung["name"], int(hung["pid"]), None)
    if match := _search(_CPU, texts):
        return Task(match["name"], int(match["pid"]), int(match["cpu"]) if match["cpu"] else None)
    if match := _search(_BY, texts[:6]):
        name, pid = [group for group in match.groups() if group]
        return Task(name, int(pid))
    if match := _search(_PROCESS, texts):
        return Task(match["name"], int(match["pid"]))
    return Task()


def find_kernel(texts: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the kernel's version and its taint letters; None for what is not told."""
    head = texts[:8]
    match = _search(_CPU, texts) or _search(_TAINT, head) or _search(_TASKLESS, head)
    if match is None:
        return None, None
    taint = match["taint"]
    return match["kernel"], None if taint is None else taint.replace(" ", "")


def find_modules(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the modules linked in, without their flags."""
    match = _search(_MODULES, texts)
    if match is None:
        return ()
    names = match["names"].partition("[last unloaded")[0].split()
    return tuple(re.sub(r"\(.*", "", name) for name in names)


def find_locks(texts: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the lock classes that a lockdep report is about, sorted.

    Other locks that the task holds are left out, as they differ each time.
    """
    names: set[str] = set()
    is_of_held = any(_OF_HELD.search(text) for text in texts[:4])
    for text in texts:
        if _HELD.search(text) and not is_of_held:
            break
        if " lock(" in text or ": lock(" in text:
            continue
        for match in _LOCK.finditer(text):
            # "/1" is a subclass, "#2" another lock class of the same name.
            names.add(re.sub(r"(?:#\d+|/\d+)+$", "", match["name"]))
    return tuple(sorted(names))
