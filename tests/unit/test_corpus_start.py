# SPDX-License-Identifier: Apache-2.0
"""The part of a large corpus that a campaign starts with, and the turns of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzzer.campaign import corpus_start
from fuzzer.campaign.corpus_start import CorpusCount
from fuzzer.campaign.workdir import Workdir
from fuzzer.engine.import_queue import ImportQueue, import_directory, queued_names, tried_names
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode

N_PROGRAMS = 30


def program(number: int) -> bytes:
    return encode((Call(Op.READ, arg=number),))


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    """Return a working directory whose corpus is too large by 10 programs."""
    workdir = Workdir(tmp_path)
    workdir.corpus.mkdir()
    for number in range(N_PROGRAMS):
        workdir.add_program(program(number))
    return workdir


def set_aside(workdir: Workdir, key: str) -> int:
    """Leave 20 programs in a corpus, and queue the others."""
    return corpus_start.set_aside(workdir, key, programs=20)


def in_corpus(workdir: Workdir) -> set[str]:
    return {path.name for path in workdir.corpus.iterdir()}


def take_all(queue: ImportQueue) -> list[bytes]:
    taken = []
    while (data := queue.take(1e9)) is not None:
        taken.append(data)
    return taken


def test_a_small_corpus_stays_as_it_is(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    workdir.corpus.mkdir()
    workdir.add_program(program(1))
    assert set_aside(workdir, "key") == 0
    assert len(in_corpus(workdir)) == 1
    assert not import_directory(tmp_path).exists()
    assert ImportQueue(tmp_path).take(1e9) is None


def test_a_large_corpus_is_divided_and_nothing_is_lost(workdir: Workdir) -> None:
    everything = in_corpus(workdir)
    assert set_aside(workdir, "key") == N_PROGRAMS - 20
    assert len(in_corpus(workdir)) == 20
    assert in_corpus(workdir) | queued_names(workdir.root) == everything
    # Once more, with an import queue that exists.
    workdir.add_program(program(N_PROGRAMS))
    assert set_aside(workdir, "key") == N_PROGRAMS - 20 + 1
    assert len(in_corpus(workdir)) == 20


def test_what_takes_long_counts_for_more(workdir: Workdir) -> None:
    # A program of one small call costs 2: those of the call and of itself.
    assert corpus_start.set_aside(workdir, "key", programs=20, cost=10.0) == N_PROGRAMS - 5


def test_what_was_tried_is_not_tried_again_on_the_same_driver(workdir: Workdir) -> None:
    set_aside(workdir, "key")
    assert len(take_all(ImportQueue(workdir.root))) == 10
    assert set_aside(workdir, "key") == 0
    assert take_all(ImportQueue(workdir.root)) == []
    assert set_aside(workdir, "another") == 10
    assert len(take_all(ImportQueue(workdir.root))) == 10


def test_what_leaves_the_corpus_later_has_its_turn_again(workdir: Workdir) -> None:
    set_aside(workdir, "key")
    take_all(ImportQueue(workdir.root))
    # libFuzzer keeps one of them, so it is in the corpus again, which is too large once more.
    name = min(queued_names(workdir.root))
    (workdir.corpus / f"0{name}").write_bytes((import_directory(workdir.root) / name).read_bytes())
    last = max(in_corpus(workdir))
    set_aside(workdir, "key")
    assert last in queued_names(workdir.root) - tried_names(workdir.root)
    assert len(take_all(ImportQueue(workdir.root))) == 1


def test_each_worker_has_its_part_of_the_import_queue(workdir: Workdir) -> None:
    set_aside(workdir, "key")
    parts = [take_all(ImportQueue(workdir.root, number, 3)) for number in range(3)]
    assert sorted(map(len, parts)) == [3, 3, 4]
    assert len(set().union(*parts)) == 10


def test_an_import_queue_takes_half_of_all_until_it_brings_nothing_and_then_little(
    tmp_path: Path,
) -> None:
    directory = import_directory(tmp_path)
    directory.mkdir()
    for number in range(1500):
        (directory / f"{number:04}").write_bytes(program(number))
    queue = ImportQueue(tmp_path)
    total, taken = 1.0, 0

    def run(rounds: int, *, gainful: bool = False) -> int:
        nonlocal total, taken
        before = taken
        for _ in range(rounds):
            total += 2.0
            data = queue.take(total)
            taken += data is not None
            if data and gainful:
                queue.note(data)
        return taken - before

    assert 990 <= run(2000, gainful=True) <= 1010
    assert run(1000) == pytest.approx(500, abs=10)
    assert run(2000) == 0
    run(40_000)
    assert taken < 0.05 * total / 2
    assert taken == 1500 or taken > 0.03 * total / 2


def test_a_program_that_went_is_passed_over(workdir: Workdir) -> None:
    set_aside(workdir, "key")
    first, *rest = sorted(queued_names(workdir.root))
    (import_directory(workdir.root) / first).unlink()
    queue = ImportQueue(workdir.root)
    (import_directory(workdir.root) / rest[0]).unlink()
    assert len(take_all(queue)) == 8


def test_the_corpus_is_counted_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    lists = 0
    scandir = os.scandir

    def counted(path: Path) -> os._ScandirIterator[str]:
        nonlocal lists, now
        lists += 1
        now += 0.05  # it takes long
        return scandir(path)

    monkeypatch.setattr("fuzzer.campaign.corpus_start.os.scandir", counted)
    (tmp_path / "one").touch()
    count = CorpusCount(tmp_path, lambda: now)
    assert (count.count(), count.count(), lists) == (1, 1, 1)
    (tmp_path / "two").touch()
    # Not yet: looking takes too much of the time.
    now += 1.0
    assert (count.count(), lists) == (1, 1)
    now += 4.1
    assert (count.count(), lists) == (2, 2)
