# SPDX-License-Identifier: Apache-2.0
"""Programs of the host: found and run, and how to install one that is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import InfrastructureError
from fuzzer.tools import find_tool, run_tool


@pytest.mark.parametrize(
    ("name", "package"),
    [("bwrap", "bubblewrap"), ("objcopy", "binutils"), ("git", "git"), ("gcov", "gcc")],
)
def test_a_missing_program_is_told_with_its_package(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    told = rf"^doing this: {name} is not on PATH\. Install it: apt-get install {package}$"
    with pytest.raises(InfrastructureError, match=told):
        find_tool(name, "doing this")
    with pytest.raises(InfrastructureError, match=told):
        run_tool([name], "doing this", timeout=9)


def test_another_reason_is_not_said_to_be_a_missing_program(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"doing this: running cat: No such file"):
        run_tool(["cat"], "doing this", timeout=9, cwd=tmp_path / "none")
    script = tmp_path / "script"
    script.touch(mode=0o600)
    with pytest.raises(InfrastructureError, match="Permission denied"):
        run_tool([str(script)], "doing this", timeout=9)


def test_a_program_that_does_not_end_is_given_up() -> None:
    with pytest.raises(InfrastructureError, match="doing this: sleep did not end in 0 s"):
        run_tool(["sleep", "9"], "doing this", timeout=0.1)


def test_a_program_gets_its_input_and_its_status_is_the_callers() -> None:
    done = run_tool(["cat", "-", "/nonexistent"], "doing this", timeout=9, text="a")
    assert (done.stdout, done.returncode) == ("a", 1)
    assert "nonexistent" in done.stderr
