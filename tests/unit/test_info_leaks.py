# SPDX-License-Identifier: Apache-2.0
"""Memory that was never set: told by results under three poisons, reported, known again."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fuzzer.campaign.stages.info_leaks import InfoLeaks
from fuzzer.campaign.stages.workbench import Times, Workbench
from fuzzer.crash.dedup import Wanted, akin, same_bug
from fuzzer.crash.leak_report import is_about, leak_splat, leaked_ranges, leaking_call, trace_in
from fuzzer.crash.oracles.deterministic import InfoLeakTrials, Shown, matches
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.poison import POISONS, Leak, find_leaks
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.provision import Guest
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel import CallResult
from fuzzer.paths import project_root
from fuzzer.program.csource.calls import Printed
from fuzzer.program.csource.source import c_source
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.ops import FLAG_VALUE, Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.rules import read_title
from fuzzer.splat.splat import Splat
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import load_target
from tests.fakes import FakeGuest, FakeSetups

PKV = load_target(project_root() / "module" / "pkv.yaml")
DELETE = next(
    spec for spec in PKV.calls if isinstance(spec, IoctlSpec) and spec.name == "PKV_IOC_DELETE"
)
TRACE = (" _copy_to_user+0x2c/0x70", " drv_ioctl+0x1a/0x80 [drv]", " __x64_sys_ioctl+0x9/0xc0")
IOCTL = Call(Op.IOCTL, cmd=0x1234, data=bytes(8))


def result(output: bytes = b"", ret: int = 0, **more: bool) -> CallResult:
    return CallResult(ret, 0, output, 0, **more)


def under(*outputs: bytes) -> list[list[CallResult]]:
    """Return runs of one call that wrote something else under each poison."""
    return [[result(output)] for output in outputs]


@pytest.mark.parametrize(
    ("outputs", "stack", "heap"),
    [
        ((b"\0a\0", b"\0a\0", b"\xd5a\xd5"), (0, 2), ()),
        ((b"\0\0\0a", b"\x6b\x6b\xa5a", b"\x6b\x6b\xa5a"), (), (0, 1, 2)),
        ((b"\0\0", b"\x6b\0", b"\x6b\xd5"), (1,), (0,)),
        # An address, a count or a clock differs, but not as the poison does.
        ((b"\x10", b"\x20", b"\x20"), (), ()),
        ((b"\0", b"\0", b"\x01"), (), ()),
        ((b"\0", b"\x6b", b"\x6c"), (), ()),
        ((b"\x01", b"\x6b", b"\x6b"), (), ()),
        # A part that not all of them wrote.
        ((b"\0", b"\0", b"\xd5\xd5"), (0,), ()),
    ],
)
def test_bytes_that_differ_as_the_poison_does_were_never_set(
    outputs: Sequence[bytes], stack: tuple[int, ...], heap: tuple[int, ...]
) -> None:
    found = find_leaks(under(*outputs))
    assert [(leak.stack, leak.heap) for leak in found] == ([(stack, heap)] if stack + heap else [])


@pytest.mark.parametrize(
    ("rets", "counts"),
    [
        ((0, 0, 1), True),
        ((3, 3, 3), False),
        # Addresses of two guests that were not booted together, and chance.
        ((0, 7, 7), False),
        ((0, 1, 2), False),
        ((0, 1, 0), False),
    ],
)
def test_a_result_that_differs_with_the_poison_of_the_stack_depends_on_it(
    rets: tuple[int, int, int], counts: bool
) -> None:
    found = find_leaks([[result(ret=ret)] for ret in rets])
    assert [leak.results for leak in found] == ([rets] if counts else [])


def test_a_result_that_follows_one_that_differs_is_no_leak_but_bytes_are() -> None:
    under_each = ((0, b"\0"), (0, b"\0"), (1, b"\xd5"))
    runs = [[result(ret=ret), result(byte)] for ret, byte in under_each]
    assert [(leak.call, leak.results) for leak in find_leaks(runs)] == [(0, (0, 0, 1)), (1, ())]
    both = [[result(ret=ret), result(ret=ret)] for ret, _ in under_each]
    assert [leak.call for leak in find_leaks(both)] == [0]
    leaked = [
        [result(byte), result(ret=ret)] for ret, byte in ((0, b"\0"), (0, b"\0"), (1, b"\xd5"))
    ]
    assert [(leak.call, bool(leak.results)) for leak in find_leaks(leaked)] == [
        (0, False),
        (1, True),
    ]


@pytest.mark.parametrize("how", ["waited", "faulted"])
def test_calls_that_waited_or_failed_by_a_fault_tell_nothing(how: str) -> None:
    runs = under(b"\0", b"\0", b"\xd5")
    runs[1][0] = result(b"\0", **{how: True})
    assert find_leaks(runs) == []


def splat(leak: Leak, call: Call = IOCTL, trace: Sequence[str] = TRACE) -> Splat:
    return leak_splat(leak, call, PKV, trace)


def test_a_report_says_where_the_bytes_are_and_of_which_memory() -> None:
    found = splat(Leak(2, stack=(1, 2, 3), heap=(6,), size=8))
    assert (found.title, found.kind, found.function) == (
        "info leak in drv_ioctl",
        "infoleak",
        "drv_ioctl",
    )
    assert "Bytes 1 to 3 of 8: stack\nByte 6 of 8: heap\n" in found.text
    assert leaking_call(found.text) == 2
    assert leaked_ranges(found.text) == [range(1, 4), range(6, 7)]
    assert trace_in(found) == list(TRACE)
    known = read_title(found.title)
    assert known
    assert known.rule.kind == found.kind


def test_a_report_of_a_result_says_what_it_was() -> None:
    found = splat(Leak(0, results=(0, 0, 1)))
    assert found.title == "uninit return value in drv_ioctl"
    assert "It returns 0 where free stack held 0x00, 1 where it held 0xd5\n" in found.text
    assert leaked_ranges(found.text) == []


def test_fields_have_their_names_in_a_report() -> None:
    layout = DELETE.struct
    assert layout
    members = layout.members
    call = Call(Op.IOCTL, cmd=DELETE.number, data=bytes(layout.size))
    at = members[1].offset
    found = splat(Leak(0, stack=(at - 1, at, at + 1), size=layout.size), call)
    assert f": stack, {members[0].name} from its byte {at - 1 - members[0].offset}\n" in found.text
    assert f"Bytes {at} to {at + 1} of {layout.size}: stack, {members[1].name}\n" in found.text


def test_leaks_of_two_calls_of_one_function_are_two_bugs() -> None:
    leak = Leak(0, stack=(1,), size=8)
    other = Call(Op.IOCTL, cmd=0x1235, data=bytes(8))
    # As many bytes or not, wherever the call stands.
    assert same_bug(splat(leak), splat(Leak(3, stack=(1, 2), size=8)))
    assert not same_bug(splat(leak), splat(leak, other))
    assert not akin(splat(leak), splat(leak, other))
    assert not same_bug(splat(leak), splat(Leak(0, results=(0, 0, 1))))
    elsewhere = [TRACE[0], " drv_ioctl+0x30/0x80 [drv]", TRACE[2]]
    assert not same_bug(splat(leak), splat(leak, trace=elsewhere))
    assert is_about(splat(leak).text, leak, IOCTL)
    assert not is_about(splat(leak).text, leak, Call(Op.IOCTL, cmd=0x12345, data=bytes(8)))


class Leaks:
    """A finder of leaks that are in programs of one call of certain numbers."""

    def __init__(self, leaky: Sequence[int]) -> None:
        self._leaky = leaky
        self.batches: list[int] = []
        self.looks: list[bytes] = []

    def leaks_of(self, programs: Sequence[bytes]) -> list[list[Leak]]:
        self.batches.append(len(programs))
        leak = Leak(0, stack=(1,), size=8)
        return [[leak] if self.call_of(program).cmd in self._leaky else [] for program in programs]

    def report(
        self, leak: Leak, history: Sequence[bytes], program: bytes, wanted: Wanted | None
    ) -> Splat:
        return splat(leak, self.call_of(program))

    def look(
        self, history: Sequence[bytes], program: bytes, wanted: Wanted | None = None
    ) -> Outcome:
        self.looks.append(program)
        found = self.report(Leak(0, stack=(1,), size=8), history, program, wanted)
        return Outcome(found if wanted is None or wanted(found) else None, b"")

    @staticmethod
    def call_of(program: bytes) -> Call:
        return next(each for each in PROGRAMS if encode((each,)) == program)


PROGRAMS = [Call(Op.IOCTL, cmd=number, data=bytes(8)) for number in range(8)]


def finder(setups: FakeSetups, *leaky: int) -> Leaks:
    found = Leaks(leaky)
    setups.leaks = found  # type: ignore[assignment]
    return found


@pytest.mark.parametrize(("careful", "looks"), [(False, 0), (True, 1)])
def test_the_first_of_a_batch_that_leaks_is_tried_alone_when_careful(
    careful: bool, looks: int
) -> None:
    setups = FakeSetups(FakeGuest(lambda ran: None))
    leaks = finder(setups, 3, 5)
    bug = splat(Leak(0, stack=(1,), size=8), PROGRAMS[5])
    trials = InfoLeakTrials(setups, matches(bug), careful=careful)
    batch = [Reproducer(encode((call,))) for call in PROGRAMS]
    shown: Shown | None = None
    search = trials.first(batch)
    try:
        while True:
            next(search)
    except StopIteration as end:
        shown = end.value
    # The one before it is another bug.
    assert shown
    assert shown.index == 5
    assert len(leaks.looks) == looks
    assert trials.effort.runs == len(POISONS) * (len(batch) + looks)


def test_a_program_that_shows_fewer_bytes_is_no_smaller_form() -> None:
    setups = FakeSetups(FakeGuest(lambda ran: None))
    finder(setups, 5)
    bug = splat(Leak(0, stack=(1, 2), size=8), PROGRAMS[5])
    trials = InfoLeakTrials(setups, matches(bug), careful=False)
    with pytest.raises(StopIteration) as end:
        next(trials.first([Reproducer(encode((PROGRAMS[5],)))]))
    assert end.value.value is None


def test_one_program_of_each_call_that_leaks_is_told_of() -> None:
    sighted: list[Sighting] = []
    setups = FakeSetups(FakeGuest(lambda ran: None))
    leaks = finder(setups, 2, 4)
    times = Times(slice_seconds=0.01, leak_pause=0.0)
    bench = Workbench(setups, PKV, Mechanisms(), 1, sighted.append, times=times)
    stage = InfoLeaks(bench)
    assert not stage.step()
    for call in PROGRAMS * 2:
        bench.note(encode((call,)))
        stage.note(encode((call,)))
    # Guests are made one at a time.
    for _ in POISONS:
        assert not leaks.batches
        assert stage.step()
    assert leaks.batches[0] == 16
    assert [each.title for each in sighted] == ["info leak in drv_ioctl"] * 2
    assert [each.program for each in sighted] == [encode((PROGRAMS[at],)) for at in (2, 4)]
    assert [each.history for each in sighted] == [
        tuple(encode((call,)) for call in PROGRAMS[:at]) for at in (2, 4)
    ]
    assert "memory that was never set" not in bench.missing


def test_a_kernel_without_the_module_is_fuzzed_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(arguments: str) -> Guest:
        raise InfrastructureError("building pkvfuzz_stack.ko failed")

    guest = FakeGuest(lambda ran: None)
    setups = Testbeds(guest, lambda hardware, arguments: guest, make_poisoned=fail)
    times = Times(leak_pause=0.0)
    bench = Workbench(setups, PKV, Mechanisms(), 1, lambda sighting: None, times=times)
    stage = InfoLeaks(bench)
    bench.note(encode((PROGRAMS[0],)))
    stage.note(encode((PROGRAMS[0],)))
    assert stage.step()
    assert not stage.step()
    assert "is not looked for: building pkvfuzz_stack.ko failed" in caplog.text


def test_a_program_in_c_prints_the_bytes_that_leak() -> None:
    call = Call(Op.IOCTL, cmd=DELETE.number, data=bytes(DELETE.struct.size if DELETE.struct else 0))
    source = c_source((call,), PKV, printed=Printed(0, (range(4, 8),)))
    assert "\tioctl(f0, PKV_IOC_DELETE, &arg);\n\t\tshow((char *)&arg, 4, 7);\n" in source
    read = c_source((Call(Op.READ, arg=16),), PKV, printed=Printed(0, (range(1),)))
    assert "\tread(f0, buffer, 16);\n\tshow(buffer, 0, 0);\n" in read
    value = Call(Op.IOCTL, flags=FLAG_VALUE, cmd=0x4903, arg=3)
    text = c_source((value,), PKV, printed=Printed(0))
    assert 'printf("it returned %ld\\n", (long)ioctl(f0, 0x4903, 3));' in text
