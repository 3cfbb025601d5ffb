# SPDX-License-Identifier: Apache-2.0
"""Learns rules for a crash from samples of programs that crashed and others that did not.

A rule is a conjunction: some call matches each of its patterns. It is made one
refinement at a time, a further call or a further condition on an operand,
each the one that gains most by FOIL's measure (Quinlan 1990). Programs that crashed
and match no rule so far get another rule.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from fuzzer.engine.traits import (
    CallKind,
    Condition,
    Operands,
    Pattern,
    kind_of,
    matching,
    operands_of,
)
from fuzzer.program.ops import Op

_MOST_RULES, _MOST_REFINEMENTS = 6, 5
# A rule has to match so many programs that crashed, and at most this share of the others.
_FEWEST, _WRONG = 3, 0.05
# A refinement has to gain so much for each program that crashed, in bits.
_LEAST_GAIN = 0.15
# The number of kinds of calls for which conditions on operands are tried as well.
_TRIED = 6
# A kind of call is considered if this share of the programs that crashed makes it.
_SHARE = 0.15
_FLAGS = frozenset({"flags", "cmd"})
_OPEN = bytes((Op.OPEN,))


@dataclass(frozen=True)
class Sample:
    """A program as the wire forms of its calls, up to the call that crashed if that is known.

    ``before`` are the calls of programs that ran before on the machine. ``culprit`` is
    the kind of call in which it crashed, if that is known; ``last`` tells that the crash
    was in the last call.
    """

    chunks: tuple[bytes, ...]
    before: tuple[bytes, ...] = ()
    culprit: CallKind | None = None
    last: bool = False

    @cached_property
    def made(self) -> dict[CallKind, list[Operands]]:
        """The operands of the program's calls by their kind."""
        rows = _rows(self.chunks)
        if self.last and self.culprit is not None:
            # Other calls of this kind did not crash.
            rows[self.culprit] = [operands_of(self.chunks[-1])]
        return rows

    @cached_property
    def ever_made(self) -> dict[CallKind, list[Operands]]:
        """The operands of the program's calls and of the calls before it, by their kind."""
        return _rows(dict.fromkeys((*self.before, *self.chunks)))


def _rows(
    chunks: Iterator[bytes] | Sequence[bytes] | dict[bytes, None],
) -> dict[CallKind, list[Operands]]:
    rows: dict[CallKind, list[Operands]] = {}
    for chunk in chunks:
        rows.setdefault(kind_of(chunk), []).append(operands_of(chunk))
    return rows


@dataclass(frozen=True, slots=True)
class _Part:
    """A pattern that a call of the program has to match, or with ``ever`` one before it."""

    pattern: Pattern
    ever: bool = False

    def rows(self, sample: Sample) -> list[Operands]:
        made = sample.ever_made if self.ever else sample.made
        return [each for each in made.get(self.pattern.kind, ()) if self.pattern.accepts(each)]

    def is_in(self, sample: Sample) -> bool:
        made = sample.ever_made if self.ever else sample.made
        accepts = self.pattern.accepts
        return any(accepts(each) for each in made.get(self.pattern.kind, ()))


@dataclass(frozen=True, slots=True)
class CrashRule:
    """The calls that lead to a crash: a program has to match each of ``patterns``.

    ``dropped`` is the pattern whose calls are left out to prevent the crash. If matching it
    is ``enough``, a program that does may make a later one crash, or crash itself.
    """

    patterns: tuple[Pattern, ...]
    dropped: Pattern
    enough: bool = False

    def matches(self, chunks: Sequence[bytes]) -> bool:
        """Tell whether a program is expected to crash, or to make a later one crash."""
        if self.enough:
            return matching(self.dropped, chunks)
        return all(matching(pattern, chunks) for pattern in self.patterns)

    def replaced(self, pattern: Pattern, other: Pattern) -> CrashRule:
        """Return the rule with the pattern ``other`` in place of ``pattern``."""
        patterns = tuple(other if each == pattern else each for each in self.patterns)
        dropped = other if self.dropped == pattern else self.dropped
        return CrashRule(patterns, dropped, self.enough)

    def is_like(self, other: CrashRule) -> bool:
        """Tell whether another rule has patterns of the same kinds and drops the same kind."""
        kinds, others = ({pattern.kind for pattern in rule.patterns} for rule in (self, other))
        return kinds == others and self.dropped.kind == other.dropped.kind


def learn(crashed: Sequence[Sample], others: Sequence[Sample]) -> tuple[CrashRule, ...]:
    """Return rules that match programs that crashed and few of the others."""
    rules: list[CrashRule] = []
    left = list(crashed)
    while len(left) >= _FEWEST and len(rules) < _MOST_RULES:
        parts = _grow(left, others)
        hit = [sample for sample in left if _all_in(parts, sample)]
        wrong = sum(_all_in(parts, sample) for sample in others)
        if not parts or len(hit) < _FEWEST or wrong > _WRONG * len(others):
            break
        rules.append(_rule_of(parts, others))
        left = [sample for sample in left if not _all_in(parts, sample)]
    return tuple(rules)


def _all_in(parts: Sequence[_Part], sample: Sample) -> bool:
    return all(part.is_in(sample) for part in parts)


def _rule_of(parts: Sequence[_Part], others: Sequence[Sample]) -> CrashRule:
    def frequency(part: _Part) -> int:
        # Among the calls of programs themselves, as only those can be dropped.
        return _frequency(part.pattern, others)

    dropped = min(parts, key=frequency)
    return CrashRule(tuple(part.pattern for part in parts), dropped.pattern, dropped.ever)


