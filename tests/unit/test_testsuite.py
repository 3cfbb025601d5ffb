# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz test``: what it adds up and how it ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.headers import Headers
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.selftest import runner as testsuite


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a checkout with empty directories of tests, and make it the project."""
    for name in ("unit", "vm", "e2e"):
        (tmp_path / "tests" / name).mkdir(parents=True)
    monkeypatch.setattr(testsuite, "project_root", lambda: tmp_path)
    monkeypatch.setattr(testsuite, "ensure_kernel", lambda flavour: None)
    monkeypatch.setattr(testsuite, "ensure_signed_kernel", lambda: None)
    monkeypatch.setattr(testsuite, "_ensure_variants", lambda root: None)
    monkeypatch.setattr(testsuite, "ensure_builtin_kernel", lambda driver, name: None)
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


@pytest.fixture
def full_kernel(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel 6.12.117 that is taken for ``full``."""
    directory = checkout / "build"
    (directory / "include" / "config").mkdir(parents=True)
    (directory / "include" / "config" / "kernel.release").write_text("6.12.117\n")
    kernel = Kernel(Flavour.FULL, directory, directory, "key")
    monkeypatch.setattr(testsuite, "ensure_kernel", lambda flavour: kernel)
    monkeypatch.setattr(testsuite, "_variant_for", lambda description: kernel)
    return kernel


@pytest.mark.usefixtures("full_kernel")
def test_the_c_checks_name_the_kernels_they_built_against(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    offered_series = ["6.12"]

    def offered(series: str) -> Headers | None:
        return Headers(f"{series}.9", Path("/headers")) if series in offered_series else None

    checked: list[tuple[Path, Sequence[Headers]]] = []

    def check(source: Path, tree: Path, build: Path, headers: Sequence[Headers]) -> list[str]:
        checked.append((source, headers))
        return []

    monkeypatch.setattr(testsuite, "ensure_headers", offered)
    monkeypatch.setattr(testsuite, "check_module", check)
    assert testsuite.run_tests("c", []) == 0
    line = capfd.readouterr().out.splitlines()[-1]
    assert line.startswith("driver C checks: passed in ")
    assert line.endswith("(6.12.117 full, 6.1: not offered by this distribution, 6.12.9)")
    newer, older = (Headers(version, Path("/headers")) for version in ("6.12.9", "6.1.9"))
    # The devices' modules only against what their kernel is not.
    assert [(source.name, headers) for source, headers in checked] == [
        ("module", [newer]),
        ("devices", []),
        ("deferred", []),
    ]
    offered_series.append("6.1")
    assert testsuite.run_tests("c", []) == 0
    assert [headers for _, headers in checked[3:]] == [[older, newer], [older], []]


@pytest.mark.usefixtures("full_kernel")
def test_problems_of_the_drivers_source_fail_the_c_checks(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(testsuite, "ensure_headers", lambda series: None)
    monkeypatch.setattr(testsuite, "check_module", lambda *_: ["pkv.c:1:1: warning: odd"])
    assert testsuite.run_tests("c", []) == 1
    assert "pkv.c:1:1: warning: odd" in capfd.readouterr().out


@pytest.mark.usefixtures("full_kernel")
def test_c_checks_without_headers_that_are_offered_could_not_run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(series: str) -> Headers | None:
        raise InfrastructureError(f"no network for {series}")

    monkeypatch.setattr(testsuite, "ensure_headers", fail)
    assert testsuite.run_tests("c", []) == 3
    assert "driver C checks: no network for 6.1" in capfd.readouterr().out


def test_an_unknown_part_is_bad_input() -> None:
    with pytest.raises(BadInputError, match="it is one of"):
        testsuite.run_tests("everything", [])


def test_an_installed_copy_has_no_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(testsuite, "project_root", lambda: tmp_path)
    with pytest.raises(BadInputError, match="runs from a checkout"):
        testsuite.run_tests(None, [])
