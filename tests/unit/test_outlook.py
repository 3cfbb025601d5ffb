# SPDX-License-Identifier: Apache-2.0
"""Counts of what calls return, and remarks on a campaign that does not get on."""

from __future__ import annotations

import errno
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.outlook import Remark, State, defects, remarks_on, unnamed
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.store import CrashStore
from fuzzer.engine.statistics import WorkerCounts
from fuzzer.engine.tally import EAGER, FIRST, LAZY, Tally, TallyFile, read_tally, tally_file
from fuzzer.errors import DEFECT
from fuzzer.program.ops import FLAG_COMPAT, FLAG_NULL, Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, encode_call, split
from fuzzer.report.display import LogDisplay
from fuzzer.report.status import StatusView, remark_lines
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import Target, load_target

MANY = WorkerCounts(programs=5000, fuzzing=1)
KNOWN, WRITE, READ = 0x4D01, int(Op.WRITE), int(Op.READ)


def wire(*calls: Call) -> list[bytes]:
    return [encode_call(call) for call in calls]


def ioctl(number: int = KNOWN, file: int = 0, *, fault: int = 0, flags: int = 0) -> Call:
    return Call(Op.IOCTL, file=file, cmd=number, fault=fault, flags=flags, data=b"12345678")


@pytest.fixture
def target(tmp_path: Path) -> Target:
    path = tmp_path / "drv.yaml"
    path.write_text(
        "version: 1\nname: drv\ndevices: [/dev/drv, /dev/drv1]\n"
        f"module: {{source: {tmp_path}, name: drv, params: mode=1}}\n"
        "calls:\n  - write: [a]\n  - read: [1]\n  - ioctl: 0x4d01\n    payload: [8]\n"
        '  - reload: ["size={int:0..4}"]\n'
    )
    return load_target(path)


def about(target: Target, tally: Tally, counts: WorkerCounts = MANY, covered: int = 3,
          blocks: int = 9) -> dict[str, str]:  # fmt: skip
    state = State(tally, counts, covered, blocks)
    return {remark.about: remark.text for remark in remarks_on(target, state)}


def test_calls_are_counted_by_kind_and_errno() -> None:
    tally = Tally()
    calls = wire(
        ioctl(), ioctl(), ioctl(7), Call(Op.WRITE, data=b"a"), Call(Op.OPEN, file=1, arg=3)
    )
    tally.note(calls, [errno.EINVAL, 0, errno.ENOTTY, 0, errno.EBUSY])
    assert tally.of(Op.IOCTL, KNOWN) == Counter({errno.EINVAL: 1, 0: 1})
    assert tally.of(Op.IOCTL, 7) == Counter({errno.ENOTTY: 1})
    assert tally.of(Op.WRITE) == Counter({0: 1})
    assert tally.of(Op.OPEN, 3) == Counter({errno.EBUSY: 1})


def test_calls_that_were_meant_to_fail_do_not_count() -> None:
    tally = Tally()
    odd = (ioctl(fault=1), ioctl(flags=FLAG_NULL), ioctl(flags=FLAG_COMPAT), ioctl(file=2))
    tally.note(wire(*odd), [errno.ENOMEM, errno.EFAULT, errno.ENOTTY, errno.EBADF])
    assert not tally.ends


@pytest.mark.parametrize(
    ("calls", "errors", "began", "unopened"),
    [
        ((Call(Op.READ),), [errno.EBADF], 1, 1),
        ((Call(Op.READ),), [errno.EINVAL], 1, 0),
        ((Call(Op.CLOSE), Call(Op.READ)), [0, errno.EBADF], 0, 0),
        ((Call(Op.READ, file=1),), [errno.EBADF], 0, 0),
        ((Call(Op.READ), Call(Op.CLOSE), Call(Op.READ)), [0, 0, errno.EBADF], 1, 0),
        # A driver may say so of a descriptor that it was given.
        ((ioctl(), Call(Op.READ)), [errno.EBADF, 0], 1, 0),
        ((ioctl(), Call(Op.READ)), [errno.EBADF, errno.EBADF], 1, 1),
    ],
)
def test_a_first_file_that_is_not_open_is_told_from_one_that_was_closed(
    calls: tuple[Call, ...], errors: list[int], began: int, unopened: int
) -> None:
    tally = Tally()
    tally.note(wire(*calls), errors)
    assert (tally.began, tally.unopened) == (began, unopened)


