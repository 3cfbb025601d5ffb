# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz cache``: what is in the cache; clean it, or move it to another host."""

from __future__ import annotations

import argparse
import platform
import time
from collections import defaultdict
from pathlib import Path

from fuzzer import __version__
from fuzzer.archive.manifest import Manifest
from fuzzer.archive.reading import read_archive
from fuzzer.archive.writing import Packing, write_archive
from fuzzer.cache import CacheEntry, list_entries, recorded, remove_unused
from fuzzer.campaign.campaign import default_workdir
from fuzzer.cli.drivers import describe_driver
from fuzzer.cli.options import add_driver, add_target_options, parse_duration, parse_size
from fuzzer.cli.setting import subject_of
from fuzzer.crash.testbeds import RACING
from fuzzer.errors import BadInputError, ExitCode, InfrastructureError
from fuzzer.kernel.kernel import ensure_kernel
from fuzzer.kernel.source import compiler_version
from fuzzer.machine.accel import choose_accel
from fuzzer.machine.qemu import qemu_version
from fuzzer.paths import cache_dir
from fuzzer.progress import say, show

_DAY = 86400.0
# Environments of other checkouts look as old as they are, used or not.
_STAY = ("venv",)


def add_list(parser: argparse.ArgumentParser) -> None:
    """Add what ``cache list`` takes."""
    parser.add_argument("--all", action="store_true", help="a line for each entry, not each kind")


def add_clean(parser: argparse.ArgumentParser) -> None:
    """Add what ``cache clean`` takes."""
    parser.add_argument(
        "--older",
        type=parse_duration,
        metavar="T",
        help="remove what was not used for so long, such as 2d [30d, if there is no --size]",
    )
    parser.add_argument(
        "--size",
        type=parse_size,
        metavar="N",
        help="remove what was not used for longest until the rest takes at most N, such as 10G",
    )
    parser.add_argument("--dry-run", action="store_true", help="only say what would be removed")


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what ``cache export`` takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="where to write it")
    parser.add_argument(
        "--workdir",
        type=Path,
        metavar="DIR",
        help="corpus and crashes of this working directory as well",
    )
    add_driver(parser)
    add_target_options(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add what ``cache import`` takes."""
    parser.add_argument("file", type=Path, metavar="FILE", help="what cache export wrote")
    parser.add_argument(
        "--workdir", type=Path, metavar="DIR", help="where to put corpus and crashes [work/TARGET]"
    )
    parser.add_argument("--hash", metavar="HEX", help="the hash that the file has to have")


def command(options: argparse.Namespace) -> int:
    """Run the subcommand that the command's second word names."""
    match options.command.split()[-1]:
        case "list":
            _list(options)
        case "clean":
            _clean(options)
        case "export":
            _export(options)
        case _:
            _import(options)
    return int(ExitCode.NOTHING_FOUND)


def _list(options: argparse.Namespace) -> None:
    entries = list_entries()
    groups: dict[str, list[CacheEntry]] = defaultdict(list)
    for entry in entries:
        groups[entry.path.name if options.all else entry.kind].append(entry)
    for name, group in sorted(groups.items(), key=lambda item: -sum(e.size for e in item[1])):
        size, used = sum(entry.size for entry in group), max(entry.used for entry in group)
        number = "" if options.all else f"{len(group):>5}"
        unfinished = "" if all(entry.complete for entry in group) else ", some unfinished"
        show(f"{_size(size):>9}{number}  {name:34} {_ago(used)}{unfinished}")
    total = sum(entry.size for entry in entries)
    entries_told = "1 entry" if len(entries) == 1 else f"{len(entries):,} entries"
    show(f"{_size(total):>9} in {entries_told} of {cache_dir()}")


def _clean(options: argparse.Namespace) -> None:
    older, now = options.older, time.time()
    if older is None and options.size is None:
        older = 30 * _DAY
    entries = sorted(list_entries(), key=lambda entry: entry.used)
    left = sum(entry.size for entry in entries)
    removed = freed = 0
    for entry in entries:
        is_old = older is not None and now - entry.used > older
        is_too_much = options.size is not None and left > options.size
        if entry.kind in _STAY or not (is_old or is_too_much):
            continue
        if options.dry_run:
            show(f"{_size(entry.size):>9}  {entry.path.name}, {_ago(entry.used)}")
        elif not remove_unused(entry.path):
            continue
        left -= entry.size
        freed += entry.size
        removed += 1
    verb = "would be removed" if options.dry_run else "removed"
    show(f"{removed:,} of {len(entries):,} entries {verb}: {_size(freed)}; {_size(left)} are left")
    if options.size is not None and left > options.size:
        show("what was used in the last hour stays")


def _export(options: argparse.Namespace) -> None:
    workdir = options.workdir
    if workdir is not None and not (workdir / "corpus").is_dir():
        raise BadInputError(f"--workdir {workdir}: it has no corpus, so it is no working directory")
    with recorded() as used:
        describe_driver(options, relative=True)
        subject = subject_of(options)
        fuzzed = ensure_kernel(subject.fuzzed_on, subject.kernels)
        guests = [
            subject.guest(fuzzed),
            subject.guest(fuzzed, hardware=RACING),
            subject.guest(ensure_kernel(subject.judged_on, subject.kernels)),
        ]
    packing = Packing(
        used,
        qemu_version(),
        subject.accel.value,
        compiler_version(),
        __version__,
        tuple(part for guest in guests for part in guest.driver.parts),
        workdir,
        subject.target.name,
    )
    manifest, digest = write_archive(options.file, packing)
    size = options.file.stat().st_size
    entries = len(manifest.entries)
    show(f"{options.file}: {_size(size)}, {_size(manifest.size)} unpacked, {entries} entries")
    show(f"hash: {digest}")


def _import(options: argparse.Namespace) -> None:
    if not options.file.is_file():
        raise BadInputError(f"{options.file}: there is no such file")
    start = time.monotonic()
    given: Path | None = options.workdir

    def workdir(target: str) -> Path:
        return given or default_workdir(target, None)

    done = read_archive(options.file, workdir, options.hash or "")
    there = len(done.manifest.entries) - len(done.added)
    told = f"; {there} were there already" if there else ""
    seconds = time.monotonic() - start
    show(f"entries added to {cache_dir()} in {seconds:.0f} s: {len(done.added)}{told}")
    if done.workdir is not None:
        show(f"{done.programs:,} programs added to {done.workdir}")
    try:
        problems = _problems(done.manifest)
    except InfrastructureError as error:
        problems = [f"whether it is of use here cannot be told: {error}"]
    for problem in problems:
        say(f"WARNING: {problem}")


def _problems(manifest: Manifest) -> list[str]:
    """Return what of an archive is of no use here, and why."""
    accel = choose_accel().accel.value
    compared = (
        ("kernels and drivers", "processor", manifest.machine, platform.machine()),
        ("kernels and drivers", "compiler", manifest.compiler, compiler_version()),
        ("templates", "QEMU", manifest.qemu, qemu_version()),
        ("templates", "accelerator", manifest.accel, accel),
        ("some entries", "pkvfuzz", manifest.pkvfuzz, __version__),
    )
    return [
        f"its {what} are not used here, and made anew: they are of another {name} "
        f"({theirs}; this host has {ours})"
        for what, name, theirs, ours in compared
        if theirs != ours
    ]


def _size(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.0f} MiB"


def _ago(used: float) -> str:
    seconds = max(0.0, time.time() - used)
    if seconds < 3600:
        return "used in the last hour"
    hours = seconds / 3600
    return f"used {hours:.0f} h ago" if hours < 48 else f"used {hours / 24:.0f} days ago"
