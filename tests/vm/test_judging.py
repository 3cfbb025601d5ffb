# SPDX-License-Identifier: Apache-2.0
"""The outcome of one program on a fresh machine, as the judge and ``replay`` see it."""

from __future__ import annotations

import time
from functools import partial

import pytest

from fuzzer.crash import judge
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.observe import run_program
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import HASTY, Testbeds
from fuzzer.crash.trace import Tracer
from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.target.target import Target
from tests.vm.guests import GuestFactory, wire


@pytest.mark.parametrize(
    ("calls", "title"),
    [
        ("ioctl(f0, TD_SPIN)", "BUG: soft lockup in td_spin"),
        ("ioctl(f0, TD_STUCK)", "INFO: task hung in td_stuck"),
        ("ioctl(f0, TD_BUG)", "kernel BUG in td_bug"),
        ("ioctl(f0, TD_UAF)", "KASAN: slab-use-after-free Read in td_uaf"),
        ("ioctl(f0, TD_SLEEP)\nioctl(f0, TD_GET)", None),
        ("ioctl(f0, TD_NOISE)", None),
    ],
)
def test_a_program_is_named_by_what_it_does(
    full_misbehaving: Guest, calls: str, title: str | None
) -> None:
    with full_misbehaving.restore() as machine:
        splat = run_program(machine, wire(calls, full_misbehaving.target)).splat
    assert (splat.title if splat else None) == title


def test_a_silent_guest_is_not_waited_for_once_its_hang_is_on_the_console(
    full_misbehaving: Guest,
) -> None:
    spin = wire("ioctl(f0, TD_SPIN)", full_misbehaving.target)
    begin = time.monotonic()
    with full_misbehaving.restore() as machine:
        outcome = run_program(machine, spin, timeout=300.0)
    assert time.monotonic() < begin + 150.0
    assert outcome.lost
    assert outcome.splat is not None
    assert outcome.splat.complete


@pytest.mark.parametrize(
    ("call", "title", "words"),
    [
        ("TD_SPIN", "BUG: soft lockup in td_spin", "stuck for"),
        ("TD_STUCK", "INFO: task hung in td_stuck", "blocked for more than 1 seconds"),
    ],
)
def test_a_hasty_kernel_reports_the_same_hang(
    guest: GuestFactory, testdrv: Target, call: str, title: str, words: str
) -> None:
    hasty = guest(Flavour.FULL, target=testdrv, arguments=HASTY)
    with hasty.restore() as machine:
        splat = run_program(machine, wire(f"ioctl(f0, {call})", hasty.target)).splat
    assert splat is not None
    assert splat.title == title
    assert words in splat.text


@pytest.mark.parametrize("hiding", ["TD_ATOMIC_SLEEP", "TD_KEEP_LOCK"])
def test_another_bug_that_comes_first_each_time_does_not_hide_the_one_that_was_sighted(
    full_misbehaving: Guest, hiding: str
) -> None:
    """``fast`` does not look for sleeping in atomic context, nor for locks that are kept."""
    target = full_misbehaving.target
    history = (wire(f"ioctl(f0, {hiding})", target),)
    program = wire(f"ioctl(f0, {hiding})\nioctl(f0, TD_UAF)", target)
    title = "KASAN: slab-use-after-free Read in td_uaf"
    found = Sighting(title, "kasan", program, history, _seen(title), "worker-0")
    setups = Testbeds(full_misbehaving, lambda hardware, arguments: full_misbehaving)
    judgement = judge.judge(partial(setups.observe, ""), found)
    assert (judgement.reproduced, judgement.runs, judgement.splat.title) == (3, 3, title)
    assert judgement.history == ()
    (other,) = judgement.others
    assert judgement.after == (other.title,)
    assert other.program == program
    tracer = Tracer(setups, "", Wanted(judgement.splat))
    outcome, _ = tracer.observe((), program)
    assert outcome.splat
    assert outcome.splat.title == title
    assert tracer.trace
    assert tracer.trace.at == 1


def _seen(title: str) -> bytes:
    """Return a report as a worker saw it."""
    function = title.rsplit(" ", 1)[1]
    frames = f"3,3,1,-;Call Trace:\n3,4,1,-; {function}+0x10/0x20 [testdrv]\n"
    head = f"3,1,1,-;BUG: KASAN: slab-use-after-free in {function}+0x10/0x20 [testdrv]\n"
    access = "3,2,1,-;Read of size 1 at addr ffff888000000000 by task init/27\n"
    return f"{head}{access}{frames}".encode()
