# SPDX-License-Identifier: Apache-2.0
"""Crashes of which a program shows another report on each kernel are one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.campaign.stages.links import Links
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import is_of, sighted
from fuzzer.crash.store import CrashStore
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.target.target import Target
from tests.fakes import FakeGuest, FakeSetups
from tests.unit.test_dedup import crash
from tests.unit.test_judge import OTHER, SPLAT, TITLE

BAD, OPEN = encode((Call(Op.READ, arg=1),)), encode((Call(Op.READ, arg=2),))
INSTEAD = "WARNING in drv_open"


def stored(log: bytes, program: bytes, **changes: Any) -> Crash:
    return crash("\n".join(console_lines(log)), program, minimized=True, **changes)


def kernels(own: dict[bytes, bytes], fuzzed: dict[bytes, bytes]) -> JudgingKernels:
    """Return kernels whose reports of each program are given."""

    def showing(reports: dict[bytes, bytes]) -> FakeSetups:
        return FakeSetups(FakeGuest(lambda ran: reports.get(ran[-1], b"")))

    one, other = showing(own), showing(fuzzed)
    return JudgingKernels(one, Flavour.FULL, Flavour.FAST, lambda: other)


@pytest.fixture
def store(tmp_path: Path, pkv_target: Target) -> CrashStore:
    """Return a store with a crash of each kernel."""
    made = CrashStore(tmp_path)
    on_fast: dict[str, Any] = {"judged_on": "fast", "unseen_on": "full", "instead": (INSTEAD,)}
    made.put(stored(SPLAT, BAD, **on_fast), pkv_target)
    made.put(stored(OTHER, OPEN), pkv_target)
    return made


def titles(store: CrashStore) -> list[str]:
    return sorted(each.title for each in store.all())


def test_crashes_are_one_if_each_program_shows_both_reports(
    store: CrashStore, pkv_target: Target
) -> None:
    judging = kernels({BAD: OTHER, OPEN: OTHER}, {BAD: SPLAT, OPEN: SPLAT})
    links = Links(judging, store, pkv_target)
    assert links.step()
    assert not links.step()
    (kept,) = store.all()
    assert (kept.title, kept.also_titles, kept.linked) == (INSTEAD, (TITLE,), (TITLE,))
    # What the fuzzed kernel shows is known from now on, though it looks like another bug.
    seen = find_splat(console_lines(SPLAT))
    assert seen
    assert sighted([kept], TITLE, seen) == kept
    assert is_of(kept, stored(SPLAT, BAD).signature)


def test_a_report_of_every_program_is_linked_to_none(store: CrashStore, pkv_target: Target) -> None:
    judging = kernels({BAD: OTHER, OPEN: OTHER}, {BAD: SPLAT})
    links = Links(judging, store, pkv_target)
    assert links.step()
    assert titles(store) == sorted((TITLE, INSTEAD))


def test_a_report_that_does_not_come_each_time_is_linked_to_none(
    store: CrashStore, pkv_target: Target
) -> None:
    judging = kernels({OPEN: OTHER}, {BAD: SPLAT, OPEN: SPLAT})
    links = Links(judging, store, pkv_target)
    assert links.step()
    assert titles(store) == sorted((TITLE, INSTEAD))


def test_what_did_not_reproduce_needs_nothing_and_no_schedule() -> None:
    made = stored(SPLAT, BAD, reproduced=0, history=(OPEN,) * 9742, exact=True)
    assert made.verdict() == "reproduced 0 of 3"


def test_a_program_without_threads_has_no_schedule() -> None:
    assert "schedule" not in stored(SPLAT, BAD, exact=True).verdict()
    racing = encode((Call(Op.READ, arg=1, thread=1), Call(Op.READ, arg=2, thread=2)))
    assert "by its schedule" in stored(SPLAT, racing, exact=True).verdict()
