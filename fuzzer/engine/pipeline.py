# SPDX-License-Identifier: Apache-2.0
"""Pipeline of batches: each is there before the guest is done with the one before it."""

from __future__ import annotations

from fuzzer.engine.candidate import Candidate
from fuzzer.machine.channel import MAX_CALLS, Channel


class Pipeline:
    """One request's batches: the one that is looked at, and the one that follows it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.number = 0
        """Which of the request's batches is looked at."""
        self.next: list[Candidate] = []
        """What the guest goes on with, if there is nothing to look at."""
        self._calls = 0

    def begin(self, batch: list[Candidate], *, until_new: bool) -> None:
        """Have the guest, which is at rest, run a batch; the counters are to be 0."""
        self.number = 0
        self._calls = 0
        self._channel.post_batch([each.program for each in batch], until_new=until_new)

    def follow(self, batch: list[Candidate]) -> None:
        """Leave the guest what to do after the batch that is looked at."""
        self.next = batch
        self._channel.post_next([each.program for each in batch], self.number + 1)

    def advance(self) -> list[Candidate]:
        """Look at the next batch, which the guest has begun, and return it."""
        batch, self.next = self.next, []
        self.number += 1
        return batch

    def is_over(self) -> bool:
        """Tell whether nothing is to be looked at of the batch, and the guest is at the next one.

        Otherwise, once it has answered, the guest is at rest.
        """
        return self._channel.is_over(self.number)

    def take_back(self) -> list[Candidate]:
        """Return the batch that follows, which the guest did not begin."""
        batch, self.next = self.next, []
        return batch

    def calls(self, programs: int) -> int:
        """Return how many calls the guest made since this was asked, in so many programs."""
        # The guest wrote it: a driver's bug may have, too.
        made = int(self._channel.header.loop_calls) - self._calls
        made = min(max(made, 0), programs * MAX_CALLS)
        self._calls += made
        return made
