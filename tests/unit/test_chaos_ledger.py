# SPDX-License-Identifier: Apache-2.0
"""Tests of the list by which chaos notices that something was lost."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.engine.import_queue import import_directory
from fuzzer.state.schema import state_file
from fuzzer.state.writer import StateWriter
from tests.support.chaos import Ledger, LostError
from tests.unit.state_records import ROW, row_at


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    found = Ledger(tmp_path)
    (tmp_path / "corpus").mkdir()
    for content in (b"one", b"two"):
        name = hashlib.sha1(content, usedforsecurity=False).hexdigest()
        (tmp_path / "corpus" / name).write_bytes(content)
    add_crash(tmp_path, "BUG in f")
    writer = StateWriter(tmp_path)
    with writer.changing():
        for at in (1.0, 2.0, 3.0):
            writer.put("history", row_at(at), kept=0)
    writer.close()
    found.look()
    assert (len(found.programs), len(found.crashes), len(found.rows)) == (2, 1, 3)
    return found


def add_crash(workdir: Path, title: str, *also: str) -> Path:
    path = workdir / "crashes" / title.replace(" ", "-")
    path.mkdir(parents=True)
    record = {"title": title, "also_titles": also, "sighted_as": [title]}
    (path / "crash.json").write_text(json.dumps(record))
    return path


def test_what_is_still_there_is_no_loss(ledger: Ledger) -> None:
    workdir = ledger.workdir
    import_directory(workdir).mkdir()
    moved = next((workdir / "corpus").iterdir())
    moved.rename(import_directory(workdir) / moved.name)
    # A file that the disk had no room for.
    (workdir / "corpus" / ("0" * 40)).touch()
    (workdir / "crashes" / "BUG-in-f" / "crash.json").unlink()
    add_crash(workdir, "BUG in g", "BUG in f")
    ledger.look()
    assert len(ledger.programs) == 2


def test_a_program_that_is_gone_or_damaged_is_a_loss(ledger: Ledger) -> None:
    program = next((ledger.workdir / "corpus").iterdir())
    program.write_bytes(b"")
    with pytest.raises(LostError, match="1 programs of the corpus of 2 are lost"):
        ledger.look()
    program.unlink()
    with pytest.raises(LostError, match="corpus"):
        ledger.look()


def test_a_crash_that_is_gone_is_a_loss(ledger: Ledger) -> None:
    (ledger.workdir / "crashes" / "BUG-in-f" / "crash.json").unlink()
    with pytest.raises(LostError, match="crashes"):
        ledger.look()


def test_a_row_that_is_gone_is_a_loss_and_counts_never_go_back(ledger: Ledger) -> None:
    writer = StateWriter(ledger.workdir)
    with writer.changing():
        writer.put("history", replace(row_at(4.0), programs=ROW.programs - 1), kept=0)
    with pytest.raises(LostError, match="goes back"):
        ledger.look()
    with writer.changing():
        writer.execute("DELETE FROM history WHERE at > 1.5")
    with pytest.raises(LostError, match="2 rows of the history of 3"):
        ledger.look()
    writer.close()
    state_file(ledger.workdir).unlink()
    with pytest.raises(LostError, match="3 rows of the history of 3"):
        ledger.look()
