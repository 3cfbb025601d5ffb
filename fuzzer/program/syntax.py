# SPDX-License-Identifier: Apache-2.0
"""Tokens of program text: numbers, names and byte strings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from fuzzer.program.ops import MAP_PRIVATE, REMAP_MOVE, URING_ASYNC, URING_LEAVE
from fuzzer.target.calls import FileKind

_TOKEN = re.compile(
    r"""[ \t\r]*(?:
    (?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>-?(?:0[xX][0-9a-fA-F]{1,40}|[0-9]{1,40})(?!\w))
    |(?P<name>[A-Za-z_][A-Za-z0-9_.]*)
    |(?P<mark>->|[(),{}:&\[\]@!=|])
    |(?P<comment>\#.*)
    |(?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|.)|([^\\]+)", re.DOTALL)
_ESCAPED = {"n": b"\n", "t": b"\t", "r": b"\r", "0": b"\0", "\\": b"\\", '"': b'"', "'": b"'"}
_SHOWN = {9: r"\t", 10: r"\n", 34: r"\"", 92: r"\\"}

WHENCE = {"SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2, "SEEK_DATA": 3, "SEEK_HOLE": 4}
"""Values of lseek's whence by name."""

ACCESS = {"O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2}
"""Values of open's access mode, the lowest two bits of its flags, by name."""

OPEN_FLAGS = {
    "O_CREAT": 0o100,
    "O_EXCL": 0o200,
    "O_NOCTTY": 0o400,
    "O_TRUNC": 0o1000,
    "O_APPEND": 0o2000,
    "O_NONBLOCK": 0o4000,
    "O_DSYNC": 0o10000,
    "O_ASYNC": 0o20000,
    "O_DIRECT": 0o40000,
    "O_CLOEXEC": 0o2000000,
}
"""Values of open's other flags on x86-64 by name; each is one bit."""

EPOLL = {"EPOLL_ADD": 0, "EPOLL_MODIFY": 1, "EPOLL_DELETE": 2, "EPOLL_WAIT": 3}
"""Values of the operations on a program's epoll instance by name (``enum w_epoll``)."""

_FCNTL = (
    *("F_GETFL", "F_SETFL", "F_SETOWN", "F_SETSIG"),
    *("F_GETLK", "F_SETLK", "F_OFD_SETLK", "F_SETLEASE"),
)
FCNTL = {name: number for number, name in enumerate(_FCNTL)}
"""Numbers of the commands of fcntl by name (``enum w_fcntl``)."""

LOCK_TYPES = {"F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2}
"""Values of a lock's type by name."""

FLOCK = {"LOCK_SH": 1, "LOCK_EX": 2, "LOCK_UN": 8}
"""Values of the operations of flock by name."""

SPLICE = {"SPLICE": 0, "SPLICE_KEEP": 1, "SENDFILE": 2}
"""Numbers of the ways to splice by name (``enum w_splice``)."""

CREATED = {kind.name: int(kind) for kind in FileKind}
"""Numbers of the kinds of files that are not the driver's by name (``enum w_create``)."""

URING = {"ASYNC": URING_ASYNC, "LEAVE": URING_LEAVE}
"""Bits of the mode of a request by name."""

PROTECTION = {"PROT_READ": 1, "PROT_WRITE": 2, "PROT_EXEC": 4}
"""Bits of a protection by name."""

ADVICE = {
    "MADV_NORMAL": 0,
    "MADV_RANDOM": 1,
    "MADV_SEQUENTIAL": 2,
    "MADV_WILLNEED": 3,
    "MADV_DONTNEED": 4,
    "MADV_FREE": 8,
    "MADV_REMOVE": 9,
    "MADV_DONTFORK": 10,
    "MADV_DOFORK": 11,
    "MADV_MERGEABLE": 12,
    "MADV_UNMERGEABLE": 13,
    "MADV_HUGEPAGE": 14,
    "MADV_NOHUGEPAGE": 15,
    "MADV_DONTDUMP": 16,
    "MADV_DODUMP": 17,
    "MADV_WIPEONFORK": 18,
    "MADV_KEEPONFORK": 19,
    "MADV_COLD": 20,
    "MADV_PAGEOUT": 21,
    "MADV_POPULATE_READ": 22,
    "MADV_POPULATE_WRITE": 23,
    "MADV_DONTNEED_LOCKED": 24,
    "MADV_COLLAPSE": 25,
}
"""Values of madvise's advice by name."""

_POLL = {"POLLIN": 0x1, "POLLPRI": 0x2, "POLLOUT": 0x4, "POLLERR": 0x8, "POLLHUP": 0x10}
_MAP = {"PROT_NONE": 0, "MAP_SHARED": 0, "MAP_PRIVATE": MAP_PRIVATE, "REMAP_MOVE": REMAP_MOVE}
_NAMES = {**WHENCE, **ACCESS, **OPEN_FLAGS, **_POLL, **EPOLL, **PROTECTION, **ADVICE, **_MAP}
_NAMES |= {**FCNTL, **LOCK_TYPES, **FLOCK, **SPLICE, **CREATED}


class TextError(Exception):
    """A mistake in a line of program text; the caller adds the number of the line."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of program text; its ``kind`` is string, number, name, mark or end."""

    kind: str
    text: str

    def __str__(self) -> str:
        return "the end of the line" if self.kind == "end" else repr(self.text)


def quote(data: bytes) -> str:
    """Return a byte string as text, in printable ASCII."""
    return '"' + "".join([_SHOWN.get(b) or _show(b) for b in data]) + '"'


def show_integer(value: int) -> str:
    """Return an integer as text: decimal when small, else hexadecimal."""
    return str(value) if value < 65536 else f"{value:#x}"


class TokenLine:
    """The tokens of one line, read from left to right."""

    def __init__(self, text: str, constants: Mapping[str, int]) -> None:
        self._constants = constants
        self._tokens: list[Token] = []
        self._next = 0
        at = 0
        while not self._tokens or self._tokens[-1].kind != "end":
            match = _TOKEN.match(text, at)
            if match is None:
                raise TextError(f"cannot read {text[at:].strip()[:20]!r}")
            at = match.end()
            kind = match.lastgroup or "end"
            if kind != "comment":
                self._tokens.append(Token(kind, match[kind]))

    def peek(self) -> Token:
        """Return the next token without going past it."""
        return self._tokens[self._next]

    def take(self) -> Token:
        """Return the next token and go past it."""
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def at_end(self) -> bool:
        """Return whether nothing but a comment is left."""
        return self.peek().kind == "end"

    def accept(self, mark: str) -> bool:
        """Go past ``mark`` if it is next, and return whether it was."""
        if self.peek() != Token("mark", mark):
            return False
        self._next += 1
        return True

    def expect(self, mark: str) -> None:
        """Go past ``mark``."""
        if not self.accept(mark):
            raise TextError(f"{self.peek()} where {mark!r} is expected")

    def name(self, what: str) -> str:
        """Return the next name; ``what`` tells of what, for messages."""
        token = self.take()
        if token.kind != "name":
            raise TextError(f"{token} where {what} is expected")
        return token.text

    def integer(self, what: str, bits: int) -> int:
        """Return numbers and names joined by ``|``, as an unsigned value of ``bits``."""
        value = self.plain_integer(what)
        if not -(1 << (bits - 1)) <= value < 1 << bits:
            raise TextError(f"{what} is {value}, which does not fit in {bits} bits")
        return value & ((1 << bits) - 1)

    def plain_integer(self, what: str) -> int:
        """Return numbers and names joined by ``|``, of any size and sign."""
        value = self._term(what)
        while self.accept("|"):
            value |= self._term(what)
        return value

    def counted(self, what: str, least: int, most: int) -> int:
        """Return numbers and names joined by ``|``, from ``least`` to ``most``."""
        number = self.plain_integer(what)
        if not least <= number <= most:
            raise TextError(f"{what} is {number}; {least} to {most} is allowed")
        return number

    def string(self, what: str) -> bytes:
        """Return a byte string."""
        token = self.take()
        if token.kind != "string":
            raise TextError(f"{token} where {what}, a string, is expected")
        return b"".join(map(_unescape, _ESCAPE.finditer(token.text[1:-1])))

    def _term(self, what: str) -> int:
        token = self.take()
        if token.kind == "number":
            base = 16 if "x" in token.text.lower() else 10
            return int(token.text, base)
        if token.kind != "name":
            raise TextError(f"{token} where {what}, a number or a name, is expected")
        value = self._constants.get(token.text, _NAMES.get(token.text))
        if value is None:
            known = f"the description's are {', '.join(self._constants)}"
            raise TextError(
                f"no value for {token.text}; "
                + (known if self._constants else "without a target, give the number")
            )
        return value


def _show(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"


def _unescape(match: re.Match[str]) -> bytes:
    if match[2] is not None:
        return match[2].encode()
    code = match[1]
    if len(code) == 3:
        return bytes((int(code[1:], 16),))
    if code not in _ESCAPED:
        raise TextError(rf"unknown escape \{code}; \n \t \r \0 \\ \" and \xNN are allowed")
    return _ESCAPED[code]
