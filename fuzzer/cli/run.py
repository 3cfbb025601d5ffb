# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz run``."""

from __future__ import annotations

import argparse
import contextlib
import random
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.campaign.auto_description import LEARNED, known_ioctls, learned
from fuzzer.campaign.campaign import (
    Campaign,
    CampaignOptions,
    default_vms,
    default_workdir,
)
from fuzzer.campaign.corpus import Corpus, Coverage, open_corpus
from fuzzer.campaign.corpus_start import coverage_key, set_aside
from fuzzer.campaign.crash_command import CrashCommand
from fuzzer.campaign.description import DriverFacts
from fuzzer.campaign.ending import Ending
from fuzzer.campaign.housekeeping import Limits
from fuzzer.campaign.seeds import load_seeds, plant_seeds
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.workdir import Workdir
from fuzzer.cli.drivers import describe_driver
from fuzzer.cli.mechanisms import add_switches, mechanisms_of
from fuzzer.cli.options import (
    add_driver,
    add_kernel_to_fuzz,
    add_target_options,
    parse_duration,
    parse_positive,
    parse_size,
)
from fuzzer.cli.setting import subject_of
from fuzzer.crash.dedup import KnownCrashes
from fuzzer.crash.store import CrashStore
from fuzzer.driver.objects import check_objects
from fuzzer.driver.provision import Guest
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.flavour import Flavour
from fuzzer.kernel.kernel import ensure_kernel
from fuzzer.lifetime import ignoring_interrupts
from fuzzer.paths import project_root
from fuzzer.program.wire import decode
from fuzzer.progress import hushed, say, show
from fuzzer.report.display import JsonDisplay, Output, choose_display
from fuzzer.report.status import StatusView, end_facts, is_judged, remark_lines, summary
from fuzzer.wording import count


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``run`` takes."""
    parser.add_argument(
        "--time", type=parse_duration, metavar="T", help="fuzz for 90s, 10m, 8h [no end]"
    )
    parser.add_argument(
        "--programs", type=parse_positive, metavar="N", help="stop after N programs"
    )
    parser.add_argument(
        "--until-crash",
        action="store_true",
        help="end with the first crash that is new and was shown again",
    )
    parser.add_argument(
        "--until-stale",
        type=parse_duration,
        metavar="T",
        help="end when no new block was reached for so long",
    )
    parser.add_argument(
        "--vms", type=parse_positive, metavar="N", help="machines [cores minus one]"
    )
    parser.add_argument(
        "--seed", type=parse_positive, metavar="N", help="makes a one-VM run repeatable"
    )
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="[work/TARGET, work/TARGET-BUG]"
    )
    parser.add_argument("--seeds", type=Path, metavar="DIR", help="*.prog files to start from")
    parser.add_argument(
        "--known",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="crashes stored there do not count for the exit code; may be repeated",
    )
    parser.add_argument(
        "--exact",
        action="store_true",
        help="judge races by machines on which the fuzzer says when threads take turns (slower)",
    )
    parser.add_argument(
        "--set-aside",
        choices=["auto", "none"],
        default="auto",
        help="bugs that most programs would meet: try what leads there rarely, or as often as "
        "anything else [auto]",
    )
    parser.add_argument(
        "--max-disk",
        type=parse_size,
        metavar="N",
        help="end fuzzing when the working directory takes more, such as 10G",
    )
    parser.add_argument(
        "--max-mem",
        type=parse_size,
        metavar="N",
        help="keep all processes together below so much memory, such as 4G: the largest are "
        "started anew, then there are fewer",
    )
    parser.add_argument(
        "--on-crash",
        metavar="CMD",
        help="run a shell command once for each new bug, told of it by PKVFUZZ_CRASH_TITLE, "
        "_SEVERITY, _PATH and others in its environment",
    )
    parser.add_argument(
        "--metrics",
        type=parse_positive,
        metavar="PORT",
        help="serve metrics for Prometheus on this port of 127.0.0.1",
    )
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--quiet", action="store_true", help="say nothing but crashes and the summary"
    )
    shown.add_argument(
        "--json",
        action="store_true",
        help="print an object a line: status, crash, note, set aside, put back, end",
    )
    add_driver(parser)
    add_kernel_to_fuzz(parser)
    add_switches(parser)
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Fuzz; returns 1 when the working directory holds a crash at the end that is not accepted.

    Without one, it returns 4 when it was ended before anything was judged.
    """
    with hushed() if options.quiet else contextlib.nullcontext():
        return _fuzz(options)


