# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bench``: measures everything in one run and prints it."""

from __future__ import annotations

import os
from pathlib import Path

from fuzzer.bench.instructions import bench_programs, count_instructions, counting_guest
from fuzzer.bench.logspeed import measure_log_speed
from fuzzer.bench.minimizing import measure_minimizing
from fuzzer.bench.profile import profile
from fuzzer.bench.restore import measure_restores
from fuzzer.bench.result import (
    BenchResult,
    FlavourResult,
    Shape,
    Together,
    show_table,
    to_json,
)
from fuzzer.bench.speed import measure_speed, measure_together
from fuzzer.bench.views import ViewsCost, measure_views
from fuzzer.campaign.subject import Subject
from fuzzer.crash.testbeds import RACING
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import ensure_guest
from fuzzer.driver.symbols import symbol_source
from fuzzer.errors import ExitCode, InfrastructureError
from fuzzer.kernel.kernel import STANDARD, Flavour, KernelOptions, ensure_kernel
from fuzzer.machine.accel import AccelChoice, choose_accel
from fuzzer.machine.qemu import qemu_version
from fuzzer.progress import say, show
from fuzzer.target.target import Target, load_target
from fuzzer.wording import count

STDOUT = Path("-")
# Calls of the programs whose speed is compared.
_LENGTHS = (1, 10, 50)


def run_bench(
    target_path: Path,
    *,
    accel: str = "auto",
    json_path: Path | None = None,
    seconds: float = 10.0,
    kernel_options: KernelOptions | None = None,
) -> int:
    """Measure a target's driver on both flavours; return the exit code.

    A table goes to standard output. ``json_path`` is a file that gets the
    same as JSON besides; ``-`` puts the JSON on standard output, and no table.
    ``seconds`` is for the fuzzing loop, on each flavour.

    Raises:
        BadInputError: the description or an option cannot be used.
        InfrastructureError: a build or a machine failed, or ``json_path``
            cannot be written.
    """
    target = load_target(
        target_path, symbol_source(lambda _: ensure_kernel(Flavour.FAST, kernel_options))
    )
    choice = choose_accel(accel)
    flavours = tuple(
        _measure(target, flavour, choice, seconds, kernel_options) for flavour in STANDARD
    )
    shapes, together = _measure_fast(target, choice, seconds, kernel_options)
    views = _measure_campaign(target, choice, seconds, kernel_options)
    say("searching a log")
    result = BenchResult(
        target.name,
        choice.accel,
        choice.reason,
        qemu_version(),
        flavours,
        shapes,
        together,
        measure_log_speed(),
        views,
    )
    if json_path == STDOUT:
        show(to_json(result))
        return ExitCode.NOTHING_FOUND
    show(show_table(result))
    if json_path is not None:
        try:
            json_path.write_text(to_json(result) + "\n")
        except OSError as error:
            raise InfrastructureError(f"writing {json_path}: {error.strerror}") from error
    return ExitCode.NOTHING_FOUND


def _measure(
    target: Target,
    flavour: Flavour,
    choice: AccelChoice,
    seconds: float,
    options: KernelOptions | None,
) -> FlavourResult:
    kernel = ensure_kernel(flavour, options)
    guest = ensure_guest(target, kernel, build_driver(target, kernel), choice.accel)
    say(f"{flavour}: restoring machines")
    restores = measure_restores(guest)
    say(f"{flavour}: fuzzing for {seconds:.0f} s, and the guest alone with the same programs")
    speed = measure_speed(guest, seconds)
    say(f"{flavour}: counting instructions")
    counting, programs = counting_guest(target, kernel), bench_programs(target)
    counts = count_instructions(counting, programs)
    shares = profile(counting, programs, counts)
    say(f"{flavour}: minimizing a crash")
    minimizing = measure_minimizing(target, kernel, choice.accel)
    return FlavourResult(flavour, restores, speed, counts, minimizing, shares)


def _measure_fast(
    target: Target, choice: AccelChoice, seconds: float, options: KernelOptions | None
) -> tuple[tuple[Shape, ...], Together]:
    """Measure what is only of interest where the fuzzing is done."""
    kernel = ensure_kernel(Flavour.FAST, options)
    driver = build_driver(target, kernel)
    guest = ensure_guest(target, kernel, driver, choice.accel)
    racing = ensure_guest(target, kernel, driver, choice.accel, RACING)
    shapes = []
    for calls in _LENGTHS:
        # One call has nothing to race with.
        for threads in (None, racing) if calls > 1 else (None,):
            name = f"{count(calls, 'call')}{', on threads' if threads else ''}"
            say(f"fast: programs of {name}, for {seconds:.0f} s")
            shapes.append(Shape(name, measure_speed(guest, seconds, calls=calls, racing=threads)))
    vms = os.cpu_count() or 1
    say(f"fast: one VM, then {vms} VMs at the same time, for {seconds:.0f} s each")
    alone = measure_speed(guest, seconds)
    return tuple(shapes), Together(vms, alone, measure_together(guest, seconds, vms))


def _measure_campaign(
    target: Target, choice: AccelChoice, seconds: float, options: KernelOptions | None
) -> ViewsCost:
    """Measure what is only there in a campaign."""
    say(f"fast: a campaign with all its views, for {2 * seconds:.0f} s")
    subject = Subject(target, None, options or KernelOptions(), choice.accel)
    guest = subject.guest(ensure_kernel(subject.fuzzed_on, options))
    return measure_views(subject, guest, 2 * seconds)
