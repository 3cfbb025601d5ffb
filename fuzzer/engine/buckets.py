# SPDX-License-Identifier: Apache-2.0
"""Buckets of coverage counters: libFuzzer sees these, not the values.

A feature is a block and a bucket of how often it ran: 1, 2, 3, 4 to 7, 8 to
15, 16 to 31, 32 to 127, or more (``CounterToFeature`` in libFuzzer's
``FuzzerTracePC.h``). A set of features is an integer whose bytes, the first
counter's lowest, have a bit for each bucket. So a whole set costs what one
counter would: set operations are those of integers.
"""

from __future__ import annotations

from fuzzer.machine.channel_layout import COUNTER_DEFERRED

_FIRST = (1, 2, 3, 4, 8, 16, 32, 128)


def _bucket_of(count: int) -> int:
    """Return the bit of a counter's bucket, 0 for 0."""
    reached = sum(first <= count for first in _FIRST)
    return 1 << reached >> 1


_BUCKETS = bytes(_bucket_of(count) for count in range(256))


def features_of(counters: bytes | memoryview, counted: int | None = None) -> int:
    """Return the features of counters, one byte for each.

    Only the first ``counted`` of them can be above 1 (None: any of them); that makes this
    faster and changes nothing else.
    """
    head = bytes(counters[:counted]).translate(_BUCKETS)
    if counted is not None:
        head += counters[counted:]
    return int.from_bytes(head, "little")


def deferred_of(features: int) -> int:
    """Return those features that are of deferred work: blocks that no call ran."""
    size = -(-features.bit_length() // 8)
    return features & int.from_bytes(bytes((_bucket_of(COUNTER_DEFERRED),)) * size, "little")


def blocks_of(features: int, n_blocks: int) -> int:
    """Return the number of the first ``n_blocks`` counters that have a feature in the set."""
    size = max(n_blocks, -(-features.bit_length() // 8))
    return n_blocks - features.to_bytes(size, "little")[:n_blocks].count(0)


def repeated(first: bytes, second: bytes) -> bytes:
    """Return the counters as far as two runs agree: the lesser of each."""
    return first if first == second else bytes(map(min, first, second))


def without(counters: bytes, features: int) -> bytes:
    """Return the counters, with 0 in place of those whose feature is among ``features``."""
    unwanted = features.to_bytes(max(len(counters), -(-features.bit_length() // 8)), "little")
    pairs = zip(counters, unwanted, strict=False)
    return bytes(0 if _BUCKETS[count] & bits else count for count, bits in pairs)
