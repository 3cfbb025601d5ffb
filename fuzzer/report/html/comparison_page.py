# SPDX-License-Identifier: Apache-2.0
"""Campaigns side by side, as one HTML page."""

from __future__ import annotations

import time

from fuzzer import __version__
from fuzzer.report.charts import Chart, ChartLine, svg
from fuzzer.report.comparing import CampaignComparison, difference_text, grown
from fuzzer.report.html.page import render, speed
from fuzzer.report.html.telling import moment


def comparison_charts(comparison: CampaignComparison) -> list[Chart]:
    """Return the charts of a comparison: a line for each run, in its side's colour."""
    runs = [
        (at, comparison.letters[at], run)
        for at, side in enumerate(comparison.sides)
        for run in side.runs
    ]
    return [
        Chart(
            "coverage",
            "Blocks reached over the time of fuzzing",
            "blocks",
            [
                ChartLine(name, grown(run.state.history), steps=True, group=at)
                for at, name, run in runs
            ],
        ),
        Chart(
            "speed",
            "Programs a second over the time of fuzzing",
            "programs/s",
            [ChartLine(name, speed(run.state.history), group=at) for at, name, run in runs],
        ),
    ]


def comparison_page(comparison: CampaignComparison) -> str:
    """Return the page."""
    letters = comparison.letters
    return render(
        "compare.html.j2",
        comparison=comparison,
        letters=letters,
        charts=[svg(chart) for chart in comparison_charts(comparison)],
        difference=lambda measure: difference_text(measure, letters),
        several=any(each.differences() for each in comparison.measures),
        made=moment(time.time()),
        version=__version__,
    )
