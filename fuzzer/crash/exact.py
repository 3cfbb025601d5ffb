# SPDX-License-Identifier: Apache-2.0
"""Exact mode: races that happen each time.

An exact machine counts instructions and runs one vCPU at a time, and its first command is
there when it begins to run. So it does not depend on the host, not even on its speed: the
program's schedule alone decides which thread runs when. A race is looked for by trying
schedules, and a schedule that shows it once shows it always.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fuzzer.crash.dedup import Wanted, titled
from fuzzer.crash.observe import run_started
from fuzzer.crash.outcome import Outcome
from fuzzer.crash.series import finish_batch, post_programs
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import FLAG_TSC
from fuzzer.machine.executor import Testbed
from fuzzer.machine.qemu import Hardware
from fuzzer.program.schedule import Schedules, Wait, with_waits, without_waits
from fuzzer.program.wire import split

# One vCPU for each of a part's threads and one for the timers (vm/executor/schedule.c).
EXACT = Hardware(cpus=4, icount=True)
"""The hardware of an exact machine."""

LIMIT = 500
"""The number of schedules after which a search gives up."""

# Ticks that a call takes, if that was not measured.
_USUAL = 20_000
# The search for the ends of the times that show a race: first step in ticks, most steps each way.
_FIRST_STEP, _STEPS = 32, 10


def run_exact(
    guest: Testbed, history: Sequence[bytes], program: bytes, wanted: Wanted | None = None
) -> Outcome:
    """Run programs on a fresh exact machine; the same ones always give the same outcome.

    With ``wanted``, programs after another bug's report run as well, but the instant at
    which these begin is not exact.
    """
    with guest.start(lambda channel: post_programs(channel, history, program)) as machine:
        if wanted is None:
            return run_started(machine)
        return finish_batch(machine, [*history, program], wanted=wanted)[0]


def run_batch(guest: Testbed, programs: Sequence[bytes]) -> tuple[Outcome, int]:
    """Run programs on a fresh exact machine until the kernel reports something.

    Returns the outcome and the number of the last program that ran. The same programs always
    give the same result.
    """

    with guest.start(lambda channel: channel.post_batch(programs)) as machine:
        outcome = run_started(machine)
        # A driver's bug may have overwritten the number in the guest, so it is bounded.
        number = min(machine.channel.header.batch_at, len(programs) - 1)
    return outcome, number


def measure_ticks(guest: Testbed, chunks: Sequence[bytes]) -> list[int]:
    """Return the ticks that each call of a program takes when nothing interrupts it."""

    def post(channel: Channel) -> None:
        channel.header.flags |= FLAG_TSC
        channel.post_program(b"".join(chunks))

    with guest.start(post) as machine:
        run_started(machine, late=False)
        ticks = [result.tsc for result in machine.channel.results()]
    missing = len(chunks) - len(ticks)
    return [each or _USUAL for each in ticks] + [_USUAL] * missing


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A program whose schedule shows a crash; ``tried`` schedules were run to find it."""

    program: bytes
    outcome: Outcome
    tried: int


class ScheduleSearch:
    """Looks for a schedule under which a program shows a splat, a few runs at a time.

    ``title`` is that of the splat, None for any. The schedule that the program may have is
    dropped. ``found`` is the result, None while there is none.
    """

    def __init__(
        self,
        guest: Testbed,
        history: Sequence[bytes],
        program: bytes,
        rng: random.Random,
        *,
        title: str | None = None,
        limit: int = LIMIT,
    ) -> None:
        self._guest = guest
        self._history = tuple(history)
        self._chunks = without_waits(split(program))
        self._wanted = titled(title) if title else None
        self._random = rng
        self._left = limit
        self._schedules: Schedules | None = None
        self.tried = 0
        self.found: Scheduled | None = None

    def step(self) -> bool:
        """Try a schedule; tell whether there is more to do."""
        if self.found or self._left <= 0:
            return False
        self._left -= 1
        if self._schedules is None:
            # The order of an exact machine without a schedule may show the splat already.
            if not self._try_schedule(()):
                ticks = measure_ticks(self._guest, self._chunks)
                self._schedules = Schedules(self._chunks, ticks, self._random)
            return self.found is None
        if not self._schedules:
            return False
        self._try_schedule(self._schedules.choose())
        return self.found is None and self._left > 0

    def _run(self, waits: tuple[Wait, ...]) -> Scheduled | None:
        """Return the program with a schedule if it shows the splat."""
        self.tried += 1
        program = with_waits(self._chunks, waits)
        outcome = run_exact(self._guest, self._history, program, self._wanted)
        if outcome.splat is None or (self._wanted and not self._wanted(outcome.splat)):
            return None
        return Scheduled(program, outcome, self.tried)

    def _try_schedule(self, waits: tuple[Wait, ...]) -> bool:
        """Try a schedule; if it shows the splat, find the simplest one near it."""
        found = self._run(waits)
        if found is None:
            return False
        for wait in reversed(waits if len(waits) > 1 else ()):
            fewer = tuple(other for other in waits if other != wait)
            simpler = self._run(fewer)
            if simpler:
                found, waits = simpler, fewer
        if len(waits) == 1:
            found = self._centre(waits[0]) or found
        self.found = replace(found, tried=self.tried)
        return True

    def _centre(self, wait: Wait) -> Scheduled | None:
        """Try the middle of the times that show the splat, as rebuilt machines differ a bit."""
        ends = []
        for direction in (-1, 1):
            end, step = wait.ticks, _FIRST_STEP
            for _ in range(_STEPS):
                ticks = wait.ticks + direction * step
                if ticks < 1 or not self._run((replace(wait, ticks=ticks),)):
                    break
                end, step = ticks, 2 * step
            ends.append(end)
        return self._run((replace(wait, ticks=sum(ends) // 2),))


def find_schedule(
    guest: Testbed,
    program: bytes,
    rng: random.Random,
    limit: int = LIMIT,
    *,
    history: Sequence[bytes] = (),
    title: str | None = None,
) -> Scheduled | None:
    """Return the program with a schedule that shows a splat each time, None if none was found.

    Raises:
        LostMachineError: QEMU was killed from outside; try again.
    """
    search = ScheduleSearch(guest, history, program, rng, title=title, limit=limit)
    while search.step():
        pass
    return search.found
