# SPDX-License-Identifier: Apache-2.0
"""Coverage counters: the guest's, and those that libFuzzer sees."""

from __future__ import annotations

import ctypes

from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import PATH_COUNTERS


class Counters:
    """The counters of a guest whose driver has ``n_blocks`` blocks, and those of libFuzzer.

    They differ: the guest may be counting for the next batch already when libFuzzer looks.
    libFuzzer clears its own before each program.
    """

    def __init__(self, channel: Channel, n_blocks: int) -> None:
        self.n_blocks = n_blocks
        self.count = n_blocks + PATH_COUNTERS
        """The number of counters: those of the blocks, and after them others that are 0 or 1."""
        self._channel = channel
        self.guest = channel.counters(self.count)
        """The guest's counters."""
        own = (ctypes.c_uint8 * self.count)()
        self.address = ctypes.addressof(own)
        """The address of libFuzzer's counters."""
        self.shown = memoryview(own).cast("B")
        """libFuzzer's counters."""

    def clear(self) -> None:
        """Set the guest's counters to zero."""
        self._channel.clear_counters(self.count)

    def show(self, counters: bytes | memoryview) -> None:
        """Copy the given counters to libFuzzer's."""
        self.shown[:] = counters

    def show_last(self) -> None:
        """Copy those of the last program of the batch before the running one to libFuzzer's."""
        self.shown[:] = self._channel.last_counters(self.count)

    def write_seen(self, features: int) -> None:
        """Tell the guest the features that are not new."""
        self._channel.write_seen(features, self.count)
