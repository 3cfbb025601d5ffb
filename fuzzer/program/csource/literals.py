# SPDX-License-Identifier: Apache-2.0
"""Numbers, strings and flags as a person writes them in C."""

from __future__ import annotations

from fuzzer.program.syntax import ACCESS, ADVICE, OPEN_FLAGS, PROTECTION, WHENCE

_WIDTH = 64
_SHOWN = {9: r"\t", 10: r"\n", 13: r"\r", 34: r"\"", 92: r"\\"}
_WHENCE = {number: name for name, number in WHENCE.items()}
_ACCESS = {number: name for name, number in ACCESS.items()}
_ADVICE = {number: name for name, number in ADVICE.items()}
# The flags of an open that the executor passes on (OPEN_FLAGS in vm/executor/call.c).
_OPEN = {"O_EXCL": 0o200, "O_TRUNC": 0o1000, "O_APPEND": 0o2000, "O_NONBLOCK": 0o4000}
_SYNC, _DSYNC = 0o4010000, 0o10000
_POLL = {"POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 16, "POLLNVAL": 32}
# Larger constants are written in hexadecimal: gcc takes large decimal ones for signed ones.
_LARGE = 65536


def c_integer(value: int) -> str:
    """Return an integer constant of up to 64 bits, signed or unsigned."""
    if value == -(1 << 63):
        return "-0x7fffffffffffffff - 1"
    return str(value) if value < _LARGE else f"{value:#x}"


def c_string(data: bytes, width: int | None = _WIDTH) -> list[str]:
    """Return a string literal in one or more lines, broken behind newlines where possible.

    A line has about ``width`` characters; with None there is one line.
    """
    if width is None:
        width = 5 * len(data)
    lines: list[str] = []
    line = ""
    for at, byte in enumerate(data):
        line += _shown(data, at)
        full = len(line) >= width
        if full or (byte == 10 and len(line) >= width // 2):
            lines.append(line)
            line = ""
    if line or not lines:
        lines.append(line)
    return [f'"{each}"' for each in lines]


def _shown(data: bytes, at: int) -> str:
    byte = data[at]
    if byte in _SHOWN:
        return _SHOWN[byte]
    # Two question marks begin a trigraph.
    if byte == 63 and at and data[at - 1] == 63:
        return r"\?"
    # An octal escape ends after three digits; a hexadecimal one would take further digits.
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def open_flags(flags: int) -> str:
    """Return the flags of an open() that the executor passes on, as text."""
    names = [_ACCESS.get(flags & 3, "O_ACCMODE")]
    names += [name for name, bit in _OPEN.items() if flags & bit]
    match flags & _SYNC:
        case 0:
            pass
        case value if value == _SYNC:
            names.append("O_SYNC")
        case value if value == _DSYNC:
            names.append("O_DSYNC")
        case _:
            names.append("(O_SYNC & ~O_DSYNC)")
    return " | ".join(names)


def flag_names(flags: int) -> str:
    """Return the flags of a file as fcntl sets them, as text."""
    known = {**OPEN_FLAGS, "O_SYNC": _SYNC}
    names: list[str] = []
    for name, bits in sorted(known.items(), key=lambda each: -each[1].bit_count()):
        if flags & bits == bits:
            names.append(name)
            flags &= ~bits
    return " | ".join([*names, *([f"{flags:#x}"] if flags else [])]) or "0"


def whence(value: int) -> str:
    """Return lseek's whence."""
    return _WHENCE.get(value, f"(int){value:#x}" if value >= _LARGE else str(value))


def poll_events(events: int) -> str:
    """Return the events of a poll()."""
    events &= 0xFFFF
    names = [name for name, bit in _POLL.items() if events & bit]
    rest = events & ~sum(_POLL.values())
    if rest:
        return f"(short){events:#x}"
    return " | ".join(names) or "0"


def protection(bits: int) -> str:
    """Return the protection of a mapping."""
    names = [name for name, bit in PROTECTION.items() if bits & bit]
    return " | ".join(names) or "PROT_NONE"


def advice(value: int) -> str:
    """Return the advice of a madvise()."""
    return _ADVICE.get(value, str(value))
