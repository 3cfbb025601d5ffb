# SPDX-License-Identifier: Apache-2.0
"""On which kernel a sighting is judged, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fuzzer.campaign.kernels import JudgingKernels
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.kernel.kernel import Flavour
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from tests.fakes import FakeGuest, FakeSetups
from tests.unit.test_dedup import crash
from tests.unit.test_judge import OTHER, SPLAT, TITLE
from tests.unit.test_triage import KASAN

_SIGHTING = Sighting(TITLE, "kasan", b"bad", (), SPLAT, "worker-0")


def showing(log: bytes) -> tuple[Testbeds, FakeGuest]:
    """Return setups, and their guest, on which each program shows one thing."""
    guest = FakeGuest(lambda ran: log)
    outcome = Outcome(find_splat(console_lines(log)), log)
    return FakeSetups(guest, leaks=lambda programs: (outcome, None)), guest


def kernels(own: Testbeds, fuzzed: Testbeds) -> JudgingKernels:
    return JudgingKernels(own, Flavour.FULL, Flavour.FAST, lambda: fuzzed)


def test_what_the_judges_kernel_shows_is_judged_there_alone() -> None:
    fuzzed, guest = showing(SPLAT)
    verdict = kernels(showing(SPLAT)[0], fuzzed).judge(_SIGHTING, patience=1.0)
    assert (verdict.judged_on, verdict.judgement.reproduced) == (Flavour.FULL, 3)
    assert (verdict.unseen_on, verdict.instead, guest.ran) == ("", (), [])


def test_what_it_does_not_show_is_judged_on_the_kernel_that_did() -> None:
    verdict = kernels(showing(OTHER)[0], showing(SPLAT)[0]).judge(_SIGHTING, patience=1.0)
    assert (verdict.judged_on, verdict.judgement.reproduced) == (Flavour.FAST, 3)
    assert (verdict.unseen_on, verdict.instead) == ("full", ("WARNING in drv_open",))


@pytest.mark.parametrize(
    ("kind", "elsewhere"), [("kasan", False), ("lockdep", True), ("leak", True)]
)
def test_what_was_found_on_the_judges_kernel_is_not_looked_for_elsewhere(
    kind: str, elsewhere: bool
) -> None:
    fuzzed, guest = showing(SPLAT)
    sighting = replace(_SIGHTING, kind=kind)
    judging = kernels(showing(OTHER)[0], fuzzed)
    verdict = judging.judge(sighting, patience=1.0, elsewhere=elsewhere)
    assert (verdict.judged_on, verdict.judgement.reproduced) == (Flavour.FULL, 0)
    assert (verdict.instead, guest.ran) == (("WARNING in drv_open",), [])


def test_a_crash_is_worked_on_where_it_was_shown() -> None:
    (own, _), (fuzzed, _) = showing(OTHER), showing(SPLAT)
    judging = kernels(own, fuzzed)
    assert judging.setups_of(crash(KASAN)) is own
    assert judging.setups_of(crash(KASAN, judged_on="fast")) is fuzzed
    unshown = crash(KASAN, judged_on="fast", reproduced=0)
    assert judging.setups_of(unshown) is own


def test_a_verdict_says_which_kernel_showed_it_and_what_the_other_one_did() -> None:
    hidden: dict[str, Any] = {"judged_on": "fast", "unseen_on": "full"}
    assert "reproduced 3 of 3 on fast" in crash(KASAN, **hidden).verdict()
    assert crash(KASAN, **hidden).verdict().endswith("; full does not show it")
    shown = crash(KASAN, **hidden, instead=("WARNING in a", "WARNING in b")).verdict()
    assert shown.endswith("; full shows WARNING in a and 1 more")
    unshown = crash(KASAN, reproduced=0, judged_on="full", instead=("WARNING in a",))
    assert unshown.verdict() == "reproduced 0 of 3; full shows WARNING in a"
    assert crash(KASAN, after=("WARNING in a",)).verdict().endswith(", after WARNING in a")


def test_a_program_that_took_in_what_ran_before_it_is_not_told_as_a_part_of_itself() -> None:
    read = encode((Call(Op.READ, arg=8),))
    made: dict[str, Any] = {"minimized": True, "original": read * 2}
    assert "needs 1 of 2 calls" in crash(KASAN, **made, program=read).verdict()
    assert "needs 3 calls" in crash(KASAN, **made, program=read * 3).verdict()
