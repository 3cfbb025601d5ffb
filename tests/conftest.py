# SPDX-License-Identifier: Apache-2.0
"""Things that all tests share: the driver's description, and a marker by directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis
import pytest

from fuzzer.paths import project_root
from fuzzer.target.target import Target, load_target
from tests.vm.kunit import COVERAGE_TABLE, take_coverage

# A busy machine must not fail a test.
hypothesis.settings.register_profile("pkvfuzz", deadline=None)
hypothesis.settings.load_profile("pkvfuzz")

pytest_plugins = ["fuzzer.testing.plugin"]
_TESTS = Path(__file__).parent
_MARKED = ("vm", "e2e")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests below ``vm/`` and ``e2e/`` as what they are."""
    for item in items:
        for name in _MARKED:
            if item.path.is_relative_to(_TESTS / name):
                item.add_marker(name)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist has to tell at its end."""
    take_coverage(node.config, getattr(node, "workeroutput", {}))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print what the driver's KUnit suites covered, if they ran."""
    if table := config.stash.get(COVERAGE_TABLE, None):
        terminalreporter.section("the driver's coverage by its KUnit suites")
        terminalreporter.write_line(table)


@pytest.fixture(scope="session")
def pkv_target() -> Target:
    """Return the description of the shipped driver."""
    return load_target(project_root() / "module" / "pkv.yaml")
