# SPDX-License-Identifier: Apache-2.0
"""Runs of programs under each poison, and the place in the driver that hands out a leak."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from fuzzer.crash.dedup import Wanted
from fuzzer.crash.leak_report import is_about, leak_splat, trace_in
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.poison import INFO_LEAK, POISONS, Leak, Poison, find_leaks
from fuzzer.crash.series import SeriesExecutor
from fuzzer.driver.callgraph import CallGraph, Function, read_call_graph
from fuzzer.driver.driver import Driver
from fuzzer.driver.provision import Guest
from fuzzer.driver.stack_module import STACK_MODULE
from fuzzer.machine.channel import CallResult
from fuzzer.machine.channel_layout import POISON
from fuzzer.machine.machine import Machine
from fuzzer.program.program import Call
from fuzzer.program.wire import decode, encode
from fuzzer.splat.find import bare_splat
from fuzzer.splat.frames import parse_frame
from fuzzer.splat.splat import Splat
from fuzzer.target.target import module_name

# Runs under each poison, each on a fresh machine, before a result that differs counts. Bytes
# that are the poison are no chance.
_RUNS = 3
# An interrupt amid a call writes over the poison of the stack: looks before nothing is there, and
# the runs that then decide, of which so many have to agree.
_LOOKS, _MOST_RUNS, _AGREEING = 2, 7, 5
# Allocations and copies of a call of which each is looked at.
_MOST_FAULTS = 40
_SAY_WHERE = "echo 2 > /sys/kernel/debug/fail_usercopy/verbose"
_TIMEOUT = 10.0
_PATIENCE = 10
_FAULT = "FAULT_INJECTION: forcing a failure"
# Frames of what makes a copy fail.
_INJECTION = re.compile(r"_*(?:dump_stack|show_stack|fail_dump|should_fail)")
_INWARDS = re.compile(r"copy_from_|copyin|strncpy_from|strnlen_user")
# Reports of other bugs are somebody else's business.
_NOTHING = Wanted(bare_splat("", ""), lambda _bug, _shown: False)


class LeakFinder:
    """Looks for leaks on the guests that ``guest_for`` returns, one for each poison."""

    def __init__(self, guest_for: Callable[[Poison], Guest]) -> None:
        self._guest_for = guest_for

    def leaks_of(self, programs: Sequence[bytes]) -> list[list[Leak]]:
        """Run programs once under each poison, one after the other; return the leaks of each.

        What a program differs in on account of those before it counts, too.
        """
        under = [self._run(poison, programs) for poison in POISONS]
        runs = zip(*under, strict=False)
        found = [find_leaks(results) for results in runs]
        return [*found, *([] for _ in programs[len(found) :])]

    def look(
        self, history: Sequence[bytes], program: bytes, wanted: Wanted | None = None
    ) -> Outcome:
        """Run programs under each poison; return the report of the last one's leak.

        With ``wanted``, of that bug, if it is there.
        """
        programs = [*history, program]
        for _ in range(_LOOKS):
            for leak in self.leaks_of(programs)[-1]:
                splat = self.report(leak, history, program, wanted)
                if (wanted is None or wanted(splat)) and self._is_certain(leak, programs):
                    return Outcome(splat, splat.text.encode())
        return Outcome(None, b"")

    def report(
        self, leak: Leak, history: Sequence[bytes], program: bytes, wanted: Wanted | None
    ) -> Splat:
        """Return the report of a leak of a program that runs after others.

        Where ``wanted`` is of the same call, it is in the same place.
        """
        calls = decode(program)
        call = calls[leak.call]
        target = self._guest_for(POISONS[-1]).target
        known = wanted.bug if wanted and wanted.bug.kind == INFO_LEAK else None
        if known and is_about(known.text, leak, call):
            trace = trace_in(known)
        else:
            trace = self._trace(leak, history, calls)
        return leak_splat(leak, call, target, trace)

    def _is_certain(self, leak: Leak, programs: Sequence[bytes]) -> bool:
        """Tell whether a leak of the last program is there each time, if chance may look so."""
        if not leak.results:
            return True
        runs = agreeing = 1
        while runs < _MOST_RUNS and not agreeing == runs == _RUNS:
            runs += 1
            agreeing += leak in self.leaks_of(programs)[-1]
            if runs - agreeing > _MOST_RUNS - _AGREEING:
                return False
        return True

    def _run(self, poison: Poison, programs: Sequence[bytes]) -> list[list[CallResult]]:
        """Return the results of programs on a fresh machine, until one spoils it."""
        results = []
        with SeriesExecutor(functools.partial(self._machine, poison), _NOTHING) as executor:
            for number, program in enumerate(programs):
                if executor.run_next(program, number):
                    break
                results.append(executor.machine.channel.results())
        return results

    def _machine(self, poison: Poison) -> Machine:
        machine = self._guest_for(poison).restore()
        machine.channel.header.poison = POISON | poison.stack
        return machine

    def _trace(self, leak: Leak, history: Sequence[bytes], calls: Sequence[Call]) -> list[str]:
        """Return the frames that lead to a leak: of the copy that hands it out, or the handler."""
        with self._machine(POISONS[-1]) as machine:
            # The kernel takes its time to print a stack.
            machine.channel.header.call_timeout_ms *= _PATIENCE
            for earlier in history:
                machine.run(earlier)
            marks = self._guest_for(POISONS[-1]).driver.frame_marks()
            frames = [] if leak.results else _frames_of_copy(machine, leak, calls, marks)
            return frames or self._handler(machine, calls[: leak.call], calls[leak.call])

    def _handler(self, machine: Machine, before: Sequence[Call], call: Call) -> list[str]:
        """Return the outermost of the driver's functions that a call runs, as a frame."""
        guest = self._guest_for(POISONS[-1])
        counts = [_counters(machine, guest, (*before, *last)) for last in ((), (call,))]
        graph, outer = _graph_of(guest.driver)
        index = graph.index()
        ran = set()
        for block, less, more in zip(guest.blocks, *counts, strict=False):
            function = index.at(block.section, block.offset - 1) if more > less else None
            if function:
                ran.add(function)
        first = min((f for f in ran if not outer.get(f, frozenset()) & ran), default=None)
        return [_frame(first, guest.driver)] if first else []


