# SPDX-License-Identifier: Apache-2.0
"""From what was compared to programs that run next."""

from __future__ import annotations

import random
from typing import cast

from fuzzer.engine.hint_stage import HintStage
from fuzzer.engine.libfuzzer import LibFuzzer
from fuzzer.engine.seed_scheduler import SeedScheduler
from fuzzer.machine.channel import Comparisons
from fuzzer.program.comparison import Comparison
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode

IOCTL = encode((Call(Op.IOCTL, cmd=0x1234, data=bytes(8)),))
NUMBER = Comparison(0xABCD, 0x1234, 0, 4, True)


class Heard:
    """Is told what libFuzzer would be."""

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
