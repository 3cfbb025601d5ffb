# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have, and the values that options take."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.flavour import NAMES, Flavour, summaries


def parse_duration(text: str) -> float:
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


def parse_size(text: str) -> int:
    """Parse 500K, 500M, 10G or a number of bytes."""
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    try:
        size = int(text[:-1]) << unit if unit else int(text)
    except ValueError:
        size = -1
    if size < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: allowed are 500M, 10G, or bytes")
    return size


def parse_positive(text: str) -> int:
    """Parse a whole number above 0."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a whole number above 0 is needed")
    return value


def add_target_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the driver to work on, and for its machine."""
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
    """Add the options for the accelerator and the kernels to use."""
    group = parser.add_argument_group("what to run it on")
    group.add_argument(
        "--accel", default="auto", metavar="A", help="auto, kvm or tcg [auto: whichever works]"
    )
    add_kernels(group)


def add_kernels(parser: argparse._ActionsContainer) -> None:
    """Add the options for the origin of kernels."""
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


def add_kernel_to_fuzz(parser: argparse.ArgumentParser) -> None:
    """Add the option for the kernel to fuzz on."""
    _add_kernel(parser, f"fuzz on this kernel; {summaries()} [fast]", Flavour.FAST)


def add_kernel(
    parser: argparse.ArgumentParser, otherwise: str = "the one that it was judged on, else full"
) -> None:
    """Add the option for the kernel to run on; ``otherwise`` tells in words the default."""
    _add_kernel(parser, f"kernel to run it on [{otherwise}]", None)


def _add_kernel(parser: argparse.ArgumentParser, text: str, default: Flavour | None) -> None:
    parser.add_argument("--kernel", choices=NAMES, default=default, help=text)
    # The option's former name in commands that do not fuzz.
    parser.add_argument(
        "--flavour",
        dest="kernel",
        choices=NAMES,
        default=argparse.SUPPRESS,
        help=argparse.SUPPRESS,
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add the option for the description to use."""
    parser.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")


def add_leaks(parser: argparse.ArgumentParser) -> None:
    """Add the switches for checking a program for lost memory, and for memory never set."""
    parser.add_argument("--leaks", action="store_true", help="look for memory that a .prog loses")
    parser.add_argument(
        "--info-leaks",
        action="store_true",
        help="look for memory that was never set in what a .prog is handed",
    )


def add_driver(parser: argparse.ArgumentParser) -> None:
    """Add the options for the driver to describe or to fuzz."""
    parser.add_argument(
        "driver",
        type=Path,
        nargs="?",
        metavar="DRIVER",
        help="a driver's directory, its .ko, its description (.yaml), or a C file of the kernel's "
        "tree, such as drivers/dma-buf/udmabuf.c [the pkv driver's]",
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
