# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz test``."""

from __future__ import annotations

import argparse

from fuzzer.selftest.runner import run_tests


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``test`` takes."""
    parser.add_argument("--only", metavar="GROUP", help="lint, c, unit, vm or e2e")
    parser.add_argument(
        "pytest_args", nargs="*", metavar="ARG", help="passed on to pytest (after --)"
    )


def command(options: argparse.Namespace) -> int:
    """Run the checks and tests."""
    return run_tests(options.only, options.pytest_args)
