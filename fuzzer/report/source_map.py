# SPDX-License-Identifier: Apache-2.0
"""The source of a driver with the blocks that its lines were compiled to.

Read once of a build, from its debug information, and kept in the cache by the driver's key.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.binutils import output_of
from fuzzer.cache import build_once, content_key
from fuzzer.driver.blocks import LINKED, Block
from fuzzer.driver.known_builds import KnownBuild
from fuzzer.errors import BadInputError
from fuzzer.splat.frames import plain_name
from fuzzer.splat.symbols import SymbolFile

_VERSION = "source map 1"
_KIND, _FILE, _KEEP = "symbols", "source.json", 200
_TIMEOUT = 300.0
# The call of a block has five bytes; its offset is where that returns to.
_CALL = 5
_SECTION = re.compile(r"^Disassembly of section (?P<name>.+):$")
_FUNCTION = re.compile(r"^(?P<at>[0-9a-f]+) <(?P<name>[^>]+)>:$")
_LINE = re.compile(r"^(?P<file>/.+):(?P<line>\d+)(?: \(discriminator \d+\))?$")
_INSTRUCTION = re.compile(r"^ *(?P<at>[0-9a-f]+):\t")

FileLine = tuple[str, int]
"""A file, relative to the driver's source, and a line from 1."""


@dataclass(frozen=True, slots=True)
class SourceMap:
    """The lines of a driver's blocks.

    ``files`` are texts by name. Of each block, ``starts`` has the line at which it begins, None
    if that is not in these files, ``lines`` all lines that have code in it, and ``functions``
    the function that it is compiled to, empty if unknown.
    """

    files: Mapping[str, str]
    starts: tuple[FileLine | None, ...]
    lines: tuple[tuple[FileLine, ...], ...]
    functions: tuple[str, ...]

    def blocks_of_lines(self) -> dict[FileLine, tuple[int, ...]]:
        """Return the blocks of each line that has code.

        Those that begin there; where none does, those that have code of it. A compiler moves
        single instructions, so what is in a block says less than where it begins.
        """
        begun: dict[FileLine, set[int]] = defaultdict(set)
        within: dict[FileLine, set[int]] = defaultdict(set)
        for number, start in enumerate(self.starts):
            if start is not None:
                begun[start].add(number)
            for place in self.lines[number]:
                within[place].add(number)
        return {place: tuple(sorted(found)) for place, found in {**within, **begun}.items()}

    def to_json(self) -> str:
        """Return the map as JSON text."""
        content = {
            "files": dict(self.files),
            "starts": self.starts,
            "lines": self.lines,
            "functions": self.functions,
        }
        return json.dumps(content)


def source_map_from_json(text: str) -> SourceMap:
    """Return the map in a text of :meth:`SourceMap.to_json`; ValueError if it is none."""
    try:
        content: dict[str, Any] = json.loads(text)
        return SourceMap(
            {str(name): str(each) for name, each in content["files"].items()},
            tuple(_place(each) if each else None for each in content["starts"]),
            tuple(tuple(map(_place, each)) for each in content["lines"]),
            tuple(map(str, content["functions"])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no source map: {error}") from error


def _place(pair: Sequence[Any]) -> FileLine:
    file, line = pair
    return str(file), int(line)


def source_map(build: KnownBuild, blocks: Sequence[Block]) -> SourceMap:
    """Return the source of a driver's build with the lines of its ``blocks``.

    Raises:
        BadInputError: the build has no debug information.
        InfrastructureError: objdump or addr2line is missing or failed.
    """

    def make(directory: Path) -> None:
        (directory / _FILE).write_text(_read(build, blocks).to_json())

    directory = build_once(_KIND, content_key(_VERSION, build.key), make, keep=_KEEP)
    try:
        return source_map_from_json((directory / _FILE).read_text())
    except (OSError, ValueError) as error:
        raise BadInputError(
            f"{directory}: damaged ({error}). Remove it, and it is made again"
        ) from error


def locate(build: KnownBuild, places: Sequence[Block]) -> dict[Block, FileLine]:
    """Return the lines of places in the code that are in the driver's own files.

    Raises:
        BadInputError: the build has no debug information.
        InfrastructureError: addr2line is missing or failed.
    """
    symbols = SymbolFile(build.object, build.module)
    # A place is where a call returns to.
    wanted = [(_section(each, symbols), each.offset - 1) for each in places]
    found = symbols.locate(wanted) if wanted else {}
    lines: dict[Block, FileLine] = {}
    for place, key in zip(places, wanted, strict=True):
        own = (_own(each.file, build) for each in found.get(key, ()))
        first = next((each for each in own if each), None)
        if first is not None:
            lines[place] = first
    return lines


def _section(place: Block, symbols: SymbolFile) -> str:
    return "" if place.section == LINKED or not symbols.relocatable else place.section


def _own(place: str | None, build: KnownBuild) -> FileLine | None:
    own = build.own_path(place) if place else None
    if own is None:
        return None
    file, _, line = own.rpartition(":")
    return file, int(line)


def _read(build: KnownBuild, blocks: Sequence[Block]) -> SourceMap:
    starts = locate(build, blocks)
    lines: dict[int, dict[FileLine, None]] = defaultdict(dict)
    functions: dict[int, str] = {}
    if build.module is not None:
        for number, name, place in _disassembled(build, blocks):
            functions.setdefault(number, name)
            if place is not None:
                lines[number].setdefault(place)
    names = {place[0] for place in starts.values()}
    names |= {place[0] for found in lines.values() for place in found}
    return SourceMap(
        {name: text for name in sorted(names) if (text := _text(build.root / name)) is not None},
        tuple(starts.get(block) for block in blocks),
        tuple(tuple(lines[number]) for number in range(len(blocks))),
        tuple(functions.get(number, "") for number in range(len(blocks))),
    )


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def _disassembled(
    build: KnownBuild, blocks: Sequence[Block]
) -> Iterator[tuple[int, str, FileLine | None]]:
    """Yield for each instruction its block's number, its function and its line."""
    begins: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for each, block in enumerate(blocks):
        begins[block.section].append((block.offset - _CALL, each))
    for found in begins.values():
        found.sort()
    command = ["objdump", "-dl", "--no-show-raw-insn", str(build.object)]
    here: list[tuple[int, int]] = []
    name, start = "", 0
    place: FileLine | None = None
    for line in output_of(command, build.object, _TIMEOUT).splitlines():
        if match := _INSTRUCTION.match(line):
            number = _block_at(here, start, int(match["at"], 16))
            if number is not None:
                yield number, name, place
        elif match := _LINE.match(line):
            place = _own(f"{match['file']}:{match['line']}", build)
        elif match := _FUNCTION.match(line):
            name, start, place = plain_name(match["name"]), int(match["at"], 16), None
        elif match := _SECTION.match(line):
            here = begins.get(match["name"], [])


def _block_at(begins: Sequence[tuple[int, int]], start: int, at: int) -> int | None:
    """Return the number of the block at an address of a function that begins at ``start``.

    What comes before the function's first block belongs to that one.
    """
    index = bisect_right(begins, (at, len(begins) + at)) - 1
    if index < 0 or begins[index][0] < start:
        index = bisect_left(begins, (start, 0))
        if index >= len(begins) or begins[index][0] < at:
            return None
    return begins[index][1]
