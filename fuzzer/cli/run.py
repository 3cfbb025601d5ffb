# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz run``."""

from __future__ import annotations

import argparse
import contextlib
import random
import shlex
import sys
import time
from collections.abc import Sequence
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
from fuzzer.campaign.description import DriverFacts
from fuzzer.campaign.ending import Ending
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
from fuzzer.progress import say, show
from fuzzer.report.status import StatusView, is_judged, remark_lines, summary
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
    add_driver(parser)
    add_kernel_to_fuzz(parser)
    add_switches(parser)
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Fuzz; returns 1 when the working directory holds a crash at the end that is not accepted.

    Without one, it returns 4 when it was ended before anything was judged.
    """
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
        view = StatusView(workdir.crashes, known=known)
        announce = _announce_start(view, entered)
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
            ),
            announce,
            ending=Ending(
                is_crash=(lambda found: bool(accepted.new_of(found)))
                if options.until_crash
                else None,
                stale=options.until_stale,
            ),
        )
        try:
            final = campaign.run()
        finally:
            view.clear()
        # A second Ctrl-C is as the first.
        with ignoring_interrupts() if campaign.interrupted else contextlib.nullcontext():
            open_corpus(workdir.root).note(Coverage(final.covered, final.blocks))
            show(summary(final, Path(workdir.crashes.directory), known))
            for line in remark_lines(final):
                show(line)
            if facts is not None:
                _write_learned(workdir, guest, facts)
    # A user who names known crashes wants the exit code to tell of unknown ones.
    crashes = accepted.new_of(final.crashes)
    if crashes:
        return int(ExitCode.FOUND)
    return int(ExitCode.NOTHING_FOUND if is_judged(final) else ExitCode.UNJUDGED)


def _stored_in(directories: Sequence[Path]) -> KnownCrashes:
    known = KnownCrashes()
    for directory in directories:
        known.add(CrashStore(directory))
    return known


def _known(given: Sequence[Path], workdir: Workdir) -> KnownCrashes:
    """Return the crashes stored in directories, with the project and by earlier runs."""
    own = [project_root() / "crashes", workdir.crashes.directory]
    return _stored_in([*given, *(directory for directory in own if directory.is_dir())])


def _write_learned(workdir: Workdir, guest: Guest, facts: DriverFacts) -> None:
    programs = [*Corpus(workdir.corpus).programs().values()]
    path = workdir.root / LEARNED
    known = known_ioctls(guest, programs)
    write_output(path, learned(facts, map(decode, programs), known))
    show(f"what was learned of the device is in {path}, to be edited")


class _announce_start:  # noqa: N801 - used like a function
    """Say once how long it took from Enter to the first program."""

    def __init__(self, view: StatusView, entered: float) -> None:
        self._view = view
        self._entered = entered
        self._said = False

    def __call__(self, snapshot: Snapshot) -> None:
        if snapshot.started and not self._said:
            self._said = True
            self._view.clear()
            took = time.monotonic() - snapshot.elapsed - self._entered
            say(f"fuzzing {took:.1f} s after the start")
        self._view.show(snapshot)
