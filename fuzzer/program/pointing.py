# SPDX-License-Identifier: Apache-2.0
"""Pointing: programs with addresses in the structs of ioctls that failed with EFAULT.

Such a call followed a wrong address: each word of its struct may be the place for a right
one. The bytes that an address points to may be an array: then every element is a copy of the
first one, and the number of elements is put where the driver may expect it.
"""

from __future__ import annotations

import errno
import random
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from fuzzer.program.argument import LARGE, SMALL, Argument, argument_of, count_words, places_in
from fuzzer.program.comparison import Comparison
from fuzzer.program.links import addresses, link_of
from fuzzer.program.ops import FLAG_READONLY

MOST = 200
"""The most programs made of one."""

# The most places for an address in each call.
_PLACES = 48
# Elements of an array, of one with a high count, and the counts that the driver is given.
_ELEMENTS, _MANY, _COUNTS = 4, 8, (2, 3, 4, 8)
_STRIDES = (16, 24, 8, 32, 12, 40, 20, 48, 56, 64)
# Element sizes that are also tried without addresses in the elements, though there is room.
_PLAIN = frozenset({4, 8, 12, 16, 24})
# The most constants of comparisons that are put into an element, and places of each.
_CONSTANTS, _SAME = 8, 4
# The number of arrays that are drawn of all possible ones, and the share of those with a count.
_DRAWN, _COUNTED = 96, 0.3
# The share of arrays whose elements are made of one constant, and the limit of such constants.
_BLANK, _SMALL_CONSTANT = 0.5, 0x10000


