# SPDX-License-Identifier: Apache-2.0
"""The calls of a target: the part of a description that the generator works from."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.target.layout import StructLayout


@dataclass(frozen=True, slots=True)
class PoolRef:
    """A place in a template that is filled from the pool of this name."""

    pool: str


class NumberForm(enum.Enum):
    """The form of a number in a template: so many bytes, low or high ones first, or text."""

    U8 = "u8"
    LE16 = "le16"
    LE32 = "le32"
    LE64 = "le64"
    BE16 = "be16"
    BE32 = "be32"
    BE64 = "be64"
    INT = "int"
    HEX = "hex"

    @property
    def size(self) -> int:
        """Bytes of a binary number, 0 for text."""
        bits = self.value.lstrip("ubel")
        return int(bits) // 8 if bits.isdigit() else 0

    @property
    def bounds(self) -> tuple[int, int]:
        """The least and the greatest number that can be written so."""
        if self is NumberForm.HEX:
            return 0, (1 << 64) - 1
        bits = 8 * self.size or 64
        return -(1 << (bits - 1)), (1 << bits) - 1


@dataclass(frozen=True, slots=True)
class Between:
    """A number between ``low`` and ``high``, both included."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class LengthOf:
    """The length in bytes of what part number ``part`` of the same template became."""

    part: int


@dataclass(frozen=True, slots=True)
class NumberRef:
    """A place in a template that is filled with a number, one of ``choices``."""

    form: NumberForm
    choices: tuple[Between | LengthOf, ...]


@dataclass(frozen=True, slots=True)
class CallTemplate:
    """Bytes to write: literal parts, and places filled from pools or with numbers."""

    parts: tuple[bytes | PoolRef | NumberRef, ...]


FD = "fd"
"""The kind of handle that is any file's descriptor."""


