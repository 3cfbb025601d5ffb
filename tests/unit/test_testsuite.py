# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz test``: what it adds up and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.cli import testsuite
from fuzzer.errors import BadInputError


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with empty directories of tests, and make it the project."""
    for name in ("unit", "vm", "e2e"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    monkeypatch.setattr(testsuite, "project_root", lambda: tmp_path)
    monkeypatch.setattr(testsuite, "ensure_kernel", lambda flavour: None)
    return tmp_path


def test_passing_tests_end_in_0_and_a_line_of_counts(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (checkout / "tests/unit/test_a.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    assert testsuite.run_tests("unit", []) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "2 passed, 0 failed"


def test_a_failing_test_ends_in_1(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkout / "tests/unit/test_a.py").write_text(
        "import pytest\n"
        "def test_a(): pass\n"
        "def test_b(): assert False\n"
        "def test_c(no_such_fixture): pass\n"
        "def test_d(): pytest.skip('not here')\n"
    )
    assert testsuite.run_tests("unit", []) == 1
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 2 failed, 1 skipped"


def test_arguments_reach_pytest(checkout: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (checkout / "tests/vm/test_a.py").write_text("def test_a(): pass\ndef test_b(): pass\n")
    assert testsuite.run_tests("vm", ["-k", "test_b"]) == 0
    assert capfd.readouterr().out.splitlines()[-1] == "1 passed, 0 failed"


def test_a_selection_of_no_test_fails(checkout: Path) -> None:
    (checkout / "tests/unit/test_a.py").write_text("def test_a(): pass\n")
    assert testsuite.run_tests("unit", ["-k", "no_such_test"]) == 1


def test_pytest_that_cannot_run_ends_in_3(checkout: Path) -> None:
    (checkout / "tests/unit/test_a.py").write_text("def test_a(): pass\n")
    assert testsuite.run_tests("unit", ["--no-such-option"]) == 3


def test_all_steps_run_even_if_an_earlier_one_fails(
    checkout: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (checkout / "fuzzer").mkdir()
    (checkout / "fuzzer/ugly.py").write_text("import os\nx: int = ''")
    assert testsuite.run_tests("lint", []) == 1
    output = capfd.readouterr().out
    for step in ("ruff check", "ruff format", "mypy --strict"):
        assert f"== {step}: failed" in output


def test_an_unknown_part_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="it is one of"):
        testsuite.run_tests("everything", [])


def test_an_installed_copy_has_no_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testsuite, "project_root", lambda: tmp_path)
    with pytest.raises(BadInputError, match="runs from a checkout"):
        testsuite.run_tests(None, [])
