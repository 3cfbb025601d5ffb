# SPDX-License-Identifier: Apache-2.0
"""Kinds of handles of a description: the numbers that programs have for them.

Each kind has some of a program's handles, and one whose handles are descriptors of files that
have calls of their own a file, so that calls that know nothing of each other fit together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from fuzzer.program.linking import links_of, with_link
from fuzzer.program.links import CALL, N_HANDLES, Link, LinkKind
from fuzzer.program.ops import MAPPING, Op
from fuzzer.program.program import N_FILES
from fuzzer.program.wire import PLAIN_HEADER
from fuzzer.target.calls import (
    FD,
    CallSpec,
    IoctlSpec,
    PlainSpec,
    file_kind,
    kinds_of,
)
from fuzzer.target.target import Target

# The share of handles that are the first of their kind, and of taken ones that are right. Of the
# others so many are numbers beside one, and so many handles or files of any kind.
_FIRST, _RIGHT, _BESIDE, _OTHER = 0.75, 0.85, 0.35, 0.8
_NUMBERS = (0, 1, -1, 0x7FFFFFFF)
_FILES = 4
# The share of calls that are left without those that they need, and how many lead to another.
_WITHOUT, _DEEPEST = 0.03, 4
_ADOPT = int(Op.ADOPT)
# The share of calls for a kind of file that are made on another one.
_OTHER_FILE = 0.05
# Calls that take a handle as their argument, or as an offset.
_TAKING = MAPPING | {Op.IOCTL}


def kinds_in(target: Target) -> tuple[list[str], list[str]]:
    """Return the kinds of handles of a description, and those of them that are files."""
    found: dict[str, None] = {}
    files: dict[str, None] = {}
    for spec in target.calls:
        given, taken = kinds_of(spec)
        found |= dict.fromkeys((*given, *taken))
        if file := file_kind(spec):
            files[file] = found[file] = None
    return [*found], [*files]


def handles_of(target: Target) -> dict[str, tuple[int, ...]]:
    """Return the handles of a program that each kind has."""
    kinds, _ = kinds_in(target)
    n = len(kinds)
    return {
        kind: tuple(range(at, N_HANDLES, n)) if n <= N_HANDLES else (at % N_HANDLES,)
        for at, kind in enumerate(kinds)
    }


def handle_names(target: Target) -> dict[str, str]:
    """Return the names that handles have in C, by those that they have in programs."""
    return {
        f"h{number}": f"{kind}_{nth}"
        for kind, numbers in handles_of(target).items()
        for nth, number in enumerate(numbers, 1)
    }


class Kinds:
    """Chooses the handles that calls give and take; the same ``rng`` state gives the same.

    While ``wanted`` is a number, it is the handle that calls give.
    """

    def __init__(self, target: Target, rng: random.Random) -> None:
        self._random = rng.random
        _, files = kinds_in(target)
        self._numbers = handles_of(target)
        self.files = {kind: N_FILES - 1 - at % _FILES for at, kind in enumerate(files)}
        """The number of the file that a kind has."""
        self.wanted: int | None = None

    def kind_of(self, number: int) -> str:
        """Return the kind of a handle; empty if it has none."""
        return next((kind for kind, found in self._numbers.items() if number in found), "")

    def number(self, kind: str) -> int:
        """Return one of a kind's handles, mostly the first."""
        rand, numbers = self._random, self._numbers[kind]
        return numbers[0] if rand() < _FIRST else numbers[int(rand() * len(numbers))]

    def given(self, kind: str) -> int:
        """Return the handle that a call gives."""
        return self.number(kind) if self.wanted is None else self.wanted

    def taken(self, kind: str) -> Link | int:
        """Return the handle that a call takes, mostly a right one, or a number in its place."""
        rand = self._random
        right = self._right(kind)
        if rand() < _RIGHT:
            return right
        wrong = rand()
        if wrong < _BESIDE and not right.is_file:
            beside = LinkKind.TAKE_NEXT if rand() < 0.5 else LinkKind.TAKE_LAST
            return Link(beside, 0, right.number)
        if wrong < _OTHER:
            return Link(LinkKind.TAKE, 0, int(rand() * N_HANDLES), is_file=rand() < 0.5)
        return _NUMBERS[int(rand() * len(_NUMBERS))]

    def linker(self, spec: CallSpec) -> Callable[[bytes, bool], bytes] | None:
        """Return what puts a call on the file of its kind, and links its argument and result.

        What it returns takes the call and whether it is to be broken. None: nothing is linked.
        """
        kind, rand = file_kind(spec), self._random
        takes = spec.takes if isinstance(spec, IoctlSpec | PlainSpec) else ""
        returns = spec.returns if isinstance(spec, IoctlSpec) else ""
        if not (kind or takes or returns):
            return None
        file = bytes((self.files[kind],)) if kind else b""

        def link(chunk: bytes, broken: bool) -> bytes:
            if file and rand() > _OTHER_FILE:
                chunk = chunk[:1] + file + chunk[2:]
            if takes and not broken and chunk[0] in _TAKING:
                chunk = self._taking(chunk, takes)
            if returns:
                chunk = with_link(chunk, Link(LinkKind.GIVE, CALL, self.given(returns)))
            return chunk

        return link

    def _taking(self, chunk: bytes, kind: str) -> bytes:
        """Return a call whose argument, or the offset of a mapping, is a handle."""
        taken = self.taken(kind)
        if isinstance(taken, Link):
            return with_link(chunk, replace(taken, at=CALL))
        if chunk[0] in MAPPING:
            return chunk
        return chunk[:8] + (taken & (1 << 64) - 1).to_bytes(8, "little") + chunk[16:]

    def _right(self, kind: str) -> Link:
        if kind == FD:
            # The first file, one that another call handed out, or one that is perhaps open.
            files = (0, *self.files.values(), 1, 2)
            return Link(LinkKind.TAKE, 0, files[int(self._random() * len(files))], is_file=True)
        if kind in self.files:
            return Link(LinkKind.TAKE, 0, self.files[kind], is_file=True)
        return Link(LinkKind.TAKE, 0, self.number(kind))


