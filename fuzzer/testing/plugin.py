# SPDX-License-Identifier: Apache-2.0
"""A plugin of pytest: tests of a driver, each on a fresh machine whose kernel checks it.

Each pytest loads it where pkvfuzz is installed: what only tests of drivers need is imported
by those.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fuzzer.errors import PkvfuzzError
from fuzzer.testing.configuration import INI, Configuration, configurations

if TYPE_CHECKING:
    from fuzzer.driver.provision import Guest
    from fuzzer.testing.driver_machine import DriverMachine
    from fuzzer.testing.guests import Guests

_CONFIGURATION = "pkvfuzz_configuration"
_MARKER = (
    "pkvfuzz(driver, module, devices, kernels, params, bug, cpus): the driver that a test is of, "
    "and what it runs on; overrules the ini file"
)
_MACHINES: pytest.StashKey[list[DriverMachine]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the ini file."""
    for name, (kind, text) in INI.items():
        parser.addini(name, text, type=kind)


def pytest_configure(config: pytest.Config) -> None:
    """Tell pytest of the marker."""
    config.addinivalue_line("markers", _MARKER)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each test that takes a machine run on each kernel, with each module parameters."""
    if _CONFIGURATION not in metafunc.fixturenames:
        return
    config = metafunc.config
    markers = [dict(mark.kwargs) for mark in metafunc.definition.iter_markers("pkvfuzz")]
    ini = {name: config.getini(name) for name in INI}
    try:
        found = configurations(config.rootpath, ini, markers)
    except PkvfuzzError as error:
        raise pytest.UsageError(f"{metafunc.definition.nodeid}: {error}") from None
    titles = [each.title for each in found]
    metafunc.parametrize(_CONFIGURATION, found, ids=titles, scope="session")


@pytest.fixture(scope="session")
def pkvfuzz_configuration(request: pytest.FixtureRequest) -> Configuration:
    """Return the configuration that a test runs in, which its name has."""
    configuration: Configuration = request.param
    return configuration


@pytest.fixture(scope="session")
def pkvfuzz_guests(pytestconfig: pytest.Config) -> Guests:
    """Return what makes guests, each once in a session."""
    from fuzzer.bootstrap import ensure_packages
    from fuzzer.testing.guests import Guests

    with _told(pytestconfig):
        ensure_packages(["run"])
        return Guests()


@pytest.fixture(scope="session")
def pkvfuzz_guest(
    pytestconfig: pytest.Config,
    pkvfuzz_guests: Guests,
    pkvfuzz_configuration: Configuration,
) -> Guest:
    """Return the guest from which each test gets a fresh machine."""
    with _told(pytestconfig):
        return pkvfuzz_guests.configured(pkvfuzz_configuration)


@pytest.fixture
def machine(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, pkvfuzz_guest: Guest
) -> Iterator[DriverMachine]:
    """Return a fresh machine with the driver; the test fails if its kernel reports anything."""
    from fuzzer.testing.driver_machine import DriverMachine

    with _told(pytestconfig, shown=False):
        made = DriverMachine(pkvfuzz_guest)
    request.node.stash.setdefault(_MACHINES, []).append(made)
    try:
        yield made
        if told := _reported(request.node):
            pytest.fail(told, pytrace=False)
    finally:
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test if the kernel reported anything, whatever the test says."""
    try:
        yield
    except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
        if told := _reported(item):
            own = item.repr_failure(pytest.ExceptionInfo.from_exception(error))
            both = f"{told}\nThe test itself ended with:\n{own}"
            raise pytest.fail.Exception(both, pytrace=False) from None
        raise
    if told := _reported(item):
        pytest.fail(told, pytrace=False)


def _reported(item: pytest.Item) -> str:
    """Return the report of the kernel of a test's machine; empty if there is none."""
    from fuzzer.testing.report import report_text

    for made in item.stash.get(_MACHINES, []):
        try:
            found = made.report()
        except PkvfuzzError as error:
            return f"the machine was lost: {error}"
        if found is not None:
            item.add_report_section("call", "kernel log", "\n".join(made.log_lines()))
            return report_text(found, made.guest)
    return ""


@contextmanager
def _told(config: pytest.Config, *, shown: bool = True) -> Iterator[None]:
    """Turn our errors into failures without a traceback; what a build prints is ``shown``."""
    capture = config.pluginmanager.get_plugin("capturemanager") if shown else None
    try:
        if capture is None:
            yield
        else:
            with capture.global_and_fixture_disabled():
                yield
    except PkvfuzzError as error:
        pytest.fail(f"pkvfuzz: {error}", pytrace=False)
