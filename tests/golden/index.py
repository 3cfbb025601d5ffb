# SPDX-License-Identifier: Apache-2.0
"""The index of golden logs: what each log shows, and how it was made.

``tests/data/golden/index.yaml`` is written by hand. What a log is expected to
be was read from the log by a person, never taken from the parser that is
tested with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fuzzer.kernel.kernel import Flavour

DIRECTORY = Path(__file__).parent.parent / "data" / "golden"


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe for provoking a report on a fresh machine.

    ``program`` is a program's text, by default a write of the log's name to
    the device. Instead, ``user`` is the argument of the userfault program,
    and ``patch`` bytes of the module's image that are replaced before it is
    loaded. ``prepare`` and ``after`` are shell scripts that run before and
    after. The log is what is printed within ``seconds``; with ``console``
    that is read from the console, else from ``/dev/kmsg`` while the guest
    answers, and with ``file`` from a file in the guest.
    """

    program: str
    flavour: Flavour = Flavour.FULL
    prepare: str = ""
    after: str = ""
    user: str = ""
    patch: tuple[str, str] | None = None
    file: str = ""
    cpus: int = 1
    arguments: str = ""
    console: bool = False
    seconds: float = 0.3


@dataclass(frozen=True, slots=True)
class Expectation:
    """The first report that a log is expected to show.

    ``function`` is the one to blame, None where the report does not tell.
    ``access`` is ``Read`` or ``Write`` where the report says so.
    """

    title: str
    kind: str
    function: str | None
    access: str | None


@dataclass(frozen=True, slots=True)
class Golden:
    """One log. ``expected`` is None for a log without a crash."""

    name: str
    expected: Expectation | None
    recipe: Recipe

    @property
    def path(self) -> Path:
        """The path of the log."""
        return DIRECTORY / f"{self.name}.log"

    def lines(self) -> list[str]:
        """Return the log's lines."""
        return self.path.read_text().splitlines()


@dataclass(frozen=True, slots=True)
class Index:
    """All golden logs by name, and why there is none of the other kinds."""

    logs: dict[str, Golden]
    not_provoked: dict[str, str]


def _golden(name: str, entry: dict[str, Any]) -> Golden:
    how = dict(entry.pop("how", {}))
    how.setdefault("program", f'write(f0, "{name}")')
    if "flavour" in how:
        how["flavour"] = Flavour(how["flavour"])
    if "patch" in how:
        how["patch"] = tuple(how["patch"])
    expected = None
    if entry.pop("crash", True):
        expected = Expectation(
            entry.pop("title"), entry.pop("kind"), entry.pop("function"), entry.pop("access", None)
        )
    assert not entry, f"{name}: unknown keys: {', '.join(entry)}"
    return Golden(name, expected, Recipe(**how))


def load_index() -> Index:
    """Return the index of golden logs."""
    document = yaml.safe_load((DIRECTORY / "index.yaml").read_text())
    logs = {name: _golden(name, dict(entry)) for name, entry in document["logs"].items()}
    return Index(logs, document["not provoked"])
