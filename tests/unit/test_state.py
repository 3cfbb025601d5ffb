# SPDX-License-Identifier: Apache-2.0
"""Tests of a campaign's state document: written, read meanwhile, damaged, killed, thinned."""

from __future__ import annotations

import itertools
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.state.document import CallRecord, EventKind
from fuzzer.state.reader import StateReader, read_state
from fuzzer.state.schema import VERSION, state_file
from fuzzer.state.writer import StateWriter
from tests.unit.state_records import (
    ASIDE,
    BLOCKS,
    CRASH,
    EVENT,
    JUDGE,
    MACHINE,
    REMARK,
    ROW,
    RUN,
    row_at,
)

PARTS = {
    "run": RUN,
    "machine": MACHINE,
    "crash": CRASH,
    "aside": ASIDE,
    "remark": REMARK,
}


def _fill(writer: StateWriter) -> None:
    with writer.changing():
        for table, record in PARTS.items():
            writer.put(table, record)
        writer.put("judge", JUDGE, only=1)
        for block in BLOCKS:
            writer.put("block", block)
        writer.execute("INSERT INTO call VALUES (3, 17, 'ioctl SET', 1)")
        writer.execute("INSERT INTO outcome VALUES (3, 17, 0, 30), (3, 17, 22, 4)")
        writer.add_row(ROW)
        writer.add_event(EVENT)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    _fill(writer)
    state = read_state(tmp_path)
    assert state.runs == (RUN,)
    assert state.history == (ROW,)
    assert state.last == ROW
    assert state.machines == (MACHINE,)
    assert state.judge == JUDGE
    assert state.crashes == (CRASH,)
    assert state.calls == (CallRecord(3, 17, "ioctl SET", True, {0: 30, 22: 4}),)
    assert state.blocks == BLOCKS
    assert state.aside == (ASIDE,)
    assert state.remarks == (REMARK,)
    assert state.events == (EVENT,)
    writer.close()


