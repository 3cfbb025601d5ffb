# SPDX-License-Identifier: Apache-2.0
"""The stored crashes: the shipped driver shows none, a copy with the bug shows each.

``pkvfuzz replay`` of each is in the end-to-end tests.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fuzzer.campaign.subject import Subject, description_of
from fuzzer.crash.leaks import ARGUMENTS, LEAK
from fuzzer.crash.store import read_crash
from fuzzer.driver.driver import find_bug
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel
from fuzzer.machine.accel import Accel
from fuzzer.paths import project_root
from fuzzer.program.conditions import is_parallel
from fuzzer.program.wire import split
from fuzzer.target.target import Target, load_target, with_params
from tests.vm.guests import GuestFactory
from tests.vm.reproducers import compiled, leak_of, title_of

pytestmark = pytest.mark.vm

BUNDLES = sorted(path.parent for path in (project_root() / "crashes").glob("*/crash.json"))
RUNS = 3


def target_of(bundle: Path) -> Target:
    identity = read_crash(bundle).identity
    path = description_of(identity, bundle)
    assert path is not None
    return with_params(load_target(path), identity.params)


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    """Return each stored crash's directory in turn."""
    path: Path = request.param
    return path


@pytest.mark.parametrize("flavour", [Flavour.FAST, Flavour.FULL])
def test_the_shipped_driver_shows_nothing(bundle: Path, flavour: Flavour, accel: Accel) -> None:
    crash = read_crash(bundle)
    shipped = Subject(target_of(bundle), None, KernelOptions(), accel)
    observe = shipped.setups(ensure_kernel(flavour)).observe(crash.kind)
    for program, history in ((crash.program, crash.history), (crash.original, crash.history)):
        for _ in range(RUNS):
            assert observe(history, program or crash.program)[0].splat is None


def test_its_own_c_file_shows_it(bundle: Path, guest: GuestFactory, tmp_path: Path) -> None:
    crash = read_crash(bundle)
    target = target_of(bundle)
    # With what is in the directory and no more.
    directory = tmp_path / "copy"
    shutil.copytree(bundle, directory)
    binary = compiled(directory)
    programs = (*crash.history, crash.program)
    cpus = 2 if any(is_parallel(split(program)) for program in programs) else 1
    flavour = Flavour(crash.judged_on)
    titles = {crash.title}
    if crash.identity.bug:
        titles |= {*find_bug(target, crash.identity.bug).titles}
    for bug in (crash.identity.bug, None):
        if crash.kind == LEAK:
            made = guest(flavour, bug, target=target, icount=True, arguments=ARGUMENTS)
            shown = leak_of(made, binary)
        else:
            shown = title_of(guest(flavour, bug, target=target, cpus=cpus), binary)
        assert shown in (titles if bug else {None})
