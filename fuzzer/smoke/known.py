# SPDX-License-Identifier: Apache-2.0
"""Accepted crashes: ``known.yaml``, a list of titles, each with a reason and maybe a last day."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.checked import read_yaml
from fuzzer.crash.crash import Crash, plain_title
from fuzzer.errors import BadInputError

_KEYS = frozenset({"title", "reason", "until"})
_FORM = "a list of entries with 'title', 'reason' and, if it ends some day, 'until: YYYY-MM-DD'"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A crash that is accepted, and why; up to the day ``until``, that included."""

    title: str
    reason: str
    until: datetime.date | None = None

    def has_ended(self, today: datetime.date) -> bool:
        """Tell whether it is accepted no more."""
        return self.until is not None and today > self.until


def read_known(path: Path) -> tuple[Accepted, ...]:
    """Return the accepted crashes of a file; none if there is no such file.

    Raises:
        BadInputError: the file cannot be read, or is not of this form.
    """
    try:
        content = read_yaml(path, object)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise BadInputError(f"{path}: cannot be read as YAML: {_first_line(error)}") from error
    if content is None:
        return ()
    if not isinstance(content, list):
        raise BadInputError(f"{path}: {_FORM} is expected")
    return tuple(_accepted(path, number, entry) for number, entry in enumerate(content, 1))


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _accepted(path: Path, number: int, entry: Any) -> Accepted:
    if not isinstance(entry, dict) or not entry.keys() <= _KEYS:
        raise BadInputError(f"{path}: entry {number}: {_FORM} is expected")
    title, reason, until = (entry.get(name) for name in ("title", "reason", "until"))
    for name, text in (("title", title), ("reason", reason)):
        if not isinstance(text, str) or not text.strip():
            raise BadInputError(f"{path}: entry {number} has no '{name}', which is a text")
    if isinstance(until, datetime.datetime) or not isinstance(until, datetime.date | None):
        raise BadInputError(f"{path}: entry {number}: 'until' is a day, such as 2027-01-31")
    assert isinstance(title, str)
    assert isinstance(reason, str)
    return Accepted(title.strip(), reason.strip(), until)


def accepted_as(crash: Crash, known: tuple[Accepted, ...]) -> Accepted | None:
    """Return the entry that a crash is accepted by, under any of its titles."""
    titles = {crash.title, crash.report_title, *map(plain_title, crash.also_titles)}
    return next((each for each in known if each.title in titles), None)
