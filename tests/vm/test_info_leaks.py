# SPDX-License-Identifier: Apache-2.0
"""Memory that a driver never set, in what it hands out: found, named, and made minimal."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fuzzer.campaign.stages.info_leaks import InfoLeaks
from fuzzer.campaign.stages.workbench import Times, Workbench
from fuzzer.campaign.subject import Subject
from fuzzer.crash.judge import judge
from fuzzer.crash.leak_report import leaking_call
from fuzzer.crash.minimizer.minimize import Minimizer
from fuzzer.crash.poison import INFO_LEAK, POISONS
from fuzzer.crash.reproducer import Reproducer
from fuzzer.crash.sighting import Sighting
from fuzzer.crash.testbeds import Testbeds
from fuzzer.crash.trace import Tracer
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine.accel import Accel
from fuzzer.program.mechanisms import Mechanisms
from fuzzer.program.text import format_program
from fuzzer.program.wire import decode
from fuzzer.report.trace import format_trace
from fuzzer.target.target import load_target
from tests.vm.guests import wire

pytestmark = pytest.mark.vm

TARGET = load_target(Path(__file__).parent.parent / "data" / "remains" / "remains.yaml")


@pytest.fixture(scope="module")
def setups(full_kernel: Kernel, accel: Accel) -> Testbeds:
    """Return the guests of the driver whose memory remains."""
    subject = Subject(TARGET, None, KernelOptions(), accel, Flavour.FULL)
    return subject.setups(full_kernel)


# An interrupt leaves its own on the stack, between the poison and the function that is called.
TRIES = 3


@pytest.mark.parametrize(
    ("calls", "title", "words"),
    [
        (
            "ioctl(f0, REMAINS_STACK, {})",
            "info leak in remains_stack",
            "Bytes 1 to 7 of 48: stack, padding after version\nBytes 24 to 47 of 48: stack, name",
        ),
        (
            "ioctl(f0, REMAINS_HEAP, {})",
            "info leak in remains_heap",
            "Bytes 8 to 15 of 48: heap, serial\nBytes 16 to 47 of 48: heap, name\n",
        ),
        ("read(f0, 24)", "info leak in remains_read", "Bytes 8 to 23 of 24: heap\n"),
        (
            'ioctl(f0, REMAINS_PUT, "\\x00\\x00\\x00\\x00")',
            "info leak in remains_ioctl",
            "Bytes 0 to 3 of 4: stack\n",
        ),
        ("ioctl(f0, REMAINS_BRANCH, 0)", "uninit return value in remains_ioctl", "1 where it"),
        ("ioctl(f0, REMAINS_CLEAN, {})", None, ""),
        ("ioctl(f0, REMAINS_CHANCE, 0)", None, ""),
    ],
)
def test_what_was_never_set_is_told_of_and_what_is_another_thing_each_time_is_not(
    setups: Testbeds, calls: str, title: str | None, words: str
) -> None:
    for _ in range(TRIES):
        outcome, _ = setups.observe(INFO_LEAK)((), wire(calls, TARGET))
        assert (outcome.splat.title if outcome.splat else None) == title
        if outcome.splat is None or words in outcome.splat.text:
            return
    assert outcome.splat
    assert words in outcome.splat.text


def test_a_leak_is_judged_made_minimal_and_traced(setups: Testbeds) -> None:
    text = """\
read(f0, 7)
ioctl(f0, REMAINS_CLEAN, {version: 4})
ioctl(f0, REMAINS_BRANCH, 9)
ioctl(f0, REMAINS_HEAP, {serial: 7})
"""
    program = wire(text, TARGET)
    wanted = next(
        splat
        for leak in setups.leaks.leaks_of([program])[0]
        if (splat := setups.leaks.report(leak, (), program, None)).function == "remains_heap"
    )
    assert leaking_call(wanted.text) == 3
    seen = Sighting(wanted.title, wanted.kind, program, (), wanted.text.encode(), "explorer")
    judgement = judge(partial(setups.observe, INFO_LEAK), seen)
    assert (judgement.reproduced, judgement.runs) == (3, 3)
    assert judgement.splat.title == "info leak in remains_heap"
    found = Minimizer(setups, TARGET, Reproducer(program), judgement.splat).run()
    assert found
    assert found.splat.title == wanted.title
    minimal = format_program(decode(found.reproducer.program), TARGET)
    assert minimal == "ioctl(f0, REMAINS_HEAP, {})\n"
    tracer = Tracer(setups, INFO_LEAK)
    outcome, _ = tracer.observe((), found.reproducer.program)
    assert outcome.splat
    assert tracer.trace
    (line, _) = format_trace(tracer.trace, TARGET).splitlines()
    assert line.startswith('ioctl(f0, REMAINS_HEAP, {}) = 0 "\\x03kkkkkkk')
    assert line.endswith("  <-- here")


def test_a_look_at_a_corpus_reports_each_call_that_leaks_once(setups: Testbeds) -> None:
    sighted: list[Sighting] = []
    times = Times(leak_pause=0.0)
    bench = Workbench(setups, TARGET, Mechanisms(), 1, sighted.append, times=times)
    stage = InfoLeaks(bench)
    calls = ("read(f0, 9)", "ioctl(f0, REMAINS_BRANCH)", "ioctl(f0, REMAINS_CHANCE)")
    structs = (f"ioctl(f0, {name}, {{}})" for name in ("REMAINS_HEAP", "REMAINS_CLEAN"))
    for text in (*calls, *structs, "ioctl(f0, REMAINS_STACK, {})\nread(f0, 24)"):
        for program in (wire(f"{text}\n", TARGET), wire(f"ioctl(f0, 1)\n{text}\n", TARGET)):
            bench.note(program)
            stage.note(program)
    for _ in POISONS:
        assert stage.step()
    # Most bytes come first, then fewest calls; calls after it are left out.
    assert {each.title: len(decode(each.program)) for each in sighted} == {
        "info leak in remains_heap": 1,
        "info leak in remains_read": 2,
        "info leak in remains_stack": 1,
        "uninit return value in remains_ioctl": 1,
    }
    assert len(sighted) == 4
