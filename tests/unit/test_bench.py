# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic and output, and how the host waits for the guest."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.bench.endtoend import Window
from fuzzer.bench.instructions import InstructionCount, bench_programs
from fuzzer.bench.logspeed import LogSpeed, flood_log, measure_log_speed, quiet_log
from fuzzer.bench.restore import RestoreTimes, Spread
from fuzzer.bench.result import (
    BenchResult,
    FlavourResult,
    Shape,
    Together,
    show_table,
    to_json,
)
from fuzzer.bench.speed import Shares, sum_up
from fuzzer.bench.views import ViewsCost
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kernel import STANDARD
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import Command
from fuzzer.paths import project_root
from fuzzer.splat.scan import scan
from fuzzer.splat.triage import LogTriage
from fuzzer.target.target import Target, load_target


def window(programs: int, wall: float, ceiling: float) -> Window:
    return Window(
        programs=programs,
        calls=10 * programs,
        wall=wall,
        ceiling=ceiling,
        user=0.2 * wall,
        system=0.1 * wall,
        waiting=0.5 * wall,
        ahead=0.2 * wall,
        mutating=0.1 * wall,
        looping=0.1 * wall,
    )


def result() -> BenchResult:
    speed = sum_up([window(1000, 0.25, 0.2)])
    times = RestoreTimes(Spread.of([0.03, 0.05, 0.04]), Spread.of([0.06]))
    counts = (InstructionCount("empty", 17343, ()), InstructionCount("read", 27509, (7058, 803)))
    flavours = tuple(FlavourResult(flavour, times, speed, counts) for flavour in STANDARD)
    logs = LogSpeed(1000, 70.0, 700.0, 0.1, 10.0)
    return BenchResult("demo", Accel.TCG, "because", "QEMU 7.2", flavours, log_speed=logs)


def target(directory: Path) -> Target:
    demo = load_target(project_root() / "module" / "pkv.yaml")
    return dataclasses.replace(demo, name="no-such-target", path=directory / "demo.yaml")


def test_the_ratio_weighs_windows_by_their_time() -> None:
    speed = sum_up([window(1000, 0.2, 0.2), window(1000, 0.6, 0.2)])
    assert speed.ratio == pytest.approx(0.5)
    assert speed.programs_per_second == pytest.approx(2500)
    assert speed.ceiling_programs_per_second == pytest.approx(5000)
    assert speed.calls_per_second == pytest.approx(25000)
    assert speed.user_us == pytest.approx(80)


def test_the_shares_of_the_time_sum_to_one() -> None:
    shares = sum_up([window(1000, 0.3, 0.2), window(1000, 0.4, 0.1)]).shares
    assert sum(dataclasses.astuple(shares)) == pytest.approx(1)
    assert shares.libfuzzer == pytest.approx(0.1)
    assert isinstance(shares, Shares)


def test_a_driver_that_always_splats_cannot_be_measured() -> None:
    with pytest.raises(InfrastructureError, match="splat"):
        sum_up([])


def test_a_spread_is_median_least_and_most() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_the_last_call_is_the_one_a_program_measures() -> None:
    assert InstructionCount("read", 27509, (7058, 803)).last == 803
    assert InstructionCount("empty", 17343, ()).last == 0


def test_the_table_has_a_column_for_each_flavour() -> None:
    lines = show_table(result()).splitlines()
    assert lines[1].split() == ["fast", "full"]
    rows = {line.strip().split("  ")[0]: line for line in lines}
    assert rows["programs/s end to end"].split()[-2:] == ["4,000", "4,000"]
    assert rows["end to end / guest alone"].split()[-2:] == ["0.80", "0.80"]
    assert rows["running"].count("40 ms (30 to 50)") == 2
    assert rows["read"].count("27,509 (7,058 + 803)") == 2
    assert rows["empty"].split()[-2:] == ["17,343", "17,343"]
    assert len({len(line) for line in lines if line.startswith("  ")}) == 1
    assert "searched at 70 MB/s, 0.10 of" in lines[-2]
    assert lines[-1] == "a log of nothing but reports at 10 MB/s"


