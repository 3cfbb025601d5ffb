# SPDX-License-Identifier: Apache-2.0
"""The command line. The one place that turns errors into exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzzer import __version__
from fuzzer.cli import corpus_options
from fuzzer.cli.mechanisms import add_switches
from fuzzer.errors import BadInputError, ExitCode, PkvfuzzError, describe_os_error
from fuzzer.progress import say

_EXIT_CODES = """\
exit codes of run, replay and minimize:
  0  nothing found / not reproduced
  1  a crash found / reproduced
  2  wrong usage or bad input
  3  the infrastructure failed: a build, QEMU, the disk; the message says what to do
triage ends with 0, 1 or 2 in the same way, by what is in the logs.
bisect ends with 0 when it found one commit, 1 when several are left because others were skipped.
other commands end with 0, 2 or 3; test with 1 when a test failed, bench bugs with 1 when a run
did not find its bug; replay --gdb with 0 when gdb is done.
130 means that Ctrl-C came during set-up, before anything was fuzzed or replayed;
of bisect, at any time.
"""

# Where each command lives: imported only when it is used, because starting must be quick.
_COMMANDS = {
    "run": "fuzzer.cli.run",
    "replay": "fuzzer.cli.replay",
    "crashes": "fuzzer.cli.crashes",
    "triage": "fuzzer.cli.triage",
    "minimize": "fuzzer.cli.minimize",
    "bisect": "fuzzer.cli.bisect",
    "shell": "fuzzer.cli.shell",
    "convert": "fuzzer.cli.convert",
    **dict.fromkeys(corpus_options.NAMES, "fuzzer.cli.corpus"),
    "bugs": "fuzzer.cli.bugs",
    "bench": "fuzzer.cli.bench",
    "bench bugs": "fuzzer.cli.bench_bugs",
    "doctor": "fuzzer.cli.doctor",
    "test": "fuzzer.cli.test",
}
INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors say where the help is, and which never abbreviates."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise BadInputError(f"{message}. See: {self.prog} --help")


def _duration(text: str) -> float:
    """Parse 90, 90s, 10m, 8h or 2d into seconds."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    unit = units.get(text[-1:], 0)
    try:
        seconds = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are 90, 90s, 10m, 8h, 2d")
    return seconds


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above 0 is needed")
    return value


def _add_target_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to work on")
    group.add_argument(
        "--target", type=Path, metavar="YAML", help="the driver's description [the pkv driver's]"
    )
    group.add_argument("--bug", metavar="NAME", help="plant this bug: bugs/NAME.patch")
    group.add_argument(
        "--params", metavar="TEXT", help="load the module with these parameters [the description's]"
    )
    _add_machine_options(parser)


def _add_machine_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to run it on")
    group.add_argument(
        "--accel", default="auto", metavar="A", help="auto, kvm or tcg [auto: whichever works]"
    )
    group.add_argument(
        "--kernel-source", type=Path, metavar="DIR", help="build kernels from this source tree"
    )
    group.add_argument(
        "--kernel-build", type=Path, metavar="DIR", help="use this built kernel for everything"
    )


