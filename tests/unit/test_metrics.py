# SPDX-License-Identifier: Apache-2.0
"""Tests of the metrics for Prometheus."""

from __future__ import annotations

import socket
import sqlite3
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fuzzer.errors import InfrastructureError
from fuzzer.report.metrics import CampaignCollector, MetricsServer
from fuzzer.state.schema import state_file
from fuzzer.state.writer import StateWriter
from tests.unit.state_records import ASIDE, BLOCKS, CRASH, JUDGE, MACHINE, ROW, RUN


def write_state(workdir: Path) -> None:
    writer = StateWriter(workdir)
    with writer.changing():
        writer.put("run", RUN)
        writer.put("history", ROW, kept=1)
        for table, record in (("machine", MACHINE), ("crash", CRASH), ("aside", ASIDE)):
            writer.put(table, record)
        writer.put("judge", JUDGE, only=1)
        for block in BLOCKS:
            writer.put("block", block)
    writer.close()


def read(text: str) -> dict[str, float]:
    """Return the value of each sample by its name and labels."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())):
            sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }  # fmt: skip


def collected(workdir: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(CampaignCollector(workdir))
    return read(generate_latest(registry).decode())


def test_metrics_are_those_of_the_state(tmp_path: Path) -> None:
    write_state(tmp_path)
    found = collected(tmp_path)
    assert found["pkvfuzz_up"] == 1
    assert found["pkvfuzz_programs_total"] == ROW.programs
    assert found["pkvfuzz_blocks_covered"] == ROW.covered
    assert found["pkvfuzz_judge_waiting"] == ROW.waiting
    assert found["pkvfuzz_memory_bytes"] == ROW.memory
    assert found["pkvfuzz_newest_block_seconds"] == 1.0
    assert found["pkvfuzz_crashes known=new result=reproduced severity=high"] == 1
    assert found["pkvfuzz_machines phase=races"] == 1
    assert found["pkvfuzz_machines phase=serial"] == 0
    assert found["pkvfuzz_phase phase=fuzzing"] == 1
    assert found["pkvfuzz_bugs_set_aside"] == 1


def test_without_a_state_only_that_is_told(tmp_path: Path) -> None:
    assert collected(tmp_path) == {"pkvfuzz_up": 0.0}
    state_file(tmp_path).write_bytes(b"no database at all")
    assert collected(tmp_path) == {"pkvfuzz_up": 0.0}


def test_they_are_served_on_loopback_while_the_state_is_written(tmp_path: Path) -> None:
    write_state(tmp_path)
    server = MetricsServer(tmp_path, 0)
    try:
        assert server.url.startswith("http://127.0.0.1:")
        writer = sqlite3.connect(state_file(tmp_path), isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE history SET programs = 7")
        with urllib.request.urlopen(server.url, timeout=30) as answer:  # noqa: S310 - http
            text = answer.read().decode()
        writer.execute("COMMIT")
        assert read(text)["pkvfuzz_programs_total"] == ROW.programs
        with urllib.request.urlopen(server.url, timeout=30) as answer:  # noqa: S310 - http
            assert read(answer.read().decode())["pkvfuzz_programs_total"] == 7
        writer.close()
    finally:
        server.close()


def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InfrastructureError, match=f"127.0.0.1:{port} for --metrics"):
            MetricsServer(tmp_path, port)
    with pytest.raises(InfrastructureError, match="Give another port"):
        MetricsServer(tmp_path, 99_999)
