# SPDX-License-Identifier: Apache-2.0
"""Known bugs set aside: the calls that lead to them are learned, and made rarely.

A shallow bug, found and stored, would otherwise be met by every other program,
and cost a machine each time. Costs are estimates, in small calls as those of
:mod:`fuzzer.program.cost`, so that a campaign takes the same decisions each time.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.checked import read_json
from fuzzer.engine.learning import CrashRule, Sample, dropped_of, learn, rule_of
from fuzzer.engine.probing import Cause
from fuzzer.engine.traits import CallKind, Pattern, kind_of
from fuzzer.program.wire import split

SLOW = "calls that take long"
"""The title under which a state is set aside in which calls take long; it is no bug."""
# A bug is known after so many sightings by this worker.
KNOWN = 3
# Its cause is learned once its sightings have taken this share of all time, and about as much
# time as learning takes. Afterwards they may take the second share of all time.
_COSTLY, _SHARE = 0.02, 0.05
# The most rules that are kept of a bug.
_MOST_RULES = 16
# The cost of replacing a machine, and of looking at a report, in small calls.
RESTORE_COST, REPORT_COST = 10_000.0, 2_000.0
_LEARNING = 20 * RESTORE_COST
# Programs kept to learn from: of each bug, of those that did not crash, and of those that
# were expected to and did not.
_CRASHED, _OTHERS, _EXPECTED = 48, 200, 50
# The number of programs before a crash whose calls count as made before it. One in so many of
# the batches that did not crash is kept to learn from.
BEFORE = 4
_EVERY = 4
_FEW_OTHERS = 20
# A machine that showed a bug is used further unless more than one in so many ended badly.
_BAD_END = 10


@dataclass(slots=True)
class _Bug:
    """The record of one bug, by its title."""

    sightings: int = 0
    cost: float = 0.0
    crashed: deque[Sample] = field(default_factory=lambda: deque(maxlen=_CRASHED))
    rules: tuple[CrashRule, ...] = ()
    unexpected: float = 0.0
    """The cost of the sightings, since the last rule was learned, that no rule predicted."""
    patience: float = _LEARNING
    bad_ends: int = 0
    is_put_back: bool = False


class Aside:
    """The bugs that one worker has seen, with the rules by which some of them are set aside."""

    def __init__(self) -> None:
        self._bugs: dict[str, _Bug] = {}
        self._others: deque[Sample] = deque(maxlen=_OTHERS)
        self._expected: deque[Sample] = deque(maxlen=_EXPECTED)
        self._let: dict[bytes, None] = {}
        self._cost = 0.0
        self._batches = 0
        self._puts_back_all = False

    def put_back(self, back: PutBack) -> None:
        """Let bugs be met as often as anything else again, and set them aside no more."""
        self._puts_back_all = back.everything
        for title in self._bugs if back.everything else back.titles:
            bug = self._bugs.setdefault(title, _Bug())
            bug.rules, bug.is_put_back = (), True

    def is_known(self, title: str) -> bool:
        """Tell whether a bug was seen often enough to be nothing new."""
        bug = self._bugs.get(title)
        return bug is not None and bug.sightings >= KNOWN

    def is_survived(self, title: str) -> bool:
        """Tell whether machines that showed a bug went on well afterwards, as far as is known."""
        bug = self._bugs.get(title)
        return bug is None or _BAD_END * bug.bad_ends <= bug.sightings + _BAD_END

    def is_unavoidable(self, title: str, total: float) -> bool:
        """Tell whether a bug takes more than its share of ``total`` although it is set aside."""
        bug = self._bugs[title]
        return bool(bug.rules) and self._is_dear(bug, total)

    def _is_dear(self, bug: _Bug, total: float) -> bool:
        return bug.cost > _SHARE * (total + self._cost)

    def end_badly(self, titles: Sequence[str]) -> None:
        """Take note that a machine which had shown these bugs came to a bad end."""
        for title in titles:
            if bug := self._bugs.get(title):
                bug.bad_ends += 1

    def sight(self, title: str, sample: Sample, cost: float, total: float) -> bool:
        """Take note of a sighting, its cost, and the ``total`` cost of all that ran.

        Returns whether the cause of the bug should be learned now.
        """
        bug = self._bugs.setdefault(title, _Bug(is_put_back=self._puts_back_all))
        bug.sightings += 1
        bug.cost += cost
        self._cost += cost
        bug.crashed.append(sample)
        if any(rule.matches(sample.chunks) for rule in bug.rules):
            return False
        bug.unexpected += cost
        enough = max(bug.patience, _COSTLY * (total + self._cost))
        return bug.sightings >= KNOWN and bug.unexpected >= enough and not bug.is_put_back

    def choose(self, patterns: tuple[Pattern, ...], lasts: bool) -> int | None:
        """Return the index of the pattern to leave out if that one alone decides, None if not."""
        dropped, enough = dropped_of(patterns, self._known_others(), lasts=lasts)
        return dropped if enough else None

    def _known_others(self) -> list[Sample]:
        return [*self._others, *self._expected]

    def learn(self, title: str, cause: Cause | None, cost: float) -> CrashRule | None:
        """Keep rules for the cause of a bug; without a ``cause``, rules learned from samples.

        ``cost`` is the cost of finding it out. Returns the rule of a new kind of cause.
        """
        bug = self._bugs[title]
        # It is not counted as a cost of the bug, so that the bug comes back as often.
        self._cost += cost
        bug.unexpected = 0.0
        others = self._known_others()
        patience = max(2 * bug.patience, cost)
        new = None
        if bug.is_put_back:
            # The user said so while its cause was being found out.
            return None
        if cause is not None:
            rule = rule_of(cause.patterns, others, lasts=cause.lasts)
            if any(rule.is_like(known) for known in bug.rules):
                # The rule did not predict it: an earlier program prepared the crash.
                rule = replace(rule, enough=True)
            else:
                # Another cause of it, as another ioctl, is found out as easily.
                patience = _LEARNING / 2
                new = rule
            known_ones = (known for known in bug.rules if not rule.is_like(known))
            bug.rules = (*known_ones, rule)[-_MOST_RULES:]
        elif len(others) >= _FEW_OTHERS:
            bug.rules = learn(bug.crashed, others) or bug.rules
        bug.patience = patience
        return new

    def learn_siblings(
        self, title: str, rule: CrashRule, pairs: Sequence[tuple[Pattern, Pattern]], cost: float
    ) -> None:
        """Keep rules for calls that lead to a bug in the place of one of a rule's calls.

        ``pairs`` are patterns of that call and of the one in its place, ``cost`` is the cost
        of finding these.
        """
        self._cost += cost
        bug = self._bugs[title]
        siblings = (rule.replaced(pattern, other) for pattern, other in pairs)
        bug.rules = (*bug.rules, *siblings)[-_MOST_RULES:]

    def dropped_kinds(self, title: str) -> set[CallKind]:
        """Return the kinds of calls that are left out for a bug."""
        return {rule.dropped.kind for rule in self._bugs[title].rules}

    def passed(self, programs: Sequence[bytes], history: Sequence[bytes]) -> None:
        """Take note of programs that did not crash; some are kept to learn from."""
        if not self._bugs or not programs:
            return
        for program in programs:
            if program in self._let:
                del self._let[program]
                self._expected.append(Sample(tuple(split(program))))
        self._batches += 1
        if self._batches % _EVERY == 0 or len(self._others) < _FEW_OTHERS:
            self._others.append(Sample(tuple(split(programs[-1])), calls_of(history)))

    def screen(self, chunks: list[bytes], total: float) -> list[bytes]:
        """Return a program without the calls that lead to bugs set aside.

        Now and then it is returned as it is: when these bugs have had less than
        their share of ``total``, which is the cost of all that ran. The same
        list is returned if nothing is to go.
        """
        met = [bug for bug in self._bugs.values() if any(r.matches(chunks) for r in bug.rules)]
        if not met:
            return chunks
        met = [bug for bug in met if self._is_dear(bug, total)]
        if not met:
            self._let[b"".join(chunks)] = None
            if len(self._let) > _EXPECTED:
                del self._let[next(iter(self._let))]
            return chunks
        for rule in [rule for bug in met for rule in bug.rules]:
            if rule.matches(chunks):
                chunks = [chunk for chunk in chunks if not rule.dropped.matches(chunk)]
        return chunks

    def sightings(self) -> dict[str, int]:
        """Return the number of sightings of each bug that is set aside, by title."""
        return {title: bug.sightings for title, bug in self._bugs.items() if bug.rules}


def calls_of(history: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the calls of the last programs that ran on a machine."""
    chunks = (chunk for program in history[-BEFORE:] for chunk in split(program))
    return tuple(dict.fromkeys(chunks))


