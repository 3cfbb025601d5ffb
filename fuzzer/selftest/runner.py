# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz test``: every check and test of the project, cheapest first."""

from __future__ import annotations

import enum
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from fuzzer.campaign.subject import kernels_for
from fuzzer.errors import BadInputError, ExitCode, InfrastructureError, PkvfuzzError
from fuzzer.kernel.headers import ensure_headers
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, ensure_kernel
from fuzzer.kernel.versions import version_of
from fuzzer.paths import own_description, project_root
from fuzzer.selftest.csource_checks import check_module
from fuzzer.selftest.kernels import ensure_builtin_kernel, ensure_signed_kernel
from fuzzer.target.target import load_shape

GROUPS = ("lint", "c", "unit", "vm", "e2e")

# Kernels that people run the driver on: the headers of each are in some Debian.
HEADER_SERIES = ("6.1", "6.12")
# Its kernel has all that our modules in module/devices need.
_EQUIPPED = Path("tests/data/button/button.yaml")
# Descriptions of drivers that need options of the kernel.
_VARIANTS = (
    Path("vm/targets/uinput/uinput.yaml"),
    Path("tests/data/digest/digest.yaml"),
    _EQUIPPED,
)

_LINT_TIMEOUT_S = 600
_PYTEST_TIMEOUT_S = 3600
# Most tests wait for one guest. More at a time would wait for each other, and a
# file's tests share what they have prepared.
_PYTEST_JOBS = 4
_PYTEST_TESTS_FAILED = 1
_PYTEST_NOTHING_COLLECTED = 5


class StepStatus(enum.Enum):
    """The end of a step."""

    PASSED = "passed"
    FAILED = "failed"
    BROKEN = "could not run"


@dataclass(frozen=True)
class Counts:
    """Numbers of tests by result; ``failed`` counts errors in fixtures too."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step, and the counts of tests if it ran pytest.

    ``note`` says what it looked at, where that depends on the host.
    """

    outcome: StepStatus
    counts: Counts | None = None
    note: str = ""
    output: str = field(default="", repr=False)


@dataclass(frozen=True)
class _SuiteStep:
    group: str
    name: str
    run: Callable[[], StepResult]


def run_tests(only: str | None, pytest_args: Sequence[str]) -> int:
    """Run all steps, or those of one of GROUPS; return the exit code.

    0: all passed; 1: something failed; 3: something could not run. A step that
    fails does not keep the next from running. ``pytest_args`` goes to each run
    of pytest. Raises BadInputError for an unknown group or outside a checkout.
    """
    if only is not None and only not in GROUPS:
        raise BadInputError(f"--only {only}: there is no such part; it is one of {list(GROUPS)}")
    root = project_root()
    if not (root / "tests").is_dir():
        raise BadInputError(
            f"the tests are not in {root}: `pkvfuzz test` runs from a checkout, as ./pkvfuzz test"
        )
    lines: list[str] = []
    results: list[StepResult] = []
    for step in _steps(root, only, pytest_args):
        began = time.monotonic()
        result = _run_step(step)
        took = time.monotonic() - began
        if result.output:
            print(result.output, flush=True)
        note = str(result.counts) if result.counts else result.note
        about = f" ({note})" if note else ""
        lines.append(f"{step.name}: {result.outcome.value} in {took:.1f} s{about}")
        print(f"== {lines[-1]}", flush=True)
        results.append(result)
    if len(lines) > 1:
        print("", *lines, sep="\n")
    counts = [result.counts for result in results if result.counts]
    if not counts:
        return _exit_code(results)
    total = sum(counts, Counts())
    if total == Counts():
        print("no test was run; what was given to pytest selects none")
    print(total, flush=True)
    return int(ExitCode.FOUND) if total == Counts() else _exit_code(results)


def _steps(root: Path, only: str | None, pytest_args: Sequence[str]) -> list[_SuiteStep]:
    tests = root / "tests"

    def tool(*argv: str) -> Callable[[], StepResult]:
        return lambda: _run_tool([sys.executable, "-m", *argv], root)

    def pytest(*directories: str) -> Callable[[], StepResult]:
        return lambda: _run_pytest([tests / name for name in directories], pytest_args, root)

    kernels = _SuiteStep("kernels", "kernels", lambda: _build_kernels(root, only))
    steps = [
        _SuiteStep("lint", "ruff check", tool("ruff", "check")),
        _SuiteStep("lint", "ruff format", tool("ruff", "format", "--check")),
        _SuiteStep("lint", "mypy --strict", tool("mypy", "--strict", "fuzzer", "tests")),
        _SuiteStep("unit", "unit tests", pytest("unit")),
        kernels,
        _SuiteStep("c", "driver C checks", lambda: _check_module(root)),
    ]
    if only in ("vm", "e2e"):
        return [kernels, _SuiteStep(only, f"{only} tests", pytest(only))]
    if only is None:
        return [*steps, _SuiteStep("vm", "VM and end-to-end tests", pytest("e2e", "vm"))]
    wanted = {only, "kernels"} if only == "c" else {only}
    return [step for step in steps if step.group in wanted]


