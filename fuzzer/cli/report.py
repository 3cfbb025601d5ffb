# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz report``: what happened in a campaign, as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.cli.options import parse_positive
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.progress import say
from fuzzer.report.charts import png
from fuzzer.report.html.gathering import check_workdir, gather
from fuzzer.report.html.page import campaign_charts, report_page
from fuzzer.report.html.serving import PageServer

_PAGE = "report.html"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``report`` takes."""
    parser.add_argument("workdir", type=Path, metavar="DIR", help="a campaign's working directory")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help=f"where to write it [DIR/{_PAGE}]"
    )
    parser.add_argument(
        "--serve",
        action="store_true",
        help="show it on loopback instead, anew as the campaign goes on, until Ctrl-C",
    )
    parser.add_argument(
        "--port", type=parse_positive, metavar="N", help="of --serve [any that is free]"
    )
    parser.add_argument(
        "--png", type=Path, metavar="DIR", help="write its charts there as well, as PNG"
    )


def command(options: argparse.Namespace) -> int:
    """Write the page, or serve it."""
    workdir: Path = options.workdir
    check_workdir(workdir)
    if options.port and not options.serve:
        raise BadInputError("--port is for --serve")
    if options.serve:
        if options.output or options.png:
            raise BadInputError("--serve writes no files; leave out --output and --png")
        return _serve(workdir, options.port or 0)
    gathered = gather(workdir)
    for each in gathered.missing:
        say(f"not in the report: {each}")
    path: Path = options.output or workdir / _PAGE
    write_whole(path, report_page(gathered).encode(errors="replace"))
    print(path)
    if options.png:
        charts = campaign_charts(gathered)
        if not charts:
            say("no charts: the campaign has no history")
        for chart in charts:
            picture: Path = options.png / f"{chart.name}.png"
            picture.parent.mkdir(parents=True, exist_ok=True)
            write_whole(picture, png(chart))
            print(picture)
    return int(ExitCode.NOTHING_FOUND)


def _serve(workdir: Path, port: int) -> int:
    with PageServer(workdir, port) as server:
        # Made once now, so that what is wrong is told here.
        server.page.current()
        say(f"the report on {workdir} is at {server.url} until Ctrl-C")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return int(ExitCode.NOTHING_FOUND)
    return int(ExitCode.NOTHING_FOUND)