class Completer:
    """Puts the calls that give handles and files before those that take them.

    ``givers`` are makers of calls by the kinds that these give.
    """

    def __init__(
        self,
        kinds: Kinds,
        rng: random.Random,
        givers: Mapping[str, Sequence[Callable[[], bytes]]],
    ) -> None:
        self._kinds = kinds
        self._random = rng.random
        self._givers = givers
        self._of_file = {number: kind for kind, number in kinds.files.items()}

    def before(self, chunk: bytes, chunks: Sequence[bytes], depth: int = 0) -> list[bytes]:
        """Return the calls to put behind ``chunks`` and before a call, mostly all it needs."""
        added: list[bytes] = []
        if depth > _DEEPEST or self._random() < _WITHOUT:
            return added
        taken = [each for each in links_of(chunk) if each.kind is not LinkKind.GIVE]
        files = [each.number for each in taken if each.is_file]
        for number in dict.fromkeys((chunk[1], *files)):
            kind = self._of_file.get(number)
            known = any(each[0] == _ADOPT and each[1] == number for each in chunks)
            if kind is not None and not known and chunk[0] != _ADOPT:
                added += self._file(kind, number, [*chunks, *added], depth)
        for number in dict.fromkeys(each.number for each in taken if not each.is_file):
            kind = self._kinds.kind_of(number)
            if kind in self._givers and not _gives((*chunks, *added), number):
                added += self._giver(kind, number, [*chunks, *added], depth)
        return added

    def _file(self, kind: str, number: int, chunks: list[bytes], depth: int) -> list[bytes]:
        if kind not in self._givers:
            return []
        handle = self._kinds.number(kind)
        made = self._giver(kind, handle, chunks, depth)
        plain = PLAIN_HEADER.pack(_ADOPT, number, 0, 0, 0, 0, 0)
        return [*made, with_link(plain, Link(LinkKind.TAKE, CALL, handle))]

    def _giver(self, kind: str, number: int, chunks: list[bytes], depth: int) -> list[bytes]:
        """Return a call that gives a handle, behind those that it needs itself."""
        makers = self._givers[kind]
        self._kinds.wanted = number
        try:
            chunk = makers[int(self._random() * len(makers))]()
        finally:
            self._kinds.wanted = None
        return [*self.before(chunk, chunks, depth + 1), chunk]


def _gives(chunks: Sequence[bytes], number: int) -> bool:
    return any(
        link.kind is LinkKind.GIVE and link.number == number
        for chunk in chunks
        for link in links_of(chunk)
    )