def rule_of(
    patterns: Sequence[Pattern], others: Sequence[Sample], *, lasts: bool = False
) -> CrashRule:
    """Return the rule for calls that all have to be made, in this order.

    Their effect ``lasts`` if an earlier program may make some of them.
    """
    dropped, enough = dropped_of(patterns, others, lasts=lasts)
    return CrashRule(tuple(patterns), patterns[dropped], enough)


def dropped_of(
    patterns: Sequence[Pattern], others: Sequence[Sample], *, lasts: bool
) -> tuple[int, bool]:
    """Return the index of the pattern to drop, and whether matching it alone is enough.

    A call that prepares the crash is dropped rather than the one in which it takes place,
    as that one may show more bugs.
    """

    def rank(number: int) -> tuple[bool, int]:
        pattern = patterns[number]
        last = pattern is patterns[-1] or pattern.kind == _OPEN
        return last, _frequency(pattern, others)

    dropped = min(range(len(patterns)), key=rank)
    rare = _frequency(patterns[dropped], others) <= _WRONG * len(others)
    return dropped, lasts or len(patterns) == 1 or rare


def _frequency(pattern: Pattern, others: Sequence[Sample]) -> int:
    return sum(_Part(pattern).is_in(sample) for sample in others)


def _grow(crashed: Sequence[Sample], others: Sequence[Sample]) -> tuple[_Part, ...]:
    """Return the parts of a rule that matches some samples that crashed and few others."""
    # Where all crashed in one kind of call, the rule has that call though it may gain nothing.
    kinds = {sample.culprit for sample in crashed}
    known = kinds.pop() if len(kinds) == 1 else None
    parts: tuple[_Part, ...] = (_Part(Pattern(known)),) if known is not None else ()
    crashed = [sample for sample in crashed if _all_in(parts, sample)]
    others = [sample for sample in others if _all_in(parts, sample)]
    for _ in range(_MOST_REFINEMENTS if others else 0):
        best, gained = parts, 0.0
        for option in _refinements(parts, crashed, others):
            gain = _gain(option, crashed, others)
            if gain > gained:
                best, gained = option, gain
        hits = sum(_all_in(best, sample) for sample in crashed)
        if gained < _LEAST_GAIN * hits:
            break
        parts = best
        crashed = [sample for sample in crashed if _all_in(parts, sample)]
        others = [sample for sample in others if _all_in(parts, sample)]
        if not others:
            break
    return parts


def _gain(parts: Sequence[_Part], crashed: Sequence[Sample], others: Sequence[Sample]) -> float:
    """Return FOIL's gain of a rule over one that matches all of these samples, in bits."""
    hits = sum(_all_in(parts, sample) for sample in crashed)
    if hits < _FEWEST:
        return 0.0
    wrong = sum(_all_in(parts, sample) for sample in others)
    before = math.log2(len(crashed) / (len(crashed) + len(others)))
    # One false hit is added, so that a few hits do not count for much.
    return hits * (math.log2(hits / (hits + wrong + 1)) - before)


def _refinements(
    parts: tuple[_Part, ...], crashed: Sequence[Sample], others: Sequence[Sample]
) -> Iterator[tuple[_Part, ...]]:
    for number, part in enumerate(parts):
        for refined in _refined(part, crashed):
            yield (*parts[:number], refined, *parts[number + 1 :])
    known = {part.pattern.kind for part in parts}
    more = [part for part in _calls(parts, crashed) if part.pattern.kind not in known]
    more.sort(key=lambda part: _gain((*parts, part), crashed, others), reverse=True)
    for part in more:
        yield (*parts, part)
    for part in more[:_TRIED]:
        for refined in _refined(part, crashed):
            yield (*parts, refined)


def _calls(parts: Sequence[_Part], crashed: Sequence[Sample]) -> list[_Part]:
    """Return the parts that a rule may begin with, or go on with: one for each kind of call."""
    least = max(_FEWEST, _SHARE * len(crashed))
    culprits = Counter(sample.culprit for sample in crashed if sample.culprit is not None)
    if not parts and sum(culprits.values()) > len(crashed) / 2:
        # The call in which it crashed is known.
        return [_Part(Pattern(kind)) for kind, n in sorted(culprits.items()) if n >= least]
    now = Counter(kind for sample in crashed for kind in sample.made)
    ever = Counter(kind for sample in crashed for kind in sample.ever_made)
    found = [_Part(Pattern(kind)) for kind, n in sorted(now.items()) if n >= least]
    if parts and not any(part.ever for part in parts):
        # Calls of the program itself are preferred to calls before it.
        found += [
            _Part(Pattern(kind), ever=True)
            for kind, n in sorted(ever.items())
            if n >= least and n > now[kind]
        ]
    return found


def _refined(part: _Part, crashed: Sequence[Sample]) -> Iterator[_Part]:
    pattern = part.pattern
    for condition in _conditions([rows for rows in map(part.rows, crashed) if rows]):
        conditions = (*pattern.conditions, condition)
        yield replace(part, pattern=replace(pattern, conditions=conditions))


def _conditions(samples: list[list[Operands]]) -> Iterator[Condition]:
    """Yield conditions on the calls of some programs that crashed."""
    names = Counter(name for rows in samples for name in {n for row in rows for n in row})
    for name, n in sorted(names.items()):
        if n < len(samples) / 2:
            continue
        values = [found for rows in samples if (found := [r[name] for r in rows if name in r])]
        # Of two conditions that gain as much the first is taken, so the stricter one comes first.
        if least := min(max(each) for each in values):
            yield Condition(name, least=least)
        yield Condition(name, most=max(min(each) for each in values))
        for value, _ in Counter(v for each in values for v in set(each)).most_common(2):
            yield Condition(name, value, value)
        if name in _FLAGS:
            shared = values[0][0]
            for value in (value for each in values for value in each):
                shared &= value
            if shared:
                yield Condition(name, bits=shared)
