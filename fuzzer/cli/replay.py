# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz replay``."""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fuzzer.cli.debugger import check_gdb, debug
from fuzzer.cli.given import CommandInput, open_crash
from fuzzer.cli.options import add_kernel, add_leaks, add_target_options, parse_positive
from fuzzer.crash.dedup import Wanted, same_bug
from fuzzer.crash.exact import LIMIT, find_schedule
from fuzzer.crash.rate import show_interval
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.testbeds import Testbeds
from fuzzer.crash.trace import Tracer, keep_trace
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.program.conditions import is_parallel
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode, split
from fuzzer.progress import say, show
from fuzzer.report.trace import format_trace
from fuzzer.splat.splat import Splat
from fuzzer.target.target import Target
from fuzzer.wording import count

_SEED = 1


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``replay`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    parser.add_argument("--times", type=parse_positive, default=1, metavar="N", help="machines [1]")
    add_kernel(parser)
    parser.add_argument(
        "--schedule", action="store_true", help="look for one under which a race happens each time"
    )
    add_leaks(parser)
    parser.add_argument(
        "--trace",
        action="store_true",
        help="print each call with what it returned, up to the report",
    )
    parser.add_argument(
        "--gdb",
        action="store_true",
        help="stop in the function that the report names, in gdb, before it goes wrong",
    )
    parser.add_argument(
        "--gdb-server",
        action="store_true",
        help="the same for a gdb that you start: print its command line and wait for it",
    )
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Replay; returns 1 when the crash was reproduced at least once."""
    _check_options(options)
    given = open_crash(options)
    target, bug = given.subject.target, given.bug
    setups = given.setups()
    start = given.reproducer
    if options.schedule:
        start = _scheduled(start, bug, setups, target)
    if options.gdb or options.gdb_server:
        return _debug(replace(given, reproducer=start), setups, serve=options.gdb_server)
    wanted = Wanted(bug) if bug else None
    tracer = Tracer(setups, given.kind, wanted) if options.trace else None
    observe = tracer.observe if tracer else setups.observe(given.kind, wanted)
    same, splat = 0, None
    traced = ""
    others: dict[str, int] = {}
    before: dict[str, int] = {}
    for number in range(options.times):
        outcome, at = observe(start.history, start.program)
        if tracer and (splat is None or outcome.splat):
            traced = _traced(tracer, at, len(start.history), target)
        if outcome.splat is None:
            continue
        if bug is None or same_bug(bug, outcome.splat):
            same += 1
            splat = outcome.splat
            _add_titles(before, outcome.others)
        else:
            _add_titles(others, (outcome.splat.title, *outcome.others))
            splat = splat or outcome.splat
        if options.times >= 10 and number % 10 == 9:
            say(f"{number + 1} of {options.times} runs, {same} reproduced")
    show(traced, end="")
    if traced and same:
        keep_trace(options.crash, traced)
    title = bug.title if bug else None
    code = _tell(options.times, title, same, others, splat)
    for other, seen in before.items():
        show(f"after another report in {seen} of {same}: {other}")
    if title is not None:
        show(f"verdict: {_verdict(same, others)}")
    return code


def _add_titles(counts: dict[str, int], titles: Iterable[str]) -> None:
    for title in titles:
        counts[title] = counts.get(title, 0) + 1


def _check_options(options: argparse.Namespace) -> None:
    """Raise an error for options that exclude each other, or if gdb is not here."""
    debugger = "--gdb" if options.gdb else "--gdb-server" if options.gdb_server else ""
    if debugger and (options.trace or options.times > 1 or (options.gdb and options.gdb_server)):
        raise BadInputError(
            f"{debugger} excludes --trace, --times and {'--gdb-server' if options.gdb else '--gdb'}"
        )
    if options.gdb:
        check_gdb()


def _debug(given: CommandInput, setups: Testbeds, *, serve: bool) -> int:
    """Stop gdb at the crash, whose place is found by running it if it is not known."""
    program, history = given.reproducer.program, given.reproducer.history
    bug = given.bug
    if bug is None:
        say("running the program once, to see where it goes wrong")
        bug = setups.observe(given.kind)(history, program)[0].splat
        say(bug.title if bug else "the kernel does not complain of it")
    function = bug.function if bug else None
    place = setups.place(given.kind, history, program)
    wanted = Wanted(bug) if bug else None
    debug(place, history, program, function, wanted, serve=serve)
    return int(ExitCode.NOTHING_FOUND)


def _traced(tracer: Tracer, at: int, before: int, target: Target) -> str:
    if tracer.trace is None:
        return f"(program {at + 1} of the {before} before it had the kernel complain)\n"
    return format_trace(tracer.trace, target)


def _scheduled(
    reproducer: Reproducer, bug: Splat | None, setups: Testbeds, target: Target
) -> Reproducer:
    """Return the reproducer with a schedule, as it was if none was found; says which."""
    if not is_parallel(split(reproducer.program)):
        raise BadInputError("--schedule: the program has no threads")
    found = find_schedule(
        setups.exact,
        reproducer.program,
        random.Random(_SEED),
        history=reproducer.history,
        title=bug.title if bug else None,
    )
    if found is None:
        say(f"no schedule found in {LIMIT} tries")
        return reproducer
    say(f"schedule found in {found.tried} runs")
    show(format_program(decode(found.program), target), end="")
    return replace(reproducer, program=found.program)


def _tell(
    times: int, title: str | None, same: int, others: dict[str, int], splat: Splat | None
) -> int:
    if splat:
        show(splat.text, end="")
    if same:
        name = splat.title if splat and title is None else title
        show(f"reproduced {same} of {times}: {name}")
        if times > 1:
            show(f"rate: {show_interval(same, times)} (95 % confidence)")
    elif others:
        show(f"not reproduced in {times} runs, but something else happened")
    else:
        show(f"not reproduced in {count(times, 'run')}")
    for other, seen in others.items():
        show(f"a different crash {seen} of {times}: {other}")
    return int(ExitCode.FOUND if splat else ExitCode.NOTHING_FOUND)


def _verdict(same: int, others: dict[str, int]) -> str:
    """Return the verdict on a stored crash: whether it still shows."""
    if same:
        return "still crashes"
    return "a different bug now" if others else "fixed, or not seen in so few runs"
