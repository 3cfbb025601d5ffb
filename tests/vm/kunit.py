# SPDX-License-Identifier: Apache-2.0
"""The driver's KUnit suites: what cases there are, and one run of them all."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fuzzer.driver.driver import Driver
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.machine.template import Template
from tests.support.gcov import FileCoverage, read_coverage
from tests.support.ktap import Report, Result, parse_ktap

VARIABLES = ("CONFIG_PKV_KUNIT_TEST=y", "GCOV_PROFILE=y")

# What the last run covered, as a table: for the end of pytest's output.
COVERAGE_TABLE = pytest.StashKey[str]()
_OUTPUT = "coverage_table"


def tell_coverage(config: pytest.Config, table: str) -> None:
    """Leave a table for the end of the test run, which may be in another process."""
    config.stash[COVERAGE_TABLE] = table
    if output := getattr(config, "workeroutput", None):
        output[_OUTPUT] = table


def take_coverage(config: pytest.Config, output: dict[str, object]) -> None:
    """Take the table that a worker of this test run left, if it did."""
    if table := output.get(_OUTPUT):
        config.stash[COVERAGE_TABLE] = str(table)


_GCOV = "/sys/kernel/debug/gcov"
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_CASES = re.compile(r"struct kunit_case (\w+)\[\]\s*=\s*\{(.*?)\n\};", re.DOTALL)
_CASE = re.compile(r"\bKUNIT_CASE(?:_[A-Z]+)*\(\s*(\w+)")
_SUITE = re.compile(r"struct kunit_suite \w+\s*=\s*\{(.*?)\n\};", re.DOTALL)
_NAME = re.compile(r"\.name\s*=\s*\"([^\"]+)\"")
_TEST_CASES = re.compile(r"\.test_cases\s*=\s*(\w+)")


def listed_cases(source: str) -> list[tuple[str, str]]:
    """Return suite and name of each case that a C file defines, in order.

    Raises:
        ValueError: there is none, or a suite is written in another way.
    """
    code = _COMMENT.sub(" ", source)
    arrays = {match[1]: _CASE.findall(match[2]) for match in _CASES.finditer(code)}
    found = []
    for suite in _SUITE.findall(code):
        name, cases = _NAME.search(suite), _TEST_CASES.search(suite)
        if not name or not cases or not arrays.get(cases[1]):
            raise ValueError(f"no name or no cases in this suite: {suite.strip()}")
        found += [(name[1], case) for case in arrays[cases[1]]]
    if not found:
        raise ValueError("no KUnit suite in the source")
    return found


@dataclass(frozen=True, slots=True)
class KunitRun:
    """One load of the driver with its KUnit suites, and the unload.

    ``failure`` says why the driver could not be loaded and unloaded, or is
    empty. ``coverage`` is that of the driver's own code, without its tests.
    """

    log: bytes = field(repr=False)
    report: Report = field(repr=False)
    failure: str
    coverage: list[FileCoverage]

    def case(self, suite: str, name: str) -> Result | None:
        """Return the result of a case, if there is one."""
        for found, case in self.report.cases():
            if (found, case.name) == (suite, name):
                return case
        return None


def run_kunit(base: Template, driver: Driver, image: DriverImage, data: Path) -> KunitRun:
    """Load a driver into a fresh machine, which runs its suites, and unload it again.

    ``data`` is a directory for what gcov needs.
    """
    log, failure = b"", ""
    coverage: list[FileCoverage] = []
    with Machine.restore(base) as machine:
        try:
            machine.load(image)
            log = machine.channel.log()
            machine.command(Command.UNLOAD)
            log += machine.channel.log()
            # The kernel keeps the counts of a module that is gone.
            _copy_gcov_data(machine, driver.object.parent, data)
        except LostMachineError as error:
            failure = str(error)
            # Of a guest that died, its console is all there is.
            log += machine.console_text().encode()
        except (BadInputError, InfrastructureError) as error:
            failure = str(error)
            log += machine.channel.log()
    if not failure:
        coverage = [
            file for file in read_coverage(data, driver.object.parent) if "kunit" not in file.name
        ]
    return KunitRun(log, parse_ktap(log.decode(errors="replace")), failure, coverage)


def _copy_gcov_data(machine: Machine, build: Path, data: Path) -> None:
    """Copy the build's ``.gcno`` files to ``data``, and beside them the guest's ``.gcda`` files."""
    listing = _in_guest(machine, "find", _GCOV, "-name", "*.gcda").decode().splitlines()
    for note in build.rglob("*.gcno"):
        copy = data / note.relative_to(build)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(note, copy)
        # The kernel names the data by where the object was built.
        recorded = f"{_GCOV}{note.with_suffix('.gcda')}"
        if recorded in listing:
            copy.with_suffix(".gcda").write_bytes(_in_guest(machine, "cat", recorded))


def _in_guest(machine: Machine, *command: str) -> bytes:
    done = machine.execute(["/bin/busybox", *command])
    if done.status or done.truncated:
        raise InfrastructureError(
            f"{' '.join(command)} in the guest ended with {done.status}: "
            f"{done.output[:200].decode(errors='replace')}"
        )
    return done.output
