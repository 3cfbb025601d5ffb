# SPDX-License-Identifier: Apache-2.0
"""Race pairs: two calls of corpus programs run beside each other, each kind as often.

Most programs of a corpus are about the one call of the driver that has most code. So the
kind of call is chosen first, then one of the different calls of that kind, with the calls
before it in its program.

Programs that entered the corpus on a preloaded machine are about the other parameters of
the module. So on a machine preloaded alike half of the calls come from such programs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from fuzzer.program.conditions import with_thread
from fuzzer.program.cost import is_slow
from fuzzer.program.flips import FlipMaker, PayloadKind, can_flip, kind_of
from fuzzer.program.ops import Op, ops_with
from fuzzer.program.preload import preload_of
from fuzzer.program.wire import split

# The most calls that are kept of each kind, and of the calls before each.
_MOST, _BEFORE = 64, 10
# The most last calls of a program that a thread repeats, the repetitions, and calls in all.
_LAST, _REPEATS, _LONGEST = 3, 4, 8
# On a preloaded machine, the share of calls from programs found on machines preloaded alike.
_PRELOADED = 0.5
# The most preloads for which calls are kept.
_MOST_PRELOADS = 64
# How often a call with a flip is repeated; the most calls looked at for one that can have a flip;
# the share that is chosen from kinds of calls of which the driver compares the payload.
_FLIPS, _LOOKS, _COMPARED = 8, 4, 0.8
_OPEN = int(Op.OPEN)
_REACHES_DRIVER = ops_with(lambda each: each.reaches_driver)


class RacePairs:
    """Chooses race pairs; the same ``rng`` state gives the same ones."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._all = _Calls(rng)
        self._preloaded: dict[bytes, _Calls] = {}
        self._rng = rng

    def note(self, program: bytes, chunks: list[bytes]) -> None:
        """Remember the calls of a corpus program, ``chunks``, unless it waits or loads the module.

        A program that loads the module in its first calls is remembered without them.
        """
        preload = b""
        if is_slow(chunks):
            preload = preload_of(program)
            chunks = split(program.removeprefix(preload))
            if not preload or is_slow(chunks):
                return
        self._all.note(chunks)
        if preload and len(self._preloaded) < _MOST_PRELOADS:
            self._preloaded.setdefault(preload, _Calls(self._rng)).note(chunks)

    def race(self, limit: int, preload: bytes = b"") -> list[bytes]:
        """Return a program in which a repeated call runs beside others; empty if none is known.

        It is for a machine with this ``preload``. Half of the programs first make the calls
        that came before the repeated call in its program. The program has at most ``limit``
        calls in all; ``limit`` is 8 or more.
        """
        if not self._all:
            return []
        rand, longest = self._random, min(_LONGEST, limit // 2)
        (*before, call), others = self._one(preload), self._one(preload)
        others = others[-1 - int(rand() * _LAST) :]
        part = [with_thread(chunk, 1) for chunk in (others * _REPEATS)[:longest]]
        part += [with_thread(call, 2)] * min(_REPEATS, longest)
        before = before[: limit - len(part)] if rand() < 0.5 else _opening(before)
        return before + part

    def flip(self, maker: FlipMaker, limit: int, preload: bytes = b"") -> list[bytes]:
        """Return a program in which a call is repeated, each time with the same flip.

        Else it is as :meth:`race` says; empty, too, if no call was found that can have one.
        """
        for _ in range(_LOOKS if self._all else 0):
            kinds = maker.compared if self._random() < _COMPARED else ()
            (*before, call), other = self._pair(preload, kinds)
            if can_flip(call):
                pairs = [maker.flip(call, other), call] * min(_FLIPS, limit // 4)
                before = before[: limit - len(pairs)] if self._random() < 0.5 else _opening(before)
                return before + pairs
        return []

    def _one(self, preload: bytes) -> list[bytes]:
        """Return a call behind the calls before it in its program, by chance of a preloaded one."""
        return self._pair(preload)[0]

    def _pair(self, preload: bytes, kinds: Sequence[PayloadKind] = ()) -> tuple[list[bytes], bytes]:
        """Return a call, after those before it, and another one of its kind."""
        preloaded = self._preloaded.get(preload)
        if preloaded and self._random() < _PRELOADED:
            return preloaded.pair(kinds)
        return self._all.pair(kinds)


class _Calls:
    """Different calls of corpus programs by kind, each behind the calls before it."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._kinds: dict[PayloadKind, int] = {}
        self._calls: list[list[list[bytes]]] = []
        self._known: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._calls)

    def note(self, chunks: list[bytes]) -> None:
        """Remember the calls of a program."""
        for index, made in enumerate(chunks):
            chunk = with_thread(made, 0)
            if chunk[0] not in _REACHES_DRIVER or chunk in self._known:
                continue
            number = self._kinds.setdefault(kind_of(chunk), len(self._calls))
            if number == len(self._calls):
                self._calls.append([])
            calls = self._calls[number]
            first = max(0, index - _BEFORE)
            until = [with_thread(each, 0) for each in chunks[first : index + 1]]
            if first:
                until = [with_thread(each, 0) for each in _opening(chunks)] + until
            self._known.add(chunk)
            if len(calls) < _MOST:
                calls.append(until)
                continue
            at = int(self._random() * _MOST)
            self._known.discard(calls[at][-1])
            calls[at] = until

    def pair(self, kinds: Sequence[PayloadKind]) -> tuple[list[bytes], bytes]:
        """Return one, after those before it in its program, and another one of its kind.

        It is of one of these kinds if that is known.
        """
        rand = self._random
        number = self._kinds.get(kinds[int(rand() * len(kinds))]) if kinds else None
        calls = self._calls[int(rand() * len(self._calls)) if number is None else number]
        return calls[int(rand() * len(calls))], calls[int(rand() * len(calls))][-1]


def _opening(chunks: list[bytes]) -> list[bytes]:
    """Return the first call if it opens another device than the first as file 0, else none."""
    is_one = chunks and chunks[0][0] == _OPEN and not chunks[0][1] and any(chunks[0][8:16])
    return chunks[:1] if is_one else []
