# SPDX-License-Identifier: Apache-2.0
"""Mutator of wire programs, call by call and field by field.

It runs once for every program that the fuzzer tries. So programs are handled as lists
of their calls' wire bytes, and only the calls to change are decoded.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable

from fuzzer.program.children import change_child
from fuzzer.program.choices import NOTHING_SEEN, Seen
from fuzzer.program.conditions import ConditionMutator, buffer_size, can_fail, fitted, has_forms
from fuzzer.program.cost import is_slow
from fuzzer.program.field_mutator import FieldMutator
from fuzzer.program.flips import FlipMaker
from fuzzer.program.generate import Generator
from fuzzer.program.linking import Relinker
from fuzzer.program.mechanisms import ALL, Mechanisms
from fuzzer.program.ops import FLAG_VALUE, Op, ops_with
from fuzzer.program.placing import Placer
from fuzzer.program.program import MAX_CALLS, MAX_PAYLOAD, MAX_PROGRAM_SIZE
from fuzzer.program.race_pairs import RacePairs
from fuzzer.program.repeating import repeat
from fuzzer.program.resize import Resizer
from fuzzer.program.slow_mutator import SlowMutator
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import (
    FIXUP_SIZE,
    HEADER,
    HEADER_SIZE,
    split,
    written_of,
)
from fuzzer.target.target import Target

# The number of mutations that are stacked is one of these.
_STACKED = (1, 1, 1, 1, 2, 2, 3, 4)

_IOCTL, _OPEN, _LOAD = int(Op.IOCTL), int(Op.OPEN), int(Op.LOAD)

# Shares, for a driver with several devices: of programs that begin with another device than the
# first; of changes of a device that change this one; and of those that go back to the first.
_OTHER_FIRST, _CHANGE_FIRST, _TAKE_BACK = 0.5, 0.6, 0.1

# The share of changed ioctl buffers that get the size encoded in the ioctl's number.
_FIT = 0.2
# Shares of changes of a struct that change a single word, without and with addresses in it: other
# changes move the bytes that addresses point to.
_WORD, _WORD_BESIDE_ADDRESSES = 0.5, 0.9

# The share of repetitions that are of one more call only.
_ONE_MORE = 0.5

# The share of programs that are made slow, of those that may be.
_SLOW = 0.5

# Of the programs with races, the share with flips; of the others, the share that are race pairs of
# two corpus programs.
_FLIPS, _RACE_PAIRS = 0.2, 0.5
# The share of racing calls from other corpus programs, of those that are not the program's own.
_FROM_NOTED = 0.5

_NOTED = 256
"""Programs remembered for splicing."""

_REACHES_DRIVER = ops_with(lambda each: each.reaches_driver)

# Payloads grow slowly beyond this many bytes: long ones cost the guest time
# byte by byte and seldom reach anything new.
_SMALL_PAYLOAD = 64
# The share of changed loads that get any bytes as parameters.
_ANY_PARAMETERS = 0.15


class Mutator:
    """Mutates programs of one target; the same ``rng`` state gives the same results.

    ``mutate_bytes(data, max_size)`` changes plain bytes; in the fuzzing loop
    it is libFuzzer's own mutator, which also knows compare operands. Results
    have ``min_calls`` to ``max_calls`` calls, 1 to MAX_CALLS.
    """

    def __init__(
        self,
        target: Target,
        rng: random.Random,
        mutate_bytes: Callable[[bytes, int], bytes],
        *,
        min_calls: int = 1,
        max_calls: int = 64,
        mechanisms: Mechanisms = ALL,
    ) -> None:
        if not 1 <= min_calls <= max_calls <= MAX_CALLS:
            raise ValueError(
                f"min_calls={min_calls}, max_calls={max_calls}; "
                f"1 <= min_calls <= max_calls <= {MAX_CALLS} is allowed"
            )
        self._random = rng.random
        self._mutate_bytes = mutate_bytes
        self._min, self._max = min_calls, max_calls
        generator = Generator(target, rng)
        self._generator = generator
        self._generate = generator.chunk
        self._find = generator.strings.find
        self._structs = generator.structs
        self._records = generator.records
        self._uses_files = generator.uses_files
        self._has_devices = generator.has_devices
        self._has_kinds = generator.has_kinds
        self._fields = FieldMutator(rng, generator, mutate_bytes)
        self._slower = SlowMutator(rng, generator, self._related, reloads=not target.module.builtin)
        self._conditions = ConditionMutator(rng)
        self._race_pairs = RacePairs(rng)
        self._flips = FlipMaker(rng, struct_layouts(target))
        self._resizer = Resizer(rng)
        self.created = tuple(generator.created)
        """Kinds of files that programs create, for calls that take a descriptor."""
        self._relinker = Relinker(rng, self.created)
        placer = Placer(rng, generator.mapping_calls, max_calls)
        self._lifecycle = mechanisms.lifecycle
        self.slowed = False
        """True if the last program was made slow."""
        self.chunks: list[bytes] = []
        """The calls of the last program that :meth:`mutate` made."""
        self._parent: tuple[bytes, list[bytes]] = (b"", [])
        self._noted: deque[list[bytes]] = deque(maxlen=_NOTED)
        self._slow_noted: deque[list[bytes]] = deque(maxlen=_NOTED)
        weighted: tuple[tuple[Callable[[list[bytes], int], None], int], ...] = (
            (self._insert, 6),
            (self._replace, 2),
            (self._reuse, 4),
            (self._remove, 3),
            (self._swap, 2),
            (self._duplicate, 1),
            (self._repeat, 1),
            (self._splice, 3),
            (self._change_field, 3),
            (self._change_payload, 5),
            (self._change_member, 3 if self._structs or self._records else 0),
            (self._resize, 2),
            (self._reform, 1),
            (self._dup, 1 if self._uses_files else 0),
            (self._relink, 1),
            (self._change_opening, 3 if self._has_devices else 1 if generator.uses_files else 0),
            (self._fail, 2 if mechanisms.faults else 0),
            (self._cut, 2 if mechanisms.faults else 0),
            (self._give_file, 2 if self.created else 0),
            (self._change_child, min(3, generator.child_weight)),
            (placer.place, 3 if generator.maps else 0),
            (placer.visit, 2 if generator.maps else 0),
        )
        self._table = tuple(method for method, weight in weighted for _ in range(weight))

    def note(self, data: bytes) -> None:
        """Remember a program of the corpus, to splice calls from."""
        chunks = split(data)
        if chunks:
            (self._slow_noted if is_slow(chunks) else self._noted).append(chunks)
            self._race_pairs.note(data, chunks)

    def note_compared(self, chunk: bytes, other: bytes) -> None:
        """Take note of a call, and of it with the other operand of a comparison in its payload."""
        self._flips.note(chunk, other)

    def expect_late_work(self) -> None:
        """Have slow programs wait from now on, as the driver does work later."""
        self._generator.expect_late_work()

    def mutate(self, data: bytes, max_size: int, *, slow: bool = False) -> bytes:
        """Return a mutant of 1 to ``max_size`` bytes.

        When ``max_size`` is too small for ``min_calls`` calls, it has as many as fit. With
        ``slow`` it may wait, or load the module anew. ValueError when ``max_size`` is
        below 1.
        """
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}; at least 1 byte is needed")
        max_size = min(max_size, MAX_PROGRAM_SIZE)
        rand, table = self._random, self._table
        # Often several mutants are made of one program, so it is split once.
        if data != self._parent[0]:
            self._parent = (data, split(data))
        self.chunks = chunks = self._parent[1].copy()
        if len(chunks) > self._max:
            del chunks[self._max :]
        if not chunks:
            if self._has_devices and self._max > 1 and rand() < _OTHER_FIRST:
                chunks.append(self._generator.opening())
            chunks.append(self._generate())
        room = max(0, max_size - len(data))
        for _ in range(_STACKED[int(rand() * len(_STACKED))]):
            table[int(rand() * len(table))](chunks, room)
        self.slowed = slow and self._lifecycle and rand() < _SLOW
        if self.slowed:
            self._slower.slow_down(chunks)
            self._slower.fill(chunks, self._noted, self._max)
        while len(chunks) < self._min:
            chunks.append(self._generate())
        result = b"".join(chunks)
        if len(chunks) > self._max or len(result) > max_size:
            result = self._fit(chunks, max_size)
        return result

    def fresh(self) -> bytes:
        """Return a newly generated program, mostly of few calls."""
        rand = self._random
        n = self._min + int(rand() ** 2 * (self._max - self._min + 1))
        chunks: list[bytes] = []
        if self._has_devices and n > 1 and rand() < _OTHER_FIRST:
            chunks.append(self._generator.opening())
        while len(chunks) < n:
            seen = self._seen(chunks) if chunks and rand() < 0.5 else NOTHING_SEEN
            chunk = self._generate(seen)
            if self._has_kinds:
                chunks += self._generator.before(chunk, chunks)
            chunks.append(chunk)
        return b"".join(chunks[: self._max])

    def choose_preload(self, used: Counter[bytes]) -> bytes:
        """Return calls that load the module with parameters of the description, to preload it.

        Seldom ``used`` ones are chosen and counted as used once more. Empty if there are none.
        """
        return self._generator.parameters.choose_preload(used) if self._lifecycle else b""

    def load_parameters(self) -> list[bytes]:
        """Return one string of parameters for each ``reload`` of the description."""
        return self._generator.parameters.all() if self._lifecycle else []

    def race(self, data: bytes, max_size: int, preload: bytes = b"") -> bytes:
        """Return a program of which a part runs on several threads, or with flips.

        A part on threads comes after the calls of ``data``, or is a race pair of two programs of
        the corpus; a call with flips is of one, see :class:`RacePairs`. The program is for a
        machine preloaded with ``preload`` and does not contain these calls. ValueError when
        ``max_calls`` is below 8.
        """
        if self._max < 8:
            raise ValueError(f"max_calls is {self._max}; at least 8 are needed to race")
        chunks: list[bytes] = []
        if self._random() < _FLIPS:
            chunks = self._race_pairs.flip(self._flips, self._max, preload)
        if not chunks and self._random() < _RACE_PAIRS:
            chunks = self._race_pairs.race(self._max, preload)
        chunks = chunks or self._conditions.race(split(data), self._to_race, self._max)
        return self._fit(chunks, min(max_size, MAX_PROGRAM_SIZE))

    def _to_race(self, chunks: list[bytes]) -> bytes:
        """Return a call of another program of the corpus, or one generated for this one.

        Calls of corpus programs do what generated ones rarely do.
        """
        rand, noted = self._random, self._noted
        if noted and rand() < _FROM_NOTED:
            donor = noted[int(rand() * len(noted))]
            chunk = donor[int(rand() * len(donor))]
            if chunk[0] in _REACHES_DRIVER:
                return chunk
        return self._generate(self._seen(chunks) if chunks else NOTHING_SEEN)

    def _fit(self, chunks: list[bytes], max_size: int) -> bytes:
        """Return the program cut to ``max_size``: last calls are dropped first, then payloads."""
        del chunks[self._max :]
        size = sum(map(len, chunks))
        while size > max_size and len(chunks) > self._min:
            size -= len(chunks.pop())
        by_length = sorted(range(len(chunks)), key=lambda i: len(chunks[i]), reverse=True)
        for index in by_length:
            if size <= max_size:
                break
            size -= len(chunks[index]) - HEADER_SIZE
            chunks[index] = _bare(chunks[index])
        if size > max_size:
            # Only headers are left. Part of a header is no call, but such a program is not empty.
            return b"".join(chunks)[: max_size - max_size % HEADER_SIZE or max_size]
        return b"".join(chunks)

    def _seen(self, chunks: list[bytes]) -> Seen:
        """Return the strings of a random call of the program; if it has none, of a second one."""
        rand, n = self._random, len(chunks)
        return self._find(chunks[int(rand() * n)]) or self._find(chunks[int(rand() * n)])

    def _related(self, chunks: list[bytes]) -> bytes:
        """Return a new call that may use strings of the program again."""
        return self._generate(self._seen(chunks))

    def _insert(self, chunks: list[bytes], room: int) -> None:
        if len(chunks) >= self._max:
            self._replace(chunks, room)
            return
        rand = self._random
        seen = self._seen(chunks) if rand() < 0.5 else NOTHING_SEEN
        at = int(rand() * (len(chunks) + 1))
        chunk = self._generate(seen)
        chunk = self._relinker.on_adopted(chunk, chunks[:at])
        chunks.insert(at, chunk)
        if self._has_kinds:
            chunks[at:at] = self._generator.before(chunk, chunks[:at])

    def _replace(self, chunks: list[bytes], room: int) -> None:
        self._put(chunks, self._generate())

    def _reuse(self, chunks: list[bytes], room: int) -> None:
        self._put(chunks, self._related(chunks))

    def _put(self, chunks: list[bytes], chunk: bytes) -> None:
        """Put a call in place of another one, and before it those that give what it takes."""
        at = int(self._random() * len(chunks))
        if not self._has_kinds:
            chunks[at] = chunk
            return
        chunks[at : at + 1] = [*self._generator.before(chunk, chunks[:at]), chunk]

    def _remove(self, chunks: list[bytes], room: int) -> None:
        if len(chunks) <= self._min:
            self._replace(chunks, room)
            return
        del chunks[int(self._random() * len(chunks))]

    def _swap(self, chunks: list[bytes], room: int) -> None:
        n = len(chunks)
        if n < 2:
            self._insert(chunks, room)
            return
        a = int(self._random() * n)
        b = (a + 1 + int(self._random() * (n - 1))) % n
        chunks[a], chunks[b] = chunks[b], chunks[a]

    def _duplicate(self, chunks: list[bytes], room: int) -> None:
        n = len(chunks)
        if n >= self._max:
            self._replace(chunks, room)
            return
        chunk = chunks[int(self._random() * n)]
        chunks.insert(int(self._random() * (n + 1)), chunk)

    def _repeat(self, chunks: list[bytes], room: int) -> None:
        # Long programs cost much: half of the turns are for one more.
        if self._random() < _ONE_MORE or not repeat(self._random, chunks, self._max):
            self._duplicate(chunks, room)

    def _splice(self, chunks: list[bytes], room: int) -> None:
        rand = self._random
        # Calls of slow programs are spliced into slow programs only: otherwise these mutants
        # would use up the share of slow ones.
        slow = self._slow_noted and is_slow(chunks) and rand() < 0.5
        noted = self._slow_noted if slow else self._noted
        if not noted:
            self._insert(chunks, room)
            return
        donor = noted[int(rand() * len(noted))]
        start = int(rand() * len(donor))
        run = donor[start : start + 1 + int(rand() * (len(donor) - start))]
        at = int(rand() * (len(chunks) + 1))
        # The run is inserted, replaces as many calls, or replaces all calls that follow.
        kind = rand()
        end = at if kind < 0.5 else at + len(run) if kind < 0.75 else len(chunks)
        chunks[at:end] = run
        del chunks[self._max :]

    def _resize(self, chunks: list[bytes], room: int) -> None:
        """Resize a part of a payload, or repeat the part with a number in it."""
        n = len(chunks)
        index = int(self._random() * n)
        for _ in range(n):
            if len(chunks[index]) > HEADER_SIZE + FIXUP_SIZE * chunks[index][3]:
                break
            index = (index + 1) % n
        else:
            self._replace(chunks, room)
            return
        chunk = chunks[index]
        if chunk[0] == _IOCTL:
            self._change_payload(chunks, room)
            return
        if chunk[0] == _LOAD and (changed := self._other_parameters(chunk, room)):
            chunks[index] = changed
            return
        body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        limit = min(MAX_PAYLOAD, len(chunk) - body + room)
        data = self._resizer.resize(chunk[body:], limit)
        chunks[index] = chunk[:16] + len(data).to_bytes(2, "little") + chunk[18:body] + data

    def _reform(self, chunks: list[bytes], room: int) -> None:
        self._change_condition(chunks, room, has_forms, self._conditions.form)

    def _dup(self, chunks: list[bytes], room: int) -> None:
        """Insert a call that duplicates an open file as another one."""
        if len(chunks) >= self._max:
            self._replace(chunks, room)
            return
        chunks.insert(int(self._random() * (len(chunks) + 1)), self._generator.dup())

    def _relink(self, chunks: list[bytes], room: int) -> None:
        if not self._relinker.relink(chunks, room):
            self._change_field(chunks, room)

    def _give_file(self, chunks: list[bytes], room: int) -> None:
        if len(chunks) >= self._max or not self._relinker.give_file(chunks, room):
            self._insert(chunks, room)

    def _change_opening(self, chunks: list[bytes], room: int) -> None:
        """Change the device, or the flags, that the program begins with or opens another with."""
        rand = self._random
        begins = chunks[0][0] == _OPEN and not chunks[0][1]
        if rand() < _CHANGE_FIRST:
            if begins and len(chunks) > self._min and rand() < _TAKE_BACK:
                del chunks[0]
            elif begins:
                chunks[0] = self._generator.opening()
            elif len(chunks) < self._max:
                chunks.insert(0, self._generator.opening())
            return
        opens = [index for index, chunk in enumerate(chunks) if chunk[0] == _OPEN]
        if not opens:
            self._insert(chunks, room)
            return
        index = opens[int(rand() * len(opens))]
        chunks[index] = self._generator.opened_anew(chunks[index])

    def _change_child(self, chunks: list[bytes], room: int) -> None:
        change_child(self._random, chunks, self._min, self._max)

    def _fail(self, chunks: list[bytes], room: int) -> None:
        self._change_condition(chunks, room, can_fail, self._conditions.fail)

    def _cut(self, chunks: list[bytes], room: int) -> None:
        self._change_condition(chunks, room, buffer_size, self._conditions.cut)

    def _change_condition(
        self,
        chunks: list[bytes],
        room: int,
        fits: Callable[[bytes], object],
        change: Callable[[bytes], bytes],
    ) -> None:
        n = len(chunks)
        index = int(self._random() * n)
        for _ in range(n):
            if fits(chunks[index]):
                chunks[index] = change(chunks[index])
                return
            index = (index + 1) % n
        self._insert(chunks, room)

    def _change_field(self, chunks: list[bytes], room: int) -> None:
        index = int(self._random() * len(chunks))
        changed = self._fields.change(chunks[index])
        if changed:
            chunks[index] = changed
        else:
            self._change_payload(chunks, room)

    def _change_payload(self, chunks: list[bytes], room: int) -> None:
        """Change a payload by mutate_bytes; of a struct often 8 aligned bytes only."""
        rand, n = self._random, len(chunks)
        index = int(rand() * n)
        for _ in range(n):
            chunk = chunks[index]
            if len(chunk) > HEADER_SIZE:
                break
            index = (index + 1) % n
        else:
            self._replace(chunks, room)
            return
        if chunk[0] == _LOAD and (changed := self._other_parameters(chunk, room)):
            chunks[index] = changed
            return
        if chunk[0] == _IOCTL and rand() < _FIT and len(fit := fitted(chunk)) - len(chunk) <= room:
            chunks[index] = chunk = fit
        body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        data = chunk[body:]
        word_wise = _WORD_BESIDE_ADDRESSES if chunk[3] else _WORD
        if chunk[0] == _IOCTL and len(data) >= 8 and rand() < word_wise:
            at = int(rand() * (len(data) // 4 - 1)) * 4
            word = self._mutate_bytes(data[at : at + 8], 8)[:8].ljust(8, b"\0")
            chunks[index] = chunk[: body + at] + word + chunk[body + at + 8 :]
            return
        limit = min(MAX_PAYLOAD, len(data) + room, max(_SMALL_PAYLOAD, len(data) + len(data) // 8))
        if limit < 1:
            return
        data = self._mutate_bytes(data, limit)[:limit]
        length = len(data).to_bytes(2, "little")
        chunks[index] = chunk[:16] + length + chunk[18:body] + data

    def _other_parameters(self, chunk: bytes, room: int) -> bytes:
        """Return a load with other parameters of the description; empty if it has none, or rarely.

        Random parameters would be wasted: the kernel ignores names that the module does not
        have, and a load takes long.
        """
        if self._random() < _ANY_PARAMETERS:
            return b""
        data = self._generator.parameters.change(chunk[HEADER_SIZE:])[:MAX_PAYLOAD]
        if not data or len(data) - (len(chunk) - HEADER_SIZE) > room:
            return b""
        return chunk[:16] + len(data).to_bytes(2, "little") + chunk[18:HEADER_SIZE] + data

    def _change_member(self, chunks: list[bytes], room: int) -> None:
        structs, n = self._structs, len(chunks)
        index = int(self._random() * n)
        for _ in range(n):
            chunk = chunks[index]
            if chunk[0] in self._records and (changed := self._changed_record(chunk, chunks)):
                chunks[index] = changed
                return
            if chunk[0] == _IOCTL and not chunk[2] & FLAG_VALUE:
                maker = structs.get(chunk[4:8])
                if maker is not None:
                    break
            index = (index + 1) % n
        else:
            self._insert(chunks, room)
            return
        body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        seen = self._seen(chunks)
        chunks[index] = chunk[:body] + maker.change_member(chunk[body:], seen)

    def _changed_record(self, chunk: bytes, chunks: list[bytes]) -> bytes:
        """Return a write of structs with one member set anew; empty if it writes no structs."""
        body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
        length = written_of(chunk)
        makers = [maker for maker in self._records[chunk[0]] if maker.fits(length)]
        if not makers:
            return b""
        maker = makers[int(self._random() * len(makers))]
        end = body + length
        written = maker.change_member(chunk[body:end], self._seen(chunks))
        return chunk[:body] + written + chunk[end:]


def _bare(chunk: bytes) -> bytes:
    """Return a call without fixups and payload."""
    op, file, flags, _, cmd, arg, _, *rest = HEADER.unpack_from(chunk)
    return HEADER.pack(op, file, flags, 0, cmd, arg, 0, *rest)
