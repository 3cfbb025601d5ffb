# SPDX-License-Identifier: Apache-2.0
"""Remarks on what hinders a campaign, made while the user can do something about it."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.driver.modinfo import read_modinfo
from fuzzer.driver.provision import Guest
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.tally import Tally, read_tally
from fuzzer.errors import DEFECT, BadInputError
from fuzzer.program.ops import OP_NAMES, OPERATIONS, File, Op
from fuzzer.target.calls import IoctlSpec, PlainSpec, ReadSpec, ReloadSpec, WriteSpec
from fuzzer.target.target import Target
from fuzzer.untrusted import read_text
from fuzzer.wording import count

# Fewer calls, loads or programs than these prove nothing.
_FEWEST_CALLS, _FEWEST_LOADS, _FEWEST_PROGRAMS = 200, 40, 20
# Programs after which it is strange that none covered a block.
_NOTHING_AFTER = 500
# Shares of programs, with a device that stayed closed and with a timeout, that need a remark.
_CLOSED_SHARE, _TIMEOUT_SHARE = 0.1, 0.1
# Seconds between two looks at the workers' counts.
_EVERY = 2.0

# Cause and advice for a call that always fails, by errno.
_WHY = {
    errno.ENOTTY: "the driver does not know this number; compare number, type and size with its "
    "source",
    errno.EINVAL: "something that it checks is never right; describe its argument more closely",
    errno.EFAULT: "an address in its argument is not valid; describe its pointers "
    "(fields: {member: {pointer: 64}}), or give it a struct",
    errno.EPERM: "it is not allowed as things are, although programs are root; look for what "
    "it checks first",
    errno.EACCES: "it is not allowed for a file that is opened so, or in this state; look for "
    "what it checks first",
    errno.EBUSY: "something else is in use, or has to be stopped first; describe the call that "
    "does it",
    errno.EAGAIN: "there never is what it is for; describe the call that provides it",
    errno.EINTR: "it waits until it is interrupted; describe the call that it waits for",
    errno.ENOMEM: "it allocates too much; describe smaller sizes",
    errno.EOPNOTSUPP: "the driver does not have it; leave it out of the description",
    errno.ENOSYS: "the driver does not have it; leave it out of the description",
    errno.EIO: "its hardware does not answer; see 'platform' in docs/descriptions.md",
    errno.ENODEV: "its hardware is not there; see 'platform' in docs/descriptions.md",
    errno.ENXIO: "its hardware is not there; see 'platform' in docs/descriptions.md",
    errno.ESPIPE: "the file has no position; leave it out of the description",
}
_LOOK = "look in the driver's source for where it returns that"

# The same for a device that does not open.
_WHY_CLOSED = {
    errno.EBUSY: "somebody has it open, or a program left it so; look at what release() gives back",
    errno.ENOENT: "the node is not there; compare 'device' with what the driver makes",
    errno.ENXIO: "no driver has its number; compare 'major' and 'minor' with what the driver has",
    errno.ENODEV: "what it stands for is not there; see 'needs' in docs/descriptions.md",
    errno.EACCES: "it refuses how it is opened; try another device",
    errno.EPERM: "it refuses who opens it, which is root; look for what it checks",
}
# Runnable processes for each CPU: with more, what goes by a clock has too little time.
_OVERLOADED = 4.0

# The same for a module that does not unload.
_WHY_KEPT = {
    errno.EBUSY: "it has no exit function, or is not through with loading; without 'reload' in "
    "the description no program tries",
    errno.EAGAIN: "something keeps a reference: another module, or a file that stays open; "
    "without 'reload' in the description no program tries",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """A line on something that does not work; one is shown for each thing it is ``about``."""

    about: str
    text: str


@dataclass(frozen=True, slots=True)
class State:
    """The facts behind remarks; ``covered`` counts the blocks that programs covered."""

    tally: Tally
    counts: WorkerCounts
    covered: int
    blocks: int
    unvaried: tuple[str, ...] = ()
    load: float = 0.0
    """Runnable processes for each CPU of the host."""


class Outlook:
    """Makes remarks of the counts of a campaign's workers; counts of earlier ones are deleted."""

    def __init__(self, guest: Guest, directory: Path, logs: Path) -> None:
        self._target = guest.target
        self._blocks = len(guest.blocks)
        self._loaded = len(guest.load_blocks)
        self._directory = directory
        self._logs = logs
        self._unvaried = unvaried_parameters(guest)
        self._looked = 0.0
        self._remarks: tuple[Remark, ...] = ()
        self.tally = Tally()
        """The results of the workers' calls, as they were a moment ago."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.tally"))

    def remarks(
        self, counts: WorkerCounts, *, covered: int, last: bool = False
    ) -> tuple[Remark, ...]:
        """Return the present remarks; ``covered`` blocks include those of loading.

        Counts are read every few seconds only, but anew for the ``last`` remarks.
        """
        if last or time.monotonic() - self._looked > _EVERY:
            self._looked = time.monotonic()
            tally = Tally()
            for path in self._files():
                tally.add(read_tally(path))
            self.tally = tally
            covered -= self._loaded
            load = os.getloadavg()[0] / (os.cpu_count() or 1)
            state = State(tally, counts, covered, self._blocks, self._unvaried, load)
            self._remarks = tuple(remarks_on(self._target, state))
            if last:
                self._remarks += tuple(defects(self._logs))
        return self._remarks


def defects(logs: Path) -> Iterator[Remark]:
    """Make remarks on the defects of ours that processes passed over, of which their logs tell."""
    for log in sorted(logs.glob("*.log")):
        with contextlib.suppress(OSError):
            times = read_text(log, errors="replace").count(f" {DEFECT}: ")
            if times:
                yield Remark(
                    str(log),
                    f"{DEFECT} was met {count(times, 'time')} and passed over: please report it, "
                    f"with what {log} says",
                )


def unvaried_parameters(guest: Guest) -> tuple[str, ...]:
    """Return the names of a module's parameters that its description gives no value."""
    if guest.driver.parts:
        return ()
    with contextlib.suppress(BadInputError):
        names = [each.name for each in read_modinfo(guest.driver.object).parameters]
        return unnamed(names, guest.target)
    return ()


