# SPDX-License-Identifier: Apache-2.0
"""Operands of calls as numbers with names, and conditions on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.program.ops import Op
from fuzzer.program.wire import FIXUP_SIZE, HEADER, HEADER_SIZE

CallKind: TypeAlias = bytes
"""An operation, with its number behind it for an ioctl."""

Operands: TypeAlias = Mapping[str, int]
"""The numbers that a call consists of, by name."""

_IOCTL, _OPEN = int(Op.IOCTL), int(Op.OPEN)
# The first words of 4 bytes, and the first single bytes, of a payload that count as operands.
_WORDS, BYTES = 8, 8
_WORD_NAMES = tuple(f"word{number}" for number in range(_WORDS))
_BYTE_NAMES = tuple(f"byte{number}" for number in range(BYTES))


def kind_of(chunk: bytes) -> CallKind:
    """Return a call's kind; ``chunk`` is its wire form."""
    return chunk[:1] + chunk[4:8] if chunk[0] == _IOCTL else chunk[:1]


def ioctl_kind(number: int) -> CallKind:
    """Return the kind of the ioctls with this number."""
    return bytes((_IOCTL,)) + number.to_bytes(4, "little")


def operands_of(chunk: bytes) -> dict[str, int]:
    """Return a call's operands by name; words past the end of its payload are missing."""
    op, file, flags, n_fixups, cmd, arg, length, fault, cut, thread, _ = HEADER.unpack_from(chunk)
    found = {
        "file": file,
        "flags": flags,
        "arg": arg,
        "length": length,
        "fault": fault,
        "cut": cut,
        "thread": thread,
    }
    if op != _IOCTL:
        found["cmd"] = cmd
    body = HEADER_SIZE + FIXUP_SIZE * n_fixups
    end = min(len(chunk), body + 4 * _WORDS)
    for number, at in enumerate(range(body, end - 3, 4)):
        found[_WORD_NAMES[number]] = int.from_bytes(chunk[at : at + 4], "little")
    if (end - body) % 4:
        # The last bytes of a payload that is no multiple of 4 bytes.
        at = body + (end - body) // 4 * 4
        found[_WORD_NAMES[(end - body) // 4]] = int.from_bytes(chunk[at:end], "little")
    found.update(zip(_BYTE_NAMES, chunk[body : body + BYTES], strict=False))
    return found


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on one number of a call: from ``least`` to ``most``, with all ``bits`` set."""

    name: str
    least: int = 0
    most: int = (1 << 64) - 1
    bits: int = 0

    def holds(self, operands: Operands) -> bool:
        """Tell whether operands meet the condition."""
        value = operands.get(self.name)
        return (
            value is not None
            and self.least <= value <= self.most
            and value & self.bits == self.bits
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Calls of one kind whose operands meet all conditions."""

    kind: CallKind
    conditions: tuple[Condition, ...] = ()

    def matches(self, chunk: bytes) -> bool:
        """Tell whether a call matches the pattern."""
        if kind_of(chunk) != self.kind:
            return False
        if not self.conditions:
            return True
        operands = operands_of(chunk)
        return all(condition.holds(operands) for condition in self.conditions)

    def accepts(self, operands: Operands) -> bool:
        """Tell whether a call of the pattern's kind matches it, by its operands."""
        return all(condition.holds(operands) for condition in self.conditions)


def matching(pattern: Pattern, chunks: Sequence[bytes]) -> bool:
    """Tell whether one of a program's calls matches the pattern."""
    return any(pattern.matches(chunk) for chunk in chunks)
