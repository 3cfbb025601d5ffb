# SPDX-License-Identifier: Apache-2.0
"""Conditions on the operands of calls, and the numbers that these are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.program.ops import Op
from fuzzer.program.wire import FIXUP_SIZE, HEADER, HEADER_SIZE

Kind: TypeAlias = bytes
"""An operation; for an ioctl with its number behind it."""

Operands: TypeAlias = Mapping[str, int]
"""The numbers that a call consists of, by name."""

_IOCTL, _OPEN = int(Op.IOCTL), int(Op.OPEN)
# Of a payload so many words of 4 bytes are looked at, and so many bytes by themselves.
_WORDS, BYTES = 8, 8
_WORD_NAMES = tuple(f"word{number}" for number in range(_WORDS))
_BYTE_NAMES = tuple(f"byte{number}" for number in range(BYTES))


def kind_of(chunk: bytes) -> Kind:
    """Return a call's kind; ``chunk`` is its wire form."""
    return chunk[:1] + chunk[4:8] if chunk[0] == _IOCTL else chunk[:1]


def ioctl_kind(number: int) -> Kind:
    """Return the kind of the ioctls with this number."""
    return bytes((_IOCTL,)) + number.to_bytes(4, "little")


def operands_of(chunk: bytes) -> dict[str, int]:
    """Return a call's numbers. A word of its payload that is not there has none."""
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
        # The rest of a short text.
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
        """Tell whether the call is as it says."""
        value = operands.get(self.name)
        return (
            value is not None
            and self.least <= value <= self.most
            and value & self.bits == self.bits
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Calls of one kind whose operands meet all conditions."""

    kind: Kind
    conditions: tuple[Condition, ...] = ()

    def matches(self, chunk: bytes) -> bool:
        """Tell whether a call is one of them."""
        if kind_of(chunk) != self.kind:
            return False
        if not self.conditions:
            return True
        operands = operands_of(chunk)
        return all(condition.holds(operands) for condition in self.conditions)

    def accepts(self, operands: Operands) -> bool:
        """Tell whether a call of its kind is one of them, by its numbers."""
        return all(condition.holds(operands) for condition in self.conditions)


def matching(pattern: Pattern, chunks: Sequence[bytes]) -> bool:
    """Tell whether one of a program's calls matches."""
    return any(pattern.matches(chunk) for chunk in chunks)
