# SPDX-License-Identifier: Apache-2.0
"""Data races: reported on the kcsan kernel, and the shipped driver has none."""

from __future__ import annotations

import random

import pytest

from fuzzer.campaign.seeds import load_seeds
from fuzzer.crash.observe import run_program
from fuzzer.crash.testbeds import RACING
from fuzzer.driver.driver import build_driver, find_bug
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.paths import project_root
from fuzzer.program.mutate import Mutator
from fuzzer.program.program import MAX_PROGRAM_SIZE
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target, with_params

pytestmark = pytest.mark.vm

RACES = 400
# Some ten to some hundred runs are usual.
BUG_RUNS = 20_000


def racing_guest(target: Target, kernel: Kernel, accel: Accel, bug: str | None = None) -> Guest:
    driver = build_driver(target, kernel, find_bug(target, bug) if bug else None)
    return ensure_guest(target, kernel, driver, accel, RACING)


def test_a_data_race_is_reported_with_both_sides(
    pkv_target: Target, kcsan_kernel: Kernel, accel: Accel
) -> None:
    bug = find_bug(pkv_target, "list-race")
    program = encode(load_program(bug.path.with_suffix(".prog"), pkv_target))
    with racing_guest(pkv_target, kcsan_kernel, accel, bug.name).restore() as machine:
        for _ in range(BUG_RUNS):
            splat = run_program(machine, program, late=False).splat
            if splat:
                break
    assert splat is not None
    assert splat.title == bug.expect
    assert splat.kind == "kcsan"
    assert splat.text.count("[pkv]") > 1


@pytest.mark.parametrize("lock", ["mutex", "rwsem", "rcu"])
def test_the_shipped_driver_has_no_data_race(
    pkv_target: Target, kcsan_kernel: Kernel, accel: Accel, lock: str
) -> None:
    target = with_params(pkv_target, f"lock={lock}")
    seeds = load_seeds(target, None, 1)
    rng = random.Random(1)
    mutator = Mutator(target, rng, lambda data, size: data[:size], max_calls=12)
    for seed in seeds:
        mutator.note(seed)
    bugs = sorted((project_root() / "module" / "bugs").glob("*race*.prog"))
    programs = [encode(load_program(path, target)) for path in bugs] * 20
    programs += [mutator.race(rng.choice(seeds), MAX_PROGRAM_SIZE // 8) for _ in range(RACES)]
    with racing_guest(target, kcsan_kernel, accel).restore() as machine:
        for program in programs:
            splat = run_program(machine, program, late=False).splat
            assert splat is None, splat.text
