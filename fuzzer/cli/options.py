# SPDX-License-Identifier: Apache-2.0
"""The options and arguments of each command; its help is in :mod:`fuzzer.cli.commands`.

Nothing that takes long is imported here, as each start reads it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.cli.mechanisms import add_switches

_FLAVOURS = ("fast", "full", "kcsan")


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


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which driver to work on, and on which machine."""
    group = parser.add_argument_group("what to work on")
    group.add_argument(
        "--target", type=Path, metavar="YAML", help="the driver's description [the pkv driver's]"
    )
    group.add_argument("--bug", metavar="NAME", help="plant this bug: bugs/NAME.patch")
    group.add_argument(
        "--params", metavar="TEXT", help="load the module with these parameters [the description's]"
    )
    add_machine_options(parser)


def add_machine_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which accelerator and kernels to use."""
    group = parser.add_argument_group("what to run it on")
    group.add_argument(
        "--accel", default="auto", metavar="A", help="auto, kvm or tcg [auto: whichever works]"
    )
    _add_kernels(group)


def _add_kernels(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--kernel-version",
        metavar="X.Y",
        help="build kernels from the distribution's source of this version "
        "[the description's, else 6.12 or the newest]",
    )
    parser.add_argument(
        "--kernel-source", type=Path, metavar="DIR", help="build kernels from this source tree"
    )
    parser.add_argument(
        "--kernel-build", type=Path, metavar="DIR", help="use this built kernel for everything"
    )


def _add_kernel_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--kernel",
        choices=_FLAVOURS,
        default="fast",
        help="fuzz on this kernel; kcsan reports data races, in place of what KASAN sees [fast]",
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")


def _add_flavour(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--flavour",
        choices=_FLAVOURS,
        help="kernel to run it on [the one that it was judged on, else full]",
    )


def _add_leaks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--leaks", action="store_true", help="look for memory that a .prog loses")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what ``run`` takes."""
    parser.add_argument(
        "--time", type=_duration, metavar="T", help="fuzz for 90s, 10m, 8h [no end]"
    )
    parser.add_argument("--programs", type=_positive, metavar="N", help="stop after N programs")
    parser.add_argument("--vms", type=_positive, metavar="N", help="machines [cores minus one]")
    parser.add_argument("--seed", type=_positive, metavar="N", help="makes a one-VM run repeatable")
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
    _add_driver(parser)
    _add_kernel_option(parser)
    add_switches(parser)
    add_target_options(parser)


def _add_driver(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "driver",
        type=Path,
        nargs="?",
        metavar="DRIVER",
        help="a driver's directory, its .ko, or its description (.yaml) [the pkv driver's]",
    )
    parser.add_argument(
        "--module", metavar="NAME", help="of several modules that DRIVER makes, this one"
    )
    parser.add_argument(
        "--device",
        action="append",
        metavar="PATH",
        help="fuzz this file instead of all that the module makes; may be repeated",
    )
    parser.add_argument(
        "--yes", action="store_true", help="do not ask before something that takes minutes"
    )


def add_init(parser: argparse.ArgumentParser) -> None:
    """Add what ``init`` takes."""
    _add_driver(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="YAML", help="write the description there [NAME.yaml]"
    )
    parser.add_argument("--force", action="store_true", help="replace files that are there")
    parser.add_argument(
        "--params", metavar="TEXT", help="load the module with these parameters [none]"
    )
    parser.set_defaults(target=None, bug=None)
    add_machine_options(parser)


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Add what ``replay`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    parser.add_argument("--times", type=_positive, default=1, metavar="N", help="machines [1]")
    _add_flavour(parser)
    parser.add_argument(
        "--schedule", action="store_true", help="look for one under which a race happens each time"
    )
    _add_leaks(parser)
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


def add_crashes(parser: argparse.ArgumentParser) -> None:
    """Add what ``crashes`` takes."""
    parser.add_argument(
        "directory",
        type=Path,
        nargs="*",
        help="of a crash, of crashes, or of a campaign [all in work/]",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_triage(parser: argparse.ArgumentParser) -> None:
    """Add what ``triage`` takes."""
    parser.add_argument(
        "logs", type=Path, nargs="+", metavar="LOG", help="a kernel log; - for standard input"
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--module",
        type=Path,
        action="append",
        default=[],
        metavar="KO",
        help="tell file and line in this module; may be repeated",
    )
    parser.add_argument("--vmlinux", type=Path, metavar="V", help="the same for the kernel")


def add_minimize(parser: argparse.ArgumentParser) -> None:
    """Add what ``minimize`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write the program there [the crash directory; of a .prog standard output]",
    )
    parser.add_argument("--time", type=_duration, default=600.0, metavar="T", help="at most [10m]")
    _add_flavour(parser)
    _add_leaks(parser)
    add_target_options(parser)


