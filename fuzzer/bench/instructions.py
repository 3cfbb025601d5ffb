# SPDX-License-Identifier: Apache-2.0
"""Guest instructions that calls take, counted exactly.

Under ``-icount shift=0`` the guest's time stamp counter advances by one with
each instruction, so the executor's timing of a call is a count that neither
the host's speed nor its load can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import FLAG_TSC
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.paths import project_root
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

# A timer interrupt or work in the background falls into some runs, at a moment
# that depends on how long the guest waited for the host. The least is the cost.
_RUNS = 16


@dataclass(frozen=True, slots=True)
class BenchProgram:
    """A program to measure: its name and wire form."""

    name: str
    wire: bytes


@dataclass(frozen=True, slots=True)
class InstructionCount:
    """Guest instructions of one program, the least of several runs.

    ``program`` counts from the host's request to the executor's answer:
    opening, all calls, reset, coverage and the look at the log. ``calls`` has
    each call's own.
    """

    name: str
    program: int
    calls: tuple[int, ...]

    @property
    def last(self) -> int:
        """The last call's count: the others prepare for it. 0 without calls."""
        return self.calls[-1] if self.calls else 0


def bench_directory(target: Target) -> Path:
    """Return where a target's programs to measure are: ``seeds/bench`` beside it, or ours."""
    beside = target.path.parent / "seeds" / "bench"
    return beside if beside.is_dir() else project_root() / "seeds" / target.name / "bench"


def bench_programs(target: Target) -> tuple[BenchProgram, ...]:
    """Return the programs of a target whose instructions are counted.

    Without any, an empty program stands for the executor's own work.

    Raises:
        BadInputError: a program cannot be parsed.
    """
    paths = sorted(bench_directory(target).glob("*.prog"))
    found = (BenchProgram(path.stem, encode(load_program(path, target))) for path in paths)
    return tuple(found) or (BenchProgram("empty", b""),)


def counting_guest(target: Target, kernel: Kernel) -> Guest:
    """Return a guest that counts instructions. Its template is cached like any other."""
    driver = build_driver(target, kernel)
    return ensure_guest(target, kernel, driver, Accel.TCG, Hardware(icount=True))


def count_instructions(
    guest: Guest, programs: tuple[BenchProgram, ...]
) -> tuple[InstructionCount, ...]:
    """Run programs on a fresh machine of a :func:`counting_guest` and count.

    Raises:
        BadInputError: the guest does not count instructions, or a program
            does not end well.
    """
    if not guest.template.hardware.icount:
        raise BadInputError("counting instructions needs a guest made by counting_guest()")
    with guest.restore() as machine:
        machine.channel.header.flags = FLAG_TSC
        return tuple([_count(machine, program) for program in programs])


def _count(machine: Machine, program: BenchProgram) -> InstructionCount:
    totals: list[int] = []
    calls: list[tuple[int, ...]] = []
    for _ in range(_RUNS):
        run = machine.run(program.wire)
        if run.status or run.log:
            raise BadInputError(
                f"the benchmark program {program.name} ended with {run.status.name}"
                f"{' and a message in the kernel log' if run.log else ''}; "
                "only programs that end well can be measured"
            )
        totals.append(run.tsc)
        calls.append(tuple(result.tsc for result in run.results))
    return InstructionCount(program.name, min(totals), tuple(map(min, zip(*calls, strict=True))))