def test_a_closed_document_is_one_file_although_a_view_has_it_open(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    _fill(writer)
    with StateReader(tmp_path) as reader:
        assert reader.read().last == ROW
        writer.close()
        (tmp_path / "copy").mkdir()
        shutil.copy(state_file(tmp_path), tmp_path / "copy")
    assert read_state(tmp_path / "copy").history == (ROW,)


def test_a_reader_and_the_campaign_do_not_wait_for_each_other(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    _fill(writer)
    with StateReader(tmp_path) as reader:
        reader._database.execute("BEGIN")
        before = reader._database.execute("SELECT count(*) FROM history").fetchone()
        with writer.changing():
            writer.add_row(row_at(2.0))
            # Half of a change is never seen, and the change does not wait for the reader's end.
            assert len(read_state(tmp_path).history) == 1
        assert reader._database.execute("SELECT count(*) FROM history").fetchone() == before
        reader._database.rollback()
        assert len(reader.read().history) == 2
    writer.close()


def test_the_newest_row_can_be_had_alone(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    _fill(writer)
    with writer.changing():
        for second in range(2, 100):
            writer.add_row(row_at(second))
    with StateReader(tmp_path) as reader:
        state = reader.read(history=False, blocks=False)
        assert [row.at for row in state.history] == [99]
        assert state.blocks == ()
        glance = reader.glance(4)
        assert glance
        assert [row.at for row in glance.recent] == [96, 97, 98, 99]
        assert glance.row == row_at(99)
        assert (glance.run, glance.newest_block) == (RUN, 0.0)
        assert (glance.machines, glance.judge, glance.crashes) == ((MACHINE,), JUDGE, (CRASH,))
        assert (glance.aside, glance.remarks) == ((ASIDE,), (REMARK,))
    writer.close()


def test_a_directory_without_a_state_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"has no state\.db: no campaign"):
        read_state(tmp_path)


def test_a_damaged_state_is_put_away_and_begun_anew(tmp_path: Path) -> None:
    path = state_file(tmp_path)
    path.write_bytes(b"no database" * 500)
    with pytest.raises(BadInputError, match="cannot be read"):
        read_state(tmp_path)
    for number in (1, 2):
        writer = StateWriter(tmp_path)
        assert f"state.db.damaged-{number}" in writer.begun_anew
        assert (tmp_path / f"state.db.damaged-{number}").exists()
        assert read_state(tmp_path).history == ()
        writer.close()
        path.write_bytes(path.read_bytes()[:5000])


def test_a_state_of_a_newer_version_is_refused_and_stays(tmp_path: Path) -> None:
    StateWriter(tmp_path).close()
    database = sqlite3.connect(state_file(tmp_path))
    database.execute(f"PRAGMA user_version = {VERSION + 1}")
    database.close()
    before = state_file(tmp_path).read_bytes()
    with pytest.raises(BadInputError, match="newer pkvfuzz"):
        StateWriter(tmp_path)
    with pytest.raises(BadInputError, match=f"reads version {VERSION}"):
        read_state(tmp_path)
    assert state_file(tmp_path).read_bytes() == before


def test_a_copy_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "work"
    directory.mkdir()
    writer = StateWriter(directory)
    _fill(writer)
    # The copy is taken while the campaign runs, so there is a log of changes beside it.
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    writer.close()
    assert read_state(copy).history == (ROW,)


_ENDLESS = """
import sys
from pathlib import Path
from fuzzer.state.writer import StateWriter
from tests.unit.state_records import row_at

writer = StateWriter(Path(sys.argv[1]))
at = 0
while True:
    with writer.changing():
        writer.add_row(row_at(at))
        writer.execute("DELETE FROM judge")
        writer.execute("INSERT INTO judge VALUES (1, '', ?, 1, 0, '[]', 0)", (at,))
    print(at, flush=True)
    at += 1
"""


def test_a_killed_campaign_loses_no_row(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _ENDLESS, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        last = int(line)
        if last >= 200:
            child.send_signal(signal.SIGKILL)
            break
    rest = child.communicate()[0].split()
    last = int(rest[-1]) if rest else last
    state = read_state(tmp_path)
    rows = [int(row.at) for row in state.history]
    assert rows == list(range(len(rows)))
    assert rows[-1] in {last, last + 1}
    assert state.judge.waiting == rows[-1]
    writer = StateWriter(tmp_path)
    assert not writer.begun_anew
    assert writer.baseline().row == row_at(rows[-1])
    writer.close()


def test_a_week_stays_small_and_keeps_each_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(0, 10_000_000, 10))
    monkeypatch.setattr("fuzzer.state.writer.time.monotonic", lambda: next(ticks))
    writer = StateWriter(tmp_path)
    steps = {5000.0 + 7 * n for n in range(50)} | {500_000.0}
    covered = 0
    end = 7 * 24 * 3600
    with writer.changing():
        # A row a second for the first two hours and the end, between them one in twenty.
        for at in (*range(8000), *range(8000, end - 1000, 20), *range(end - 1000, end)):
            covered += float(at) in steps
            writer.add_row(row_at(at, covered=covered))
    history = read_state(tmp_path).history
    times = [row.at for row in history]
    assert times[:600] == list(range(600))
    assert times[-600:] == list(range(end - 600, end))
    assert 4000 < len(times) < 6000
    grown = {b.at for a, b in itertools.pairwise(history) if b.covered > a.covered}
    assert grown == steps
    writer.close()
    assert state_file(tmp_path).stat().st_size < 2 << 20


def test_the_newest_events_of_each_kind_stay(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    with writer.changing():
        writer.add_event(EVENT)
        for number in range(1500):
            writer.add_event(replace(EVENT, kind=EventKind.LOST, text=str(number)))
    events = read_state(tmp_path).events
    assert events[0] == EVENT
    assert [each.text for each in events[1:]] == [str(number) for number in range(500, 1500)]
    writer.close()


def test_a_change_that_cannot_be_written_leaves_the_state_as_it_was(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    _fill(writer)
    writer.execute("PRAGMA max_page_count = 1")
    with pytest.raises(OSError, match="full"), writer.changing():
        writer.put("judge", JUDGE, only=1, status="x" * 1_000_000)
    writer.execute("PRAGMA max_page_count = 1000000")
    with writer.changing():
        writer.add_row(row_at(2.0))
    assert read_state(tmp_path).judge == JUDGE
    assert len(read_state(tmp_path).history) == 2
    writer.close()
