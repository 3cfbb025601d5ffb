# SPDX-License-Identifier: Apache-2.0
"""Compare hints: changes to a program that are suggested by comparisons in the driver.

Where one operand of a comparison occurs in the program, the driver looked for the other
one, which is put in its place. The operand may occur as a number of some width and byte
order, as text, as a length, or as a count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import TypeAlias

from fuzzer.program.comparison import Comparison
from fuzzer.program.operands import CallView, MatchKind, mask
from fuzzer.program.ops import Op
from fuzzer.program.payload_metrics import counted_up, numbered_alike
from fuzzer.program.program import MAX_CALLS, MAX_PROGRAM_SIZE
from fuzzer.program.wire import FIXUP_SIZE, HEADER_SIZE, split
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.layout import Member
from fuzzer.target.target import Target

BitFields: TypeAlias = Mapping[bytes, Sequence[Member]]
"""The bit-fields of structs, by the numbers of the ioctls as calls have them."""

NO_BIT_FIELDS: BitFields = {}
"""Those of a driver without any."""

LIMIT = 400
"""The most substitutions of one program."""

# The most comparisons of one program that are used.
_COMPARISONS = 1500
# The most comparisons with the same operand in one call; of more, the first and the last are used.
_ALIKE = 16
# So many operands with consecutive values are a loop's counter, of which only the last is used.
_LOOP = 4
# The number of earlier calls in which an operand is looked for that is not in its own call.
_BACK = 8
_MATCHES_BACK = 3

# A value one above a limit exceeds it, and one below just keeps it.
_DELTAS = (0, 1, -1)

# Ranks, the least first. A doubtful match adds _DOUBT, a neighbour of the operand 1.
_CONSTANT, _CONSTANT_ELSEWHERE, _VARIABLE, _VARIABLE_ELSEWHERE = 0, 4, 3, 7
_DOUBT = 2

_SIZES = frozenset({1, 2, 4, 8})

# The number of kinds of calls of which there may be as many as an operand says.
_KINDS = 4
# The first words of 32 bits of a payload that may be the number by which things differ.
_COUNTED_WORDS = 2

_Copies: TypeAlias = Callable[[bytes, int], list[bytes]]

_Candidate: TypeAlias = tuple[int, int, int, int, MatchKind, Callable[[], bytes | None]]


@dataclass(frozen=True, slots=True)
class Substitution:
    """The replacement for call number ``call``, in wire form: one call or more.

    ``comparison`` suggests it; ``kind`` tells in what form the operand was found.
    """

    call: int
    wire: bytes
    kind: MatchKind
    comparison: Comparison


class Hints:
    """The changes that a program's comparisons suggest, the most promising first.

    ``data`` is a program in wire form (any bytes are one), ``comparisons`` are those that
    the driver made when it ran. Results have at most ``max_size`` bytes and ``max_calls``
    calls, or as many as the program if it has more. There are at most ``limit`` results,
    all different. ``bit_fields`` are those of the driver's structs.
    The same arguments give the same results.
    """

    def __init__(
        self,
        data: bytes,
        comparisons: Iterable[Comparison],
        *,
        max_size: int = MAX_PROGRAM_SIZE,
        max_calls: int = MAX_CALLS,
        limit: int = LIMIT,
        bit_fields: BitFields = NO_BIT_FIELDS,
    ) -> None:
        self._chunks = split(data)
        self._views = [
            CallView(chunk, bit_fields.get(chunk[4:8], ())) if bit_fields else CallView(chunk)
            for chunk in self._chunks
        ]
        size = sum(map(len, self._chunks))
        self._room = max(0, min(max_size, MAX_PROGRAM_SIZE) - size)
        self._room_calls = max(0, min(max_calls, MAX_CALLS) - len(self._chunks))
        self._totals = self._count_records()
        self._kinds = self._count_kinds()
        known = thin(item for item in comparisons if item.call < len(self._chunks))
        self.substitutions = self._choose(known, limit)

    def __len__(self) -> int:
        return len(self.substitutions)

    def apply(self, number: int) -> bytes:
        """Return the program with one of the substitutions, in canonical wire form."""
        chosen, chunks = self.substitutions[number], self._chunks
        return b"".join([*chunks[: chosen.call], chosen.wire, *chunks[chosen.call + 1 :]])

    def _choose(self, comparisons: list[Comparison], limit: int) -> tuple[Substitution, ...]:
        candidates: list[_Candidate] = []
        before: Counter[tuple[int, int, int]] = Counter()
        for number, comparison in enumerate(comparisons):
            same = (comparison.a, comparison.b, comparison.size)
            # The same comparison in several calls is used once for each of them in turn.
            turn = before[same] << 16
            before[same] += 1
            for nth, (rank, call, kind, make) in enumerate(self._candidates(comparison), turn):
                candidates.append((rank, nth, number, call, kind, make))
        candidates.sort(key=itemgetter(0, 1, 2))
        chosen: list[Substitution] = []
        seen = {(call, chunk) for call, chunk in enumerate(self._chunks)}
        for _, _, number, call, kind, make in candidates:
            if len(chosen) >= limit:
                break
            wire = make()
            if wire is None or (call, wire) in seen:
                continue
            if len(wire) - len(self._chunks[call]) > self._room:
                continue
            seen.add((call, wire))
            chosen.append(Substitution(call, wire, kind, comparisons[number]))
        return tuple(chosen)

    def _candidates(
        self, comparison: Comparison
    ) -> Iterator[tuple[int, int, MatchKind, Callable[[], bytes | None]]]:
        """Yield rank, call, kind and maker of the substitutions that one comparison suggests."""
        a, b, call, size, constant, _ = comparison
        here = _CONSTANT if constant else _VARIABLE
        elsewhere = _CONSTANT_ELSEWHERE if constant else _VARIABLE_ELSEWHERE
        view = self._views[call]
        for found, wanted in ((b, a),) if constant else ((b, a), (a, b)):
            matched = False
            for match in view.matches(found, size):
                matched = True
                rank = here if match.strong else here + _DOUBT
                for new in (wanted,) if match.is_name else _around(wanted, size):
                    yield rank + (new != wanted), call, match.kind, partial(match.put, new)
            for rank, at, kind, put in self._counted(found, call):
                matched = True
                for new in _around(wanted, size):
                    yield here + rank + (new != wanted), at, kind, partial(put, new - found)
            # Compilers turn "x < 1 || x > 32" into "x - 1 > 31"; strings count their NUL.
            for shift in (1, -1):
                near = found + shift
                if not 0 < near <= mask(8 * size):
                    continue
                for match in view.matches(near, size):
                    if match.strong:
                        for new in _around(wanted + shift, size):
                            yield here + 1, call, match.kind, partial(match.put, new)
            if not matched and found:
                for match, width, values in view.results(found, size, wanted):
                    tried = [value for each in values for value in _around(each, width)]
                    for new in dict.fromkeys(tried):
                        yield here + _DOUBT, call, match.kind, partial(match.put, new)
                for at in range(call - 1, max(-1, call - 1 - _BACK), -1):
                    strong = (match for match in self._views[at].matches(found, size))
                    before = [match for match in strong if match.strong]
                    for match in islice(before, _MATCHES_BACK):
                        for new in _around(wanted, size):
                            rank = elsewhere + (new != wanted)
                            yield rank, at, match.kind, partial(match.put, new)
                    if before:
                        break

    def _counted(
        self, found: int, call: int
    ) -> Iterator[tuple[int, int, MatchKind, Callable[[int], bytes | None]]]:
        """Yield substitutions where an operand is a count of things that several calls made.

        Each has a rank, the call to change, a kind, and a function that adds so many things.
        """
        total = self._totals[call]
        if total and total[2] == found:
            at, separator, _ = total
            yield 0, at, MatchKind.COUNT, partial(self._add_records, at, separator)
        if not 0 < found <= MAX_CALLS:
            return
        for at, count in self._kinds[call]:
            if found not in (count, count - 1):
                continue
            # What one kind of call makes, another may look at.
            rank = _DOUBT if at == call else _DOUBT + 1
            yield rank, at, MatchKind.CALLS, partial(self._add_calls, at, numbered_alike)
            for word in range(_COUNTED_WORDS):
                count_up = partial(counted_up, word=word)
                yield rank + 1, at, MatchKind.CALLS, partial(self._add_calls, at, count_up)

    def _add_records(self, call: int, separator: int, more: int) -> bytes | None:
        view = self._views[call]
        return view.put_records(separator, view.counts[separator] + more)

    def _add_calls(self, call: int, copied: _Copies, more: int) -> bytes | None:
        """Return the call with ``more`` copies before it, made different by ``copied``."""
        chunk = self._chunks[call]
        if not 0 < more <= self._room_calls or more * len(chunk) > self._room:
            return None
        body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        copies = copied(chunk[body:], more)
        return b"".join([chunk[:body] + copy for copy in copies]) + chunk

    def _count_records(self) -> list[tuple[int, int, int] | None]:
        """Return for each call the last call with records, their separator, and the sum so far.

        None where no call had any, or where all are of this call.
        """
        totals: list[tuple[int, int, int] | None] = []
        sums: dict[tuple[int, int], int] = {}
        last: tuple[int, int, int] | None = None
        for call, view in enumerate(self._views):
            if view.counts:
                separator, count = next(iter(view.counts.items()))
                key = (view.op, separator)
                sums[key] = sums.get(key, 0) + count
                last = (call, separator, sums[key])
            own = last is not None and last[0] == call and sums[key] == count
            totals.append(None if own else last)
        return totals

    def _count_kinds(self) -> list[list[tuple[int, int]]]:
        """Return for each call the last call up to it of each kind, and the number of these.

        Its own kind comes first, then those of the calls nearest before it.
        """
        last: dict[bytes, tuple[int, int]] = {}
        kinds = []
        for call, chunk in enumerate(self._chunks):
            # The kind is operation and command; the file does not matter.
            key = chunk[:1] + (chunk[4:8] if chunk[0] == Op.IOCTL else b"")
            _, count = last.pop(key, (0, 0))
            last[key] = call, count + 1
            kinds.append([*reversed(last.values())][:_KINDS])
        return kinds


def _around(wanted: int, size: int) -> list[int]:
    return [(wanted + delta) & mask(8 * size) for delta in _DELTAS]


def bit_fields_of(target: Target) -> dict[bytes, tuple[Member, ...]]:
    """Return the bit-fields of the structs of ioctls, by their numbers as calls have them."""
    found: dict[bytes, tuple[Member, ...]] = {}
    for spec in target.calls:
        if isinstance(spec, IoctlSpec) and spec.struct is not None:
            members = tuple(each for each in spec.struct.every() if each.bits)
            if members:
                found.setdefault(spec.number.to_bytes(4, "little"), members)
    return found


def thin(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """Return the comparisons that are worth using, those with constants first.

    Of a loop's counter only the last value is kept; comparisons with the same operand at other
    places of the driver do not count as part of it. Of equal comparisons at several places
    one is kept.
    """
    groups: dict[tuple[int, int, int, bool, int], dict[int, Comparison]] = {}
    for comparison in comparisons:
        a, b, call, size, constant, site = comparison
        if size in _SIZES and a != b and max(a, b) <= mask(8 * size):
            groups.setdefault((call, size, a, constant, site), {})[b] = comparison
    kept: list[Comparison] = []
    for group in groups.values():
        values = sorted(group)
        last = _loop_ends(values) if len(values) >= _LOOP else values
        if len(last) > _ALIKE:
            last = last[: _ALIKE // 2] + last[-_ALIKE // 2 :]
        kept += [group[value] for value in last]
    kept = list({comparison[:-1]: comparison for comparison in kept}.values())
    kept.sort(key=lambda comparison: not comparison.constant)
    return kept[:_COMPARISONS]


def _loop_ends(values: list[int]) -> list[int]:
    """Return sorted values with only the last of each run of _LOOP or more consecutive ones."""
    kept: list[int] = []
    run: list[int] = []
    for value in [*values, -1]:
        if run and value != run[-1] + 1:
            kept += run if len(run) < _LOOP else run[-1:]
            run = []
        run.append(value)
    return kept