def test_a_tally_goes_through_its_file(tmp_path: Path) -> None:
    path = tally_file(tmp_path, "worker-0")
    file = TallyFile(path)
    preloaded = encode((Call(Op.UNLOAD), Call(Op.LOAD)))
    file.note(preloaded + encode((ioctl(),)), [0, 0, errno.EPERM], preloaded)
    file.write()
    assert read_tally(path).ends == {(int(Op.IOCTL), KNOWN): Counter({errno.EPERM: 1})}
    # A worker that takes another one's place goes on counting.
    again = TallyFile(path)
    again.note(encode((ioctl(),)), [errno.EPERM])
    assert again.tally.of(Op.IOCTL, KNOWN)[errno.EPERM] == 2
    both = Tally()
    both.add(again.tally)
    both.add(file.tally)
    assert both.of(Op.IOCTL, KNOWN)[errno.EPERM] == 3
    path.write_text("[]")
    assert not read_tally(path).ends
    assert not read_tally(tmp_path / "none").ends


def test_few_batches_end_for_the_sake_of_a_sample(tmp_path: Path) -> None:
    file = TallyFile(tmp_path / "worker-0.tally")
    assert sum(file.is_due() for _ in range(10 * LAZY)) == 10 * LAZY // EAGER
    for _ in range(FIRST):
        file.note(b"", [])
    assert sum(file.is_due() for _ in range(10 * LAZY)) == 10


def test_why_a_file_is_closed_is_asked_once_and_only_if_nothing_tells(tmp_path: Path) -> None:
    file = TallyFile(tmp_path / "worker-0.tally")
    for _ in range(20):
        file.note(encode((Call(Op.READ),)), [errno.EBADF])
    assert [file.asks_why_closed() for _ in range(3)] == [True, False, False]
    told = TallyFile(tmp_path / "worker-1.tally")
    for _ in range(20):
        told.note(encode((Call(Op.READ), Call(Op.OPEN))), [errno.EBADF, errno.EBUSY])
    assert not told.asks_why_closed()


def test_a_device_that_does_not_open_is_told_with_its_share(target: Target) -> None:
    tally = Tally({(int(Op.OPEN), 0): Counter({errno.EPERM: 20})}, began=100, unopened=97)
    text = about(target, tally)["open"]
    assert "/dev/drv does not open" in text
    assert "97% (97 of 100)" in text
    assert "EPERM (1, Operation not permitted)" in text
    assert not about(target, Tally(began=100, unopened=5))


def test_a_device_that_can_be_open_once_is_no_trouble(target: Target) -> None:
    ends = {(int(Op.OPEN), 0): Counter({errno.EBUSY: 60}), (int(Op.OPEN), 1): Counter({0: 60})}
    said = about(target, Tally(ends, began=100))
    assert list(said) == ["open again"]
    assert "open once only" in said["open again"]
    assert "EBUSY" in said["open again"]
    # It is taken modulo the number of devices, as the executor does.
    more = {(int(Op.OPEN), 3): Counter({errno.ENXIO: 60})}
    assert "/dev/drv1 does not open" in about(target, Tally(more))["open /dev/drv1"]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOTTY, "does not know this number"),
        (errno.EINVAL, "argument"),
        (errno.EFAULT, "pointers"),
        (errno.EPERM, "not allowed"),
        (errno.EDOM, "source"),
    ],
)
def test_an_ioctl_that_always_fails_is_told(number: int, hint: str, target: Target) -> None:
    tally = Tally({(int(Op.IOCTL), KNOWN): Counter({number: 213})})
    (text,) = about(target, tally).values()
    assert text.startswith("ioctl 0x4d01 always fails: 213 of 213 calls looked at: ")
    assert f"{errno.errorcode[number]} ({number}, " in text
    assert hint in text


@pytest.mark.parametrize(
    "ends",
    [
        Counter({errno.EINVAL: 199}),
        Counter({errno.EINVAL: 5000, 0: 1}),
        Counter({errno.EINVAL: 5000, errno.EINPROGRESS: 1}),
        Counter({0: 900}),
    ],
)
def test_what_works_at_times_or_was_seldom_tried_is_not_told(
    ends: Counter[int], target: Target
) -> None:
    assert not about(target, Tally({(int(Op.IOCTL), KNOWN): ends, (WRITE, 0): ends}))
    # Of numbers that nobody described most are nothing.
    assert not about(target, Tally({(int(Op.IOCTL), 9): Counter({errno.ENOTTY: 900})}))


