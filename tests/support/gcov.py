# SPDX-License-Identifier: Apache-2.0
"""Line and branch coverage of a driver, from what gcov recorded.

A build with ``GCOV_PROFILE=y`` leaves a ``.gcno`` file beside each object; a
kernel with CONFIG_GCOV_KERNEL has the counts in debugfs, below
``/sys/kernel/debug/gcov``, as the ``.gcda`` file that belongs to it
(Documentation/dev-tools/gcov.rst in the kernel).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fuzzer.errors import InfrastructureError
from fuzzer.tools import run_tool
from fuzzer.wording import ranges, table

_TIMEOUT_S = 120
# An object that was never run has no data; one without functions has nothing to run.
_HARMLESS = ("cannot open data file, assuming not executed", "no functions found")


@dataclass(frozen=True, slots=True)
class FileCoverage:
    """Coverage of one source file.

    ``lines`` and ``branches`` count those there is code for, ``hit`` and
    ``taken`` those that ran at least once; ``missed`` are the numbers of the
    lines that did not. ``name`` is the path below the source directory.
    """

    name: str
    lines: int
    hit: int
    branches: int
    taken: int
    missed: tuple[int, ...]


class _Counts:
    """Counts of one source file, over all objects that contain code of it."""

    def __init__(self) -> None:
        self.lines: dict[int, int] = {}
        self.branches: dict[int, list[int]] = {}

    def add(self, line: int, count: int, branches: Sequence[int]) -> None:
        # A line has several entries if its function was inlined: one that ran will do.
        self.lines[line] = max(self.lines.get(line, 0), count)
        known = self.branches.get(line, [])
        self.branches[line] = [max(pair) for pair in zip_longest(known, branches, fillvalue=0)]

    def coverage(self, name: str) -> FileCoverage:
        branches = [count for counts in self.branches.values() for count in counts]
        missed = tuple(sorted(line for line, count in self.lines.items() if not count))
        return FileCoverage(
            name,
            len(self.lines),
            len(self.lines) - len(missed),
            len(branches),
            sum(count > 0 for count in branches),
            missed,
        )


def read_coverage(data: Path, source: Path) -> list[FileCoverage]:
    """Return the coverage of each source file below a directory, by name.

    ``data`` holds pairs of ``.gcno`` and ``.gcda`` files, also in
    subdirectories; ``source`` is the directory that was compiled. Files
    elsewhere, such as the kernel's headers, are left out.

    Raises:
        InfrastructureError: there is no data, gcov is missing, or it is not
            the gcov of the compiler that was used.
    """
    notes = sorted(data.rglob("*.gcno"))
    if not notes:
        raise InfrastructureError(
            f"there is no .gcno file in {data}: build with GCOV_PROFILE=y, against a kernel "
            "with CONFIG_GCOV_KERNEL=y"
        )
    if not any(note.with_suffix(".gcda").is_file() for note in notes):
        raise InfrastructureError(
            f"there is no .gcda file for the .gcno files in {data}: copy what the code "
            "recorded beside them"
        )
    found: dict[str, _Counts] = {}
    root = source.resolve()
    for document in _run_gcov(notes):
        compiled_in = Path(document.get("current_working_directory", "/"))
        for file in document["files"]:
            path = (compiled_in / file["file"]).resolve()
            if not path.is_relative_to(root):
                continue
            counts = found.setdefault(str(path.relative_to(root)), _Counts())
            for line in file["lines"]:
                branches = [branch["count"] for branch in line["branches"]]
                counts.add(line["line_number"], line["count"], branches)
    return [found[name].coverage(name) for name in sorted(found)]


def _run_gcov(notes: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Return gcov's JSON document of each object."""
    command = ["gcov", "--json-format", "--stdout", "--branch-probabilities"]
    done = run_tool(
        [*command, *(str(note.absolute()) for note in notes)],
        "reading coverage",
        timeout=_TIMEOUT_S,
        env={**os.environ, "LC_ALL": "C"},
    )
    # Of data that it cannot use gcov only warns, and goes on with counts of zero.
    problems = [line for line in done.stderr.splitlines() if not line.endswith(_HARMLESS)]
    if problems:
        # What follows the first is mostly its consequence.
        raise InfrastructureError(_explain(problems[0]))
    try:
        return iter([json.loads(line) for line in done.stdout.splitlines() if line])
    except ValueError as error:
        raise InfrastructureError(
            f"gcov printed no JSON ({error}); it takes one of GCC 9 or later"
        ) from error


def _explain(problem: str) -> str:
    """Return what to do about a line that gcov printed, such as ``a.gcda:stamp mismatch``."""
    reason = problem.rpartition(":")[2]
    if reason.startswith("version"):
        return (
            f"gcov is not of the compiler's version: {problem}. Make `gcov` and `gcc` on PATH "
            "those of one version, and build again"
        )
    if "mismatch" in reason:
        return (
            f"gcov's data is not of this build: {problem}. Copy the .gcno and the .gcda files "
            "of one build"
        )
    return f"gcov failed: {problem}"


def total_coverage(files: Iterable[FileCoverage], name: str = "total") -> FileCoverage:
    """Return the sums over files; ``missed`` is empty."""
    listed = list(files)
    return FileCoverage(
        name,
        sum(file.lines for file in listed),
        sum(file.hit for file in listed),
        sum(file.branches for file in listed),
        sum(file.taken for file in listed),
        (),
    )


def _share(part: int, whole: int) -> str:
    return f"{part}/{whole} {100 * part / whole:5.1f}%" if whole else "none"


def format_table(files: Sequence[FileCoverage]) -> str:
    """Return a table with a line for each file and one for the total."""
    rows = [("file", "lines", "branches", "missed lines")]
    rows += [
        (
            file.name,
            _share(file.hit, file.lines),
            _share(file.taken, file.branches),
            ranges(file.missed),
        )
        for file in [*files, total_coverage(files)]
    ]
    return "\n".join(table(rows, right=(1, 2)))
