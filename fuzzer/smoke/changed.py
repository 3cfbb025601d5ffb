# SPDX-License-Identifier: Apache-2.0
"""The blocks of a driver that a commit changed: those of the lines that it added or touched."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from fuzzer.bisect.revisions import complaint, run_git
from fuzzer.driver.driver import Driver
from fuzzer.errors import InfrastructureError
from fuzzer.smoke.verdict import CrashPlace
from fuzzer.splat.symbols import SymbolFile

_FILE = re.compile(r"^\+\+\+ b/(.+?)\t?$")
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@")

ChangedLines = Mapping[str, frozenset[int]]
"""The numbers of lines by file, relative to the repository."""


def changed_lines(root: Path, base: str, paths: Sequence[str]) -> ChangedLines:
    """Return the lines of the working tree that a base has not, or has another way.

    ``paths`` are those of the driver, relative to the repository ``root``.

    Raises:
        InfrastructureError: git failed.
    """
    options = ("--unified=0", "--no-color", "--no-ext-diff", "--no-renames", "--src-prefix=a/",
               "--dst-prefix=b/")  # fmt: skip
    done = run_git(root, "diff", *options, base, "--", *paths)
    if done.returncode:
        raise InfrastructureError(f"git diff {base}: {complaint(done)}")
    return parse_diff(done.stdout)


def parse_diff(text: str) -> ChangedLines:
    """Return the added lines in a diff without context."""
    found: dict[str, set[int]] = defaultdict(set)
    file = ""
    for line in text.split("\n"):
        if match := _FILE.match(line):
            file = match[1]
        elif line.startswith("+++ "):
            file = ""
        elif file and (match := _HUNK.match(line)):
            first, number = int(match[1]), int(match[2] or 1)
            # Where lines were only removed, what follows them behaves differently.
            found[file].update(range(first, first + max(number, 1)))
    return {name: frozenset(lines) for name, lines in found.items()}


class OwnFiles:
    """The files of a driver, relative to its repository, by what debugging information names.

    The driver was built in a private copy, so that a file is known by the end of its path.
    """

    def __init__(self, files: Iterable[str]) -> None:
        self._files: dict[str, list[PurePath]] = defaultdict(list)
        for file in map(PurePath, files):
            self._files[file.name].append(file)

    def place(self, where: str, function: str = "") -> CrashPlace | None:
        """Return the place that ``file:line`` is; None if it is none of the driver's files."""
        file, _, line = where.rpartition(":")
        name = PurePath(file)
        candidates = self._files.get(name.name, [])
        if not candidates or not line.isdigit():
            return None
        best = max(candidates, key=lambda each: (_common_end(each, name), -len(each.parts)))
        return CrashPlace(best.as_posix(), int(line), function)


def _common_end(one: PurePath, other: PurePath) -> int:
    number = 0
    for a, b in zip(reversed(one.parts), reversed(other.parts), strict=False):
        if a != b:
            break
        number += 1
    return number


@dataclass(frozen=True, slots=True)
class Changes:
    """The blocks of changed lines, each with its place; and all blocks of their functions."""

    blocks: Mapping[int, CrashPlace] = field(default_factory=dict)
    near: frozenset[int] = field(default_factory=frozenset)


def changed_blocks(driver: Driver, changed: ChangedLines) -> Changes:
    """Return the blocks of a driver that are of changed lines.

    Raises:
        BadInputError: the driver has no debugging information.
        InfrastructureError: addr2line failed.
    """
    if not changed:
        return Changes()
    symbols = SymbolFile(driver.object, None if driver.parts else driver.name)
    own = OwnFiles(changed)
    places = [(block.section, max(block.offset - 1, 0)) for block in driver.blocks()]
    located = symbols.locate(places)
    found: dict[int, CrashPlace] = {}
    functions: dict[int, str] = {}
    for number, place in enumerate(places):
        frames = located.get(place, [])
        if frames:
            functions[number] = frames[-1].function
        for frame in frames:
            at = own.place(frame.file or "", frame.function)
            if at is not None and at.line in changed[at.file]:
                found[number] = at
                break
    touched = {functions[number] for number in found}
    near = (number for number, name in functions.items() if name in touched)
    return Changes(found, frozenset(near))
