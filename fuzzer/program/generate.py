# SPDX-License-Identifier: Apache-2.0
"""Generator of calls from a target's description: mostly valid, about one in ten broken."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from fuzzer.program.choices import (
    NOTHING_SEEN,
    Seen,
    integer_chooser,
    spoiler,
)
from fuzzer.program.file_choices import FILE_CALLS, SPLICE_WAYS, URING_WAYS
from fuzzer.program.guesses import Guesser
from fuzzer.program.kinds import Completer, Kinds, kinds_in
from fuzzer.program.links import Address
from fuzzer.program.ops import FLAG_COMPAT, FLAG_VALUE, REQUESTS, Op
from fuzzer.program.parameters import Parameters
from fuzzer.program.placing import MODES, MappingCalls, with_mode
from fuzzer.program.program import MAX_CALLS, MAX_FIXUPS, MAX_PAYLOAD, Call, Program
from fuzzer.program.records import RecordMaker, Records
from fuzzer.program.strings import StringFinder
from fuzzer.program.struct_maker import StructMaker
from fuzzer.program.templates import TemplateFiller
from fuzzer.program.wire import (
    FIXUP,
    FIXUP_SIZE,
    HEADER_SIZE,
    PLAIN_HEADER,
    decode,
    plain_positioned,
    written_of,
)
from fuzzer.target.calls import (
    AnyIoctlSpec,
    CallSpec,
    CreateSpec,
    IoctlSpec,
    PlainKind,
    PlainSpec,
    ReadSpec,
    ReloadSpec,
    SleepSpec,
    WriteSpec,
    kinds_of,
)
from fuzzer.target.device import DeviceKind, families
from fuzzer.target.target import Target

_BROKEN = 0.1
# The shares of calls that are requests in a ring, for a weight of 1, and of requests in place
# of which the ring is closed.
_URING, _URING_CLOSE = 0.005, 0.15
_EXTRA_FILE = 0.15
# For buffers of unknown content: the share of words that are not zero, of buffers with a pointer.
_FILLED, _POINTER = 0.15, 0.2

_OFFSETS = (0, 0, 0, 1, 2, 8, 64, 512, 4096, 65536)
# Offsets at the limits of signed and unsigned numbers, and of files.
_FAR_OFFSETS = (
    *((1 << power) + step for power in (31, 32) for step in (-1, 0)),
    *(1 << power for power in (33, 34, 36, 40, 44)),
    (1 << 63) - 1,
    (1 << 63) - 4096,
    (1 << 64) - 1,
)
_FAR = 0.1
_LSEEK_OFFSETS = (0, 0, 1, 16, 4096, *_FAR_OFFSETS)
_EVENTS = (0x1, 0x4, 0x5, 0x1F)
_MAP_SIZES = (4096, 4096, 8192, 65536, 0)
_MAP_PAGES = (0, 0, 0, 1, 16)
# First pages of a part of a mapping; values stored there; epoll operations.
_PART_PAGES, _STORED, _EPOLL = (0, 0, 0, 1, 1, 2), (0, 1, (1 << 64) - 1), (0, 0, 1, 2, 3)
_O_RDWR, _O_EXCL, _O_APPEND, _O_NONBLOCK = 2, 0o200, 0o2000, 0o4000
# Flags of an open of a file that can often be either read or written.
_ONE_WAY_FLAGS = (0, 0, 1, 1, _O_RDWR)
# Where the description does not say how often to open a file, one call in so many does.
_OPENS = 10
_FLAGS = (0, 1, _O_RDWR | _O_NONBLOCK, _O_RDWR | _O_APPEND, _O_RDWR | _O_EXCL)
_OPEN_FLAGS = (_O_RDWR, _O_RDWR, _O_RDWR, *_FLAGS)

# Waits for work that a driver does later, in milliseconds.
_LATE_WORK = (20, 20, 200)

_PACK = PLAIN_HEADER.pack
_Maker = Callable[[Seen, bool], bytes]


def _no_file(broken: bool) -> int:
    return 0


class Generator:
    """Makes calls for one target; the same ``rng`` state gives the same calls."""

    def __init__(self, target: Target, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._spoil = spoiler(rng)
        self._templates = TemplateFiller(rng, target.pools)
        opens = any(
            isinstance(spec, PlainSpec) and spec.kind is PlainKind.OPEN for spec in target.calls
        )
        self._devices = target.devices
        self._families = families(target.devices)
        self.has_devices = len(target.devices) > 1
        """True if the target has more than one device."""
        self.maps = any(
            isinstance(spec, PlainSpec) and spec.kind is PlainKind.MMAP for spec in target.calls
        )
        """True if files of the target can be mapped."""
        self.created = [
            int(kind)
            for spec in target.calls
            if isinstance(spec, CreateSpec)
            for kind in spec.kinds
        ]
        """Kinds of files that programs create, for calls that take a descriptor."""
        self.child_weight = 0
        """Weight of calls that another process makes."""
        self.uses_files = opens or self.has_devices or bool(self.created)
        """True if programs of the target open more files than file 0."""
        makers = (self._map(), self._use(), self._change())
        self.mapping_calls = MappingCalls(*(self._caller(maker) for maker in makers))
        """Makers of calls on mappings."""
        self.strings = StringFinder(target)
        self.structs: dict[bytes, StructMaker] = {}
        """Makers of ioctl structs, by the number's wire bytes."""
        self.records: dict[int, list[RecordMaker]] = {}
        """Makers of structs that are written, by operation."""
        self._kinds = Kinds(target, rng) if kinds_in(target)[0] else None
        self.has_kinds = self._kinds is not None
        """True if calls of the description give and take handles."""
        self._completer: Completer | None = None
        table: list[_Maker] = []
        waits: list[int] = []
        kinds = [s for s in target.calls if isinstance(s, PlainSpec) and s.kind is PlainKind.URING]
        self._uring = _URING * sum(spec.weight for spec in kinds)
        givers: dict[str, list[Callable[[], bytes]]] = {}
        for spec in target.calls:
            if spec == PlainSpec(PlainKind.CHILD, spec.weight):
                self.child_weight = spec.weight
            elif isinstance(spec, SleepSpec):
                waits += spec.milliseconds * spec.weight
            elif not isinstance(spec, ReloadSpec) and spec not in kinds:
                maker = self._in_ring(spec, self._linked(spec, self._maker(spec, target)))
                table += [maker] * spec.weight
                for kind in kinds_of(spec)[0]:
                    givers.setdefault(kind, []).append(partial(maker, NOTHING_SEEN, False))
        if self._kinds:
            self._completer = Completer(self._kinds, rng, givers)
        if self.has_devices and not opens:
            table += [self._plain(PlainKind.OPEN)] * (1 + len(table) // _OPENS)
        self._table = tuple(table)
        self.parameters = Parameters(target, rng, self._templates)
        """Parameters to load the module with."""
        self._waits = tuple(waits)

    def chunk(self, seen: Seen = NOTHING_SEEN) -> bytes:
        """Return one call in the wire form; it may use strings of ``seen`` again."""
        rand, table = self._random, self._table
        return table[int(rand() * len(table))](seen, rand() < _BROKEN)

    def before(self, chunk: bytes, chunks: Sequence[bytes]) -> list[bytes]:
        """Return the calls to put between ``chunks`` and a call that takes what none of them gives.

        Without kinds of handles in the description there are none.
        """
        return self._completer.before(chunk, chunks) if self._completer else []

    def call(self, seen: Seen = NOTHING_SEEN) -> Call:
        """Return one call; it may use strings of ``seen`` again."""
        return decode(self.chunk(seen))[0]

    def wait(self, longest: int = 1) -> bytes | None:
        """Return a call that sleeps, in the wire form; None if the description has no waits.

        Now and then it sleeps up to ``longest`` times as long as the description says.
        """
        if not self._waits:
            return None
        milliseconds = self._waits[int(self._random() * len(self._waits))]
        if longest > 1:
            milliseconds = int(milliseconds * longest ** (self._random() ** 3))
        return _PACK(int(Op.SLEEP), 0, 0, 0, 0, milliseconds, 0)

    def expect_late_work(self) -> None:
        """Make waits from now on also if the description has none: the driver does work later."""
        self._waits = self._waits or _LATE_WORK

    def dup(self) -> bytes:
        """Return a call that makes one file number another one's, in the wire form."""
        source = 0 if self._random() < 0.5 else self._extra_file()
        return _PACK(int(Op.DUP), self._extra_file(), 0, 0, source, 0, 0)

    def opening(self) -> bytes:
        """Return a call that opens another device than the first as file 0, in the wire form.

        The only device is opened with flags.
        """
        n = len(self._devices)
        if n == 1:
            flags = _FLAGS[int(self._random() * len(_FLAGS))]
            return self._open(0, 0, flags)
        number = self._device() or 1 + int(self._random() * (n - 1))
        return self._open(0, number, self._flags_of(number))

    def opened_anew(self, chunk: bytes) -> bytes:
        """Return an open call with a device, or if there is one only with flags, chosen anew."""
        if len(self._devices) == 1:
            return self._open(chunk[1], 0, self._flags_of(0))
        return chunk[:8] + self._device().to_bytes(8, "little") + chunk[16:]

    def _device(self) -> int:
        """Return the number of a device: each kind is as likely, and each device of a kind."""
        rand, kinds = self._random, self._families
        numbers = kinds[int(rand() * len(kinds))]
        return numbers[int(len(numbers) * rand())]

    def _flags_of(self, device: int) -> int:
        one_way = self._devices[device].kind is DeviceKind.SYSFS
        flags = _ONE_WAY_FLAGS if one_way else _OPEN_FLAGS
        return flags[int(self._random() * len(flags))]

    def _open(self, file: int, device: int, flags: int) -> bytes:
        return _PACK(int(Op.OPEN), file, 0, 0, flags, device, 0)

    def reload(self, files: Sequence[int], device: int = 0) -> list[bytes]:
        """Return calls that close ``files``, unload the module, load it and open file 0.

        File 0 is the device of that number. Sometimes calls are left out: the files are
        still open, or the module is not loaded again.
        """
        rand = self._random
        kind = rand()
        chunks = [_PACK(int(Op.CLOSE), file, 0, 0, 0, 0, 0) for file in files if kind < 0.9]
        chunks.append(_PACK(int(Op.UNLOAD), 0, 0, 0, 0, 0, 0))
        if kind < 0.15:
            wait = self.wait()
            return [*chunks, wait] if wait else chunks
        params = self.parameters.draw()
        chunks.append(_PACK(int(Op.LOAD), 0, 0, 0, 0, 0, len(params)) + params)
        chunks.append(self._open(0, device, _O_RDWR))
        return chunks

    def program(self, n: int) -> Program:
        """Return a program of ``n`` calls, 0 to MAX_CALLS, that share some of their strings."""
        if not 0 <= n <= MAX_CALLS:
            raise ValueError(f"{n} calls; a program has 0 to {MAX_CALLS}")
        chunks: list[bytes] = []
        for _ in range(n):
            seen = NOTHING_SEEN
            if chunks:
                seen = self.strings.find(chunks[int(self._random() * len(chunks))])
            chunk = self.chunk(seen)
            chunks += [*self.before(chunk, chunks), chunk]
        del chunks[n:]
        return decode(b"".join(chunks))

    def _in_ring(self, spec: CallSpec, maker: _Maker) -> _Maker:
        """Return a maker of the same calls that are requests in a ring, or some of them."""
        is_command = isinstance(spec, IoctlSpec | AnyIoctlSpec) and spec.uring
        is_poll = isinstance(spec, PlainSpec) and spec.kind is PlainKind.POLL
        share = self._uring if is_poll or isinstance(spec, ReadSpec | WriteSpec) else 0.0
        if not (is_command or share):
            return maker
        rand, close = self._random, _PACK(int(Op.URING_CLOSE), 0, 0, 0, 0, 0, 0)
        closes = 0.0 if kinds_of(spec)[0] else _URING_CLOSE

        def make(seen: Seen, broken: bool) -> bytes:
            chunk = maker(seen, broken)
            if chunk[0] not in REQUESTS or (not is_command and rand() >= share):
                return chunk
            if rand() < closes:
                return close
            return with_mode(chunk, URING_WAYS[int(rand() * len(URING_WAYS))])

        return make

    def _linked(self, spec: CallSpec, maker: _Maker) -> _Maker:
        """Return a maker of the same calls with the handles and on the file of their kind."""
        link = self._kinds.linker(spec) if self._kinds else None
        if link is None:
            return maker

        def make(seen: Seen, broken: bool) -> bytes:
            return link(maker(seen, broken), broken)

        return make

    def _maker(
        self,
        spec: WriteSpec | ReadSpec | PlainSpec | CreateSpec | IoctlSpec | AnyIoctlSpec,
        target: Target,
    ) -> _Maker:
        if isinstance(spec, WriteSpec):
            return self._write(spec, target)
        if isinstance(spec, ReadSpec):
            return self._read(spec)
        if isinstance(spec, PlainSpec):
            if spec.kind is PlainKind.SPLICE_WRITE:
                return self._splice_write(target)
            return self._plain(spec.kind)
        if isinstance(spec, CreateSpec):
            kinds = [int(kind) for kind in spec.kinds]
            return self._fields(Op.CREATE, lambda broken: self._extra_file(), kinds, (0,))
        if isinstance(spec, AnyIoctlSpec):
            return self._ioctl_buffer(None, spec.sizes, compat=spec.compat)
        if spec.struct is None:
            return (
                self._ioctl_buffer(spec.number, spec.sizes, compat=spec.compat)
                if spec.sizes
                else (self._ioctl_value(spec))
            )
        maker = StructMaker(
            self._rng,
            spec.struct,
            spec.fields,
            target.pools,
            guesses=True,
            compat=spec.compat,
            kinds=self._kinds,
        )
        self.structs.setdefault(spec.number.to_bytes(4, "little"), maker)
        return self._ioctl_struct(spec, maker)

    def _file_chooser(self) -> Callable[[], int]:
        rand = self._random
        if not self.uses_files:
            return int

        def choose() -> int:
            kind = rand()
            return 0 if kind > _EXTRA_FILE else self._extra_file()

        return choose

    def _extra_file(self) -> int:
        # Low numbers more often, so that calls meet on the same file.
        return 1 + int(7 * self._random() ** 3)

    def _offset(self) -> int:
        """Return an offset at which to read or write, mostly near the start of the file."""
        rand = self._random
        offsets = _FAR_OFFSETS if rand() < _FAR else _OFFSETS
        return offsets[int(rand() * len(offsets))]

    def _write(self, spec: WriteSpec, target: Target) -> _Maker:
        """Return a maker of writes, of each template and record as often as any other."""
        rand, op = self._random, Op.PWRITE if spec.positioned else Op.WRITE
        table = [self._write_text(spec)] * len(spec.templates)
        for record in spec.records:
            maker = RecordMaker(self._rng, record, target.pools, self._kinds)
            self.records.setdefault(int(op), []).append(maker)
            table.append(self._write_records(spec, maker))
        if len(table) == len(spec.templates):
            return table[0]

        def make(seen: Seen, broken: bool) -> bytes:
            return table[int(rand() * len(table))](seen, broken)

        return make

    def _write_records(self, spec: WriteSpec, maker: RecordMaker) -> _Maker:
        rand, file, spoil = self._random, self._file_chooser(), self._spoil
        op, offset, integer = (
            Op.PWRITE if spec.positioned else Op.WRITE,
            self._offset,
            self._integer,
        )

        def make(seen: Seen, broken: bool) -> bytes:
            records = maker.records(seen)
            at = offset() if spec.positioned else 0
            if broken:
                kind = rand()
                if kind < 0.1 and spec.positioned:
                    at = integer()
                elif kind < 0.5:
                    records = Records(spoil(records.written)[:MAX_PAYLOAD])
                else:
                    records = replace(records, written=maker.wrong_member(records.written))
            return records.call(op, file(), at)

        return make

    def _write_text(self, spec: WriteSpec) -> _Maker:
        rand, pack, file, spoil = self._random, _PACK, self._file_chooser(), self._spoil
        op = int(Op.PWRITE if spec.positioned else Op.WRITE)
        writers = tuple(map(self._templates.filler, spec.templates))
        integer, positioned, offset = self._integer, spec.positioned, self._offset

        def make(seen: Seen, broken: bool) -> bytes:
            data = writers[int(rand() * len(writers))](seen)
            at = offset() if positioned else 0
            if broken:
                if positioned and rand() < 0.3:
                    at = integer()
                else:
                    data = spoil(data)[:MAX_PAYLOAD]
            if positioned:
                return plain_positioned(op, file(), at, 0, data)
            return pack(op, file(), 0, 0, 0, 0, len(data)) + data

        return make

    def _read(self, spec: ReadSpec) -> _Maker:
        rand, pack, file, integer = self._random, _PACK, self._file_chooser(), self._integer
        op = int(Op.PREAD if spec.positioned else Op.READ)
        counts, positioned, offset = spec.counts, spec.positioned, self._offset

        def make(seen: Seen, broken: bool) -> bytes:
            count = integer() if broken else counts[int(rand() * len(counts))]
            if positioned:
                return plain_positioned(op, file(), offset(), count)
            return pack(op, file(), 0, 0, 0, count, 0)

        return make

    def _plain(self, kind: PlainKind) -> _Maker:
        integer, file, extra = self._integer, self._file_chooser(), self._extra_file

        def any_file(broken: bool) -> int:
            return file()

        def extra_file(broken: bool) -> int:
            return 0 if broken else extra()

        match kind:
            case PlainKind.OPEN if self.has_devices:
                return self._open_any(extra_file)
            case PlainKind.OPEN:
                return self._fields(Op.OPEN, extra_file, _OPEN_FLAGS, (0,))
            case PlainKind.CLOSE:
                return self._fields(Op.CLOSE, extra_file, (0,), (0,))
            case PlainKind.LSEEK:
                return self._fields(Op.LSEEK, any_file, (0, 0, 1, 2), _LSEEK_OFFSETS, integer)
            case PlainKind.POLL:
                return self._one_of(
                    (self._fields(Op.POLL, any_file, _EVENTS, (0,)), 3),
                    (self._fields(Op.EPOLL, any_file, _EVENTS, _EPOLL), 2),
                )
            case PlainKind.MMAP:
                return self._one_of(
                    (self._fields(Op.MMAP, any_file, _MAP_PAGES, _MAP_SIZES, integer), 8),
                    (self._map(), 5),
                    (self._use(), 4),
                    (self._change(), 8),
                    (self._fields(Op.FORK, _no_file, (0,), (0,)), 1),
                )

            case _:
                choices = FILE_CALLS[kind]
                return self._one_of(
                    *((self._fields(c.op, any_file, c.cmds, c.args), c.weight) for c in choices)
                )

    def _splice_write(self, target: Target) -> _Maker:
        """Return a maker of calls that splice what writes would have written."""
        specs = [s for s in target.calls if isinstance(s, WriteSpec) and not s.positioned]
        makers = [self._write(spec, target) for spec in specs]
        rand, integer, file = self._random, self._integer, self._file_chooser()

        def make(seen: Seen, broken: bool) -> bytes:
            data = integer().to_bytes(8, "little")
            if makers:
                chunk = makers[int(rand() * len(makers))](seen, broken)
                body = HEADER_SIZE + FIXUP_SIZE * chunk[3]
                data = chunk[body : body + written_of(chunk)]
            way = SPLICE_WAYS[int(rand() * len(SPLICE_WAYS))]
            return _PACK(int(Op.SPLICE_WRITE), file(), 0, 0, way, 0, len(data)) + data

        return make

    def _map(self) -> _Maker:
        file = self._file_chooser()
        return self._fields(Op.MAP, lambda _: file(), _MAP_PAGES, _MAP_SIZES, self._integer)

    def _use(self) -> _Maker:
        file = self._file_chooser()
        return self._fields(Op.STORE, lambda _: file(), _PART_PAGES, _STORED, self._integer)

    def _change(self) -> _Maker:
        chosen = self._file_chooser()

        def file(broken: bool) -> int:
            return chosen()

        return self._one_of(
            (self._fields(Op.UNMAP, file, _PART_PAGES, _MAP_SIZES), 2),
            (self._fields(Op.REMAP, file, _PART_PAGES, _MAP_SIZES), 2),
            (self._fields(Op.PROTECT, file, _PART_PAGES, _MAP_SIZES), 2),
            (self._fields(Op.ADVISE, file, _PART_PAGES, _MAP_SIZES), 3),
        )

    def _caller(self, maker: _Maker) -> Callable[[], bytes]:
        return lambda: maker(NOTHING_SEEN, self._random() < _BROKEN)

    def _one_of(self, *weighted: tuple[_Maker, int]) -> _Maker:
        rand = self._random
        table = [maker for maker, weight in weighted for _ in range(weight)]

        def make(seen: Seen, broken: bool) -> bytes:
            return table[int(rand() * len(table))](seen, broken)

        return make

    def _open_any(self, file: Callable[[bool], int]) -> _Maker:
        integer = self._integer

        def make(seen: Seen, broken: bool) -> bytes:
            device = self._device()
            flags = integer() & 0xFFFFFFFF if broken else self._flags_of(device)
            return self._open(file(broken), device, flags)

        return make

    def _fields(
        self,
        op: Op,
        file: Callable[[bool], int],
        cmds: Sequence[int],
        args: Sequence[int],
        broken_arg: Callable[[], int] | None = None,
    ) -> _Maker:
        rand, pack, integer, number = self._random, _PACK, self._integer, int(op)
        modes = MODES.get(op, ())

        def make(seen: Seen, broken: bool) -> bytes:
            cmd = cmds[int(rand() * len(cmds))]
            arg = args[int(rand() * len(args))]
            if broken:
                if broken_arg is not None and rand() < 0.5:
                    arg = broken_arg()
                elif len(cmds) > 1:
                    cmd = integer() & 0xFFFFFFFF
            chunk = pack(number, file(broken), 0, 0, cmd, arg, 0)
            return with_mode(chunk, modes[int(rand() * len(modes))]) if modes else chunk

        return make

    def _ioctl_value(self, spec: IoctlSpec) -> _Maker:
        rand, pack, file, integer = self._random, _PACK, self._file_chooser(), self._integer
        op, number, flags = int(Op.IOCTL), spec.number, FLAG_COMPAT * spec.compat | FLAG_VALUE
        values = tuple(value & ((1 << 64) - 1) for value in spec.values)

        def make(seen: Seen, broken: bool) -> bytes:
            value = integer() if broken else values[int(rand() * len(values))]
            return pack(op, file(), flags, 0, number, value, 0)

        return make

    def _ioctl_buffer(self, number: int | None, sizes: Sequence[int], *, compat: bool) -> _Maker:
        """Return a maker of ioctls with a buffer of mostly zero words; number None: any number."""
        rand, pack, file, integer = self._random, _PACK, self._file_chooser(), self._integer
        op, flags, width = int(Op.IOCTL), FLAG_COMPAT * compat, 4 if compat else 8
        guesser = Guesser(self._rng, low=compat)

        def make(seen: Seen, broken: bool) -> bytes:
            cmd = integer() & 0xFFFFFFFF if number is None else number
            size = sizes[int(rand() * len(sizes))]
            if broken and rand() < 0.3:
                return pack(op, file(), flags | FLAG_VALUE, 0, cmd, integer(), 0)
            data = bytearray(size)
            for at in range(0, size - 3, 4):
                if rand() < _FILLED:
                    data[at : at + 4] = (integer() & 0xFFFFFFFF).to_bytes(4, "little")
            # The driver may expect a pointer: often there is one, to bytes behind the buffer.
            fixups = b""
            if size >= width and rand() < _POINTER:
                at = width * int(rand() * (size // width))
                content = guesser.content(MAX_FIXUPS - 1)
                found = [Address(at, size, is_low=compat)]
                found += [replace(a, at=size + a.at, to=size + a.to) for a in content.addresses]
                made = [address.fixup() for address in found]
                fixups = b"".join([FIXUP.pack(each.at, each.to) for each in made])
                data += content.data
            length, n = len(data), len(fixups) // FIXUP_SIZE
            return pack(op, file(), flags, n, cmd, 0, length) + fixups + data

        return make

    def _ioctl_struct(self, spec: IoctlSpec, maker: StructMaker) -> _Maker:
        rand, pack, file, integer = self._random, _PACK, self._file_chooser(), self._integer
        op, number, spoil = int(Op.IOCTL), spec.number, self._spoil
        flags = FLAG_COMPAT * spec.compat

        def make(seen: Seen, broken: bool) -> bytes:
            n_fixups, body = maker.payload(seen)
            if not broken:
                length = len(body) - FIXUP_SIZE * n_fixups
                return pack(op, file(), flags, n_fixups, number, 0, length) + body
            return make_broken(n_fixups, body)

        def make_broken(n_fixups: int, body: bytes) -> bytes:
            kind = rand()
            if kind < 0.1:
                return pack(op, file(), flags | FLAG_VALUE, 0, number, integer(), 0)
            cmd = number
            if kind < 0.2:
                # This may be another direction, size or command of the same driver.
                cmd ^= 1 << int(rand() * 32)
            fixups, data = body[: FIXUP_SIZE * n_fixups], body[FIXUP_SIZE * n_fixups :]
            if kind < 0.3:
                # The pointers stay zero.
                n_fixups, fixups = 0, b""
            elif kind < 0.6:
                data = spoil(data)[:MAX_PAYLOAD]
            else:
                data = maker.wrong_member(data)
            return pack(op, file(), flags, n_fixups, cmd, 0, len(data)) + fixups + data

        return make
