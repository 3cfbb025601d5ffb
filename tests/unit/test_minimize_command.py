# SPDX-License-Identifier: Apache-2.0
"""Input that ``pkvfuzz minimize`` refuses, before any machine is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.errors import ExitCode


def test_a_path_that_does_not_exist(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["minimize", str(tmp_path / "none")]) == ExitCode.BAD_INPUT
    assert "no such file" in capsys.readouterr().err


def test_a_directory_that_holds_no_crash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["minimize", str(tmp_path)]) == ExitCode.BAD_INPUT
    assert "crash.json is missing" in capsys.readouterr().err
