# SPDX-License-Identifier: Apache-2.0
"""Splats for crashes without a kernel report, such as a machine that fell silent.

A log cannot show them; only who ran the machine knows of them.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from fuzzer.splat.find import bare_splat
from fuzzer.splat.splat import Splat


class Silence(enum.StrEnum):
    """A crash without a report; the value is its title."""

    NO_ANSWER = "INFO: the guest does not answer"
    NO_RETURN = "INFO: call does not return"
    DIED = "the process that ran the program died"
    HELD = "INFO: module reference leaked"
    REBOOT = "unexpected kernel reboot"

    @property
    def kind(self) -> str:
        """The kind of its sightings."""
        return {Silence.DIED: "died", Silence.REBOOT: "reboot"}.get(self, "hang")


def silent_splat(silence: Silence, lines: Sequence[str]) -> Splat:
    """Return a splat for a crash that the log ``lines`` do not report."""
    text = "\n".join([silence.value, *lines]) + "\n"
    return bare_splat(silence.value, silence.kind, text=text)
