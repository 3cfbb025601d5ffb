# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz test``."""

from __future__ import annotations

import argparse

from fuzzer.cli.testsuite import run_tests


def command(options: argparse.Namespace) -> int:
    """Run the checks and tests."""
    return run_tests(options.only, options.pytest_args)