def unnamed(names: Sequence[str], target: Target) -> tuple[str, ...]:
    """Return those of the parameters that neither ``params`` nor ``reload`` names."""
    templates = [each for spec in target.calls if isinstance(spec, ReloadSpec)
                 for each in spec.templates]  # fmt: skip
    literal = [part for each in templates for part in each.parts if isinstance(part, bytes)]
    text = b" ".join([target.module.params.encode(), *literal]).decode(errors="replace")
    given = {word.partition("=")[0].strip() for word in text.split()}
    return tuple(name for name in names if name not in given)


def remarks_on(target: Target, state: State) -> Iterator[Remark]:
    """Make the remarks on a campaign, the gravest first."""
    if not target.module.fails:
        yield from _on_opening(target, state)
        yield from _on_coverage(target, state)
    yield from _on_loading(target, state)
    yield from _on_calls(target, state)
    yield from _on_waiting(state)
    if state.load > _OVERLOADED:
        yield Remark(
            "load",
            f"the host is overloaded, by {state.load:.0f} processes for each CPU: speeds are what "
            "that leaves, and of a machine that gets less than half of the time it could use "
            "a lockup is not believed unless its program never ends",
        )
    if state.unvaried:
        names = ", ".join(state.unvaried[:8]) + (", ..." if len(state.unvaried) > 8 else "")
        what = "a parameter" if len(state.unvaried) == 1 else "parameters"
        yield Remark(
            "parameters",
            f"{target.module.name} has {what} that the description does not vary: {names}. To "
            f'load it with others as well: "reload: [\'{state.unvaried[0]}=1\']" in "calls"',
        )


def _on_opening(target: Target, state: State) -> Iterator[Remark]:
    tally = state.tally
    n_devices = len(target.devices)
    opens = [Counter[int]() for _ in target.devices]
    for (op, number), ends in tally.ends.items():
        if op == Op.OPEN:
            opens[number % n_devices].update(ends)
    is_closed = tally.unopened >= _CLOSED_SHARE * tally.began
    if tally.began >= _FEWEST_PROGRAMS and is_closed:
        errors = _errors(opens[0])
        why = _told(errors, _WHY_CLOSED) if errors else "no call has told why"
        share = _share(tally.unopened, tally.began)
        yield Remark(
            "open",
            f"{target.device} does not open: it was closed in {share} of the programs looked "
            f"at: {why}",
        )
    for number, (device, ends) in enumerate(zip(target.devices, opens, strict=True)):
        if not _always_fails(ends, _FEWEST_LOADS) or (not number and is_closed):
            continue
        if number == 0:
            yield Remark(
                "open again",
                f"{device.path} can be open once only: a further open fails with {_name(ends)} "
                f"in {_all(ends)}, so one file is all that programs have of it",
            )
        else:
            yield Remark(
                f"open {device.path}",
                f"{device.path} does not open: {_all(ends)}: {_told(ends, _WHY_CLOSED)}",
            )


