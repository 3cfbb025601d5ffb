# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.bench.bench import run_bench
from fuzzer.campaign.subject import kernels_for
from fuzzer.cli.options import add_machine_options, add_target, parse_duration
from fuzzer.cli.setting import kernel_options, target_path
from fuzzer.target.target import load_target


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``bench`` takes."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="also as JSON (- for only that)")
    parser.add_argument(
        "--time", type=parse_duration, default=10.0, metavar="T", help="for each measurement [10s]"
    )
    add_target(parser)
    add_machine_options(parser)


def command(options: argparse.Namespace) -> int:
    """Measure and print."""
    kernels = kernels_for(load_target(target_path(options)), kernel_options(options))
    return run_bench(
        target_path(options),
        accel=options.accel,
        json_path=options.json,
        seconds=options.time,
        kernel_options=kernels,
    )
