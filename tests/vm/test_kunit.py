# SPDX-License-Identifier: Apache-2.0
"""The driver's KUnit suites on the ``full`` kernel: a test for each case, and their coverage."""

from __future__ import annotations

import pytest

from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import driver_image, ensure_base
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import Hardware
from fuzzer.paths import project_root
from fuzzer.target.target import Target
from tests.support.gcov import format_table, total_coverage
from tests.support.ktap import Outcome
from tests.vm.guests import splat
from tests.vm.kunit import VARIABLES, KunitRun, listed_cases, run_kunit, tell_coverage

# Read when tests are collected: no kernel, driver or guest is needed to list them.
_CASES = listed_cases((project_root() / "module" / "pkv_kunit.c").read_text())
_LEAST_LINE_COVERAGE = 0.95


@pytest.fixture(scope="session")
def kunit(
    pytestconfig: pytest.Config,
    tmp_path_factory: pytest.TempPathFactory,
    pkv_target: Target,
    full_kernel: Kernel,
    accel: Accel,
) -> KunitRun:
    """Return what came of loading the driver with its suites: once in a session."""
    driver = build_driver(pkv_target, full_kernel, variables=VARIABLES)
    base = ensure_base(full_kernel, accel, Hardware())[0]
    image = driver_image(pkv_target, driver)
    run = run_kunit(base, driver, image, tmp_path_factory.mktemp("gcov"))
    if run.coverage:
        tell_coverage(pytestconfig, format_table(run.coverage))
    return run


@pytest.mark.parametrize(("suite", "name"), _CASES, ids=[f"{of}::{name}" for of, name in _CASES])
def test_kunit(kunit: KunitRun, suite: str, name: str) -> None:
    # Without a traceback: what matters is where the case failed, in C.
    case = kunit.case(suite, name)
    if case is None:
        pytest.fail(f"it has no result: {kunit.failure or 'it did not run'}", pytrace=False)
    # Everything the suites need is in this kernel: what is skipped is a mistake.
    whole = [case, *case.parts]
    if any(part.outcome is not Outcome.OK or part.errors for part in whole):
        pytest.fail(case.describe(), pytrace=False)


def test_the_driver_with_its_suites_is_loaded_and_unloaded(kunit: KunitRun) -> None:
    assert kunit.failure == ""


def test_the_cases_that_ran_are_those_in_the_source(kunit: KunitRun) -> None:
    assert [(suite, case.name) for suite, case in kunit.report.cases()] == _CASES


def test_each_suite_passed_and_its_output_is_whole(kunit: KunitRun) -> None:
    suites = {suite.name: suite for suite in kunit.report.suites}
    assert list(suites) == list(dict.fromkeys(suite for suite, _ in _CASES))
    assert kunit.report.all_errors() == []
    # Why a case failed is told by the case's own test; a suite may fail before its first one.
    for suite in suites.values():
        assert suite.outcome is Outcome.OK, "\n".join(suite.diagnostics)


def test_the_kernel_has_nothing_to_complain_of_meanwhile(kunit: KunitRun) -> None:
    assert kunit.log
    if found := splat(kunit.log):
        pytest.fail(found.text, pytrace=False)


def test_the_suites_cover_the_driver(kunit: KunitRun) -> None:
    assert kunit.coverage, f"no coverage was recorded: {kunit.failure}"
    total = total_coverage(kunit.coverage)
    assert total.hit / total.lines >= _LEAST_LINE_COVERAGE, f"\n{format_table(kunit.coverage)}"
