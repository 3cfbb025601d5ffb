# SPDX-License-Identifier: Apache-2.0
"""The end of fuzzing by a crash, or for lack of progress."""

from __future__ import annotations

import pytest

from fuzzer.campaign.ending import Ending
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.crash import Crash, Identity


def made(title: str = "BUG", *, reproduced: int, runs: int) -> Crash:
    return Crash(
        title=title,
        kind="kasan",
        function="f",
        judged_on="full",
        reproduced=reproduced,
        runs=runs,
        sightings=1,
        sighted_as=(title,),
        identity=Identity("drv", "drv.yaml", None, "full k", "d", "q", "tcg"),
        report="",
        first_log="",
        program=b"",
    )


def test_a_crash_that_was_shown_again_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    ending = Ending(is_crash=bool)
    assert not ending(Snapshot(started=True))
    assert not ending(Snapshot(started=True, crashes=(made(reproduced=0, runs=0),)))
    assert ending(Snapshot(started=True, crashes=(made(reproduced=3, runs=3),)))
    assert "a crash is stored" in capsys.readouterr().err


def test_an_accepted_crash_does_not() -> None:
    ending = Ending(is_crash=lambda found: any(crash.title != "old" for crash in found))
    assert not ending(Snapshot(started=True, crashes=(made(title="old", reproduced=1, runs=1),)))
    assert ending(Snapshot(started=True, crashes=(made(title="new", reproduced=1, runs=1),)))


def test_no_new_block_for_long_enough_ends_it(capsys: pytest.CaptureFixture[str]) -> None:
    ending = Ending(stale=60)
    for elapsed, covered in ((0, 5), (59, 5), (59.5, 6), (119, 6)):
        assert not ending(Snapshot(started=True, elapsed=elapsed, covered=covered))
    assert ending(Snapshot(started=True, elapsed=119.5, covered=6))
    assert "no new block for 1:00" in capsys.readouterr().err


def test_the_time_before_the_campaign_starts_does_not_count() -> None:
    ending = Ending(stale=10)
    assert not ending(Snapshot(started=False, elapsed=100))
    assert not Ending()(Snapshot(started=True, elapsed=1e6))
