# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz smoke``."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.bisect.revisions import Revisions, read_commit, run_git
from fuzzer.campaign.campaign import default_vms, default_workdir
from fuzzer.campaign.corpus_start import coverage_key, set_aside
from fuzzer.campaign.seeds import load_seeds, plant_seeds
from fuzzer.campaign.subject import Subject, symbols_for
from fuzzer.campaign.workdir import Workdir
from fuzzer.cli.drivers import describe_driver
from fuzzer.cli.options import add_driver, add_target_options, parse_duration, parse_positive
from fuzzer.cli.setting import subject_of
from fuzzer.crash.crash import Crash
from fuzzer.crash.store import CrashStore
from fuzzer.driver.driver import Driver
from fuzzer.errors import BadInputError, InfrastructureError, PkvfuzzError
from fuzzer.kernel.kernel import ensure_kernel
from fuzzer.lifetime import unwinding_on_signals
from fuzzer.paths import project_root
from fuzzer.progress import say, show
from fuzzer.smoke.base import Base
from fuzzer.smoke.changed import Changes, OwnFiles, changed_blocks, changed_lines
from fuzzer.smoke.formats import FORMS
from fuzzer.smoke.known import read_known
from fuzzer.smoke.smoke import SmokeRun, SmokeTask
from fuzzer.smoke.verdict import SmokeVerdict

_SECONDS = 60.0
_KNOWN = "known.yaml"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``smoke`` takes."""
    parser.add_argument(
        "--time",
        type=parse_duration,
        default=_SECONDS,
        metavar="T",
        help="how long it may take once kernels and driver are built [60s]",
    )
    parser.add_argument(
        "--base",
        metavar="REV",
        help="a revision of the driver's repository: crashes that it has as well do not count",
    )
    parser.add_argument(
        "--first", action="store_true", help="end once a crash reproduces, whatever time is left"
    )
    parser.add_argument(
        "--crashes",
        type=Path,
        action="append",
        metavar="DIR",
        help="stored reproducers to run first; may be repeated [crashes/ beside the description]",
    )
    parser.add_argument(
        "--accepted",
        type=Path,
        metavar="YAML",
        help=f"accepted crashes, with reasons [{_KNOWN} in the first of these directories]",
    )
    parser.add_argument(
        "--format",
        type=_form,
        action="append",
        dest="formats",
        metavar="FORM[=FILE]",
        help=f"{', '.join(FORMS)}; into a file, else to standard output; may be repeated [text]",
    )
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="corpus and crashes, as for run [work/TARGET]",
    )
    parser.add_argument("--seeds", type=Path, metavar="DIR", help="*.prog files to start from")
    parser.add_argument(
        "--vms", type=parse_positive, metavar="N", help="machines [cores minus one]"
    )
    parser.add_argument("--seed", type=parse_positive, metavar="N", help="of the random numbers")
    add_driver(parser)
    add_target_options(parser)


def _form(text: str) -> tuple[str, Path | None]:
    name, _, path = text.partition("=")
    if name not in FORMS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FORMS)}")
    return name, Path(path) if path else None


def command(options: argparse.Namespace) -> int:
    """Run what there is time for; returns 1 if a crash counts, 4 if nothing was judged."""
    _check_files(options)
    made = describe_driver(options, relative=True) is not None
    # Mistakes in what is given are told before anything is built.
    subject = subject_of(options, fitting=False)
    target = subject.target
    seed = options.seed or random.SystemRandom().randrange(1, 1 << 31)
    seeds = load_seeds(target, options.seeds, seed)
    directories = options.crashes or ([] if made else [_beside(target.path)])
    accepted = options.accepted or (directories[0] / _KNOWN if directories else Path(_KNOWN))
    known = read_known(accepted)
    workdir = Workdir(options.workdir or default_workdir(target.name, options.bug))
    subject = subject_of(options)
    with ExitStack() as stack:
        stack.enter_context(unwinding_on_signals())
        stack.enter_context(workdir.opened(target.name, options.bug))
        fuzzed = ensure_kernel(subject.fuzzed_on, subject.kernels)
        judging = ensure_kernel(subject.judged_on, subject.kernels)
        guest = subject.guest(fuzzed)
        subject.guest(judging)
        base = None
        paths: tuple[str, ...] = ()
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pkvfuzz-smoke-")))
        if options.base is not None:
            base = _base(options.base, subject, directory)
            paths = base.revisions.paths
            for kernel in (judging, fuzzed):
                if problem := base.prepare(kernel):
                    raise BadInputError(f"--base {base.commit}: {problem}")
        root, own = _own_files(target.module.source, paths)
        changed = _changed(guest.driver, root, base)
        waiting = set_aside(workdir, coverage_key(guest))
        if waiting:
            say(f"{waiting:,} programs of the corpus are tried while fuzzing")
        plant_seeds(workdir, seeds)
        task = SmokeTask(
            subject,
            guest,
            judging,
            workdir,
            options.time,
            options.vms or default_vms(),
            seed,
            _head(root),
            base,
            _stored([*directories, workdir.crashes.directory], subject),
            known,
            changed,
            own,
            options.first,
        )
        say(f"smoke test of {target.name}: {options.time:.0f} s, seed {seed}, in {workdir.root}")
        smoke = SmokeRun(task)
        verdict = smoke.run()
    write_verdict(verdict, options.formats or [("text", None)])
    if smoke.failure is not None and not verdict.counted:
        raise smoke.failure
    return int(verdict.exit_code)


def _check_files(options: argparse.Namespace) -> None:
    """Complain about what is named and is not there, or cannot be written, before minutes pass."""
    for directory in options.crashes or ():
        if not directory.is_dir():
            raise BadInputError(f"--crashes {directory}: no such directory")
    if options.accepted is not None and not options.accepted.is_file():
        raise BadInputError(f"--accepted {options.accepted}: no such file")
    for name, path in options.formats or ():
        if path is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=path.parent):
                pass
        except OSError as error:
            raise BadInputError(
                f"--format {name}={path}: cannot be written: {error.strerror}"
            ) from error


def write_verdict(verdict: SmokeVerdict, formats: Sequence[tuple[str, Path | None]]) -> None:
    """Print a verdict, or write it to files.

    Raises:
        InfrastructureError: a file cannot be written; its content is printed instead.
    """
    problems = []
    for name, path in formats:
        text = FORMS[name](verdict)
        try:
            if path is not None:
                write_output(path, text)
                continue
        except OSError as error:
            problems.append(f"{path}: cannot be written: {error.strerror}; it is printed")
        show(text, end="")
    if problems:
        raise InfrastructureError("; ".join(problems))


def _beside(description: Path) -> Path:
    """Return the directory with stored reproducers that belongs to a description."""
    beside = description.parent / "crashes"
    if beside.is_dir() or not description.resolve().is_relative_to(project_root()):
        return beside
    return project_root() / "crashes"


def _base(name: str, subject: Subject, directory: Path) -> Base:
    revisions = Revisions(subject.target, directory, symbols_for(subject.kernels))
    # A bug that is planted for a test is of the commit alone.
    return Base(replace(subject, bug=None), revisions, revisions.resolve("--base", name))


def _own_files(source: Path | None, paths: Sequence[str]) -> tuple[Path | None, OwnFiles]:
    """Return the driver's repository and its files; None and no files if it is in none."""
    if source is None:
        return None, OwnFiles(())
    top = run_git(source, "rev-parse", "--show-toplevel")
    if top.returncode:
        files = (path.relative_to(source).as_posix() for path in source.rglob("*.[ch]"))
        return None, OwnFiles(files)
    root = Path(top.stdout.rstrip("\n")).resolve()
    inside = paths or [source.resolve().relative_to(root).as_posix()]
    listed = run_git(root, "ls-files", "-z", "--cached", "--others", "--", *inside)
    return root, OwnFiles(name for name in listed.stdout.split("\0") if name)


