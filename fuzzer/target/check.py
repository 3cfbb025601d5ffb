# SPDX-License-Identifier: Apache-2.0
"""Findings on a description: all mistakes, and doubtful places."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

import yaml

from fuzzer.errors import BadInputError
from fuzzer.target.document import Document, LocatedError
from fuzzer.target.repair import repair
from fuzzer.target.target import Target, read_document

_MOST = 100


class DiagnosticSeverity(enum.StrEnum):
    """The severity of a finding; with an error nothing can be fuzzed."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """A finding at a place: ``line`` and ``column`` from 1, or 0 if they are not known."""

    severity: DiagnosticSeverity
    line: int
    column: int
    message: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A description as far as it can be read.

    ``target`` lacks what has errors, and is None where nothing is left. Unless
    ``is_resolved``, its names stand for nothing. ``root`` has the nodes it was
    read from.
    """

    target: Target | None
    errors: tuple[Diagnostic, ...]
    is_resolved: bool = False
    document: Document | None = None

    @property
    def root(self) -> yaml.MappingNode:
        """The nodes of the target."""
        assert self.document is not None
        assert isinstance(self.document.root, yaml.MappingNode)
        return self.document.root


def read_all(path: Path) -> Reading:
    """Read a description, and go on behind each mistake.

    Raises:
        BadInputError: there is no such file.
        InfrastructureError: its headers cannot be read for lack of gcc.
    """
    errors: list[Diagnostic] = []
    try:
        document = Document(path)
    except LocatedError as error:
        return Reading(None, (_finding(error),))
    for _ in range(_MOST):
        try:
            target, is_resolved = read_document(document)
        except LocatedError as error:
            found = _finding(error)
            if found not in errors:
                errors.append(found)
            if not repair(document.root, error):
                break
        except BadInputError as error:
            errors.append(Diagnostic(DiagnosticSeverity.ERROR, 0, 0, str(error)))
            break
        else:
            return Reading(target, _sorted(errors), is_resolved, document)
    return Reading(None, _sorted(errors))


def _sorted(errors: list[Diagnostic]) -> tuple[Diagnostic, ...]:
    return tuple(sorted(errors, key=lambda error: (error.line, error.column)))


def _finding(error: LocatedError) -> Diagnostic:
    return Diagnostic(DiagnosticSeverity.ERROR, error.line, error.column, error.problem)
