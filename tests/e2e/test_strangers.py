# SPDX-License-Identifier: Apache-2.0
"""One command, from a stranger's directory to a stored crash and a description of what was seen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.e2e.pkvfuzz_process import ROOT, pkvfuzz

pytestmark = pytest.mark.e2e

_RECKLESS = ROOT / "tests" / "drivers" / "strangers" / "reckless"
_TITLE = "KASAN: slab-use-after-free Read in reckless_read"


def test_a_directory_leads_to_a_crash_and_to_a_description(tmp_path: Path) -> None:
    driver = tmp_path / "reckless"
    shutil.copytree(_RECKLESS, driver)
    before = {path: path.read_bytes() for path in driver.iterdir()}
    done = pkvfuzz("run", "reckless", "--time", "10s", "--seed", 2, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert _TITLE in done.stdout
    assert "by: make" in done.stderr
    workdir = tmp_path / "work" / "reckless"
    (record,) = workdir.glob("crashes/*/crash.json")
    crash = json.loads(record.read_text())
    assert (crash["title"], crash["judged_on"]) == (_TITLE, "full")
    assert "read" in (record.parent / "program.prog").read_text()
    assert {path: path.read_bytes() for path in driver.iterdir()} == before

    learned = workdir / "learned.yaml"
    assert 'major: "reckless"' in learned.read_text() or "major: reckless" in learned.read_text()
    checked = pkvfuzz("target", "check", learned, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    again = (
        "run",
        learned,
        "--programs",
        300,
        "--known",
        workdir / "crashes",
        "--workdir",
        "again",
    )
    done = pkvfuzz(*again, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
