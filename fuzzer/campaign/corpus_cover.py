# SPDX-License-Identifier: Apache-2.0
"""The fewest and cheapest programs that cover a set of features."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from fuzzer.engine.buckets import features_of, repeated
from fuzzer.engine.shorten import shorten
from fuzzer.program.cost import cost_of
from fuzzer.program.wire import split


def cheapest_first(programs: Mapping[str, bytes]) -> list[str]:
    """Return names in the order of what their programs cost to run."""
    costs = {name: cost_of(split(program)) for name, program in programs.items()}
    return sorted(programs, key=lambda name: (costs[name], name))


def cover(
    programs: Mapping[str, bytes], features: Mapping[str, int], already: int = 0
) -> list[str]:
    """Return the names of programs that together have all features, cheapest first.

    This is the greedy set cover: it takes the program with most missing features
    for its cost, until none is missing, and then drops programs whose features
    the others have. ``already`` are features that need not be covered.
    """
    costs = {name: cost_of(split(programs[name])) for name in features}
    missing = 0
    for each in features.values():
        missing |= each
    missing &= ~already
    # Gains only fall, so a program that is still the first with its new gain is the best one.
    waiting = [(-math.inf, name) for name in sorted(features)]
    chosen = []
    while missing:
        _, name = waiting[0]
        gain = (features[name] & missing).bit_count()
        if not gain:
            heapq.heappop(waiting)
            continue
        value = (-gain / costs[name], name)
        heapq.heapreplace(waiting, value)
        if waiting[0] == value:
            heapq.heappop(waiting)
            chosen.append(name)
            missing &= ~features[name]
    return _needed(sorted(chosen, key=lambda name: (costs[name], name)), features, already)


def _needed(chosen: list[str], features: Mapping[str, int], already: int) -> list[str]:
    """Return the chosen programs without those, dearest first, whose features the others have."""
    times = _times(features[name] for name in chosen)
    needed = []
    for name in reversed(chosen):
        mine = features[name] & ~already
        if all(times[bit] > 1 for bit in _bits(mine)):
            times.subtract(_bits(features[name]))
        else:
            needed.append(name)
    return needed[::-1]


def _bits(features: int) -> Iterator[int]:
    while features:
        lowest = features & -features
        yield lowest.bit_length()
        features ^= lowest


def _times(sets: Iterator[int]) -> Counter[int]:
    times: Counter[int] = Counter()
    for each in sets:
        times.update(_bits(each))
    return times


def shorten_all(
    programs: Mapping[str, bytes],
    features: Mapping[str, int],
    run: Callable[[bytes], bytes | None],
    progress: Callable[[int], None] = lambda done: None,
) -> list[bytes]:
    """Return the programs with fewer calls, which together still have all features.

    A program keeps the features that no other has. ``run`` returns a program's
    counters, None if it crashed; a shorter one has the features of two runs.
    """
    times = _times(iter(features.values()))
    made = []
    # The dearest first: features that others have as well are left to the cheaper ones.
    for number, name in enumerate(reversed(cheapest_first({n: programs[n] for n in features}))):
        progress(number)
        own = features[name]
        needed = sum(1 << (bit - 1) for bit in _bits(own) if times[bit] == 1)
        times.subtract(_bits(own))
        if not needed:
            continue
        short, kept = _shorten(programs[name], needed, run)
        if short is None:
            short, kept = programs[name], own
        times.update(_bits(kept))
        made.append(short)
    return made


def _shorten(
    program: bytes, needed: int, run: Callable[[bytes], bytes | None]
) -> tuple[bytes | None, int]:
    """Return a shorter program and its features; None if none has the needed ones repeatably."""

    def measured(candidate: bytes) -> int:
        counters = run(candidate)
        return 0 if counters is None else features_of(counters)

    short = shorten(program, lambda candidate: not needed & ~measured(candidate))
    if short is program:
        return None, 0
    first, second = run(short), run(short)
    if first is None or second is None:
        return None, 0
    kept = features_of(repeated(first, second))
    return (None, 0) if needed & ~kept else (short, kept)
