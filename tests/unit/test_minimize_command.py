# SPDX-License-Identifier: Apache-2.0
"""What ``pkvfuzz minimize`` refuses, before any machine is started."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.errors import ExitCode
from fuzzer.paths import project_root


def test_a_path_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimize", str(tmp_path / "none")]) == ExitCode.BAD_INPUT
    assert "no such file" in capsys.readouterr().err


def test_a_directory_that_holds_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["minimize", str(tmp_path)]) == ExitCode.BAD_INPUT
    assert "crash.json is missing" in capsys.readouterr().err


def test_a_crash_whose_directory_was_renamed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = next((project_root() / "crashes").glob("kasan-*"))
    renamed = tmp_path / "mine"
    shutil.copytree(stored, renamed)
    assert main(["minimize", str(renamed)]) == ExitCode.BAD_INPUT
    assert stored.name in capsys.readouterr().err