def _add_kernel_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel",
        choices=("fast", "full", "kcsan"),
        default="fast",
        help="fuzz on this kernel; kcsan reports data races, in place of what KASAN sees [fast]",
    )


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    parser = _Parser(
        prog="pkvfuzz",
        description="A coverage-guided fuzzer for Linux character-device drivers.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pkvfuzz {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=_EXIT_CODES
            if name in {"run", "replay", "minimize", "triage", "bisect"}
            else None,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        assert isinstance(sub, argparse.ArgumentParser)
        return sub

    run = command("run", "fuzz a driver; store every crash with a program that causes it")
    run.add_argument("--time", type=_duration, metavar="T", help="stop after 90s, 10m, 8h [never]")
    run.add_argument("--programs", type=_positive, metavar="N", help="stop after N programs")
    run.add_argument("--vms", type=_positive, metavar="N", help="machines [cores minus one]")
    run.add_argument("--seed", type=_positive, metavar="N", help="makes a one-VM run repeatable")
    run.add_argument("--workdir", type=Path, metavar="DIR", help="[work/TARGET, work/TARGET-BUG]")
    run.add_argument("--seeds", type=Path, metavar="DIR", help="*.prog files to start from")
    run.add_argument(
        "--known",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="crashes stored there do not count for the exit code; may be repeated",
    )
    run.add_argument(
        "--exact",
        action="store_true",
        help="judge races by machines on which the fuzzer says when threads take turns (slower)",
    )
    run.add_argument(
        "--device", metavar="/dev/NAME", help="fuzz this node without a description, with --module"
    )
    run.add_argument(
        "--module", type=Path, metavar="PATH", help="a .ko, or a directory with a Kbuild file"
    )
    _add_kernel_option(run)
    add_switches(run)
    _add_target_options(run)

    replay = command("replay", "run a stored crash again on fresh machines")
    replay.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    replay.add_argument("--times", type=_positive, default=1, metavar="N", help="machines [1]")
    replay.add_argument(
        "--flavour",
        choices=("full", "fast", "kcsan"),
        help="kernel to run it on [the one that it was judged on, else full]",
    )
    replay.add_argument(
        "--schedule", action="store_true", help="look for one under which a race happens each time"
    )
    replay.add_argument("--leaks", action="store_true", help="look for memory that a .prog loses")
    replay.add_argument(
        "--trace",
        action="store_true",
        help="print each call with what it returned, up to the report",
    )
    replay.add_argument(
        "--gdb",
        action="store_true",
        help="stop in the function that the report names, in gdb, before it goes wrong",
    )
    replay.add_argument(
        "--gdb-server",
        action="store_true",
        help="the same for a gdb that you start: print its command line and wait for it",
    )
    _add_target_options(replay)

    crashes = command("crashes", "list stored crashes, the most severe first, or show one")
    crashes.add_argument(
        "directory",
        type=Path,
        nargs="*",
        help="of a crash, of crashes, or of a campaign [all in work/]",
    )
    crashes.add_argument("--json", action="store_true", help="as JSON")

    triage = command("triage", "say which kernel reports are in logs, from anywhere")
    triage.add_argument(
        "logs", type=Path, nargs="+", metavar="LOG", help="a kernel log; - for standard input"
    )
    triage.add_argument("--json", action="store_true", help="as JSON")
    triage.add_argument(
        "--module",
        type=Path,
        action="append",
        default=[],
        metavar="KO",
        help="tell file and line in this module; may be repeated",
    )
    triage.add_argument("--vmlinux", type=Path, metavar="V", help="the same for the kernel")
    minimize = command("minimize", "make a crash's program as small as it can be")
    minimize.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    minimize.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the program there [the crash directory; of a .prog standard output]",
    )
    minimize.add_argument(
        "--time", type=_duration, default=600.0, metavar="T", help="at most [10m]"
    )
    minimize.add_argument(
        "--flavour",
        choices=("full", "fast", "kcsan"),
        help="kernel to run it on [the one that it was judged on, else full]",
    )
    minimize.add_argument("--leaks", action="store_true", help="look for memory that a .prog loses")
    _add_target_options(minimize)

    bisect = command("bisect", "find the revision of a driver that brought a crash, with git")
    bisect.add_argument("crash", type=Path, help="a crash directory, or a .prog file (any splat)")
    bisect.add_argument(
        "--good", required=True, metavar="REV", help="a revision without it, in the driver's git"
    )
    bisect.add_argument("--bad", default="HEAD", metavar="REV", help="one that shows it [HEAD]")
    bisect.add_argument(
        "--times",
        type=_positive,
        metavar="N",
        help="runs of a revision [so many that a good one is good with an error below 1 %%]",
    )
    bisect.add_argument(
        "--no-bug", action="store_true", help="do not plant the bug that the crash was found with"
    )
    bisect.add_argument(
        "--first-parent", action="store_true", help="take merges as a whole, as git bisect does"
    )
    bisect.add_argument(
        "--flavour",
        choices=("full", "fast", "kcsan"),
        help="kernel to run it on [the one that it was judged on, else full]",
    )
    bisect.add_argument("--leaks", action="store_true", help="look for memory that a .prog loses")
    bisect.add_argument("--json", action="store_true", help="as JSON")
    _add_target_options(bisect)

    shell = command("shell", "open a shell in a guest that has the driver loaded")
    shell.add_argument(
        "--flavour", choices=("full", "fast", "kcsan"), default="full", help="[full]"
    )
    _add_target_options(shell)

    convert = command("convert", "turn a program's text into wire form, or back")
    convert.add_argument("file", type=Path, help="a .prog file, or a program in wire form")
    convert.add_argument("--c", action="store_true", help="to a C file that needs no pkvfuzz")
    convert.add_argument("-o", "--output", type=Path, metavar="FILE", help="[standard output]")
    convert.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")

    corpus_options.add_commands(command, _add_target_options)

    bugs = command("bugs", "list the planted bugs of a driver, for run --bug")
    bugs.add_argument("--markdown", action="store_true", help="as a Markdown table")
    bugs.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")

    bench = command("bench", "measure speed; prints ratios, and counts that noise cannot change")
    bench.add_argument("--json", type=Path, metavar="FILE", help="also as JSON (- for only that)")
    bench.add_argument(
        "--time", type=_duration, default=10.0, metavar="T", help="for each measurement [10s]"
    )
    bench.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")
    _add_machine_options(bench)

    _add_bench_bugs(command("bench bugs", "measure how soon the fuzzer finds each planted bug"))

    command("doctor", "say what is missing or slow on this host, and what fixes it")

    test = command("test", "run the project's own checks and tests")
    test.add_argument("--only", metavar="GROUP", help="lint, c, unit, vm or e2e")
    test.add_argument(
        "pytest_args", nargs="*", metavar="ARG", help="passed on to pytest (after --)"
    )
    return parser


