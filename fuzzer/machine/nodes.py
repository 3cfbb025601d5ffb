# SPDX-License-Identifier: Apache-2.0
"""The files that a driver makes when it is loaded, found by looking before and after.

Device nodes that devtmpfs has, numbers in /proc/devices without a node, and files of
/proc, debugfs and sysfs. The guest lists them, which calls nothing of the driver's;
only for numbers without a node it has to be tried which minors can be opened.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel_layout import OUTPUT_SIZE, Status
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.device import (
    MAJOR_NAME,
    MAX_DEVICES,
    MAX_MAJOR,
    PATH,
    Device,
    DeviceKind,
)

# Seconds that a guest has to list one file system.
_TIMEOUT = 240.0
_LIST = "/pkvfuzz-files"
# Files of one file system; more would take too long.
_MOST_FILES = 60_000
_MOST_PIECES = 64
_STAT = (
    f" 2>/dev/null | head -n {_MOST_FILES} | grep -v '[^!-~]' | tr '\\n' '\\0' | "
    f"xargs -0 -r stat -c '%F|%t|%T|%a|%n' 2>/dev/null >> {_LIST}"
)
_FINDS = (
    "find /dev -type c -o -type b",
    "find /proc \\( -path '/proc/[0-9]*' -o -path /proc/irq \\) -prune -o -type f -print",
    "find /sys/kernel/debug -path /sys/kernel/debug/tracing -prune -o -type f -print",
    # Files that a subsystem makes for every driver: many, and nothing to fuzz.
    (
        "find /sys \\( -name power -o -name sections -o -name notes -o -name parameters "
        "-o -path /sys/kernel/debug -o -path /sys/kernel/slab -o -path /sys/kernel/irq "
        "-o -path /sys/kernel/tracing -o -path /sys/devices/system -o -path /sys/fs/cgroup \\) "
        "-prune -o -type f ! -name uevent -print"
    ),
)
_LINE = re.compile(r"([a-z ]+)\|([0-9a-f]+)\|([0-9a-f]+)\|([0-7]+)\|(/[!-~]+)")
_NODES = {"character special file": DeviceKind.CHAR, "block special file": DeviceKind.BLOCK}
_DRIVER = re.compile(r"\s*(\d+) (\S.*)")

# What drivers have in sysfs without a line of their own: directories, and files.
_CORE_DIRECTORIES = re.compile(
    r"/(?:power|queue|mq|integrity|statistics|queues|msi_irqs|sections|notes|parameters|holders"
    r"|capabilities|bdi|workqueue|net|input|tty|sound|wakeup)/"
)
_CORE_NAMES = (
    (
        re.compile("/"),
        frozenset(("uevent", "dev", "modalias", "driver_override", "waiting_for_supplier")),
    ),
    (re.compile(r"/i2c-\d"), frozenset(("name",))),
    (
        re.compile(r"/sys/bus/"),
        frozenset(
            (
                "bind",
                "unbind",
                "new_id",
                "remove_id",
                "drivers_probe",
                "drivers_autoprobe",
                "rescan",
            )
        ),
    ),
    (
        re.compile(r"/sys/module/"),
        frozenset(
            (
                *("coresize", "initsize", "initstate", "refcnt", "taint", "version"),
                *("srcversion", "rhelversion"),
            )
        ),
    ),
    (
        re.compile(r"/pci\d"),
        frozenset(
            (
                *("numa_node", "irq", "device", "vendor", "class", "config", "enable", "rescan"),
                *("remove", "resource", "local_cpus", "local_cpulist", "broken_parity_status"),
                *("dma_mask_bits", "consistent_dma_mask_bits", "ari_enabled", "d3cold_allowed"),
                *("revision", "subsystem_device", "subsystem_vendor", "msi_bus", "rom", "reset"),
            )
        ),
    ),
    (
        re.compile(r"/block/"),
        frozenset(
            (
                *("alignment_offset", "capability", "discard_alignment", "diskseq", "events"),
                *("events_async", "events_poll_msecs", "ext_range", "hidden", "inflight"),
                *("partition", "partscan", "range", "removable", "ro", "size", "start", "stat"),
                *("badblocks", "make-it-fail", "io-timeout-fail"),
            )
        ),
    ),
)
# Files taken of a kind, and of those that differ in a number only.
_MOST = {
    DeviceKind.CHAR: 32,
    DeviceKind.BLOCK: 8,
    DeviceKind.PROC: 16,
    DeviceKind.DEBUGFS: 16,
    DeviceKind.SYSFS: 16,
}
_ALIKE = {
    DeviceKind.CHAR: 32,
    DeviceKind.BLOCK: 8,
    DeviceKind.PROC: 4,
    DeviceKind.DEBUGFS: 4,
    DeviceKind.SYSFS: 4,
}

# Minors that are tried, and how many are taken of those that can be opened; and the last
# minor of a driver that registered all that there once were.
_TRIED, _TAKEN, _LAST = 16, 16, 255
_NO_DEVICE = frozenset({errno.ENXIO, errno.ENODEV})
_O_NONBLOCK = 0o4000
_CALL_TIMEOUT_MS = 1000


@dataclass(frozen=True, slots=True)
class MajorNumber:
    """A line of /proc/devices: the major number that a driver of this name has."""

    name: str
    major: int
    block: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was found; ``kind`` CHAR and BLOCK have a number. ``mode`` has 12 bits."""

    kind: DeviceKind
    major: int
    minor: int
    mode: int