def test_the_cost_of_views_is_a_ratio_of_throughput() -> None:
    cost = ViewsCost(20.0, 2, 60_000, recording=0.2, screen=0.15, metrics=0.05)
    assert cost.share == pytest.approx(0.01)
    lines = show_table(dataclasses.replace(result(), views=cost)).splitlines()
    assert "a campaign with its views has 0.990 of the throughput without them" in lines
    assert "their CPU time a second: state 10.0 ms, screen 7.5 ms, metrics 2.5 ms" in lines


def test_other_forms_of_programs_have_lines_of_their_own() -> None:
    speed = sum_up([window(1000, 0.25, 0.2)])
    slower = sum_up([window(1000, 0.4, 0.2)])
    shown = show_table(
        dataclasses.replace(
            result(),
            shapes=(Shape("50 calls, on threads", slower),),
            together=Together(2, speed, (slower, slower)),
        )
    )
    lines = [line.rsplit(maxsplit=2) for line in shown.splitlines()[-3:]]
    assert lines == [
        ["  50 calls, on threads", "2,500", "0.50"],
        ["  one VM", "4,000", "0.80"],
        ["  2 VMs (1.25 times one VM)", "5,000", "0.50"],
    ]


def test_the_json_has_what_the_table_has() -> None:
    data = json.loads(to_json(result()))
    assert (data["version"], data["target"], data["accel"]) == (1, "demo", "tcg")
    fast = data["flavours"][0]
    assert fast["flavour"] == "fast"
    assert fast["speed"]["ratio"] == pytest.approx(0.8)
    assert data["log_speed"]["ratio"] == pytest.approx(0.1)
    assert fast["instructions"][1] == {"name": "read", "program": 27509, "calls": [7058, 803]}


def test_the_log_that_is_searched_has_no_report_and_the_speed_is_a_ratio() -> None:
    assert list(scan([quiet_log(3000)])) == []
    speed = measure_log_speed(3000)
    assert speed.size == len(quiet_log(3000))
    assert speed.ratio == pytest.approx(speed.mb_s / speed.lines_mb_s)
    assert speed.flood_mb_s > 0


def test_the_flood_that_is_measured_is_of_one_bug() -> None:
    log = flood_log(500)
    triage = LogTriage()
    triage.add_log("flood", [log])
    (finding,) = triage.findings()
    assert finding.record.title == "KASAN: slab-use-after-free Read in drv_last"
    assert finding.count == log.count(b"BUG: KASAN") > 5


def test_bench_programs_beside_the_target_are_used(tmp_path: Path) -> None:
    directory = tmp_path / "seeds" / "bench"
    directory.mkdir(parents=True)
    (directory / "read.prog").write_text("read(f0, 1)\n")
    assert [program.name for program in bench_programs(target(tmp_path))] == ["read"]


def test_without_bench_programs_the_empty_one_is_measured(tmp_path: Path) -> None:
    (program,) = bench_programs(target(tmp_path))
    assert (program.name, program.wire) == ("empty", b"")


def test_the_projects_own_bench_programs_parse() -> None:
    programs = bench_programs(load_target(project_root() / "module" / "pkv.yaml"))
    assert {"empty", "write", "read", "list", "delete"} <= {each.name for each in programs}


@pytest.fixture
def channel() -> Iterator[Channel]:
    made = Channel()
    yield made
    made.close()


def test_waiting_ends_with_the_answer(channel: Channel) -> None:
    channel.post(Command.PING)

    def answer() -> None:
        time.sleep(0.02)
        channel.header.done_seq = channel.header.req_seq

    thread = threading.Thread(target=answer)
    thread.start()
    assert channel.wait(30.0)
    assert channel.finished()
    thread.join()


def test_waiting_gives_up_in_time(channel: Channel) -> None:
    channel.post(Command.PING)
    assert not channel.wait(0.01)
    assert not channel.finished()


def test_a_posted_program_is_a_complete_request(channel: Channel) -> None:
    before = channel.header.req_seq
    channel.post_program(b"wire")
    header = channel.header
    assert (header.command, header.length, header.req_seq) == (Command.RUN, 4, before + 1)


def test_request_numbers_wrap_around(channel: Channel) -> None:
    channel.header.req_seq = 0xFFFFFFFF
    channel.post_program(b"")
    assert channel.header.req_seq == 0
