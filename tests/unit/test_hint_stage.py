# SPDX-License-Identifier: Apache-2.0
"""From what was compared to programs that run next."""

from __future__ import annotations

import errno
import random
from dataclasses import replace
from typing import cast

import pytest

from fuzzer.engine.executor import WorkerExecutor
from fuzzer.engine.hint_stage import ComparisonRuns, HintStage
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel import CallResult, Comparisons
from fuzzer.program.comparison import Comparison
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Fixup
from fuzzer.program.wire import decode, encode

IOCTL = encode((Call(Op.IOCTL, cmd=0x1234, data=bytes(8)),))
NUMBER = Comparison(0xABCD, 0x1234, 0, 4, True)


class Heard:
    """Records the calls that libFuzzer would get."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, int, int]] = []

    def note_comparison(self, a: int, b: int, size: int) -> None:
        self.noted.append((a, b, size))


def hint_stage(heard: Heard) -> HintStage:
    return HintStage(cast(LibFuzzer, heard), 40)


def scheduler() -> SeedScheduler:
    made = SeedScheduler(random.Random(1))
    made.spend(1e6, slow=False)
    return made


def taken(hints: HintStage) -> list[bytes]:
    having = scheduler()
    return [each for each in (hints.take(having) for _ in range(200)) if each is not None]


def test_what_was_compared_is_made_use_of_when_there_is_time() -> None:
    heard = Heard()
    hints = hint_stage(heard)
    hints.note(IOCTL, Comparisons(True, (NUMBER,), 0))
    assert taken(hints) == []
    assert heard.noted == []
    assert hints.learn() == {0xABCD}
    assert heard.noted == [(0xABCD, 0x1234, 4)]
    assert any(decode(program)[0].cmd == 0xABCD for program in taken(hints))
    assert hints.learn() == set()


def test_it_is_told_what_the_driver_compares_of_a_payload() -> None:
    noted: list[tuple[bytes, bytes]] = []
    hints = HintStage(cast(LibFuzzer, Heard()), 40, lambda *each: noted.append(each))
    call = Call(Op.IOCTL, cmd=0x1234, data=b"\x39\x05\0\0\0\0\0\0")
    hints.note(encode((call,)), Comparisons(True, (NUMBER, NUMBER._replace(b=0x539)), 0))
    hints.learn()
    wanted = replace(call, data=b"\xcd\xab\0\0\0\0\0\0")
    assert (encode((call,)), encode((wanted,))) in noted
    assert all(decode(other)[0].cmd == 0x1234 for _, other in noted)


def test_a_kernel_that_cannot_compare_is_not_asked_again() -> None:
    hints = hint_stage(Heard())
    hints.want(IOCTL)
    hints.want(IOCTL)
    assert hints.wanted() == IOCTL
    hints.note(IOCTL, Comparisons(False, (), 0))
    assert hints.wanted() is None
    hints.want(IOCTL)
    assert hints.wanted() is None
    assert hints.learn() == set()


def test_a_call_that_followed_a_wrong_address_is_run_with_others() -> None:
    hints = hint_stage(Heard())
    failed = CallResult(ret=-1, error=errno.EFAULT, tsc=0, faulted=False, output=bytes(8))
    hints.note(IOCTL, Comparisons(True, (), 0), [failed])
    hints.learn()
    following = hints.wanted()
    assert following is not None
    assert decode(following)[0].fixups == (Fixup(0, 8),)
    before = len(taken(hints))
    hints.note(following, Comparisons(True, (NUMBER,), 0), [replace(failed, ret=0, error=0)])
    # Of such a run is made what the search makes of it, and no more.
    assert hints.learn() == set()
    assert not any(decode(program)[0].cmd == NUMBER.a for program in taken(hints))
    assert before > 0


def test_a_search_does_not_take_all_the_time() -> None:
    hints = hint_stage(Heard())
    many = encode((Call(Op.IOCTL, cmd=0x1234, data=bytes(256)),))
    failed = CallResult(ret=-1, error=errno.EFAULT, tsc=0, faulted=False, output=bytes(256))
    hints.note(many, Comparisons(True, (), 0), [failed])
    hints.learn()
    at_a_time = 0
    while hints.wanted() is not None:
        at_a_time += 1
    assert 1 < at_a_time < 12
    assert hints.wanted() is not None


def test_a_defect_costs_the_hints_of_a_program_and_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = hint_stage(Heard())
    runs = ComparisonRuns(cast(WorkerExecutor, None), stage, lambda _: True)

    def fail(*_: object) -> set[int]:
        raise IndexError("index out of range")

    monkeypatch.setattr(HintStage, "learn", fail)
    runs.learn()
    assert "a defect in pkvfuzz: a program has no hints" in caplog.text
    assert "IndexError: index out of range" in caplog.text


def test_an_error_of_the_machine_is_no_defect(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> set[int]:
        raise InfrastructureError("the disk is full")

    monkeypatch.setattr(HintStage, "learn", fail)
    runs = ComparisonRuns(cast(WorkerExecutor, None), hint_stage(Heard()), lambda _: True)
    with pytest.raises(InfrastructureError):
        runs.learn()