@dataclass(frozen=True, slots=True)
class Listing:
    """Listing of a guest: files by their paths, and the numbers that drivers have, in order."""

    files: Mapping[str, Entry]
    numbers: tuple[MajorNumber, ...]

    def has_node(self, number: MajorNumber) -> bool:
        """Return whether there is a node of a major number."""
        kind = DeviceKind.BLOCK if number.block else DeviceKind.CHAR
        return any(
            entry.kind is kind and entry.major == number.major for entry in self.files.values()
        )


def parse_listing(files: str, numbers: str) -> Listing:
    """Return the listing in what stat printed of each file, and in /proc/devices.

    Names with blanks or control characters are left out, and lines that cannot be: a driver
    that writes to memory which is not its own damages them.
    """
    found: dict[str, Entry] = {}
    for line in files.split("\n"):
        match = _LINE.fullmatch(line)
        if not match or not PATH.match(match[5]):
            continue
        kind = _NODES.get(match[1])
        if (kind is not None) is not match[5].startswith("/dev/"):
            continue
        if kind is None and not match[1].startswith("regular "):
            continue
        kind = kind or Device(match[5]).kind
        found[match[5]] = Entry(kind, int(match[2], 16), int(match[3], 16), int(match[4], 8))
    return Listing(found, tuple(dict.fromkeys(_numbers(numbers))))


def _numbers(text: str) -> Iterator[MajorNumber]:
    block = False
    for line in text.split("\n"):
        block |= line.startswith("Block devices")
        match = _DRIVER.fullmatch(line)
        if match and int(match[1]) <= MAX_MAJOR:
            yield MajorNumber(match[2], int(match[1]), block)


def list_files(machine: Machine) -> Listing:
    """Return the listing of a guest.

    Raises:
        InfrastructureError: the guest cannot list it.
        LostMachineError: it hangs.
    """
    _shell(machine, f"rm -f {_LIST}; touch {_LIST}")
    for find in _FINDS:
        _shell(machine, find + _STAT)
    pieces: list[bytes] = []
    while len(pieces) < _MOST_PIECES and (not pieces or len(pieces[-1]) == OUTPUT_SIZE):
        read = f"dd if={_LIST} bs={OUTPUT_SIZE} skip={len(pieces)} count=1 2>/dev/null"
        pieces.append(_shell(machine, read))
    numbers = _shell(machine, f"rm -f {_LIST}; cat /proc/devices")
    return parse_listing(
        b"".join(pieces).decode(errors="replace"), numbers.decode(errors="replace")
    )


def _shell(machine: Machine, script: str) -> bytes:
    done = machine.execute(["/bin/busybox", "sh", "-c", script], timeout=_TIMEOUT)
    if done.timed_out or done.status < 0:
        raise InfrastructureError(
            f"the guest could not list its files in {_TIMEOUT:.0f} s: {script}"
        )
    return done.output


def numbers_without_node(before: Listing, after: Listing) -> dict[MajorNumber, int]:
    """Return the major numbers that came without a node, and how often each was taken, by name.

    A driver can take a number several times, for other minors under other names. The
    name is then that of the lowest ones.
    """
    found: dict[tuple[bool, int], list[MajorNumber]] = {}
    for number in after.numbers:
        if number not in before.numbers and not after.has_node(number):
            found.setdefault((number.block, number.major), []).append(number)
    times = {numbers[0]: len(numbers) for numbers in found.values()}
    return dict(sorted(times.items(), key=lambda item: (item[0].block, item[0].name)))


def new_devices(
    before: Listing,
    after: Listing,
    minors: Callable[[MajorNumber], Sequence[int]] = lambda number: (0,),
) -> tuple[Device, ...]:
    """Return the files that came between two listings: device nodes first, few of each kind.

    ``minors`` tells which minors there are of a number without a node.
    """
    nodes: list[Device] = []
    others: list[Device] = []
    for path, entry in after.files.items():
        if before.files.get(path) == entry:
            continue
        if entry.kind in (DeviceKind.CHAR, DeviceKind.BLOCK):
            nodes.append(Device(path, block=entry.kind is DeviceKind.BLOCK))
        elif path not in before.files and _is_worth_it(path, entry):
            others.append(Device(path))
    made: list[Device] = []
    for number in numbers_without_node(before, after):
        taken = {*after.files, *(device.path for device in made)}
        alike = [
            other
            for other in after.numbers
            if (other.name, other.block) == (number.name, number.block)
            and other.major != number.major
        ]
        made += _made_nodes(number, minors(number), taken, ambiguous=bool(alike))
    order = list(DeviceKind)
    found = [
        *_few(sorted(nodes, key=_natural)),
        *made[: _MOST[DeviceKind.CHAR]],
        *_few(sorted(others, key=_natural)),
    ]
    found.sort(key=lambda device: order.index(device.kind))
    return tuple(found[:MAX_DEVICES])


