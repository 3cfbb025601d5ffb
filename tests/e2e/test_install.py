# SPDX-License-Identifier: Apache-2.0
"""The wheel: holds what an installed pkvfuzz needs, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.e2e.pkvfuzz_process import ROOT


def test_an_installed_copy_finds_its_driver_seeds_and_executor(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("pkvfuzz-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (entry,) = site.glob("*.dist-info/entry_points.txt")
    assert "pkvfuzz = fuzzer.cli.main:console" in entry.read_text()
    assert "[pytest11]\nfuzzer.testing.plugin = fuzzer.testing.plugin" in entry.read_text()
    assert list(site.glob("*.data/data/share/man/man1/pkvfuzz.1"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fuzzer", "run", "--bug", "stale-last", "--programs", "50"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert "of fuzzing: 50 programs" in done.stdout
