# SPDX-License-Identifier: Apache-2.0
"""Memory that was never set, in what a program is handed: told by what free memory is filled with.

A program runs under three poisons. From one to the next what fresh memory of the heap holds is
another byte, or what the free part of the kernel's stack holds is; all else is the same. Bytes
that differ as the poison does were never set.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fuzzer.machine.channel import CallResult

INFO_LEAK = "infoleak"
"""The kind of crashes that only this sees."""

_STACK = 0xD5
# POISON_FREE, and POISON_END, which is an object's last byte (include/linux/poison.h).
_FRESH = frozenset({0x6B, 0xA5})
_ZERO = frozenset({0})


@dataclass(frozen=True, slots=True)
class Poison:
    """The bytes of fresh ``heap`` memory and of the free ``stack``.

    ``arguments`` are what the kernel's command line needs for the former.
    """

    arguments: str
    heap: Collection[int]
    stack: int


POISONS = (
    Poison("init_on_alloc=1", _ZERO, 0),
    Poison("slub_debug=P", _FRESH, 0),
    Poison("slub_debug=P", _FRESH, _STACK),
)
"""The poisons that programs run under, in order: zeros, another heap, another stack."""

Runs: TypeAlias = Sequence[Sequence[CallResult]]
"""The results of a program's calls under each poison."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Memory that was never set and came out of a call.

    ``stack`` and ``heap`` are the places, in bytes, of it in what the call wrote, of ``size``
    bytes. Where its result depends on the stack, ``results`` are those under each poison.
    """

    call: int
    stack: tuple[int, ...] = ()
    heap: tuple[int, ...] = ()
    size: int = 0
    results: tuple[int, ...] = ()

    @property
    def total(self) -> int:
        """The number of bytes that leak."""
        return len(self.stack) + len(self.heap)


def find_leaks(runs: Runs) -> list[Leak]:
    """Return the leaks of a program's calls, in order.

    A result that differs counts only where none differed before: later ones may follow from it.
    """
    leaks: list[Leak] = []
    has_differed = False
    for number, results in enumerate(zip(*runs, strict=False)):
        if any(result.waited or result.faulted for result in results):
            break
        shown = tuple(result.ret if result.ret != -1 else -result.error for result in results)
        leak = _leak_in(number, [result.output for result in results])
        if leak:
            leaks.append(leak)
        elif not has_differed and _follows(shown):
            leaks.append(Leak(number, results=shown))
        has_differed |= len(set(shown)) > 1
    return leaks


def _follows(results: Sequence[int]) -> bool:
    """Tell whether results differ with the poison of the stack.

    Guests that differ in the poison of the heap were booted each for itself, and an address that a
    driver was given may be what it returns.
    """
    zeros, heap, stack = results
    return zeros == heap != stack


def _leak_in(number: int, outputs: Sequence[bytes]) -> Leak | None:
    if outputs[0] == outputs[1] == outputs[2]:
        return None
    stack, heap = [], []
    for at, values in enumerate(zip(*outputs, strict=False)):
        if values == (0, 0, _STACK):
            stack.append(at)
        elif values[0] == 0 and values[1] == values[2] and values[1] in _FRESH:
            heap.append(at)
    if not stack and not heap:
        return None
    return Leak(number, tuple(stack), tuple(heap), min(map(len, outputs)))
