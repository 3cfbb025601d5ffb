# SPDX-License-Identifier: Apache-2.0
"""Kernel reports with file and line in the frames of a driver, and its source below them.

Frames have the form in which syzbot prints them, so that whatever reads kernel reports reads
these as well. Source comes behind the report, each line behind a bar.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from fuzzer.driver.known_builds import KnownBuild, find_build
from fuzzer.errors import PkvfuzzError
from fuzzer.splat.frames import Frame, parse_frame
from fuzzer.splat.symbols import SymbolFile, source_lines

SOURCE_HEADING = "Source of the driver's frames, each place once:"
"""The line between a report and the source of its frames."""

_STAMP = re.compile(r"^(?:\[[ \d]*\.\d+\])?(?:\[ *[TC]\d+\])?(?: (?=\S| ))?")
_CODE = re.compile(r"(?P<code>[A-Za-z_][\w.$]*\+0x[0-9a-f]+/0x[0-9a-f]+)(?P<rest> \[\w+[^]]*\])?")
_REGISTER = re.compile(r"^ *RIP: ")
# Places whose source is shown, lines around each, and characters of a line.
_PLACES, _AROUND, _WIDTH = 40, 2, 160


@dataclass(frozen=True, slots=True)
class _Located:
    """A line of a report with a driver's frame, and the functions there, inlined ones first."""

    number: int
    before: str
    frame: Frame
    functions: tuple[Frame, ...]


def symbolised_report(report: str, driver_key: str) -> str | None:
    """Return a report with file and line of the driver's frames; None if none is known.

    ``driver_key`` names the driver's build, which has to be in the cache.
    """
    build = find_build(driver_key)
    symbols = _symbols_of(build.object, build.object.stat().st_mtime_ns) if build else None
    if build is None or symbols is None:
        return None
    lines = report.splitlines()
    try:
        located = {each.number: each for each in _located(lines, build, symbols)}
    except PkvfuzzError:
        return None
    if not located:
        return None
    made: list[str] = []
    for number, line in enumerate(lines):
        found = located.get(number)
        made += _frame_lines(line, found, build) if found else [line]
    return "\n".join([*made, "", SOURCE_HEADING, *_sources([*located.values()], build)]) + "\n"


@functools.lru_cache(maxsize=8)
def _symbols_of(path: Path, _changed: int) -> SymbolFile | None:
    try:
        return SymbolFile(path, path.stem)
    except PkvfuzzError:
        return None


def _located(lines: list[str], build: KnownBuild, symbols: SymbolFile) -> list[_Located]:
    places: dict[int, tuple[str, Frame, tuple[str, int]]] = {}
    first_of_stack = True
    for number, line in enumerate(lines):
        stamp = _STAMP.match(line)
        before = stamp[0] if stamp else ""
        text = line[len(before) :]
        frame = parse_frame(text)
        if frame is None:
            first_of_stack = True
            continue
        # The register has the address itself, a stack where to return to.
        exact = bool(_REGISTER.match(text)) and first_of_stack
        first_of_stack = False
        if frame.module != build.module or frame.file:
            continue
        place = symbols.address_of(frame, exact=exact)
        if place is not None:
            places[number] = before, frame, place
    found = symbols.locate([place for *_, place in places.values()]) if places else {}
    return [
        _Located(number, before, frame, tuple(found[place]))
        for number, (before, frame, place) in places.items()
        if found.get(place) and _is_wanted(found[place], build)
    ]


def _is_wanted(functions: list[Frame], build: KnownBuild) -> bool:
    # Of a driver in the kernel itself, the kernel's other frames are none of the driver's.
    return build.module is not None or build.own_path(functions[-1].file or "") is not None


def _frame_lines(line: str, found: _Located, build: KnownBuild) -> list[str]:
    """Return a line with the place of its frame, and before it one for each inlined function."""
    guess = "" if found.frame.reliable else "? "
    inlined = [
        f"{found.before} {guess}{each.function} {_place(each, build)} [inline]"
        for each in found.functions[:-1]
    ]
    match = _CODE.search(line, len(found.before))
    if match is None:
        return [line]
    place = _place(found.functions[-1], build)
    rest = line[match.end("code") :]
    return [*inlined, f"{line[: match.end('code')]} {place}{rest}"]


def _place(frame: Frame, build: KnownBuild) -> str:
    """Return file and line, relative to the driver's source or, of a header, to its includes."""
    place = frame.file or ""
    own = build.own_path(place)
    if own is not None:
        return own
    _, mark, below = place.rpartition("/include/")
    return f"include/{below}" if mark else place.rpartition("/")[2]


def _sources(located: list[_Located], build: KnownBuild) -> list[str]:
    lines: list[str] = []
    shown: set[str] = set()
    for found in located:
        # Of a frame that the unwinder guessed, the place says nothing of this run.
        for each in found.functions if found.frame.reliable else ():
            place = each.file or ""
            if build.own_path(place) is None or place in shown or len(shown) >= _PLACES:
                continue
            source = source_lines(place, _AROUND)
            if not source:
                continue
            shown.add(place)
            lines += ["", f"{each.function} at {_place(each, build)}"]
            lines += [f"| {text[:_WIDTH].rstrip()}" for text in source]
    return lines or ["", "(it is not there any more)"]
