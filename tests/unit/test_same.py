# SPDX-License-Identifier: Apache-2.0
"""Reports that are of one bug, and those that are not."""

from __future__ import annotations

from itertools import combinations

import pytest

from fuzzer.crash.dedup import akin, same_bug
from fuzzer.crash.judge import first_impression
from fuzzer.crash.oracles.deterministic import matches
from fuzzer.crash.sighting import Sighting
from fuzzer.splat.aftermath import damages_memory, is_aftermath
from fuzzer.splat.find import bare_splat, find_splat, splat_titled
from fuzzer.splat.rules import read_title
from fuzzer.splat.silence import Silence, silent_splat
from fuzzer.splat.splat import Splat
from tests.golden.index import DIRECTORY
from tests.unit.reports import (
    LEFT_TIMER,
    SIZE,
    beyond,
    fault,
    freed,
    in_timers,
    lockdep,
    splat,
    ubsan,
    usercopy,
)


def test_a_self_deadlock_is_no_lock_order_bug_though_the_title_is_the_same() -> None:
    alone, order = splat(lockdep("drv_get", "a")), splat(lockdep("drv_get", "a", "b"))
    assert alone.title == order.title
    assert not same_bug(alone, order)
    assert same_bug(order, splat(lockdep("drv_put", "b", "a")))
    assert not same_bug(order, splat(lockdep("drv_get", "a", "c")))


def test_locks_that_the_task_held_besides_tell_nothing() -> None:
    one = splat(lockdep("drv_get", "a", "b", held="&mm->mmap_lock"))
    assert one.locks == ("a", "b")
    assert same_bug(one, splat(lockdep("drv_get", "a", "b", held="sb_writers")))


def test_a_double_free_told_in_two_functions_is_one_bug() -> None:
    write = splat(freed("drv_write", access="Free", by="drv_release"))
    release = splat(freed("drv_release", access="Free", by="drv_write"))
    assert same_bug(write, release)
    assert not same_bug(write, splat(freed("drv_other", access="Free", by="drv_exit")))
    assert not same_bug(
        write, splat(freed("drv_release", access="Free", by="drv_write", allocated="drv_open"))
    )


def test_a_freed_object_that_five_functions_read_is_one_bug() -> None:
    reports = [splat(freed(f"drv_read{number}")) for number in range(5)]
    assert all(same_bug(a, b) for a, b in combinations(reports, 2))
    assert not same_bug(reports[0], splat(freed("drv_read1", allocated="drv_open", by="drv_exit")))
    # A program that is made smaller goes on to show what the title says.
    assert matches(reports[0])(splat(freed("drv_read0", access="Write")))
    assert not matches(reports[0])(reports[1])


def test_a_freed_object_that_is_read_written_and_freed_is_one_bug() -> None:
    reports = [splat(freed("drv_use", access=access)) for access in ("Read", "Write", "Free")]
    assert len({report.title for report in reports}) == 3
    assert all(same_bug(a, b) for a, b in combinations(reports, 2))


def test_an_object_is_freed_or_allocated_in_more_than_one_place() -> None:
    one = splat(freed("drv_use"))
    assert same_bug(one, splat(freed("drv_use", by="drv_clear")))
    assert same_bug(one, splat(freed("drv_use", allocated="drv_clone")))
    assert not same_bug(one, splat(freed("drv_use", by="x", allocated="y", at=0x70)))
    assert same_bug(one, splat(freed("drv_use", by="x", allocated="y")))
    assert same_bug(one, splat(freed("drv_use", by="x", allocated="y", at=0x70, size=SIZE + 16)))


def test_a_double_free_and_a_use_after_free_in_one_function_are_two_bugs() -> None:
    used = splat(freed("drv_use"))
    twice = splat(freed("drv_use", access="Free", allocated="drv_open", by="drv_exit"))
    assert not same_bug(used, twice)
    assert not akin(used, twice)
    unknown = splat_titled("KASAN: double-free in drv_use")
    assert not same_bug(used, unknown)
    assert not akin(used, unknown)


def test_flaws_in_one_big_function_are_bugs_of_their_own() -> None:
    reports = [
        splat(report)
        for report in (
            beyond("drv_ioctl"),
            freed("drv_ioctl", allocated="drv_ioctl", by="drv_ioctl"),
            usercopy("drv_ioctl", "exposure"),
            usercopy("drv_ioctl", "overwrite", at=0x150),
        )
    ]
    assert {report.function for report in reports} == {"drv_ioctl"}
    assert not any(same_bug(a, b) for a, b in combinations(reports, 2))
    # What it does with a wild pointer may be any of these.
    wild = splat(fault("drv_ioctl"))
    assert all(same_bug(wild, each) for each in reports)


def test_a_wild_access_of_one_instruction_is_one_bug_whatever_it_meets() -> None:
    assert same_bug(splat(beyond("drv_use", at=0x60)), splat(freed("drv_use", at=0x60)))
    assert not same_bug(splat(beyond("drv_use", at=0x61)), splat(freed("drv_use", at=0x60)))


