# SPDX-License-Identifier: Apache-2.0
"""The switches that turn mechanisms of the fuzzer off, for every command that fuzzes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from fuzzer.flavour import Flavour

if TYPE_CHECKING:
    from fuzzer.program.mechanisms import Mechanisms

ENGINES = ("libfuzzer", "random")
"""Engines, which choose programs by coverage, or by chance alone."""

_SWITCHES = {
    "hints": "do not try values that the driver compares its input with",
    "outcomes": "do not count errors of calls, and how often they succeeded, as coverage",
    "value-profile": "do not build upon programs that bring a comparison with a constant nearer",
    "faults": "do not make allocations and user copies fail",
    "races": "do not run calls on several threads, nor with flips",
    "lifecycle": "do not unload and load the module",
    "deferred": "do not record coverage of work that the driver does outside of calls",
    "leaks": "do not look for memory left behind",
    "info-leaks": "do not look for memory that was never set in what calls hand out",
}


def add_switches(parser: argparse.ArgumentParser) -> None:
    """Add ``--engine`` and a ``--no-`` option for each mechanism to a command."""
    group = parser.add_argument_group("what to leave out, to see what it is worth")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="random: each program is made anew, whatever was covered [libfuzzer]",
    )
    for name, text in _SWITCHES.items():
        group.add_argument(f"--no-{name}", action="store_true", help=text)


def mechanisms_of(options: argparse.Namespace) -> Mechanisms:
    """Return the mechanisms that are on by a command's options."""
    # Here, because every start reads this module.
    from fuzzer.program.mechanisms import Mechanisms

    return Mechanisms(
        coverage=options.engine != "random",
        hints=not options.no_hints,
        outcomes=not options.no_outcomes,
        value_profile=not options.no_value_profile,
        faults=not options.no_faults,
        races=not options.no_races,
        lifecycle=not options.no_lifecycle,
        deferred=not options.no_deferred,
        leaks=not options.no_leaks and Flavour(options.kernel).spec.finds_leaks,
        info_leaks=not options.no_info_leaks and Flavour(options.kernel).spec.finds_leaks,
    )