def test_reading_and_writing_that_always_fail_are_told(target: Target) -> None:
    ends = {(WRITE, 0): Counter({errno.ENODEV: 300}), (READ, 0): Counter({errno.EINVAL: 300})}
    said = about(target, Tally(ends))
    assert said["write"].startswith("write always fails: 300 of 300")
    assert said["read"].startswith("read always fails")


def test_a_module_that_does_not_unload_or_load_is_told(target: Target) -> None:
    tally = Tally({(int(Op.UNLOAD), 0): Counter({errno.EBUSY: 50})})
    assert "drv does not unload: 50 of 50 calls looked at: EBUSY" in about(target, tally)["unload"]
    tally = Tally({(int(Op.LOAD), 0): Counter({errno.EINVAL: 50, errno.EEXIST: 9})})
    assert "does not load with other parameters: 50 of 50" in about(target, tally)["load"]
    assert not about(target, Tally({(int(Op.LOAD), 0): Counter({errno.EEXIST: 90})}))


def test_that_nothing_is_covered_is_told(target: Target) -> None:
    assert "of 9" in about(target, Tally(), covered=0)["coverage"]
    assert "no instrumented code" in about(target, Tally(), covered=0, blocks=0)["coverage"]
    assert not about(target, Tally(), WorkerCounts(programs=20), covered=0)


def test_that_many_calls_time_out_is_told(target: Target) -> None:
    said = about(target, Tally(), WorkerCounts(programs=100, timeouts=40))
    assert "40% (40 of 100)" in said["waiting"]
    assert not about(target, Tally(), WorkerCounts(programs=1000, timeouts=40))


def test_that_the_host_is_overloaded_is_told(target: Target) -> None:
    busy, idle = (State(Tally(), MANY, 3, 9, load=load) for load in (9.7, 1.0))
    (remark,) = remarks_on(target, busy)
    assert "overloaded, by 10 processes for each CPU" in remark.text
    assert not list(remarks_on(target, idle))


def test_parameters_that_nothing_varies_are_named(target: Target) -> None:
    assert unnamed(["mode", "size", "count"], target) == ("count",)
    state = State(Tally(), MANY, 3, 9, ("count",))
    (remark,) = remarks_on(target, state)
    assert "a parameter that the description does not vary: count" in remark.text
    assert "reload: ['count=1']" in remark.text


def test_a_remark_is_made_once_and_again_at_the_end(tmp_path: Path) -> None:
    stream = io.StringIO()
    view = StatusView(CrashStore(tmp_path), LogDisplay(stream))
    first, other = Remark("write", "write fails: 200 of 200"), Remark("read", "read fails")
    for remarks in ((first,), (Remark("write", "write fails: 300 of 300"), other)):
        snapshot = Snapshot(started=True, counts=MANY, remarks=remarks)
        view.show(snapshot)
    said = [line for line in stream.getvalue().splitlines() if line.startswith("note: ")]
    assert said == ["note: write fails: 200 of 200", "note: read fails"]
    assert remark_lines(snapshot) == ["note: write fails: 300 of 300", "note: read fails"]


def test_splitting_agrees_with_the_calls_that_are_counted() -> None:
    calls = (ioctl(), Call(Op.WRITE, data=b"abc"))
    assert split(encode(calls)) == wire(*calls)


def test_an_ioctl_of_32_bit_programs_alone_may_be_unknown_otherwise(target: Target) -> None:
    (known,) = (spec for spec in target.calls if isinstance(spec, IoctlSpec))
    both = replace(target, calls=(*target.calls, replace(known, compat=True)))
    for number, told in ((errno.ENOTTY, False), (errno.EINVAL, True)):
        tally = Tally()
        for _ in range(213):
            tally.note(wire(ioctl()), [number])
        assert "ioctl 0x4d01" in about(target, tally)
        assert ("ioctl 0x4d01" in about(both, tally)) is told


def test_a_defect_that_was_passed_over_is_told_with_where_to_read_of_it(tmp_path: Path) -> None:
    line = f"2026-01-01 10:00:00,000 ERROR: {DEFECT}: a program has no hints\nTraceback\n"
    (tmp_path / "worker-0.log").write_text(line * 2)
    (tmp_path / "worker-1.log").write_text("INFO: Seed: 1\n")
    (told,) = defects(tmp_path)
    assert (
        f"met 2 times and passed over: please report it, with what {tmp_path}/worker-0" in told.text
    )