def test_ubsan_is_told_by_file_and_line() -> None:
    one = splat(ubsan("drv_set", 10))
    assert same_bug(one, splat(ubsan("drv_get", 10)))
    assert not same_bug(one, splat(ubsan("drv_set", 14)))
    # After a change above it the line is another one, in a function that is another one too.
    assert same_bug(one, splat(ubsan("drv_set", 14, size=SIZE + 16)))
    assert not same_bug(one, splat(ubsan("drv_get", 14, size=SIZE + 16)))


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (splat(freed("f")), splat(fault("f")), True),
        (splat(freed("f")), splat(fault("g")), False),
        (splat(freed("f")), splat_titled("KFENCE: use-after-free read in f"), True),
        (splat(freed("f")), splat(lockdep("f", "a")), False),
        (splat(freed("f")), splat_titled("KASAN: slab-use-after-free Read"), False),
        (
            splat_titled("BUG: scheduling while atomic in f"),
            splat_titled("BUG: sleeping function called from invalid context in f"),
            True,
        ),
        (
            splat_titled("KCSAN: data-race in f / g"),
            splat_titled("KCSAN: assert: race in f / g"),
            True,
        ),
        (splat_titled("KCSAN: data-race in f / g"), splat_titled("KCSAN: data-race in g"), True),
        (splat_titled("KCSAN: data-race in f / g"), splat_titled("KCSAN: data-race in h"), False),
        (splat_titled(Silence.NO_RETURN), splat_titled(Silence.NO_RETURN), True),
        (splat_titled(Silence.NO_RETURN), splat_titled(Silence.NO_ANSWER), False),
    ],
)
def test_where_a_place_is_all_that_both_tell_it_decides(a: Splat, b: Splat, same: bool) -> None:
    assert same_bug(a, b) is same_bug(b, a) is same


def _shown(title: str, text: str = "") -> Splat:
    known = splat_titled(title)
    return bare_splat(title, known.kind, known.function, text)


@pytest.mark.parametrize(
    ("seen", "shown", "is_akin"),
    [
        (
            _shown("KASAN: slab-use-after-free Read in outer"),
            _shown("BUG: NULL pointer dereference in inner", " inner+0x1/0x2\n outer+0x3/0x4"),
            True,
        ),
        (
            _shown("KASAN: slab-use-after-free Read in outer", " outer+0x3/0x4"),
            _shown("KASAN: slab-use-after-free Read in router", " r+0x1/0x2"),
            False,
        ),
        (
            _shown("KASAN: slab-use-after-free Read (report cut short)"),
            _shown("general protection fault in f"),
            True,
        ),
        (
            _shown("KASAN: slab-use-after-free Read (report cut short)"),
            _shown("possible deadlock in f"),
            False,
        ),
        (silent_splat(Silence.NO_RETURN, []), _shown("INFO: task hung in f"), True),
        (silent_splat(Silence.NO_RETURN, []), _shown("possible deadlock in f"), True),
        (silent_splat(Silence.REBOOT, []), _shown("general protection fault in f"), True),
        (_shown("KASAN: slab-use-after-free Read in f"), _shown("possible deadlock in f"), False),
    ],
)
def test_another_flavour_may_put_it_differently(seen: Splat, shown: Splat, is_akin: bool) -> None:
    assert akin(seen, shown) is is_akin


@pytest.mark.parametrize("silence", Silence)
def test_a_silent_end_that_is_replayed_is_the_bug_that_was_seen(silence: Silence) -> None:
    sighting = Sighting(silence, silence.kind, b"", (), b"", "worker")
    assert same_bug(first_impression(sighting), silent_splat(silence, []))
    assert akin(first_impression(sighting), silent_splat(silence, []))


def test_what_breaks_later_in_the_kernels_own_code_is_aftermath() -> None:
    left, write, read = splat(LEFT_TIMER), splat(beyond("drv_write")), splat(freed("drv_read"))
    later = [
        splat(in_timers("__run_timers")),
        splat(in_timers("detach_if_pending")),
        splat(in_timers("__run_timers", warns=True)),
    ]
    assert all(map(is_aftermath, later))
    assert not any(map(damages_memory, later))
    twice = splat(freed("drv_use", access="Free"))
    assert all(map(damages_memory, [left, write, twice, splat(freed("f", access="Write"))]))
    # What only reads, or faults, has written nothing; what names the driver is its own bug.
    wild, silent = splat(fault("drv_read")), silent_splat(Silence.NO_ANSWER, [])
    others = [read, wild, silent, splat(lockdep("drv_get", "a"))]
    assert not any(map(damages_memory, others))
    assert not any(map(is_aftermath, [*others, left, write, twice]))


def test_a_driver_that_is_part_of_the_kernel_is_not_told_from_it() -> None:
    assert not damages_memory(splat(LEFT_TIMER.replace("[last unloaded: drv(O)]", "")))
    assert not damages_memory(splat(beyond("drv_write").replace(" [drv]", "")))


def test_a_title_tells_the_family_and_the_function() -> None:
    for path in sorted(DIRECTORY.glob("*.log")):
        lines = path.read_text(errors="replace").splitlines()
        found = find_splat(lines)
        if found is None or "panic:" in found.title or found.title == "BUG: workqueue lockup":
            continue
        told = splat_titled(found.title)
        assert (told.kind, told.function) == (found.kind, found.function)
        # One title is given by two rules.
        assert told.family is found.family or found.title == "WARNING in prov_timer_leaks"
    assert read_title("no such title") is None
