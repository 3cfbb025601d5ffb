# SPDX-License-Identifier: Apache-2.0
"""Race slots: as many workers race as there are CPUs for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzer.engine.race_slots import RaceSlots


@pytest.mark.parametrize(("cpus", "racers"), [(1, 1), (2, 1), (3, 1), (4, 2)])
def test_as_many_race_as_there_are_cpus_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpus: int, racers: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(cpus)))
    workers = [RaceSlots(tmp_path) for _ in range(4)]
    assert [worker.acquire() for worker in workers] == [n < racers for n in range(4)]
    # Who has one keeps it.
    assert workers[0].acquire()
    workers[0].release()
    assert workers[3].acquire()
    assert not workers[0].acquire()


def test_a_slot_ends_with_the_process_that_has_it(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from fuzzer.engine.race_slots import RaceSlots; "
        "os._exit(0 if RaceSlots(Path(sys.argv[1])).acquire() else 1)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, timeout=60, check=False).returncode == 0
    assert RaceSlots(tmp_path).acquire()