@dataclass(frozen=True, slots=True)
class RecordSpec:
    """Structs to write, ``least`` to ``most`` of them one after the other.

    What their pointers point to is not written: it is behind all of them.
    """

    struct: StructLayout
    fields: tuple[Field, ...] = ()
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class WriteSpec:
    """``write``, or ``pwrite`` when ``positioned``: of one of ``templates`` and ``records``."""

    templates: tuple[CallTemplate, ...]
    positioned: bool
    weight: int = 1
    records: tuple[RecordSpec, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class ReadSpec:
    """``read``, or ``pread`` when ``positioned``; ``counts`` are in bytes."""

    counts: tuple[int, ...]
    positioned: bool
    weight: int = 1
    file: str = ""


class PlainKind(enum.Enum):
    """Calls that need no description of their own."""

    OPEN = "open"
    CLOSE = "close"
    LSEEK = "lseek"
    POLL = "poll"
    MMAP = "mmap"
    FASYNC = "fasync"
    LOCK = "lock"
    FLOCK = "flock"
    FSYNC = "fsync"
    GETDENTS = "getdents"
    FDINFO = "fdinfo"
    SPLICE_READ = "splice_read"
    SPLICE_WRITE = "splice_write"
    CHILD = "child"
    URING = "uring"


@dataclass(frozen=True, slots=True)
class PlainSpec:
    """A call that needs no description of its own; of a mapping, its offset ``takes`` a handle."""

    kind: PlainKind
    weight: int = 1
    file: str = ""
    takes: str = ""


class FileKind(enum.IntEnum):
    """Kinds of files that are not the driver's (``enum w_create`` in vm/channel.h)."""

    EVENTFD = 0
    PIPE = 1
    MEMFD = 2
    TIMERFD = 3
    SOCKET = 4
    NULL_DEVICE = 5
    DMA_BUF = 6


@dataclass(frozen=True, slots=True)
class CreateSpec:
    """A file of one of some kinds is created, for calls that take a descriptor."""

    kinds: tuple[FileKind, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class SleepSpec:
    """A wait of one of some milliseconds: for drivers that do things by the clock."""

    milliseconds: tuple[int, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class ReloadSpec:
    """The module unloaded, and loaded again with parameters made from a template.

    Without any parameters that is an empty template.
    Its ``weight`` is among reloads: how often there is one at all is for the
    fuzzer to say, for it takes as long as a hundred programs.
    """

    templates: tuple[CallTemplate, ...]
    weight: int = 1


@dataclass(frozen=True, slots=True)
class PoolField:
    """A byte-array member filled from a pool, zero padded."""

    member: str
    pool: str


@dataclass(frozen=True, slots=True)
class LenField:
    """An integer member: length of what was put into the member ``of``, in units of some bytes.

    The member may be one of a struct that this one is in, or is pointed to by. PARENT is the
    struct itself.
    """

    member: str
    of: str
    unit: int = 1


@dataclass(frozen=True, slots=True)
class PointerField:
    """A 64-bit member: the address of a buffer of up to ``size`` bytes."""

    member: str
    size: int


@dataclass(frozen=True, slots=True)
class ValuesField:
    """An integer member with one of some values."""

    member: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RangeField:
    """An integer member between ``low`` and ``high``, both included: a multiple of ``align``."""

    member: str
    low: int
    high: int
    align: int = 1


@dataclass(frozen=True, slots=True)
class FlagsField:
    """An integer member with some of these bits, none or all."""

    member: str
    flags: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GivesField:
    """A member that has a handle of a kind after the call."""

    member: str
    kind: str


@dataclass(frozen=True, slots=True)
class TakesField:
    """A member that is a handle of a kind, mostly one that an earlier call gave."""

    member: str
    kind: str


@dataclass(frozen=True, slots=True)
class UnionField:
    """A union whose choice the member ``by`` tells: ``cases`` are its values with the choices."""

    member: str
    by: str
    cases: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class ElementsField:
    """An array in the struct, of which ``least`` to ``most`` elements are filled by ``fields``."""

    member: str
    struct: StructLayout
    fields: tuple[Field, ...] = ()
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class StructsField:
    """A member with the address of ``least`` to ``most`` structs, one after the other.

    Their own ``fields`` are filled as any struct's.
    """

    member: str
    struct: StructLayout
    fields: tuple[Field, ...] = ()
    least: int = 1
    most: int = 1


@dataclass(frozen=True, slots=True)
class CountField:
    """An integer member: how many structs or elements the member ``of`` has, or points to."""

    member: str
    of: str


Field: TypeAlias = (
    PoolField
    | LenField
    | PointerField
    | ValuesField
    | RangeField
    | FlagsField
    | StructsField
    | CountField
    | GivesField
    | TakesField
    | UnionField
    | ElementsField
)


@dataclass(frozen=True, slots=True)
class IoctlSpec:
    """An ioctl: its number, and a pointer to a struct or else one of some scalars.

    ``name`` is the header's macro, None when the description gives a number.
    Without ``struct``, ``values`` holds at least one scalar; or else ``sizes``
    are those of a buffer of which nothing more is known, in bytes. With ``compat`` it is
    made as a 32-bit program makes it. Its argument ``takes``, and it ``returns``, a handle of
    that kind. With ``file`` it is made on a descriptor of that kind. With ``uring`` it is a
    command of the file's own, in a ring of io_uring.
    """

    name: str | None
    number: int
    struct: StructLayout | None = None
    fields: tuple[Field, ...] = ()
    values: tuple[int, ...] = (0,)
    sizes: tuple[int, ...] = ()
    weight: int = 1
    compat: bool = False
    takes: str = ""
    returns: str = ""
    file: str = ""
    uring: bool = False


@dataclass(frozen=True, slots=True)
class AnyIoctlSpec:
    """An ioctl whose number is to be found out, with a buffer of one of ``sizes`` bytes.

    With ``compat`` it is made as a 32-bit program makes it, with ``uring`` in a ring.
    """

    sizes: tuple[int, ...]
    weight: int = 1
    compat: bool = False
    file: str = ""
    uring: bool = False


CallSpec: TypeAlias = (
    WriteSpec
    | ReadSpec
    | PlainSpec
    | CreateSpec
    | IoctlSpec
    | AnyIoctlSpec
    | SleepSpec
    | ReloadSpec
)


def given_kinds(fields: Iterable[Field]) -> Iterator[str]:
    """Yield the kinds of handles that members of a struct have after a call."""
    for field in fields:
        if isinstance(field, GivesField):
            yield field.kind
        elif isinstance(field, StructsField | ElementsField):
            yield from given_kinds(field.fields)


def taken_kinds(fields: Iterable[Field]) -> Iterator[str]:
    """Yield the kinds of handles that members of a struct take."""
    for field in fields:
        if isinstance(field, TakesField):
            yield field.kind
        elif isinstance(field, StructsField | ElementsField):
            yield from taken_kinds(field.fields)


def kinds_of(spec: CallSpec) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the kinds of handles that a call gives, and those that it takes."""
    given: list[str] = []
    taken: list[str] = []
    if isinstance(spec, IoctlSpec):
        given += [*given_kinds(spec.fields), *([spec.returns] if spec.returns else [])]
        taken += taken_kinds(spec.fields)
    if isinstance(spec, IoctlSpec | PlainSpec) and spec.takes:
        taken.append(spec.takes)
    if isinstance(spec, WriteSpec):
        for record in spec.records:
            given += given_kinds(record.fields)
            taken += taken_kinds(record.fields)
    return tuple(dict.fromkeys(given)), tuple(dict.fromkeys(taken))


def file_kind(spec: CallSpec) -> str:
    """Return the kind of file that a call is made on; empty for the driver's own."""
    return "" if isinstance(spec, SleepSpec | ReloadSpec | CreateSpec) else spec.file