def add_bisect(parser: argparse.ArgumentParser) -> None:
    """Add what ``bisect`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file (any splat)")
    parser.add_argument(
        "--good", required=True, metavar="REV", help="a revision without it, in the driver's git"
    )
    parser.add_argument("--bad", default="HEAD", metavar="REV", help="one that shows it [HEAD]")
    parser.add_argument(
        "--times",
        type=_positive,
        metavar="N",
        help="runs of a revision [so many that a good one is good with an error below 1 %%]",
    )
    parser.add_argument(
        "--no-bug", action="store_true", help="do not plant the bug that the crash was found with"
    )
    parser.add_argument(
        "--first-parent", action="store_true", help="take merges as a whole, as git bisect does"
    )
    _add_flavour(parser)
    _add_leaks(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_target_options(parser)


def add_shell(parser: argparse.ArgumentParser) -> None:
    """Add what ``shell`` takes."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="run this in the guest's /tmp, with standard input if that is no terminal, and end; "
        "behind -- with its arguments [a shell]",
    )
    parser.add_argument(
        "--put",
        action="append",
        default=[],
        metavar="LOCAL[:REMOTE]",
        help="put a file into the guest first, as /tmp/LOCAL if nothing else is said; may be "
        "repeated",
    )
    parser.add_argument(
        "--crash",
        type=Path,
        metavar="DIR",
        help="the driver, kernel and machine that this stored crash shows on",
    )
    parser.add_argument(
        "--flavour",
        choices=_FLAVOURS,
        help="kernel of the guest [the one that --crash was judged on, else full]",
    )
    add_target_options(parser)


def add_convert(parser: argparse.ArgumentParser) -> None:
    """Add what ``convert`` takes."""
    parser.add_argument("file", type=Path, help="a .prog file, or a program in wire form")
    parser.add_argument("--c", action="store_true", help="to a C file that needs no pkvfuzz")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="[standard output]")
    _add_target(parser)


def _add_corpus(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "corpus", type=Path, metavar="CORPUS", help="a working directory, or one of programs"
    )


def add_corpus_show(parser: argparse.ArgumentParser) -> None:
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


def add_corpus_export(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus export`` takes."""
    _add_corpus(parser)
    parser.add_argument("directory", type=Path, metavar="DIR", help="where to write them")
    _add_target(parser)


def add_corpus_import(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus import`` takes."""
    _add_corpus(parser)
    parser.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="a file, or a directory of them"
    )
    _add_target(parser)


def add_corpus_merge(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus merge`` takes."""
    _add_corpus(parser)
    parser.add_argument(
        "others", type=Path, nargs="+", metavar="OTHER", help="as CORPUS; left as it is"
    )
    add_target_options(parser)


def add_corpus_minimize(parser: argparse.ArgumentParser) -> None:
    """Add what ``corpus minimize`` takes."""
    _add_corpus(parser)
    add_target_options(parser)


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """Add what ``kernel`` takes."""
    parser.add_argument(
        "--path",
        choices=_FLAVOURS,
        help="print the directory to build modules in, after building the kernel if need be",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME=y",
        help="of the kernel with this option, as a description's config has it; may be repeated",
    )
    _add_kernels(parser)


def add_bugs(parser: argparse.ArgumentParser) -> None:
    """Add what ``bugs`` takes."""
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    _add_target(parser)


def add_target_check(parser: argparse.ArgumentParser) -> None:
    """Add what ``target check`` takes."""
    parser.add_argument("description", type=Path, metavar="YAML", help="a driver's description")
    parser.add_argument("--json", action="store_true", help="as JSON")


def add_target_schema(parser: argparse.ArgumentParser) -> None:
    """Add what ``target schema`` takes."""
    parser.add_argument("--path", action="store_true", help="print where it is, not what is in it")


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add what ``bench`` takes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also as JSON (- for only that)")
    parser.add_argument(
        "--time", type=_duration, default=10.0, metavar="T", help="for each measurement [10s]"
    )
    _add_target(parser)
    add_machine_options(parser)


def add_bench_bugs(parser: argparse.ArgumentParser) -> None:
    """Add what ``bench bugs`` takes."""
    parser.add_argument(
        "--bug",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one; may be repeated [all that a kernel report tells]",
    )
    parser.add_argument(
        "--time", type=_duration, default=600.0, metavar="T", help="the longest run [10m]"
    )
    parser.add_argument("--runs", type=_positive, default=3, metavar="R", help="for each bug [3]")
    parser.add_argument("--jobs", type=_positive, default=1, metavar="J", help="bugs at a time [1]")
    minimizing = parser.add_mutually_exclusive_group()
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
    parser.add_argument(
        "--vms", type=_positive, metavar="N", help="machines of a run [(cores minus one) / jobs]"
    )
    parser.add_argument(
        "--seed", type=_positive, default=1, metavar="S", help="of the first run of each bug [1]"
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
    _add_target(parser)
    _add_kernel_option(parser)
    add_machine_options(parser)
    add_switches(parser)


def add_test(parser: argparse.ArgumentParser) -> None:
    """Add what ``test`` takes."""
    parser.add_argument("--only", metavar="GROUP", help="lint, c, unit, vm or e2e")
    parser.add_argument(
        "pytest_args", nargs="*", metavar="ARG", help="passed on to pytest (after --)"
    )


def add_completion(parser: argparse.ArgumentParser) -> None:
    """Add what ``completion`` takes."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to complete in")


def add_man(parser: argparse.ArgumentParser) -> None:
    """Add what ``man`` takes."""
    parser.add_argument("--markdown", action="store_true", help="the same text as Markdown")


def add_nothing(parser: argparse.ArgumentParser) -> None:
    """Add nothing, for a command that takes none."""
