# SPDX-License-Identifier: Apache-2.0
"""Three minutes of chaos: processes killed and stopped, a disk filled, and nothing lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.e2e.pkvfuzz_process import ROOT, environment, pkvfuzz


def test_nothing_is_lost_in_three_minutes_of_chaos(tmp_path: Path) -> None:
    # Builds and templates are made here, so that what is killed below is the fuzzing.
    pkvfuzz("run", "--bug", "stale-last", "--programs", 100, cwd=tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    # In a namespace of its own the small disk is gone with the script.
    alone = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else [])]
    chaos = [sys.executable, "-P", "-m", "tests.support.chaos"]
    done = subprocess.run(
        [*alone, *chaos, "--time", "180", "--disk", "160", "--seed", "1", str(disk)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = done.stdout
    for act in ("kill a machine", "kill a worker", "kill the judge", "kill the supervisor"):
        assert act in told, told
    for act in ("stop a machine", "stop a worker", "stop the supervisor", "fill the disk"):
        assert act in told, told
    assert "all is there" in told
