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
_SLUGGISH = ROOT / "tests" / "drivers" / "strangers" / "sluggish"
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


def test_what_a_campaign_cannot_do_is_said_while_it_runs_and_at_its_end(tmp_path: Path) -> None:
    description = tmp_path / "sluggish.yaml"
    description.write_text(
        "version: 1\nname: sluggish\ndevice: /dev/sluggish\n"
        f"module: {{source: {_SLUGGISH}, name: sluggish, params: shut=1}}\n"
        "calls:\n  - write: ['']\n  - read: [1]\n"
    )
    done = pkvfuzz("run", description, "--programs", 6000, "--seed", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    closed, parameters = (line for line in done.stdout.splitlines() if line.startswith("note: "))
    assert "/dev/sluggish does not open: it was closed in 100%" in closed
    assert "EBUSY (16, " in closed
    assert "parameters that the description does not vary: " in parameters
    assert "pace" in parameters
    assert "shut" not in parameters
    assert parameters in done.stderr.splitlines()
