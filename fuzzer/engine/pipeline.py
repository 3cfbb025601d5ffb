# SPDX-License-Identifier: Apache-2.0
"""Pipeline of batches: the next one is posted before the guest is done with the current one."""

from __future__ import annotations

from fuzzer.engine.candidate import Candidate
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import MAX_CALLS


class Pipeline:
    """The batches of one request to the guest: the current one, and the one that follows it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.number = 0
        """The number of the current batch in the request, from 0."""
        self.next: list[Candidate] = []
        """The batch that the guest goes on with unless the current one ends early."""
        self._calls = 0

    def begin(self, batch: list[Candidate], *, until_new: bool) -> None:
        """Post a batch to the guest, which has to be at rest and its counters 0."""
        self.number = 0
        self._calls = 0
        self._channel.post_batch([each.program for each in batch], until_new=until_new)

    def follow(self, batch: list[Candidate]) -> None:
        """Post the batch that follows the current one."""
        self.next = batch
        self._channel.post_next([each.program for each in batch], self.number + 1)

    def advance(self) -> list[Candidate]:
        """Make the next batch, which the guest has begun, the current one, and return it."""
        batch, self.next = self.next, []
        self.number += 1
        return batch

    def is_over(self) -> bool:
        """Tell whether the current batch ended with nothing to look at, and the next has begun.

        Otherwise the guest is at rest once it has answered.
        """
        return self._channel.is_over(self.number)

    def take_back(self) -> list[Candidate]:
        """Return the batch that follows, which the guest did not begin."""
        batch, self.next = self.next, []
        return batch

    def calls(self, programs: int) -> int:
        """Return the number of calls that so many programs made since this was asked last."""
        # A driver's bug may have overwritten the number in the guest, so it is bounded.
        made = int(self._channel.header.loop_calls) - self._calls
        made = min(max(made, 0), programs * MAX_CALLS)
        self._calls += made
        return made