def _changed(driver: Driver, root: Path | None, base: Base | None) -> Changes:
    if root is None or base is None:
        return Changes()
    try:
        lines = changed_lines(root, base.commit.hash, base.revisions.paths)
        return changed_blocks(driver, lines)
    except PkvfuzzError as error:
        say(f"WARNING: which blocks were changed is not known: {error}")
        return Changes()


def _head(root: Path | None) -> str:
    """Return what names the commit, and tells of changes that are in none."""
    if root is None:
        return ""
    try:
        commit = read_commit(root, "HEAD")
    except InfrastructureError:
        return ""  # There is none yet.
    changes = run_git(root, "status", "--porcelain", "--untracked-files=no").stdout.strip()
    return f"{commit}{' and changes' if changes else ''}"


def _stored(directories: Sequence[Path], subject: Subject) -> list[tuple[Path, Crash]]:
    """Return the stored reproducers of the driver, the latest first."""
    found: dict[str, tuple[float, Path, Crash]] = {}
    for directory in directories:
        if not directory.is_dir():
            continue
        for path, crash in CrashStore(directory).entries():
            if crash.identity.target == subject.target.name and crash.reproduced:
                stamp = (path / "crash.json").stat().st_mtime
                found.setdefault(crash.title, (stamp, path, crash))
    latest = sorted(found.values(), key=lambda each: -each[0])
    return [(path, crash) for _, path, crash in latest]