def pointed(
    chunks: Sequence[bytes], errors: Sequence[int], comparisons: Iterable[Comparison]
) -> list[list[bytes]]:
    """Return programs with one more address each, or an array, the most promising first.

    ``chunks`` are the calls of a program, in wire form, that ran with these ``errors``
    (0 for success) and ``comparisons``.
    """
    made: dict[tuple[int, bytes], None] = {}
    by_call: dict[int, list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.constant:
            by_call.setdefault(comparison.call, []).append(comparison)
    for call, (chunk, error) in enumerate(zip(chunks, errors, strict=False)):
        argument = argument_of(chunk)
        # EFAULT says nothing where a copy is made to fail or the buffer is cut.
        fails = error == errno.EFAULT and is_whole(chunk)
        if argument is None or not (fails or argument.addresses):
            continue
        found = _variants(argument, by_call.get(call, ()), fails=fails)
        for each in islice(found, MOST):
            wire = each.wire()
            if wire is not None and wire != chunk:
                made[call, wire] = None
    return [[*chunks[:call], wire, *chunks[call + 1 :]] for call, wire in islice(made, MOST)]


def is_whole(chunk: bytes) -> bool:
    """Tell whether a call's buffer can be read and written as a whole, and no fault is injected."""
    return not chunk[2] & FLAG_READONLY and not any(chunk[18:22])


def _variants(
    argument: Argument, comparisons: Sequence[Comparison], *, fails: bool
) -> Iterator[Argument]:
    places = list(islice(places_in(argument), _PLACES)) if argument.room else []
    zero = [at for at in places if not any(argument.data[at : at + argument.width])]
    arrays = [*_arrays(argument, zero)]
    if fails:
        for at in zero:
            yield argument.pointing([at], bytes(SMALL))
        for start, stride, pointer in arrays:
            if pointer is not None:
                yield argument.as_array(start, stride, pointer, _ELEMENTS)
    # There are too many to try them all each time.
    drawer = _Drawer(argument, places, comparisons)
    for _ in range(_DRAWN if argument.starts else 0):
        yield drawer.draw()
    for at in zero if fails else ():
        yield argument.pointing([at], bytes(LARGE))
    for at in places if fails else ():
        if at not in zero:
            yield argument.pointing([at], bytes(SMALL))


class _Drawer:
    """Draws arrays whose elements are parts of an argument, or constants of comparisons."""

    def __init__(
        self, argument: Argument, places: Sequence[int], comparisons: Sequence[Comparison]
    ) -> None:
        self._rng = random.Random(zlib.crc32(argument.data))
        self._argument = argument
        self._comparisons = comparisons
        self._arrays: dict[int, list[tuple[int, int | None]]] = {}
        for start, stride, pointer in _arrays(argument, places):
            self._arrays.setdefault(start, []).append((stride, pointer))
        self._forms: dict[tuple[int, int], tuple[list[Argument], list[Argument]]] = {}
        self._words = {
            start: [(at, count) for at in count_words(argument, start) for count in _COUNTS]
            for start in self._arrays
        }

    def draw(self) -> Argument:
        """Return the argument with a random one of the arrays that it can have."""
        rand = self._rng.random
        starts = [*self._arrays]
        start = starts[int(rand() * len(starts))]
        # Small elements come first and are drawn more often.
        arrays = self._arrays[start]
        stride, pointer = arrays[int(rand() ** 2 * len(arrays))]
        blank, filled = self._forms_of(start, stride)
        if rand() < _BLANK:
            form = blank[int(rand() * len(blank))]
        else:
            form = filled[int(rand() ** 2 * len(filled))]
        word, count = 0, 0
        words = self._words[start]
        if words and rand() < _COUNTED:
            word, count = words[int(rand() * len(words))]
        array = form.as_array(start, stride, pointer, _MANY if count > _ELEMENTS else _ELEMENTS)
        return array.with_word(word, count) if count else array

    def _forms_of(self, start: int, stride: int) -> tuple[list[Argument], list[Argument]]:
        """Return arguments whose first element is made of one constant, and others."""
        if (start, stride) not in self._forms:
            filled = _with_constants(self._argument, start, stride, self._comparisons)
            self._forms[start, stride] = (
                _blank_forms(self._argument, start, stride, self._comparisons),
                [self._argument, *filled],
            )
        return self._forms[start, stride]


def _blank_forms(
    argument: Argument, start: int, stride: int, comparisons: Sequence[Comparison]
) -> list[Argument]:
    """Return arguments whose first element is zero, or filled with a constant of the driver."""
    values = dict.fromkeys(each.a for each in comparisons if each.a <= _SMALL_CONSTANT)
    forms = []
    fixups = tuple(
        each for each in argument.fixups if link_of(each) or not start <= each.at < start + stride
    )
    for value in (0, *islice(values, _CONSTANTS)):
        element = value.to_bytes(4, "little") * (stride // 4)
        data = argument.data[:start] + element + argument.data[start + stride :]
        forms.append(replace(argument, data=data, fixups=fixups, addresses=addresses(fixups)))
    return forms


def _arrays(argument: Argument, places: Sequence[int]) -> Iterator[tuple[int, int, int | None]]:
    """Yield arrays that can replace the parts that addresses point to.

    Each is the start of the part, the size of an element, and the offset of a further
    address in each element, None for no such address.
    """
    for start in argument.starts:
        end = argument.end_of(start)
        inside = [at - start for at in places if start <= at < end]
        for stride in _STRIDES:
            if stride % argument.width or stride > max(end - start, SMALL):
                continue
            pointers = [at for at in inside if at <= stride - argument.width]
            yield from ((start, stride, at) for at in pointers)
            own = any(start <= address.at < start + stride for address in argument.addresses)
            if own or not pointers or stride in _PLAIN:
                yield start, stride, None


def _with_constants(
    argument: Argument, start: int, stride: int, comparisons: Sequence[Comparison]
) -> Iterator[Argument]:
    """Yield arguments whose first element has constants that its words were compared with.

    A constant replaces all equal words, or one of them.
    """
    end = min(start + stride, len(argument.data))
    several: dict[Argument, None] = {}
    single: dict[Argument, None] = {}
    for each in comparisons:
        size = min(each.size, 4)
        places = [
            at
            for at in range(start, end - size + 1, size)
            if not argument.is_taken(at, size)
            and int.from_bytes(argument.data[at : at + size], "little") == each.b
        ]
        whole = argument
        for at in places[:_SAME]:
            single.setdefault(argument.with_word(at, each.a, size))
            whole = whole.with_word(at, each.a, size)
        if places:
            several.setdefault(whole)
    yield from islice(several, _CONSTANTS)
    yield from islice(single, _CONSTANTS)