def _frames_of_copy(
    machine: Machine, leak: Leak, calls: Sequence[Call], marks: Sequence[str]
) -> list[str]:
    """Return the frames that lead to the copy which hands a leak out, innermost first.

    Of the allocations and copies of the call each fails in turn, and the kernel says which that
    is. The last one without which the bytes do not come out is the one.
    """
    call = calls[leak.call]
    at, poisoned = (
        (leak.stack[0], {POISONS[-1].stack}) if leak.stack else (leak.heap[0], POISONS[-1].heap)
    )
    done = machine.execute(["/bin/busybox", "sh", "-c", _SAY_WHERE], timeout=_TIMEOUT)
    found: list[str] = []
    for nth in range(1, _MOST_FAULTS) if not done.status and not call.fault else ():
        run = machine.run(encode((*calls[: leak.call], replace(call, fault=nth))))
        if len(run.results) <= leak.call or not run.results[leak.call].faulted:
            break
        output = run.results[leak.call].output
        if len(output) > at and output[at] in poisoned:
            continue
        frames = _frames_in(run.log)
        is_own = any(mark in frame for mark in marks for frame in frames)
        if is_own and not any(map(_INWARDS.search, frames)):
            found = frames
    return found


def _frames_in(log: bytes) -> list[str]:
    """Return the frames of the last fault that raw kmsg records tell of."""
    lines = [record.partition(";")[2] for record in log.decode(errors="replace").splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith(_FAULT)]
    known = [(line, parse_frame(line)) for line in lines[starts[-1] :]] if starts else []
    return [
        f" {line.strip()}"
        for line, frame in known
        if frame
        and frame.reliable
        and frame.module != STACK_MODULE
        and not _INJECTION.match(frame.function)
    ]


def _counters(machine: Machine, guest: Guest, calls: Sequence[Call]) -> bytes:
    """Return how often each block of the driver ran in a program."""
    channel = machine.channel
    channel.clear_counters(len(guest.blocks))
    machine.run(encode(tuple(calls)))
    return bytes(channel.counters(len(guest.blocks)))


@functools.lru_cache(maxsize=2)
def _graph_of(driver: Driver) -> tuple[CallGraph, dict[Function, frozenset[Function]]]:
    """Return the call graph of a driver, and the functions that call each of its functions."""
    graph = read_call_graph(driver)
    callers = {
        function: frozenset(place.function for place in places if not place.taken)
        for function, places in graph.callers.items()
    }
    return graph, callers


def _frame(function: Function, driver: Driver) -> str:
    first = function.spans[0]
    module = "" if driver.parts else f" [{module_name(driver.name)}]"
    return f" {function.name}+0x0/{first.end - first.start:#x}{module}"
