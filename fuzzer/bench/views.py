# SPDX-License-Identifier: Apache-2.0
"""The cost of a campaign's views: its state document, the screen, the metrics.

They run in the campaign's own process, so what they cost is its CPU time: where machines keep all
of the host's CPUs busy, that is the part of all programs that does not run. It is measured in a
campaign, as programs a second vary more from run to run than by this.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console

from fuzzer.campaign.campaign import Campaign, CampaignOptions
from fuzzer.campaign.recording import CampaignRecorder
from fuzzer.campaign.seeds import load_seeds, plant_seeds
from fuzzer.campaign.snapshot import Snapshot
from fuzzer.campaign.subject import Subject
from fuzzer.campaign.workdir import Workdir
from fuzzer.driver.provision import Guest
from fuzzer.report.display import LiveDisplay
from fuzzer.report.metrics import CampaignCollector
from fuzzer.report.status import StatusView

_SEED = 1
_WIDTH, _HEIGHT = 140, 50
# Prometheus asks every 15 to 60 seconds.
_SCRAPE_EVERY = 15.0


@dataclass(frozen=True, slots=True)
class ViewsCost:
    """CPU seconds of the views of a campaign that fuzzed for ``elapsed`` seconds.

    ``recording`` is for writing the state document, with looking at the host; ``screen`` and
    ``metrics`` read it. ``cpus`` is the number of the host's CPUs, ``programs`` how many ran.
    """

    elapsed: float
    cpus: int
    programs: int
    recording: float
    screen: float
    metrics: float

    @property
    def share(self) -> float:
        """The views' part of the host's CPU time, 0 to 1."""
        used = self.recording + self.screen + self.metrics
        return used / (self.elapsed * self.cpus) if self.elapsed else 0.0

    @property
    def ratio(self) -> float:
        """The throughput with all views over that without them, where all CPUs are busy."""
        return 1.0 - self.share


class _CpuMeter:
    """The CPU time of this thread in some blocks, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Take the time of a block."""
        begun = time.thread_time()
        try:
            yield
        finally:
            self.seconds += time.thread_time() - begun


def measure_views(subject: Subject, guest: Guest, seconds: float) -> ViewsCost:
    """Run a campaign with all its views for so many seconds, on all CPUs but one.

    Raises:
        InfrastructureError: workers cannot run.
    """
    recording, screen, metrics = _CpuMeter(), _CpuMeter(), _CpuMeter()

    class MeteredRecorder(CampaignRecorder):
        def record(self, snapshot: Snapshot, *, now: bool = False) -> None:
            with recording.running():
                super().record(snapshot, now=now)

    with contextlib.ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pkvfuzz-bench-")))
        workdir = Workdir(root)
        nowhere = stack.enter_context(Path(os.devnull).open("w"))
        console = Console(file=nowhere, force_terminal=True, width=_WIDTH, height=_HEIGHT)
        view = StatusView(workdir.crashes, LiveDisplay(console))
        stack.callback(view.close)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(CampaignCollector(root))
        scraped = 0.0

        def show(snapshot: Snapshot) -> None:
            nonlocal scraped
            with screen.running():
                view.show(snapshot)
            if snapshot.elapsed - scraped >= _SCRAPE_EVERY:
                scraped = snapshot.elapsed
                with metrics.running():
                    generate_latest(registry)

        stack.enter_context(workdir.opened(subject.target.name, None))
        plant_seeds(workdir, load_seeds(subject.target, None, _SEED))
        cpus = os.cpu_count() or 1
        campaign = Campaign(
            subject,
            guest,
            CampaignOptions(workdir, max(1, cpus - 1), _SEED),
            show,
            until=lambda snapshot: snapshot.elapsed >= seconds,
            recorder=MeteredRecorder,
        )
        final = campaign.run()
    return ViewsCost(
        final.elapsed,
        cpus,
        final.counts.programs,
        recording.seconds,
        screen.seconds,
        metrics.seconds,
    )