def _is_worth_it(path: str, entry: Entry) -> bool:
    """Return whether a file can be read or written, and is a driver's rather than a subsystem's."""
    if not entry.mode & 0o666:
        return False
    if entry.kind is not DeviceKind.SYSFS:
        return True
    name = path.rpartition("/")[2]
    core = any(place.search(path) and name in names for place, names in _CORE_NAMES)
    return not core and not _CORE_DIRECTORIES.search(path)


def _made_nodes(
    number: MajorNumber, minors: Sequence[int], taken: set[str], *, ambiguous: bool
) -> Iterator[Device]:
    """Return devices whose nodes are to be made.

    An ``ambiguous`` name, which several numbers have, cannot say which is meant.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", number.name).strip(".")[:64] or "device"
    known = not ambiguous and MAJOR_NAME.match(number.name)
    for minor in minors:
        path = f"/dev/{name}{minor}" if len(minors) > 1 else f"/dev/{name}"
        while path in taken:
            path += "_"
        taken.add(path)
        yield Device(path, number.name if known else number.major, minor, number.block)


def _few(devices: Iterable[Device]) -> list[Device]:
    kinds: Counter[DeviceKind] = Counter()
    alike: Counter[tuple[DeviceKind, str]] = Counter()
    kept = []
    for device in devices:
        if kinds[device.kind] < _MOST[device.kind] and alike[device.family] < _ALIKE[device.kind]:
            kinds[device.kind] += 1
            alike[device.family] += 1
            kept.append(device)
    return kept


def _natural(device: Device) -> list[tuple[int, str]]:
    """Return a key that sorts numbers in paths by their values."""
    parts = re.split(r"(\d+)", device.path)
    return [(int(part) if part.isdigit() else -1, part) for part in parts]


def opening_minors(machine: Machine, number: MajorNumber, most: int = _TAKEN) -> tuple[int, ...]:
    """Return minors of a number that can be opened: ``most`` of the first, perhaps none.

    Of a driver that takes every minor it is the first. They are opened, so the driver's
    bugs may show; a guest that is lost by that says that there is one more.
    """
    kind = "b" if number.block else "c"
    tried = (*range(_TRIED), _LAST)
    paths = [f"/pkvfuzz-{kind}{number.major}-{minor}" for minor in tried]
    many = " ".join(map(str, tried))
    path = f"/pkvfuzz-{kind}{number.major}-$i"
    _shell(machine, f"for i in {many}; do mknod {path} {kind} {number.major} $i; done")
    machine.channel.set_devices([Device(path) for path in paths])
    machine.channel.header.call_timeout_ms = _CALL_TIMEOUT_MS
    found: list[int] = []
    for index, minor in enumerate(tried[:-1]):
        opens, alive = _try_to_open(machine, index)
        if opens:
            found.append(minor)
        if not alive:
            return tuple(found)
        if len(found) == most:
            break
    every = found == list(range(most)) and _try_to_open(machine, _TRIED)[0]
    return (0,) if every else tuple(found)


def _try_to_open(machine: Machine, device: int) -> tuple[bool, bool]:
    """Return whether there is a device, and whether the guest survived opening it."""
    # File 0 is the first device until then.
    calls = (Call(Op.CLOSE), Call(Op.OPEN, cmd=_O_NONBLOCK, arg=device))
    try:
        run = machine.run(encode(calls))
    except LostMachineError:
        return True, False
    opens = len(run.results) < len(calls) or run.results[-1].error not in _NO_DEVICE
    return opens, run.status is Status.OK


def find_devices(machine: Machine, driver: DriverImage) -> tuple[Device, ...]:
    """Load a driver on a machine of the base and return the files that it makes.

    The machine is of no further use. What the modules make that are loaded first does
    not count, unless it comes with the driver.

    Raises:
        BadInputError: the kernel refuses a module.
        InfrastructureError: the guest cannot list its files, or is lost.
    """
    for image, name, params in driver.needs:
        machine.load(DriverImage(image, name, (), params))
    before = list_files(machine)
    machine.load(replace(driver, devices=(), needs=()))
    return added_devices(machine, before)


def added_devices(machine: Machine, before: Listing) -> tuple[Device, ...]:
    """Return the files that a machine has beside those of a listing.

    The machine is of no further use: numbers without a node are tried.

    Raises:
        InfrastructureError: the guest cannot list its files, or is lost.
    """
    after = list_files(machine)
    known: dict[MajorNumber, tuple[int, ...]] = {}
    # A guest that is lost at a number says nothing of the numbers after it.
    with contextlib.suppress(LostMachineError):
        for number, times in numbers_without_node(before, after).items():
            known[number] = opening_minors(machine, number, min(times * _TAKEN, _TRIED))
    return new_devices(before, after, lambda number: known.get(number, (0,)))
