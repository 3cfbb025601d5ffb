# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bench bugs``: how soon the fuzzer finds each planted bug."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fuzzer import __version__
from fuzzer.atomic import write_output
from fuzzer.bench.bugs.result import (
    RunOutcome,
    RunResult,
    SuiteResult,
    SuiteSettings,
    SuiteVersions,
)
from fuzzer.bench.bugs.suite import Suite, choose_bugs, run_directory
from fuzzer.bench.bugs.survival import draw, read_series, series_of
from fuzzer.bench.bugs.table import duration, engine_label, run_line, summary, table, to_json
from fuzzer.bench.bugs.view import SuiteView
from fuzzer.campaign.campaign import default_vms
from fuzzer.campaign.seeds import load_seeds
from fuzzer.campaign.subject import Subject, kernels_for
from fuzzer.cli.mechanisms import add_switches, mechanisms_of
from fuzzer.cli.options import (
    add_kernel_to_fuzz,
    add_machine_options,
    add_target,
    parse_duration,
    parse_positive,
)
from fuzzer.cli.setting import accel_of, kernel_options, target_of
from fuzzer.driver.driver import PlantedBug, list_bugs
from fuzzer.errors import BadInputError, ExitCode, InfrastructureError
from fuzzer.kernel.kernel import Flavour, ensure_kernel
from fuzzer.machine.qemu import qemu_version
from fuzzer.progress import say, show
from fuzzer.wording import count

