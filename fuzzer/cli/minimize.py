# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz minimize``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.campaign.stages.minimizing import with_minimal
from fuzzer.cli.given import open_crash
from fuzzer.cli.options import add_kernel, add_leaks, add_target_options, parse_duration
from fuzzer.crash.crash import Crash
from fuzzer.crash.judge import VERIFY_RUNS
from fuzzer.crash.minimizer.minimize import Minimized, Minimizer
from fuzzer.crash.rate import show_interval
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.store import CrashStore
from fuzzer.crash.testbeds import Testbeds
from fuzzer.errors import ExitCode
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode, split
from fuzzer.progress import Progress, say, show
from fuzzer.splat.splat import Splat
from fuzzer.target.target import Target
from fuzzer.wording import count


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``minimize`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the program there [the crash directory; of a .prog standard output]",
    )
    parser.add_argument(
        "--time", type=parse_duration, default=600.0, metavar="T", help="at most [10m]"
    )
    add_kernel(parser)
    add_leaks(parser)
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Minimise; returns 1 when the crash was reproduced."""
    given = open_crash(options)
    start, crash, target = given.reproducer, given.crash, given.subject.target
    setups = given.setups()
    bug = given.bug or _first_splat(setups, start, given.kind)
    found = _minimized(setups, target, start, bug, options.time) if bug else None
    if found is None:
        show("not reproduced")
        return int(ExitCode.NOTHING_FOUND)
    if crash and options.output is None:
        path: Path = options.crash.resolve()
        CrashStore(path.parent).put_at(path, with_minimal(crash, found), target)
    _write(found, crash, target, options.output)
    _tell(start, found)
    return int(ExitCode.FOUND)


def _first_splat(setups: Testbeds, start: Reproducer, kind: str) -> Splat | None:
    """Return what a program shows first, on a few machines at most."""
    observe = setups.observe(kind)
    for _ in range(VERIFY_RUNS):
        outcome, _number = observe(start.history, start.program)
        if outcome.splat:
            return outcome.splat
    return None


def _minimized(
    setups: Testbeds, target: Target, start: Reproducer, bug: Splat, limit: float
) -> Minimized | None:
    say(f"minimizing {_size(start)}: {bug.title}")
    minimizer = Minimizer(setups, target, start, bug, limit=limit)
    progress = Progress("minimizing")
    try:
        while minimizer.step():
            progress.update(0, _size(minimizer.best))
    finally:
        minimizer.close()
    progress.finish(_size(minimizer.best))
    return minimizer.result


def _size(reproducer: Reproducer) -> str:
    calls, before = len(split(reproducer.program)), len(reproducer.history)
    text = f"{count(calls, 'call')}, {count(len(reproducer.program), 'byte')}"
    return f"{text}, {count(before, 'program')} before it" if before else text


def _write(found: Minimized, crash: Crash | None, target: Target, output: Path | None) -> None:
    program = found.reproducer.program
    text = format_program(decode(program), target)
    if output is None:
        show(text, end="")
    elif output.suffix == ".prog":
        title = crash.title if crash else found.splat.title
        write_output(output, f"# {title}\n{text}")
    else:
        write_output(output, program)


def _tell(start: Reproducer, found: Minimized) -> None:
    """Say on standard error what came of it: standard output may be the program."""
    effort = found.effort
    say(f"from {_size(start)} to {_size(found.reproducer)}")
    say(
        f"in {found.seconds:.1f} s, {count(effort.runs, 'run')} on "
        f"{count(effort.restores, 'machine')}"
        + ("" if found.complete else "; time was over before everything was tried")
    )
    say(
        f"reproduced {found.hits} of {found.runs} ({show_interval(found.hits, found.runs)}): "
        f"{found.splat.title}"
    )