def sample_of(
    program: bytes, history: Sequence[bytes], call: int | None, culprit: CallKind | None
) -> Sample:
    """Return the sample of a program that crashed, in its ``call`` if that is known."""
    chunks = split(program)
    last = call is not None and call < len(chunks)
    if last and call is not None:
        chunks = chunks[: call + 1]
        culprit = kind_of(chunks[-1])
    return Sample(tuple(chunks), calls_of(history), culprit, last)


def aside_file(workdir: Path, name: str) -> Path:
    """Return the file in which a worker lists the bugs that it has set aside."""
    return workdir / f"{name}.aside"


@dataclass(frozen=True, slots=True)
class PutBack:
    """The bugs that the user wants to be met as often as anything else, or ``everything``."""

    titles: tuple[str, ...] = ()
    everything: bool = False


def put_back_file(workdir: Path) -> Path:
    """Return the file in which the bugs that were put back are named, for workers to read."""
    return workdir / "put-back.json"


def write_put_back(workdir: Path, back: PutBack) -> None:
    """Tell workers of bugs to be put back.

    Raises:
        OSError: the file cannot be written.
    """
    record = {"titles": list(back.titles), "everything": back.everything}
    write_whole(put_back_file(workdir), json.dumps(record))


def read_put_back(workdir: Path) -> PutBack:
    """Return the bugs that were put back; none if the file is not there, or damaged."""
    try:
        return read_json(put_back_file(workdir), PutBack)
    except (OSError, ValueError):
        return PutBack()


