# SPDX-License-Identifier: Apache-2.0
"""Metrics of a campaign for Prometheus, read from its state document when they are asked for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fuzzer.engine.statistics import MachinePhase
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.report.figures import result_of
from fuzzer.state.document import Glance, HistoryRow, RunPhase
from fuzzer.state.reader import StateReader

HOST = "127.0.0.1"
"""The address that is listened on: nobody else's business."""

_COUNTERS = {
    "programs": "Programs that ran, over all runs of the campaign.",
    "calls": "Calls that were made.",
    "sightings": "Kernel reports that were seen.",
    "restores": "Machines that were restored.",
    "lost": "Machines that died or hung without a report.",
    "timeouts": "Calls that were interrupted.",
    "flaky": "Programs whose new coverage did not repeat.",
    "replaced": "Processes that were started again.",
}
_GAUGES = {
    "covered": ("blocks_covered", "Blocks of the driver that were reached."),
    "blocks": ("blocks", "Blocks of the driver."),
    "corpus": ("corpus_programs", "Programs in the corpus."),
    "waiting": ("judge_waiting", "Sightings that wait for the judge."),
    "cpu": ("host_cpu_ratio", "Share of the host's CPU time in use."),
    "load": ("host_load_per_cpu", "Runnable processes for each CPU."),
    "memory": ("memory_bytes", "Memory of the campaign's processes."),
    "memory_free": ("host_memory_free_bytes", "Memory that the host has left."),
    "disk": ("disk_bytes", "Size of the working directory."),
    "disk_free": ("host_disk_free_bytes", "Space left on the disk of the working directory."),
}


class CampaignCollector(Collector):
    """Metrics of the campaign in a working directory."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir

    def collect(self) -> Iterator[Metric]:
        """Yield the present metrics; but for ``pkvfuzz_up`` none if there is no state to read."""
        try:
            with StateReader(self._workdir) as reader:
                glance = reader.glance()
        except BadInputError:
            glance = None
        yield _gauge("up", "1 if the campaign's state can be read.", float(glance is not None))
        if glance is not None:
            yield from metrics_of(glance)


def metrics_of(glance: Glance) -> Iterator[Metric]:
    """Yield the metrics of a campaign's present."""
    run, row = glance.run, glance.row
    info = {"target": run.target, "bug": run.bug or "", "release": run.release,
            "version": run.version, "accelerator": run.accel}  # fmt: skip
    yield InfoMetricFamily("pkvfuzz_run", "The present run.", info)
    yield _states("phase", "The run's work at the moment.", [RunPhase(run.phase)], RunPhase)
    yield _gauge("alive_timestamp_seconds", "Last sign of life, as Unix time.", run.alive)
    yield _gauge("ended", "1 if the run is over.", float(run.ended is not None))
    if row is None:
        return
    yield from _figures(row)
    yield CounterMetricFamily(
        "pkvfuzz_fuzzing_seconds", "Seconds of fuzzing, over all runs of the campaign.", row.at
    )
    if glance.newest_block is not None:
        since = max(0.0, row.at - glance.newest_block)
        yield _gauge("newest_block_seconds", "Seconds of fuzzing since the last new block.", since)
    crashes = GaugeMetricFamily(
        "pkvfuzz_crashes", "Crashes that are stored.", labels=["severity", "result", "known"]
    )
    kinds = Counter((each.level, result_of(each), "new" if each.is_new else "known")
                    for each in glance.crashes)  # fmt: skip
    for labels, number in sorted(kinds.items()):
        crashes.add_metric(labels, number)
    yield crashes
    yield _gauge("bugs_set_aside", "Bugs whose causes are tried rarely.", len(glance.aside))
    phases = [machine.phase for machine in glance.machines]
    yield _states("machines", "Machines by what they do.", phases, MachinePhase)


def _figures(row: HistoryRow) -> Iterator[Metric]:
    for name, text in _COUNTERS.items():
        yield CounterMetricFamily(f"pkvfuzz_{name}", text, getattr(row, name))
    for name, (metric, text) in _GAUGES.items():
        yield _gauge(metric, text, getattr(row, name))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"pkvfuzz_{name}", text, value)


def _states(
    name: str, text: str, present: Sequence[str], every: type[RunPhase] | type[MachinePhase]
) -> Metric:
    """Return the number of things in each state, 0 for those that none is in."""
    metric = GaugeMetricFamily(f"pkvfuzz_{name}", text, labels=["phase"])
    for state in every:
        metric.add_metric([state.value], present.count(state))
    return metric


class MetricsServer:
    """A server of metrics on loopback, in a thread of its own."""

    def __init__(self, workdir: Path, port: int) -> None:
        """Listen on a ``port``, on any that is free if it is 0.

        Raises:
            InfrastructureError: it is taken, or not allowed.
        """
        registry = CollectorRegistry()
        registry.register(CampaignCollector(workdir))
        self._server: WSGIServer
        self._thread: threading.Thread
        try:
            self._server, self._thread = start_http_server(port, HOST, registry)
        except (OSError, OverflowError) as error:
            raise InfrastructureError(
                f"listening on {HOST}:{port} for --metrics: {error}. Give another port"
            ) from error

    @property
    def url(self) -> str:
        """The address of the metrics."""
        return f"http://{HOST}:{self._server.server_port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
