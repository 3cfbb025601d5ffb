# SPDX-License-Identifier: Apache-2.0
"""Charts as PNG files, by rsvg-convert."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuzzer.errors import InfrastructureError
from fuzzer.report.charts import Chart, svg
from fuzzer.tools import run_tool

_WIDTH = 1440
_TIMEOUT = 60.0


def write_charts(directory: Path, charts: Sequence[Chart]) -> list[Path]:
    """Write each chart as ``NAME.png`` into a directory, which is made; return the files.

    Raises:
        InfrastructureError: rsvg-convert is missing or failed.
        OSError: the directory cannot be written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    made = []
    for chart in charts:
        path = directory / f"{chart.name}.png"
        command = ["rsvg-convert", "--width", str(_WIDTH), "--output", str(path)]
        done = run_tool(command, f"drawing {path}", timeout=_TIMEOUT, text=svg(chart, alone=True))
        if done.returncode:
            raise InfrastructureError(f"drawing {path}: {done.stderr.strip() or 'it failed'}")
        made.append(path)
    return made