@dataclass(frozen=True, slots=True)
class SetAside:
    """The bugs that workers have set aside, with the number of sightings of each.

    The causes of those ``studied`` are being found out; such a worker does not fuzz meanwhile.
    The titles in ``put_back`` were set aside, until the user put them back.
    """

    sightings: Mapping[str, int] = field(default_factory=dict)
    studied: tuple[str, ...] = ()
    put_back: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Stored:
    """The bugs that one worker has set aside, as they are stored."""

    sightings: dict[str, int]
    studied: list[str]


def write_aside(workdir: Path, name: str, aside: SetAside) -> None:
    """Write down the bugs that a worker has set aside, for the campaign to show."""
    path = aside_file(workdir, name)
    with contextlib.suppress(OSError):
        write_whole(path, json.dumps({"sightings": aside.sightings, "studied": aside.studied}))


def read_aside(workdir: Path) -> SetAside:
    """Return the bugs that the workers of a campaign have set aside."""
    sightings: Counter[str] = Counter()
    studied: list[str] = []
    for path in sorted(workdir.glob("*.aside")):
        with contextlib.suppress(OSError, ValueError):
            found = read_json(path, _Stored)
            sightings.update(found.sightings)
            studied += found.studied
    return SetAside(sightings, tuple(studied), read_put_back(workdir).titles)
