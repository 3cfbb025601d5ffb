# SPDX-License-Identifier: Apache-2.0
"""A stage that runs variants of corpus programs."""

from __future__ import annotations

from abc import ABC, abstractmethod

from fuzzer.campaign.stages.stage import EQUAL
from fuzzer.campaign.stages.workbench import Workbench


class CorpusStage(ABC):
    """Runs programs on the machines of a workbench."""

    name = ""
    share = EQUAL

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench

    @abstractmethod
    def step(self) -> bool:
        """Work for a slice of time; tell whether there was anything to do."""

    def note(self, program: bytes) -> None:  # noqa: B027 - most look at the whole corpus
        """Take note of a program of the corpus."""

    def close(self) -> None:  # noqa: B027 - most have nothing to tell
        """Report at the end what is not reported yet."""