def _fuzz(options: argparse.Namespace) -> int:
    entered = time.monotonic()
    if options.exact and options.no_races:
        raise BadInputError("--exact is for races; leave out --no-races")
    if options.time and options.programs:
        raise BadInputError("--time and --programs exclude each other")
    facts = describe_driver(options)
    mechanisms = mechanisms_of(options)
    subject = subject_of(options, fuzzed_on=Flavour(options.kernel))
    subject = replace(subject, deferred=mechanisms.deferred)
    target = subject.target
    bug = subject.bug.name if subject.bug else None
    # Seeds before builds: a mistake in one is told at once.
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    seeds = load_seeds(target, options.seeds, seed)
    accepted = _stored_in(options.known)
    workdir = Workdir(options.workdir or default_workdir(target.name, bug))
    vms = options.vms or default_vms()
    check_objects(target, (subject.fuzzed_on, subject.judged_on), subject.kernels)
    with workdir.opened(target.name, bug):
        guest = subject.guest(ensure_kernel(subject.fuzzed_on, subject.kernels))
        waiting = set_aside(workdir, coverage_key(guest))
        if waiting:
            say(f"{waiting:,} programs of the corpus are tried while fuzzing")
        plant_seeds(workdir, seeds)
        say(
            f"fuzzing {target.name}{f' with {bug}' if bug else ''} on {count(vms, 'VM')}, "
            f"seed {seed}, in {workdir.root}"
        )
        known = _known(options.known, workdir)
        display = choose_display(_output(options))
        view = StatusView(workdir.crashes, display, known)
        announce = _announce_start(view, entered)
        hook = CrashCommand(options.on_crash, workdir, known) if options.on_crash else None
        campaign = Campaign(
            subject,
            guest,
            CampaignOptions(
                workdir,
                vms,
                seed,
                options.time,
                options.programs,
                mechanisms,
                options.exact,
                command=shlex.join(sys.argv[1:]),
                known=known,
                limits=Limits(options.max_disk, options.max_mem),
                sets_aside=options.set_aside == "auto",
            ),
            _watched_by(announce, hook),
            ending=Ending(
                is_crash=(lambda found: bool(accepted.new_of(found)))
                if options.until_crash
                else None,
                stale=options.until_stale,
            ),
        )
        with contextlib.ExitStack() as stack:
            stack.callback(view.close)
            if hook:
                stack.callback(hook.close)
            if options.metrics:
                _serve_metrics(stack, workdir, options.metrics)
            final = campaign.run()
            if hook:
                hook.finish(final.crashes)
        # A second Ctrl-C is as the first.
        with ignoring_interrupts() if campaign.interrupted else contextlib.nullcontext():
            open_corpus(workdir.root).note(Coverage(final.covered, final.blocks))
            learned_in = _write_learned(workdir, guest, facts) if facts is not None else None
            if isinstance(display, JsonDisplay):
                display.emit("end", end_facts(final, known, learned_in))
            else:
                show(summary(final, Path(workdir.crashes.directory), known))
                for line in remark_lines(final):
                    show(line)
                if learned_in:
                    show(f"what was learned of the device is in {learned_in}, to be edited")
    # A user who names known crashes wants the exit code to tell of unknown ones.
    crashes = accepted.new_of(final.crashes)
    if crashes:
        return int(ExitCode.FOUND)
    return int(ExitCode.NOTHING_FOUND if is_judged(final) else ExitCode.UNJUDGED)


def _output(options: argparse.Namespace) -> Output:
    if options.json:
        return Output.JSON
    return Output.QUIET if options.quiet else Output.AUTO


def _watched_by(
    show: Callable[[Snapshot], None], hook: CrashCommand | None
) -> Callable[[Snapshot], None]:
    """Return what is to be done with each snapshot: show it, and run the command for crashes."""
    if hook is None:
        return show

    def look(snapshot: Snapshot) -> None:
        show(snapshot)
        hook.look(snapshot.crashes)

    return look


def _serve_metrics(stack: contextlib.ExitStack, workdir: Workdir, port: int) -> None:
    # It takes a tenth of a second to import, which few need.
    from fuzzer.report.metrics import MetricsServer

    server = MetricsServer(workdir.root, port)
    stack.callback(server.close)
    say(f"metrics are at {server.url}")


def _stored_in(directories: Sequence[Path]) -> KnownCrashes:
    known = KnownCrashes()
    for directory in directories:
        known.add(CrashStore(directory))
    return known


def _known(given: Sequence[Path], workdir: Workdir) -> KnownCrashes:
    """Return the crashes stored in directories, with the project and by earlier runs."""
    own = [project_root() / "crashes", workdir.crashes.directory]
    return _stored_in([*given, *(directory for directory in own if directory.is_dir())])


def _write_learned(workdir: Workdir, guest: Guest, facts: DriverFacts) -> Path:
    """Write down what was learned of a device; return where."""
    programs = [*Corpus(workdir.corpus).programs().values()]
    path = workdir.root / LEARNED
    known = known_ioctls(guest, programs)
    write_output(path, learned(facts, map(decode, programs), known))
    return path


class _announce_start:  # noqa: N801 - used like a function
    """Say once how long it took from Enter to the first program."""

    def __init__(self, view: StatusView, entered: float) -> None:
        self._view = view
        self._entered = entered
        self._said = False

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.started and not self._said:
            self._said = True
            took = time.monotonic() - snapshot.elapsed - self._entered
            say(f"fuzzing {took:.1f} s after the start")
        self._view.show(snapshot)