_STDOUT = Path("-")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``bench bugs`` takes."""
    parser.add_argument(
        "--bug",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one; may be repeated [all that a kernel report tells]",
    )
    parser.add_argument(
        "--time", type=parse_duration, default=600.0, metavar="T", help="the longest run [10m]"
    )
    parser.add_argument(
        "--runs", type=parse_positive, default=3, metavar="R", help="for each bug [3]"
    )
    parser.add_argument(
        "--jobs", type=parse_positive, default=1, metavar="J", help="bugs at a time [1]"
    )
    minimizing = parser.add_mutually_exclusive_group()
    minimizing.add_argument(
        "--minimize-time",
        type=parse_duration,
        default=60.0,
        metavar="T",
        help="for making each program that was found minimal [1m]",
    )
    minimizing.add_argument(
        "--no-minimize", action="store_true", help="leave each program as it was found"
    )
    parser.add_argument(
        "--vms",
        type=parse_positive,
        metavar="N",
        help="machines of a run [(cores minus one) / jobs]",
    )
    parser.add_argument(
        "--seed",
        type=parse_positive,
        default=1,
        metavar="S",
        help="of the first run of each bug [1]",
    )
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="keep working directories, in DIR/BUG-SEED"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also as JSON (- for only that)")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the share of bugs found over time, as SVG"
    )
    parser.add_argument(
        "--compare",
        type=Path,
        action="append",
        default=[],
        metavar="JSON",
        help="draw this earlier result in the same plot; may be repeated",
    )
    parser.add_argument("--no-run", action="store_true", help="only draw what --compare names")
    add_target(parser)
    add_kernel_to_fuzz(parser)
    add_machine_options(parser)
    add_switches(parser)


def command(options: argparse.Namespace) -> int:
    """Fuzz each bug; 0 when all were found in all runs, 1 when some were not."""
    for name, path in (("--json", options.json), ("--plot", options.plot)):
        _check_writable(name, path)
    if options.plot is None and (options.compare or options.no_run):
        raise BadInputError("--compare and --no-run are for --plot FILE.svg; give it as well")
    if options.no_run and not options.compare:
        raise BadInputError("--no-run draws what --compare FILE.json names; give at least one")
    others = [read_series(path) for path in options.compare]
    if options.no_run:
        _write(options.plot, draw(others))
        return int(ExitCode.NOTHING_FOUND)
    result = _run_suite(options)
    if options.json == _STDOUT:
        show(to_json(result))
    else:
        show(table(result))
        show(summary(result))
    if options.plot is not None:
        _write(options.plot, draw([series_of(result), *others]))
    return _exit_code(result)


def _run_suite(options: argparse.Namespace) -> SuiteResult:
    target = target_of(options)
    kernels = kernels_for(target, kernel_options(options))
    bugs = list_bugs(target)
    flavour = Flavour(options.kernel)
    own = "" if flavour.judged_on is Flavour.FULL else flavour.value
    chosen = choose_bugs(bugs, options.bug, own)
    skipped = [] if options.bug else [bug for bug in bugs if bug not in chosen]
    settings = SuiteSettings(
        target=target.name,
        seconds=options.time,
        runs=options.runs,
        jobs=options.jobs,
        vms=options.vms or max(1, default_vms() // options.jobs),
        seed=options.seed,
        mechanisms=mechanisms_of(options),
        kernel=options.kernel,
        minimize_seconds=0.0 if options.no_minimize else options.minimize_time,
    )
    load_seeds(target, None, settings.seed)  # a mistake in one is told before builds
    _check_fresh(options.workdir, chosen, settings)
    accel = accel_of(options)
    versions = SuiteVersions(
        pkvfuzz=__version__,
        qemu=qemu_version(),
        accel=accel.value,
        fast=ensure_kernel(Flavour.FAST, kernels).key,
        full=ensure_kernel(Flavour.FULL, kernels).key,
        cores=len(os.sched_getaffinity(0)),
    )
    say(
        f"fuzzing {settings.target} with {count(len(chosen), 'bug')}, "
        f"{count(settings.runs, 'run')} each of at most {duration(settings.seconds)}, "
        f"{settings.jobs} at a time on {count(settings.vms, 'VM')}, "
        f"{engine_label(settings.mechanisms, settings.kernel)}, "
        f"seeds from {settings.seed}"
    )
    view = SuiteView()

    def ended(so_far: SuiteResult, bug: PlantedBug, run: RunResult) -> None:
        view.say(run_line(bug.name, run, bug.titles))
        if options.json not in {None, _STDOUT}:
            _write(options.json, to_json(so_far) + "\n")

    with _directory(options.workdir) as directory:
        suite = Suite(
            [
                Subject(target, bug, kernels, accel, flavour, deferred=settings.mechanisms.deferred)
                for bug in chosen
            ],
            settings,
            versions,
            directory,
            show=view.show,
            ended=ended,
            skipped=skipped,
            keep=options.workdir is not None,
        )
        try:
            result = suite.run()
        finally:
            view.clear()
    if options.json not in {None, _STDOUT}:
        _write(options.json, to_json(result) + "\n")
    return result


def _exit_code(result: SuiteResult) -> int:
    failed = [run for bug in result.bugs for run in bug.counted_as(RunOutcome.FAILED)]
    if failed:
        return max(run.exit_code for run in failed)
    return int(ExitCode.NOTHING_FOUND if result.all_found else ExitCode.FOUND)


@contextlib.contextmanager
def _directory(given: Path | None) -> Iterator[Path]:
    """Give the directory for the runs: one that is kept, or a temporary one."""
    if given is not None:
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-bugs-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def _check_fresh(given: Path | None, bugs: tuple[PlantedBug, ...], settings: SuiteSettings) -> None:
    """Refuse to start a run where an earlier one worked: its corpus would help."""
    if given is None:
        return
    for bug in bugs:
        for i in range(settings.runs):
            path = run_directory(given, bug.name, settings.seed + i)
            if path.exists():
                raise BadInputError(
                    f"{path} is there already, and every run starts from nothing. "
                    "Remove it, or give another --workdir or --seed"
                )


def _check_writable(name: str, path: Path | None) -> None:
    if path is None or path == _STDOUT:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise BadInputError(f"{name} {path}: not a file in a directory that exists")


def _write(path: Path, text: str) -> None:
    try:
        write_output(path, text)
    except OSError as error:
        raise InfrastructureError(f"writing {path}: {error.strerror}") from error