def _run_step(step: _SuiteStep) -> StepResult:
    try:
        return step.run()
    except PkvfuzzError as error:
        return StepResult(StepStatus.BROKEN, output=f"{step.name}: {error}")
    except subprocess.TimeoutExpired as error:
        return StepResult(
            StepStatus.FAILED,
            output=f"{step.name}: still running after {error.timeout:.0f} s; stopped",
        )


def _exit_code(results: Sequence[StepResult]) -> int:
    outcomes = {result.outcome for result in results}
    if StepStatus.FAILED in outcomes:
        return int(ExitCode.FOUND)
    return int(ExitCode.INFRASTRUCTURE if StepStatus.BROKEN in outcomes else ExitCode.NOTHING_FOUND)


def _run_tool(argv: Sequence[str], root: Path) -> StepResult:
    """Run a checker; its output is shown only if it found something."""
    result = subprocess.run(
        argv,
        cwd=root,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_LINT_TIMEOUT_S,
    )
    if result.returncode == 0:
        return StepResult(StepStatus.PASSED)
    return StepResult(StepStatus.FAILED, output=result.stdout.rstrip())


def _build_kernels(root: Path, only: str | None) -> StepResult:
    # A step of its own: minutes on a fresh machine, and inside pytest nobody
    # would see the progress.
    for flavour in Flavour if only != "c" else (Flavour.FULL,):
        ensure_kernel(flavour)
    if only in (None, "vm"):
        _ensure_variants(root)
        ensure_signed_kernel()
        description = own_description()
        ensure_builtin_kernel(description.parent, description.stem)
    return StepResult(StepStatus.PASSED)


def _ensure_variants(root: Path) -> None:
    for path in _VARIANTS:
        _variant_for(root / path)


def _variant_for(description: Path) -> Kernel:
    return ensure_kernel(Flavour.FAST, kernels_for(load_shape(description), KernelOptions()))


def _check_module(root: Path) -> StepResult:
    kernel = ensure_kernel(Flavour.FULL)
    release = kernel.directory / "include" / "config" / "kernel.release"
    built_against = [f"{release.read_text().strip()} full"]
    found = []
    for series in HEADER_SERIES:
        headers = ensure_headers(series)
        if headers is None:
            built_against.append(f"{series}: not offered by this distribution")
        else:
            built_against.append(headers.version)
            found.append(headers)
    problems = check_module(own_description().parent, kernel.source, kernel.directory, found)
    # Of this version the kernel itself has all that these modules are for.
    equipped, version = _variant_for(root / _EQUIPPED), version_of(built_against[0])
    others = [each for each in found if version_of(each.version) != version]
    problems += check_module(
        root / "module" / "devices", equipped.source, equipped.directory, others
    )
    # It is for kernels with KCOV, and distributions have none.
    problems += check_module(root / "module" / "deferred", kernel.source, kernel.directory, [])
    outcome = StepStatus.FAILED if problems else StepStatus.PASSED
    return StepResult(outcome, note=", ".join(built_against), output="\n".join(problems))


def _run_pytest(paths: Sequence[Path], pytest_args: Sequence[str], root: Path) -> StepResult:
    """Run pytest on those of ``paths`` that exist, its output on the terminal."""
    present = [str(path.relative_to(root)) for path in paths if path.is_dir()]
    if not present:
        raise InfrastructureError(f"no tests in {', '.join(map(str, paths))}")
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-test-") as directory:
        report = Path(directory) / "report.xml"
        jobs = min(_PYTEST_JOBS, len(os.sched_getaffinity(0)))
        # In the order of the paths: files of few tests, which may take long, need not come last.
        parallel = [f"--numprocesses={jobs}", "--dist=loadfile", "--no-loadscope-reorder"]
        argv = [sys.executable, "-m", "pytest", f"--junitxml={report}", *parallel]
        argv += [*pytest_args, *present]
        code = subprocess.run(argv, cwd=root, check=False, timeout=_PYTEST_TIMEOUT_S).returncode
        counts = _read_counts(report) if report.is_file() else None
    # A selection such as -k may leave nothing of one directory.
    if code == 0 or (code == _PYTEST_NOTHING_COLLECTED and pytest_args):
        return StepResult(StepStatus.PASSED, counts)
    if code in (_PYTEST_TESTS_FAILED, _PYTEST_NOTHING_COLLECTED):
        return StepResult(StepStatus.FAILED, counts)
    return StepResult(StepStatus.BROKEN, counts, output=f"pytest ended with exit code {code}")


def _read_counts(report: Path) -> Counts:
    """Add up the suites of a JUnit XML report."""
    root = ElementTree.parse(report).getroot()  # noqa: S314 - our own pytest wrote it
    suites = list(root.iter("testsuite"))

    def total(name: str) -> int:
        return sum(int(suite.get(name, "0")) for suite in suites)

    failed = total("failures") + total("errors")
    skipped = total("skipped")
    return Counts(total("tests") - failed - skipped, failed, skipped)
