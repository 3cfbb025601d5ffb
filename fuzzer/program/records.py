# SPDX-License-Identifier: Apache-2.0
"""Records: one or several structs to write, with the buffers that they point to behind them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fuzzer.program.choices import Seen
from fuzzer.program.kinds import Kinds
from fuzzer.program.links import Link
from fuzzer.program.made_struct import Made
from fuzzer.program.ops import FLAG_COUNT, Op
from fuzzer.program.program import MAX_FIXUPS, MAX_PAYLOAD, Call, Fixup, at_position
from fuzzer.program.struct_maker import StructMaker
from fuzzer.program.wire import encode_call
from fuzzer.target.calls import RecordSpec


@dataclass(frozen=True, slots=True)
class Records:
    """The structs to write, the buffers that they point to, and the fixups of both together."""

    written: bytes
    pointed: bytes = b""
    fixups: tuple[Fixup, ...] = ()

    def call(self, op: Op, file: int, offset: int) -> bytes:
        """Return the wire form of a write or pwrite of the structs."""
        data = (self.written + self.pointed)[:MAX_PAYLOAD]
        flags = count = 0
        if self.pointed:
            flags, count = FLAG_COUNT, len(self.written)
        call = Call(op, file, flags, 0, count, data, self.fixups)
        return encode_call(at_position(call, offset) if op is Op.PWRITE else call)


def _place(link: Link) -> int:
    return link.at


class RecordMaker:
    """Makes and changes structs to write, as their description says."""

    def __init__(
        self,
        rng: random.Random,
        spec: RecordSpec,
        pools: Mapping[str, Sequence[bytes]],
        kinds: Kinds | None = None,
    ) -> None:
        self._random = rng.random
        self._maker = StructMaker(rng, spec.struct, spec.fields, pools, kinds=kinds)
        self._least, self._span = spec.least, spec.most - spec.least + 1
        self.size = spec.struct.size
        """The size of a struct, without the content of a flexible array."""

    def records(self, seen: Seen) -> Records:
        """Return one struct or several."""
        n = self._least + int(self._random() * self._span)
        made = [self._maker.made(seen) for _ in range(n)]
        whole = Made(bytearray())
        at, to = 0, sum(each.end for each in made)
        for each in made:
            whole.take(each, at, to)
            at += each.end
            to += len(each.data) - each.end
        fixups = [a.fixup() for a in whole.addresses if max(a.at, a.to) <= MAX_PAYLOAD]
        fixups += [
            link.fixup() for link in sorted(whole.links, key=_place) if link.at <= MAX_PAYLOAD
        ]
        return Records(
            b"".join([each.data[: each.end] for each in made]),
            b"".join([each.data[each.end :] for each in made]),
            tuple(fixups[:MAX_FIXUPS]),
        )

    def fits(self, length: int) -> bool:
        """Tell whether ``length`` bytes may be such structs."""
        return bool(self.size) and length >= self.size and length % self.size == 0

    def change_member(self, written: bytes, seen: Seen) -> bytes:
        """Return structs with one member of one of them set anew."""
        start, end = self._one(written)
        return written[:start] + self._maker.change_member(written[start:end], seen) + written[end:]

    def wrong_member(self, written: bytes) -> bytes:
        """Return structs with an interesting integer at a place where it may not belong."""
        start, end = self._one(written)
        return written[:start] + self._maker.wrong_member(written[start:end]) + written[end:]

    def _one(self, written: bytes) -> tuple[int, int]:
        if not self.fits(len(written)):
            return 0, len(written)
        start = self.size * int(self._random() * (len(written) // self.size))
        return start, start + self.size
