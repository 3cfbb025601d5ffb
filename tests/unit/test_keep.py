# SPDX-License-Identifier: Apache-2.0
"""One crash for each bug, and what is known from elsewhere."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from fuzzer.crash.bug import count_bugs, same_bugs
from fuzzer.crash.keep import keep
from fuzzer.crash.known import KnownCrashes
from fuzzer.crash.store import Crash, CrashStore, Identity
from fuzzer.errors import BadInputError
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.target.target import Target
from tests.unit.test_triage import ELSEWHERE, FAULT, GPF, KASAN

ONE, TWO = encode((Call(Op.READ, arg=1),)), encode((Call(Op.READ, arg=2),))


def crash(report: str, program: bytes = ONE, **changes: Any) -> Crash:
    splat = find_splat(report.splitlines())
    assert splat
    found = Crash(
        title=splat.title,
        kind=splat.kind,
        function=splat.function,
        judged_on="full",
        reproduced=3,
        runs=3,
        sightings=1,
        sighted_as=(splat.title,),
        identity=Identity("drv", "drv.yaml", None, "full k", "d", "q", "tcg"),
        report=report,
        first_log="",
        program=program,
    )
    return dataclasses.replace(found, **changes)


def titles(store: CrashStore) -> set[str]:
    return {each.title for each in store.all()}


def test_the_same_bug_in_other_words_is_put_with_the_first(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    kasan, fault = crash(KASAN), crash(GPF, TWO)
    assert keep(store, kasan, pkv_target, seen_as=kasan.title) == kasan
    assert keep(store, fault, pkv_target, seen_as=fault.title) is None
    (found,) = store.all()
    assert (found.title, found.program) == (kasan.title, ONE)
    assert found.also_titles == (fault.title,)
    assert set(found.sighted_as) == {kasan.title, fault.title}
    assert store.is_known(fault.title)
    assert fault.title in (tmp_path / store.path(kasan.title) / "README.md").read_text()


def test_kasans_report_takes_the_place_of_a_fault(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    kasan, gpf, fault = crash(KASAN, TWO), crash(GPF), crash(FAULT)
    for each in (gpf, fault, kasan):
        new = keep(store, each, pkv_target, seen_as=each.title)
    (found,) = store.all()
    assert new == found
    assert (found.title, found.program) == (kasan.title, TWO)
    assert found.also_titles == tuple(sorted([gpf.title, fault.title]))
    assert found.signature == gpf.signature


@pytest.mark.parametrize("changes", [{"reproduced": 1}, {"reproduced": 1, "runs": 1}])
def test_but_not_when_it_shows_less_often_or_was_tried_less(
    tmp_path: Path, pkv_target: Target, changes: dict[str, Any]
) -> None:
    store = CrashStore(tmp_path)
    keep(store, crash(GPF), pkv_target, seen_as="")
    assert keep(store, crash(KASAN, **changes), pkv_target, seen_as="") is None
    assert titles(store) == {crash(GPF).title}


def test_another_place_is_another_bug(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    for each in (crash(KASAN), crash(ELSEWHERE)):
        assert keep(store, each, pkv_target, seen_as=each.title) == each
    assert len(store.all()) == count_bugs(store.all()) == 2


def test_what_was_stored_unjudged_goes_when_it_is_judged_to_be_something_else(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    seen = crash(ELSEWHERE, reproduced=0, runs=0)
    store.put(seen, pkv_target)
    keep(store, crash(KASAN), pkv_target, seen_as=seen.title)
    assert titles(store) == {crash(KASAN).title}


def test_a_known_bug_is_recognised_by_title_and_by_signature(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    path = store.put(crash(KASAN), pkv_target)
    known = KnownCrashes()
    known.add(store)
    assert known.find(crash(KASAN)) == known.find(crash(GPF)) == path
    assert known.find(crash(ELSEWHERE)) is None
    other = dataclasses.replace(crash(KASAN).identity, target="other")
    assert known.find(crash(KASAN, identity=other)) is None
    new = [crash(ELSEWHERE), crash(KASAN, identity=other)]
    assert known.new_of([crash(GPF), *new]) == new
    with pytest.raises(BadInputError, match="no such directory"):
        known.add(CrashStore(tmp_path / "none"))


@pytest.mark.parametrize("again", [False, True])
def test_what_did_not_reproduce_goes_where_its_bug_does(
    tmp_path: Path, pkv_target: Target, again: bool
) -> None:
    store = CrashStore(tmp_path)
    silent, fault = crash(KASAN, reproduced=0, sightings=41), crash(GPF, TWO)
    other = crash(ELSEWHERE, reproduced=0)
    for each in (silent, other, fault, *([silent] if again else [])):
        keep(store, each, pkv_target, seen_as=each.title)
    assert titles(store) == {fault.title, other.title}
    found = store.get(fault.title)
    assert found
    assert (found.reproduced, found.program, found.sightings) == (3, TWO, 41)
    assert found.also_titles == (silent.title,)


def test_what_is_still_to_be_judged_stays(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    waiting, fault = crash(KASAN, reproduced=0, runs=0), crash(GPF, TWO)
    for each in (waiting, fault):
        keep(store, each, pkv_target, seen_as=each.title)
    assert titles(store) == {fault.title, waiting.title}
    assert same_bugs(store.all()).count(None) == count_bugs(store.all()) == 1
