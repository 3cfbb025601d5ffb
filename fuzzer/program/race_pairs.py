# SPDX-License-Identifier: Apache-2.0
"""Races of what two programs of the corpus do, each call of the corpus as often as any other.

Most programs of a corpus are about the one call of the driver that has most
code. So the kind of call is chosen first, then one of the different calls of
that kind, with what its program did before it.

What is in the corpus for what it covers where the module was loaded with other
parameters is about these: there half of the calls are of such programs.
"""

from __future__ import annotations

import random

from fuzzer.program.conditions import with_thread
from fuzzer.program.cost import is_slow
from fuzzer.program.ops import Op, ops_with
from fuzzer.program.preload import preload_of
from fuzzer.program.wire import split

# Calls that are kept of each kind, and of what came before each.
_MOST, _BEFORE = 64, 10
# What one thread repeats: so many of its program's last calls. How often, and calls in all.
_LAST, _REPEATS, _LONGEST = 3, 4, 8
# Of the calls on a preloaded machine, so many are of programs that were found on such a one.
_PRELOADED = 0.5
# Ways to load the module for which calls are kept.
_MOST_PRELOADS = 64
_IOCTL, _OPEN = int(Op.IOCTL), int(Op.OPEN)
_REACHES_DRIVER = ops_with(lambda each: each.reaches_driver)


class RacePairs:
    """Chooses races; the same ``rng`` state gives the same."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._all = _Calls(rng)
        self._preloaded: dict[bytes, _Calls] = {}
        self._rng = rng

    def note(self, program: bytes, chunks: list[bytes]) -> None:
        """Remember a corpus program's calls, but not of one that waits or loads the module.

        ``chunks`` are its calls. It may begin by loading the module.
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
        """Return a program in which a call, repeated, runs beside others; empty: none is known.

        It is for a machine that was preloaded by such calls. Half of the
        programs first do what was done before that call where it is from. At
        most ``limit`` calls in all, 8 or more.
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

    def _one(self, preload: bytes) -> list[bytes]:
        """Return a call, after those before it."""
        preloaded = self._preloaded.get(preload)
        if preloaded and self._random() < _PRELOADED:
            return preloaded.one()
        return self._all.one()


class _Calls:
    """Different calls, by their kind."""

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._kinds: dict[tuple[int, bytes], int] = {}
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
            kind = chunk[0], chunk[4:8] if chunk[0] == _IOCTL else b""
            number = self._kinds.setdefault(kind, len(self._calls))
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

    def one(self) -> list[bytes]:
        """Return one, after those before it in its program."""
        rand = self._random
        calls = self._calls[int(rand() * len(self._calls))]
        return calls[int(rand() * len(calls))]


def _opening(chunks: list[bytes]) -> list[bytes]:
    """Return the first call if it has another device than the first for file 0."""
    is_one = chunks and chunks[0][0] == _OPEN and not chunks[0][1] and any(chunks[0][8:16])
    return chunks[:1] if is_one else []
