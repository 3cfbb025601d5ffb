# SPDX-License-Identifier: Apache-2.0
"""Random choices: integers worth trying, strings of a pool, spoilt bytes.

These run for every generated call, so each is a closure over its state, and
``rng.random() * n`` is used in place of the slower ``randrange`` and ``choice``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

Seen: TypeAlias = Mapping[str, Sequence[bytes]]
"""Strings already used in a program, by the pool they belong to."""

NOTHING_SEEN: Seen = {}

_REUSE = 0.5
_CHANGE = 0.03
_LONGEST = 4096
_KERNEL_ADDRESS = 0xFFFF888000000000
# Sizes of structs of which an overflowing number is made; most structs are small.
_SIZES: tuple[int, ...] = (*range(8, 72, 8), *range(8, 72, 8), *range(4, 132, 4))


def _interesting() -> tuple[int, ...]:
    """Return powers of two and their neighbours, page sizes, negatives, an address."""
    values = list(range(9)) * 2
    for power in (4, 5, 6, 7, 8, 10, 12, 15, 16, 20, 24, 31, 32, 40, 47, 52, 62, 63):
        values += [(1 << power) - 1, 1 << power, (1 << power) + 1]
    values += [-1, -1, -2, -8, -4096, -(1 << 31), _KERNEL_ADDRESS]
    return tuple(value & ((1 << 64) - 1) for value in values)


INTERESTING = _interesting()
"""Interesting 64-bit unsigned values, to be cut to the width of a field."""


def integer_chooser(rng: random.Random) -> Callable[[], int]:
    """Return a function that makes 64-bit unsigned integers, mostly interesting ones.

    Some are the least counts whose product with a small struct's size does not
    fit 32 bits, and then is small.
    """
    rand, bits, count, n_sizes = rng.random, rng.getrandbits, len(INTERESTING), len(_SIZES)

    def choose() -> int:
        kind = rand()
        if kind < 0.75:
            return INTERESTING[int(rand() * count)]
        if kind < 0.85:
            return 0xFFFFFFFF // _SIZES[int(rand() * n_sizes)] + 1
        return bits(8 if kind < 0.92 else 64)

    return choose


def pool_chooser(
    rng: random.Random, name: str, strings: Sequence[bytes]
) -> Callable[[Seen], bytes]:
    """Return a function that picks a string of a pool or one seen before, or changes such a one."""
    rand, count = rng.random, len(strings)
    change = string_changer(rng)

    def choose(seen: Seen) -> bytes:
        kind = rand()
        if kind < _REUSE and seen:
            known = seen.get(name)
            if known:
                return known[int(rand() * len(known))]
        string = strings[int(rand() * count)]
        return change(string) if kind > 1 - _CHANGE else string

    return choose


def string_changer(rng: random.Random) -> Callable[[bytes], bytes]:
    """Return a function that changes a string slightly."""
    rand, bits = rng.random, rng.getrandbits

    def change(string: bytes) -> bytes:
        kind = int(rand() * 5)
        at = int(rand() * (len(string) + 1))
        if kind == 0:
            return string[:at]
        if kind == 1:
            return string[:at] + bytes((bits(8),)) + string[at:]
        if kind == 2:
            return string[:at] + bytes((bits(8),)) + string[at + 1 :]
        if kind == 3:
            return string * (2 + int(rand() * 3))
        return (string or b"A") * (1 + int(rand() * 300) // (len(string) or 1))

    return change


def spoiler(rng: random.Random) -> Callable[[bytes], bytes]:
    """Return a function that breaks a payload: cut, unfinished, repeated, random, empty."""
    rand = rng.random
    change = string_changer(rng)

    def spoil(data: bytes) -> bytes:
        kind = int(rand() * 7)
        if kind == 0:
            return data[:-1]
        if kind == 1:
            return data[: int(rand() * len(data))]
        if kind == 2:
            return b""
        if kind == 3:
            return rng.randbytes(1 + int(rand() * 64))
        if kind == 4:
            return data * (1 + int(rand() * (_LONGEST / (len(data) + 1))))
        if kind == 5:
            return data + rng.randbytes(1 + int(rand() * 8))
        return change(data)

    return spoil
