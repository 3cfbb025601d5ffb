# SPDX-License-Identifier: Apache-2.0
"""The end of fuzzing that a user asked for beside a time: a crash, or no progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.crash import Crash
from fuzzer.progress import clock, say


class Ending:
    """Tells when a campaign has fuzzed enough; what waits is judged afterwards.

    ``is_crash``, if given, says whether any of some crashes is one to end for; only those that
    were shown again count. ``stale`` is the longest time in seconds without a new block, None
    for no limit.
    """

    def __init__(
        self, is_crash: Callable[[Sequence[Crash]], bool] | None = None, stale: float | None = None
    ) -> None:
        self._is_crash = is_crash
        self._stale = stale
        self._covered = 0
        self._progress = 0.0

    def __call__(self, snapshot: Snapshot) -> str:
        """Return the reason to end, which is said, for the snapshots of a campaign as they come.

        It is empty while there is none.
        """
        reason = self._reason(snapshot)
        if reason:
            say(f"{reason}: fuzzing ends")
        return reason

    def _reason(self, snapshot: Snapshot) -> str:
        if self._is_crash is not None:
            shown = [crash for crash in snapshot.crashes if crash.reproduced]
            if shown and self._is_crash(shown):
                return "a crash is stored"
        if self._stale is None or not snapshot.started:
            return ""
        if snapshot.covered > self._covered:
            self._covered, self._progress = snapshot.covered, snapshot.elapsed
        if snapshot.elapsed - self._progress < self._stale:
            return ""
        return f"no new block for {clock(self._stale)}"
