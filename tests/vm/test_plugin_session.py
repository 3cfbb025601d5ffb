# SPDX-License-Identifier: Apache-2.0
"""Sessions of pytest in a driver's own repository, with the plugin."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzer.paths import import_root, own_description
from fuzzer.testing.driver_machine import DriverMachine

# All that is in one session is made once.
TESTS = """\
import os
import pytest

def use_stale(machine):
    file = machine.open()
    file.write(b"a=1\\n")
    file.ioctl("PKV_IOC_DELETE", {"key_len": 1, "key": b"a"})
    return file.read(9)


def test_passes(machine):
    assert machine.open().write(b"a=1\\n") == 4


@pytest.mark.pkvfuzz(bug="stale-last")
def test_asserts_nothing(machine):
    use_stale(machine)


@pytest.mark.pkvfuzz(bug="stale-last")
def test_asserts_what_is_wrong(machine):
    assert use_stale(machine) == b"never"


@pytest.mark.xfail(strict=True)
@pytest.mark.pkvfuzz(bug="stale-last")
def test_is_expected_to_fail(machine):
    use_stale(machine)


@pytest.mark.pkvfuzz(params=["lock=rcu", "lock=rwsem"])
def test_strategies(machine):
    lock = machine.shell("grep ^lock: /proc/pkv").split()[1]
    assert machine.guest.target.module.params == f"lock={lock}"
"""


def run_pytest(directory: Path, *arguments: str) -> str:
    """Return what pytest prints in a directory."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "fuzzer.testing.plugin", *arguments],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(import_root()), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the output of a session with two workers."""
    directory = tmp_path_factory.mktemp("session")
    (directory / "test_it.py").write_text(TESTS)
    (directory / "pytest.ini").write_text(
        f"[pytest]\npkvfuzz_driver = {own_description()}\npkvfuzz_kernels = fast\n"
    )
    return run_pytest(directory, "-n", "2", "-rA", "--basetemp", str(directory / "tmp"))


def test_each_kernel_and_each_parameters_is_a_test(session: str) -> None:
    assert "PASSED test_it.py::test_passes[fast]" in session
    assert "PASSED test_it.py::test_strategies[fast-lock=rcu]" in session
    assert "PASSED test_it.py::test_strategies[fast-lock=rwsem]" in session
    assert "3 passed, 1 xfailed" in session
    assert "2 failed" in session


def test_a_report_fails_a_test_that_asserts_nothing(session: str) -> None:
    title = "KASAN: slab-use-after-free Read in pkv_store_last"
    assert f"FAILED test_it.py::test_asserts_nothing[fast] - Failed: {title}" in session
    # With file and line, and the lines there.
    assert "pkv_store.c:" in session
    assert "BUG: KASAN: slab-use-after-free in pkv_store_last" in session


def test_a_report_stands_before_what_the_test_says(session: str) -> None:
    title = "KASAN: slab-use-after-free Read in pkv_store_last"
    assert f"FAILED test_it.py::test_asserts_what_is_wrong[fast] - Failed: {title}" in session
    assert "The test itself ended with:" in session
    assert "b'never'" in session


def test_mistakes_are_told_when_tests_are_collected(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(machine):\n    pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npkvfuzz_driver = nowhere\n")
    printed = run_pytest(tmp_path, "--basetemp", str(tmp_path / "tmp"))
    assert f"there is no {tmp_path / 'nowhere'}" in printed
    assert "Traceback" not in printed


@pytest.mark.pkvfuzz(driver="tests/data/testdrv/testdrv.yaml", kernels=["fast"])
def test_a_guest_that_dies_ends_the_test_with_its_report(machine: DriverMachine) -> None:
    with pytest.raises(Exception, match="can make no more calls: "):
        machine.open().ioctl("TD_PANIC")
    found = machine.report()
    assert found is not None
    assert "panic" in found.title
    with pytest.raises(Exception, match="its kernel died before"):
        machine.open()
