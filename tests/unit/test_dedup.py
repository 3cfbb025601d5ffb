# SPDX-License-Identifier: Apache-2.0
"""One crash for each bug, and what is known from elsewhere."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fuzzer.crash.crash import Crash, Identity
from fuzzer.crash.dedup import (
    KnownCrashes,
    absorb,
    count_bugs,
    is_known,
    likely_causes,
    same_bugs,
    sighted,
)
from fuzzer.crash.store import CrashStore
from fuzzer.errors import BadInputError
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.target.target import Target
from tests.unit.reports import (
    LEFT_TIMER,
    beyond,
    fault,
    freed,
    in_timers,
    lockdep,
    usercopy,
)
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
    assert absorb(store, kasan, pkv_target, seen_as=kasan.title) == kasan
    assert absorb(store, fault, pkv_target, seen_as=fault.title) is None
    (found,) = store.all()
    assert (found.title, found.program) == (kasan.title, ONE)
    assert found.also_titles == (fault.title,)
    assert set(found.sighted_as) == {kasan.title, fault.title}
    assert is_known(store, fault.splat)
    assert fault.title in (tmp_path / store.path(kasan.title) / "README.md").read_text()


def test_kasans_report_takes_the_place_of_a_fault(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    kasan, gpf, fault = crash(KASAN, TWO), crash(GPF), crash(FAULT)
    for each in (gpf, fault, kasan):
        new = absorb(store, each, pkv_target, seen_as=each.title)
    (found,) = store.all()
    assert new == found
    assert (found.title, found.program) == (kasan.title, TWO)
    assert found.also_titles == tuple(sorted([gpf.title, fault.title]))
    assert str(found.signature) == str(gpf.signature)


@pytest.mark.parametrize("changes", [{"reproduced": 1}, {"reproduced": 1, "runs": 1}])
def test_but_not_when_it_shows_less_often_or_was_tried_less(
    tmp_path: Path, pkv_target: Target, changes: dict[str, Any]
) -> None:
    store = CrashStore(tmp_path)
    absorb(store, crash(GPF), pkv_target, seen_as="")
    assert absorb(store, crash(KASAN, **changes), pkv_target, seen_as="") is None
    assert titles(store) == {crash(GPF).title}


def test_another_place_is_another_bug(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    for each in (crash(KASAN), crash(ELSEWHERE)):
        assert absorb(store, each, pkv_target, seen_as=each.title) == each
    assert len(store.all()) == count_bugs(store.all()) == 2


def test_what_was_stored_unjudged_goes_when_it_is_judged_to_be_something_else(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    seen = crash(ELSEWHERE, reproduced=0, runs=0)
    store.put(seen, pkv_target)
    absorb(store, crash(KASAN), pkv_target, seen_as=seen.title)
    assert titles(store) == {crash(KASAN).title}


def test_a_known_bug_is_recognised_by_its_signature(tmp_path: Path, pkv_target: Target) -> None:
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
        absorb(store, each, pkv_target, seen_as=each.title)
    assert titles(store) == {fault.title, other.title}
    found = store.get(fault.title)
    assert found
    assert (found.reproduced, found.program, found.sightings) == (3, TWO, 41)
    assert found.also_titles == (silent.title,)


def test_what_is_still_to_be_judged_stays(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    waiting, fault = crash(KASAN, reproduced=0, runs=0), crash(GPF, TWO)
    for each in (waiting, fault):
        absorb(store, each, pkv_target, seen_as=each.title)
    assert titles(store) == {fault.title, waiting.title}
    assert same_bugs(store.all()).count(None) == count_bugs(store.all()) == 1


def test_a_title_that_two_bugs_have_is_numbered_and_neither_is_known_by_it(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    order, alone = crash(lockdep("drv_get", "a", "b")), crash(lockdep("drv_get", "a"), TWO)
    assert order.title == alone.title
    absorb(store, order, pkv_target, seen_as=order.title)
    known = KnownCrashes()
    known.add(store)
    assert known.find(alone) is None
    assert not is_known(store, alone.splat)
    assert sighted(store.all(), alone.title, alone.splat) is None
    for _ in range(2):
        absorb(store, alone, pkv_target, seen_as=alone.title)
        assert titles(store) == {order.title, f"{order.title} (2)"}
    second = store.get(f"{order.title} (2)")
    assert second
    assert (second.program, second.report_title) == (TWO, alone.title)
    assert second.splat.locks == ("a",)
    assert is_known(store, alone.splat)
    assert is_known(store, order.splat)
    assert sighted(store.all(), alone.title, alone.splat) == second
    again = crash(lockdep("drv_put", "b", "a"))
    assert absorb(store, again, pkv_target) is None
    assert store.get(order.title) == dataclasses.replace(
        order, also_titles=(again.title,), sighted_as=tuple(sorted([order.title, again.title]))
    )


def test_the_number_of_a_title_stays_in_the_name_of_its_directory(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    name = "drv_" + "x" * 90
    for report in (lockdep(name, "a", "b"), lockdep(name, "a"), lockdep(name, "b")):
        absorb(store, crash(report), pkv_target)
    assert len(store.all()) == 3
    assert len({path.name[-2:] for path, _ in store.entries()}) == 3


def test_one_freed_object_is_one_crash_and_two_in_a_function_are_two(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    reports = [freed(f"drv_use{number}") for number in range(5)]
    reports += [freed("drv_use0", access="Write"), freed("drv_use1", access="Free")]
    for report in reports:
        absorb(store, crash(report), pkv_target)
    (found,) = store.all()
    assert len(found.also_titles) == 6
    # What meets it without KASAN's help, in any of these functions, is that bug as well.
    assert is_known(store, crash(fault("drv_use3")).splat)
    assert not is_known(store, crash(fault("drv_other")).splat)
    other = crash(freed("drv_use0", allocated="drv_open", by="drv_release", at=0x200))
    absorb(store, other, pkv_target)
    assert titles(store) == {found.title, f"{found.title} (2)"}


def test_other_bugs_in_one_big_function_are_no_titles_of_one_crash(
    tmp_path: Path, pkv_target: Target
) -> None:
    store = CrashStore(tmp_path)
    for report in (
        fault("drv_ioctl"),
        beyond("drv_ioctl"),
        freed("drv_ioctl", allocated="drv_ioctl", by="drv_ioctl"),
        usercopy("drv_ioctl", "exposure"),
        usercopy("drv_ioctl", "overwrite", at=0x150),
    ):
        absorb(store, crash(report), pkv_target)
    # The fault is one of them; a report of KASAN's took its place.
    assert len(store.all()) == 4
    assert count_bugs(store.all()) == 4


@pytest.mark.parametrize("signature", ["memory: drv_old_name<drv_gone", "title: KASAN", None])
def test_a_crash_of_an_older_version_is_recognised_by_its_report(
    tmp_path: Path, pkv_target: Target, signature: str | None
) -> None:
    store = CrashStore(tmp_path)
    path = store.put(crash(KASAN, also_titles=("BUG: NULL pointer dereference in f",)), pkv_target)
    record = json.loads((path / "crash.json").read_text())
    record["signature"] = signature
    record["function"] = "drv_old_name"
    (path / "crash.json").write_text(json.dumps(record))
    known = KnownCrashes()
    known.add(store)
    assert known.find(crash(GPF)) == path
    assert known.find(crash(ELSEWHERE)) is None
    assert known.find(crash(fault("f"))) == path
    (stored,) = store.all()
    assert str(stored.signature) == "memory: drv_last<drv_read"


def test_what_a_driver_left_behind_at_unload_is_one_bug(tmp_path: Path, pkv_target: Target) -> None:
    store = CrashStore(tmp_path)
    reports = [
        in_timers("__run_timers"),
        in_timers("detach_if_pending"),
        LEFT_TIMER,
        in_timers("__run_timers", warns=True),
    ]
    for report in reports:
        absorb(store, crash(report), pkv_target)
    crashes = store.all()
    cause = next(i for i, each in enumerate(crashes) if "ODEBUG" in each.title)
    assert len(crashes) == 4
    assert likely_causes(crashes) == [None if i == cause else cause for i in range(4)]
    assert count_bugs(crashes) == 1
    elsewhere = dataclasses.replace(crashes[cause].identity, target="other")
    others = [dataclasses.replace(each, identity=elsewhere) for each in crashes[:1]]
    assert likely_causes([*others, *crashes][:1]) == [None]