def _on_coverage(target: Target, state: State) -> Iterator[Remark]:
    if not state.blocks:
        yield Remark(
            "coverage",
            f"{target.module.name} has no instrumented code, so nothing can be learned from what "
            "runs: look in its Makefile for KCOV_INSTRUMENT and for flags that take others away",
        )
    elif state.covered <= 0 and state.counts.programs >= _NOTHING_AFTER:
        yield Remark(
            "coverage",
            f"no block of {target.module.name} ran in {state.counts.programs:,} programs, of "
            f"{state.blocks}: calls do not come to it. Is {target.device} its file? See its "
            "'file_operations', and the 'device' of the description",
        )


def _on_loading(target: Target, state: State) -> Iterator[Remark]:
    name = target.module.name
    unloads, loads = state.tally.of(Op.UNLOAD), Counter(state.tally.of(Op.LOAD))
    if _always_fails(unloads, _FEWEST_LOADS):
        yield Remark("unload", f"{name} does not unload: {_all(unloads)}: "
                     f"{_told(unloads, _WHY_KEPT)}")  # fmt: skip
        return
    # Programs that load it twice fail so.
    del loads[errno.EEXIST]
    if _always_fails(loads, _FEWEST_LOADS) and not target.module.fails:
        yield Remark("load", f"{name} does not load with other parameters: {_all(loads)}: "
                     f"{_told(loads, {})}")  # fmt: skip


def _on_calls(target: Target, state: State) -> Iterator[Remark]:
    ioctls = [spec for spec in target.calls if isinstance(spec, IoctlSpec)]
    compat = {spec.number for spec in ioctls if spec.compat}
    for name, op, number in described_calls(target):
        ends = state.tally.of(op, number)
        # Its number may be for 32-bit programs alone, whose calls are not counted.
        if op == Op.IOCTL and number in compat and ends[errno.ENOTTY] == ends.total():
            continue
        if _always_fails(ends, _FEWEST_CALLS):
            yield Remark(name, f"{name} always fails: {_all(ends)}: {_told(ends, _WHY)}")


def described_calls(target: Target) -> Iterator[tuple[str, int, int]]:
    """Yield name, operation and number of each kind of call of a description on open files."""
    seen: set[tuple[int, int]] = set()
    for spec in target.calls:
        if isinstance(spec, IoctlSpec):
            call = "uring_cmd" if spec.uring else "ioctl"
            each = (f"{call} {spec.name or hex(spec.number)}", int(Op.IOCTL), spec.number)
        elif isinstance(spec, WriteSpec):
            each = ("pwrite", int(Op.PWRITE), 0) if spec.positioned else ("write", int(Op.WRITE), 0)
        elif isinstance(spec, ReadSpec):
            each = ("pread", int(Op.PREAD), 0) if spec.positioned else ("read", int(Op.READ), 0)
        elif isinstance(spec, PlainSpec) and spec.kind.value in OP_NAMES:
            # Calls of fcntl are several, of which the one that reads flags always succeeds.
            each = (spec.kind.value, int(OP_NAMES[spec.kind.value]), 0)
        else:
            continue
        # Failures of other operations are due to the program or the device.
        if OPERATIONS[each[1]].file is File.USED and each[1:] not in seen:
            seen.add(each[1:])
            yield each


def _on_waiting(state: State) -> Iterator[Remark]:
    counts = state.counts
    many = counts.timeouts >= _TIMEOUT_SHARE * counts.programs
    if counts.programs >= _FEWEST_PROGRAMS and many:
        yield Remark(
            "waiting",
            f"{_share(counts.timeouts, counts.programs)} of the programs had a call that was "
            "interrupted, as it waited or took too long: describe the calls that end the "
            "waiting, or leave out the one that waits",
        )


def _errors(ends: Counter[int]) -> Counter[int]:
    return Counter({number: count for number, count in ends.items() if number})


def _always_fails(ends: Counter[int], fewest: int) -> bool:
    # A request in a ring that is in flight has not failed.
    return ends.total() >= fewest and not ends[0] and not ends[errno.EINPROGRESS]


def _name(ends: Counter[int]) -> str:
    """Return the error that most calls ended with."""
    ((number, _),) = _errors(ends).most_common(1)
    return f"{errno.errorcode.get(number, 'error')} ({number}, {os.strerror(number)})"


def _told(ends: Counter[int], why: dict[int, str]) -> str:
    ((number, _),) = _errors(ends).most_common(1)
    return f"{_name(ends)}: {why.get(number, _LOOK)}"


def _all(ends: Counter[int]) -> str:
    return f"{ends.total() - ends[0]:,} of {ends.total():,} calls looked at"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%} ({part:,} of {whole:,})"
