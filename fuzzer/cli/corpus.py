# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz corpus``: look at a corpus, and take care of it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.campaign.corpus import (
    Corpus,
    Coverage,
    n_calls,
    open_corpus,
    operations,
    read_program,
)
from fuzzer.campaign.corpus_cover import cheapest_first, cover, shorten_all
from fuzzer.campaign.corpus_functions import function_coverage, reached_blocks, source_lines_of
from fuzzer.campaign.corpus_measure import Bench, Measured, measure
from fuzzer.campaign.workdir import program_name
from fuzzer.cli.drivers import DESCRIPTION
from fuzzer.cli.options import add_target, add_target_options
from fuzzer.cli.setting import subject_of, target_of
from fuzzer.driver.callgraph import read_call_graph
from fuzzer.driver.provision import Guest
from fuzzer.engine.buckets import blocks_of
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.kernel.kernel import Flavour, ensure_kernel
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode
from fuzzer.progress import Progress, say, show
from fuzzer.report.functions import format_functions
from fuzzer.target.target import Target
from fuzzer.untrusted import is_regular

# Characters of a name that tell programs apart.
_NAME = 16


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help="a working directory, or one of programs"
    )


def add_show(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus`` and ``corpus show`` take."""
    _add_corpus(parser)
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this program")
    parser.add_argument("--programs", action="store_true", help="a line for each program")
    parser.add_argument(
        "--functions",
        action="store_true",
        help="run them, and list what they leave of each function of the driver",
    )
    add_target_options(parser)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus export`` takes."""
    _add_corpus(parser)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write them")
    add_target(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus import`` takes."""
    _add_corpus(parser)
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="a file, or a directory of them"
    )
    add_target(parser)


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus merge`` takes."""
    _add_corpus(parser)
    parser.add_argument(
        "others", type=Path, nargs="+", metavar="OTHER", help="as CORPUS; left as it is"
    )
    add_target_options(parser)


def add_minimize(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus minimize`` takes."""
    _add_corpus(parser)
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Run the subcommand that the command's second word names."""
    corpus = open_corpus(options.corpus)
    verb = options.command.split()[-1]
    if verb in {"corpus", "show"}:
        return _show(corpus, options)
    if verb == "export":
        return _export(corpus, options)
    if verb == "import":
        with corpus.locked():
            return _import(corpus, options)
    with corpus.locked():
        return _merge(corpus, options) if verb == "merge" else _minimize(corpus, options)


def _choose_target(corpus: Corpus, options: argparse.Namespace) -> None:
    """Without --target, work on what the campaign found out itself of a driver, if it did."""
    if options.target is None and corpus.workdir is not None:
        found = corpus.workdir.root / DESCRIPTION
        options.target = found if found.is_file() else None


def _target_of(corpus: Corpus, options: argparse.Namespace) -> Target:
    _choose_target(corpus, options)
    target = target_of(options)
    corpus.check_target(target)
    return target


def _size(programs: Mapping[str, bytes]) -> str:
    calls = sum(n_calls(program) for program in programs.values())
    size = sum(len(program) for program in programs.values())
    return f"{len(programs):,} programs, {calls:,} calls, {size:,} bytes"


def _show(corpus: Corpus, options: argparse.Namespace) -> int:
    if bool(options.name) + options.programs + options.functions > 1:
        raise BadInputError("NAME, --programs and --functions exclude each other")
    if options.name:
        program = corpus.find(options.name)
        show(format_program(decode(program), _target_of(corpus, options)), end="")
        return 0
    programs = corpus.programs()
    show(f"{corpus.directory}: {_size(programs)}")
    if options.functions:
        return _functions(corpus, programs, options)
    queued = corpus.queued()
    if queued:
        show(f"{queued:,} of them in reserve, for campaigns to try while they fuzz")
    coverage, now = corpus.coverage(), corpus.covered_now()
    if now:
        show(f"{now} blocks covered by the campaign that runs")
    elif coverage:
        show(f"{coverage.covered} of {coverage.blocks} blocks covered")
    if options.programs:
        for name in cheapest_first(programs):
            program = programs[name]
            what = " ".join(operations(program))
            show(f"{name[:_NAME]} {n_calls(program):4} calls {len(program):6} bytes  {what}")
    return 0


def _functions(corpus: Corpus, programs: Mapping[str, bytes], options: argparse.Namespace) -> int:
    """Print the coverage of each function, with the parts that no program reaches."""
    guest = _guest_for(corpus, options)
    with Bench(guest, programs.values()) as bench:
        progress = Progress("running", len(programs))
        ordered = [programs[name] for name in cheapest_first(programs)]
        reached, crashed = reached_blocks(guest, bench.run, ordered, progress.update)
        progress.finish(f"{len(programs):,} programs")
    graph = read_call_graph(guest.driver)
    lines = source_lines_of(guest.driver.object)
    found = function_coverage(guest.blocks, reached, graph, lines)
    show(format_functions(found), end="")
    if crashed:
        show(f"{crashed:,} programs crashed: what they reached is not counted")
    return int(ExitCode.NOTHING_FOUND)


def _export(corpus: Corpus, options: argparse.Namespace) -> int:
    target = _target_of(corpus, options)
    directory: Path = options.directory
    directory.mkdir(parents=True, exist_ok=True)
    programs = corpus.programs()
    for program in programs.values():
        name = program_name(program)[:_NAME]
        write_whole(directory / f"{name}.prog", format_program(decode(program), target))
    show(f"{len(programs):,} programs in {directory}")
    return 0


def _files(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        # A working directory's programs, not what else is in it.
        inner = path / "corpus"
        found = sorted((inner if inner.is_dir() else path).iterdir())
        yield from (
            each
            for each in found
            if is_regular(each, within=path) and not each.name.startswith(".")
        )


def _import(corpus: Corpus, options: argparse.Namespace) -> int:
    target = _target_of(corpus, options)
    added = known = broken = 0
    for path in _files(options.paths):
        try:
            program = read_program(path, target)
        except BadInputError as error:
            broken += 1
            say(f"left out: {error}")
            continue
        if corpus.add(program):
            added += 1
        else:
            known += 1
    show(f"{added:,} programs added, {known:,} were there already, {broken:,} left out")
    return int(ExitCode.BAD_INPUT if broken else ExitCode.NOTHING_FOUND)


def _guest_for(corpus: Corpus, options: argparse.Namespace) -> Guest:
    if options.bug is None:
        options.bug = corpus.bug
    _choose_target(corpus, options)
    subject = subject_of(options)
    corpus.check_target(subject.target)
    return subject.guest(ensure_kernel(Flavour.FAST, subject.kernels))


def _measure(title: str, bench: Bench, programs: Mapping[str, bytes], already: int = 0) -> Measured:
    progress = Progress(title, len(programs))
    ordered = ((name, programs[name]) for name in cheapest_first(programs))
    found = measure(ordered, bench.run, already=already, progress=progress.update)
    progress.finish(f"{found.programs:,} programs, each run twice")
    return found


def _tell_doubtful(found: Measured, guest: Guest) -> None:
    """Say what was left out of the measurement."""
    show(
        f"flaky: {found.flaky:,} programs covered something in one of two runs only, "
        f"{found.flaky_blocks(len(guest.blocks))} blocks were covered in no other way"
    )
    if found.crashed:
        names = ", ".join(name[:_NAME] for name in found.crashed[:5])
        more = " and others" if len(found.crashed) > 5 else ""
        show(f"{len(found.crashed):,} programs crashed and were left out: {names}{more}")


def _coverage(guest: Guest, features: int) -> Coverage:
    loading = sum(1 << 8 * block for block in guest.load_blocks)
    n_blocks = len(guest.blocks)
    return Coverage(blocks_of(features | loading, n_blocks), n_blocks)


def _minimize(corpus: Corpus, options: argparse.Namespace) -> int:
    guest = _guest_for(corpus, options)
    programs = corpus.programs()
    with Bench(guest, programs.values()) as bench:
        found = _measure("measuring", bench, programs)
        names = cover(programs, found.features)
        progress = Progress("shortening", len(names))
        features = {name: found.features[name] for name in names}
        made = shorten_all(programs, features, bench.run, progress.update)
        progress.finish(f"{len(made):,} programs")
    if not made:
        raise BadInputError(f"{corpus.directory}: no program covers anything; left as it is")
    old = corpus.replace(made)
    coverage = _coverage(guest, found.total)
    corpus.note(coverage)
    show(f"before: {_size(programs)}")
    show(f"after:  {_size({program_name(program): program for program in made})}")
    show(
        f"they cover the same: {coverage.covered} of {coverage.blocks} blocks, "
        f"{found.total.bit_count():,} blocks by count and by ioctl"
    )
    _tell_doubtful(found, guest)
    show(f"the programs from before are in {old}")
    return 0


def _merge(corpus: Corpus, options: argparse.Namespace) -> int:
    others: dict[str, bytes] = {}
    target = _target_of(corpus, options)
    for path in options.others:
        other = open_corpus(path)
        other.check_target(target)
        others.update(other.programs())
    guest = _guest_for(corpus, options)
    programs = corpus.programs()
    others = {name: program for name, program in others.items() if name not in programs}
    with Bench(guest, (*programs.values(), *others.values())) as bench:
        own = _measure("measuring this corpus", bench, programs)
        found = _measure("measuring the others", bench, others, own.total)
    names = cover(others, found.features, own.total)
    for name in names:
        corpus.add(others[name])
    before, after = _coverage(guest, own.total), _coverage(guest, found.total)
    corpus.note(after)
    show(f"added: {_size({name: others[name] for name in names})}")
    show(f"covered: {before.covered}, now {after.covered} of {after.blocks} blocks")
    _tell_doubtful(own, guest)
    _tell_doubtful(found, guest)
    return 0