def _add_bench_bugs(bench: argparse.ArgumentParser) -> None:
    bench.add_argument(
        "--bug",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one; may be repeated [all that a kernel report tells]",
    )
    bench.add_argument(
        "--time", type=_duration, default=600.0, metavar="T", help="the longest run [10m]"
    )
    bench.add_argument("--runs", type=_positive, default=3, metavar="R", help="for each bug [3]")
    bench.add_argument("--jobs", type=_positive, default=1, metavar="J", help="bugs at a time [1]")
    minimizing = bench.add_mutually_exclusive_group()
    minimizing.add_argument(
        "--minimize-time",
        type=_duration,
        default=60.0,
        metavar="T",
        help="for making each program that was found minimal [1m]",
    )
    minimizing.add_argument(
        "--no-minimize", action="store_true", help="leave each program as it was found"
    )
    bench.add_argument(
        "--vms", type=_positive, metavar="N", help="machines of a run [(cores minus one) / jobs]"
    )
    bench.add_argument(
        "--seed", type=_positive, default=1, metavar="S", help="of the first run of each bug [1]"
    )
    bench.add_argument(
        "--workdir", type=Path, metavar="DIR", help="keep working directories, in DIR/BUG-SEED"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="also as JSON (- for only that)")
    bench.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw the share of bugs found over time, as SVG"
    )
    bench.add_argument(
        "--compare",
        type=Path,
        action="append",
        default=[],
        metavar="JSON",
        help="draw this earlier result in the same plot; may be repeated",
    )
    bench.add_argument("--no-run", action="store_true", help="only draw what --compare names")
    bench.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")
    _add_kernel_option(bench)
    _add_machine_options(bench)
    add_switches(bench)


def _join_command(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with a command of two words as one, as the parser knows it."""
    two = " ".join(arguments[:2])
    return [two, *arguments[2:]] if two in _COMMANDS else list(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. No traceback reaches the user."""
    try:
        options = build_parser().parse_args(_join_command(arguments))
        module = importlib.import_module(_COMMANDS[options.command])
        code = module.command(options)
        sys.stdout.flush()
        return int(code)
    except PkvfuzzError as error:
        say(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (``| head``): end quietly.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.NOTHING_FOUND)
    except OSError as error:
        say(describe_os_error(error))
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            say("pkvfuzz doctor may tell what is wrong with this host")
        return int(ExitCode.INFRASTRUCTURE)
    except Exception as error:
        say(f"a defect in pkvfuzz: {type(error).__name__}: {error}")
        say("please report it with the output of: PKVFUZZ_DEBUG=1 pkvfuzz ...")
        if os.environ.get("PKVFUZZ_DEBUG"):
            raise
        return int(ExitCode.INFRASTRUCTURE)


def console() -> int:
    """Entry point of the installed ``pkvfuzz`` command: packages first, then the command."""
    from fuzzer.bootstrap import ensure_packages

    try:
        ensure_packages(sys.argv[1:])
    except PkvfuzzError as error:
        say(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    return main(sys.argv[1:])
