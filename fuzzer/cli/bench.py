# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bench``."""

from __future__ import annotations

import argparse

from fuzzer.bench.bench import run_bench
from fuzzer.campaign.subject import kernels_for
from fuzzer.cli.setting import kernel_options, target_path
from fuzzer.target.target import load_target


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
