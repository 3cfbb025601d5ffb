# SPDX-License-Identifier: Apache-2.0
"""Bugs that show while a driver is loaded: seen, shown again by a program, and hiding no others."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import describe
from fuzzer.campaign.discovery import discover
from fuzzer.campaign.loading import load_sighting
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine import machine as machine_module
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.target.target import load_target, with_params
from tests.vm.guests import returned, run, splat

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "bug-at-load"
STUCK = SOURCE.parent / "stuck-at-load"
AT_LOAD = "KASAN: slab-use-after-free Read in early_init"
LATER = "KASAN: slab-out-of-bounds Write in early_read"


@pytest.fixture(scope="module")
def early(
    tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel
) -> tuple[Guest, Guest]:
    """Return a guest with a driver that the kernel complains of at load, and one without that."""
    path = tmp_path_factory.mktemp("early") / "early.yaml"
    path.write_text(
        f"version: 1\nname: early\ndevice: /dev/early\n"
        f"module: {{source: {SOURCE}, name: early}}\ncalls:\n  - read: [1, 64]\n"
    )
    target = load_target(path)
    loud, quiet = (
        ensure_guest(each, fast_kernel, build_driver(each, fast_kernel), accel)
        for each in (target, with_params(target, "keep_quiet=1"))
    )
    return loud, quiet


def test_a_bug_at_load_is_a_sighting_whose_program_shows_it_again(
    early: tuple[Guest, Guest],
) -> None:
    loud, quiet = early
    sighting = load_sighting(loud)
    assert sighting is not None
    assert sighting.title == AT_LOAD
    assert load_sighting(quiet) is None
    for _ in range(2):
        with loud.restore() as machine:
            seen = splat(machine.run(sighting.program).log)
        assert seen is not None
        assert seen.title == AT_LOAD


def test_a_bug_at_load_hides_no_other(early: tuple[Guest, Guest]) -> None:
    for guest in early:
        with guest.restore() as machine:
            seen = splat(run(machine, guest, "read(f0, 64)").log)
        assert seen is not None
        assert seen.title == LATER


def test_a_report_that_is_made_once_a_second_is_shown_again_at_once(
    early: tuple[Guest, Guest], full_kernel: Kernel, accel: Accel
) -> None:
    target = with_params(early[0].target, "keep_quiet=1 doze=1")
    guest = ensure_guest(target, full_kernel, build_driver(target, full_kernel), accel)
    sighting = load_sighting(guest)
    assert sighting is not None
    assert sighting.title == "BUG: sleeping function called from invalid context in early_init"
    with guest.restore() as machine:
        for _ in range(2):
            seen = splat(machine.run(sighting.program).log)
            assert seen is not None
            assert seen.title == sighting.title


def test_a_driver_that_fails_to_load_with_a_report_is_loaded_by_programs(
    tmp_path: Path, fast_kernel: Kernel, accel: Accel
) -> None:
    choice = Choice(SOURCE, params="give_up=1")
    facts, _ = discover(choice, KernelOptions(), accel, Flavour.FAST)
    assert facts.fails
    path = tmp_path / "early.yaml"
    path.write_text(describe(facts, "Made by a test."))
    target = load_target(path)
    assert target.module.fails
    guest = ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)
    assert load_sighting(guest) is None
    with guest.restore() as machine:
        result = run(machine, guest, 'load("give_up=1")')
    assert returned(result) == [(-1, errno.ENODEV)]
    seen = splat(result.log)
    assert seen is not None
    assert seen.title == AT_LOAD
    with guest.restore() as machine:
        # Where a program succeeds, the next one finds it absent again.
        for _ in range(2):
            result = run(machine, guest, 'load("keep_quiet=1")\nopen(f1, O_RDWR)\nread(f1, 1)')
            assert returned(result)[0] == (0, 0)
            assert returned(result)[2] == (0, 0)


def test_a_driver_whose_init_function_hangs_is_loaded_by_programs(
    tmp_path: Path, fast_kernel: Kernel, accel: Accel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine_module, "LOAD_TIMEOUT", 10.0)
    facts, _ = discover(Choice(STUCK), KernelOptions(), accel, Flavour.FAST)
    assert facts.fails
    path = tmp_path / "stuck.yaml"
    path.write_text(describe(facts, "Made by a test."))
    target = load_target(path)
    guest = ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)
    with guest.restore() as machine:
        assert run(machine, guest, 'load("")').status is Status.STUCK
    loaded = replace(target, module=replace(target.module, fails=False))
    with pytest.raises(BadInputError, match=r"hangs, or takes very long.*fails: true"):
        ensure_guest(loaded, fast_kernel, build_driver(loaded, fast_kernel), accel)
