# SPDX-License-Identifier: Apache-2.0
"""File and line of a report's frames, from a ``.ko`` or a ``vmlinux`` with debugging information.

A log does not say which build it is of, unless the kernel was built with
``CONFIG_STACKTRACE_BUILD_ID``. It does say how large each function is: a file in
which the function has another size is another build, and nothing is taken from it.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from fuzzer.binutils import output_of
from fuzzer.errors import BadInputError
from fuzzer.splat.frames import Frame, plain_name
from fuzzer.splat.splat import Splat
from fuzzer.splat.stacks import Stack
from fuzzer.untrusted import CODE_SUFFIXES, read_text

# kallsyms counts a function up to the next one, the symbol table without what fills the gap.
_PADDING = 64
_TIMEOUT = 300.0
_DEBUG = (".debug_info", ".zdebug_info")
_PLACE = re.compile(r"^(?P<file>.+):(?P<line>\d+)(?: \(discriminator \d+\))?$")


@dataclass(frozen=True, slots=True)
class _SymbolFunction:
    section: str
    start: int
    size: int


class SymbolFile:
    """The functions of one ELF file. ``module`` is None for a ``vmlinux``.

    Raises:
        BadInputError: it cannot be read, or has no debugging information.
    """

    def __init__(self, path: Path, module: str | None) -> None:
        self.path = path
        self.module = module
        self._functions: dict[str, list[_SymbolFunction]] = defaultdict(list)
        try:
            with path.open("rb") as file:
                self._read(ELFFile(file))
        except OSError as error:
            raise BadInputError(f"reading symbols of {path}: {error.strerror}") from error
        except (ELFError, ValueError, KeyError, AttributeError) as error:
            raise BadInputError(
                f"reading symbols of {path}: not a whole ELF file ({error}). "
                "Give the .ko or the vmlinux of the kernel that wrote the log"
            ) from error

    def _read(self, elf: ELFFile) -> None:
        if not any(elf.get_section_by_name(name) for name in _DEBUG):
            raise BadInputError(
                f"{self.path} has no debugging information: build it with CONFIG_DEBUG_INFO, "
                "and do not strip it"
            )
        table = elf.get_section_by_name(".symtab")
        if not isinstance(table, SymbolTableSection):
            raise BadInputError(f"{self.path} has no symbol table: do not strip it")
        note = elf.get_section_by_name(".note.gnu.build-id")
        # The id is what follows the note's header and the name "GNU".
        self.build_id = note.data()[16:].hex() if note else None
        self.relocatable = elf["e_type"] == "ET_REL"
        for symbol in table.iter_symbols():
            if symbol["st_info"]["type"] != "STT_FUNC" or isinstance(symbol["st_shndx"], str):
                continue
            section = elf.get_section(symbol["st_shndx"]).name
            function = _SymbolFunction(section, symbol["st_value"], symbol["st_size"])
            self._functions[plain_name(symbol.name)].append(function)

    def address_of(self, frame: Frame, *, exact: bool) -> tuple[str, int] | None:
        """Return section and address of a frame; None when the function is not this one.

        What a stack holds is where to return to: the call is before it, unless ``exact``.
        """
        if frame.offset is None or frame.size is None or self.is_other_build(frame):
            return None
        for function in self._functions.get(frame.function, []):
            if 0 <= frame.size - function.size < _PADDING:
                offset = frame.offset if exact or not frame.offset else frame.offset - 1
                return function.section, function.start + offset
        return None

    def is_other_build(self, frame: Frame) -> bool:
        """Tell whether the log has the build id of the frame's module, and it is not the file's."""
        return None not in {frame.build_id, self.build_id} and frame.build_id != self.build_id

    def sizes(self, name: str) -> list[int]:
        """Return the sizes of the functions of a name, in bytes."""
        return [function.size for function in self._functions.get(name, [])]

    def locate(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], list[Frame]]:
        """Return for each section and address the functions there, inlined ones first.

        Raises:
            InfrastructureError: addr2line is missing, failed or took too long.
        """
        found: dict[tuple[str, int], list[Frame]] = {}
        for section in sorted({section for section, _ in places}):
            addresses = sorted({address for each, address in places if each == section})
            words = ["addr2line", "-a", "-f", "-i", "-e", str(self.path)]
            words += ["-j", section] if self.relocatable else []
            lines = _output([*words, *(f"{address:#x}" for address in addresses)]).splitlines()
            at = -1
            index = 0
            while index < len(lines):
                if lines[index].startswith("0x"):
                    at = int(lines[index], 16)
                    found[section, at] = []
                    index += 1
                    continue
                place = _PLACE.match(lines[index + 1]) if index + 1 < len(lines) else None
                if place:
                    file = f"{place['file']}:{place['line']}"
                    found[section, at].append(Frame(plain_name(lines[index]), file=file))
                index += 2
        return found


def _output(words: Sequence[str]) -> str:
    return output_of(words, words[5], _TIMEOUT)


class Symbols:
    """Symbols of a kernel and of modules. ``complaints`` are files of another build."""

    def __init__(self, vmlinux: Path | None, modules: Sequence[Path]) -> None:
        self._files: dict[str | None, SymbolFile] = {}
        if vmlinux:
            self._files[None] = SymbolFile(vmlinux, None)
        for path in modules:
            name = path.stem.replace("-", "_")
            self._files[name] = SymbolFile(path, name)
        self.complaints: dict[Path, str] = {}

    def symbolise(self, record: Splat) -> Splat:
        """Return the record with file and line in each frame that is known, and inlined ones."""
        wanted: dict[str | None, list[tuple[str, int]]] = defaultdict(list)
        for stack in record.stacks:
            for index, frame in enumerate(stack.frames):
                if place := self._place(stack, index, frame):
                    wanted[frame.module].append(place)
        located = {module: self._files[module].locate(wanted[module]) for module in wanted}
        stacks = tuple(
            dataclasses.replace(stack, frames=tuple(self._expanded(stack, located)))
            for stack in record.stacks
        )
        return dataclasses.replace(record, stacks=stacks)

    def _place(self, stack: Stack, index: int, frame: Frame) -> tuple[str, int] | None:
        file = self._files.get(frame.module)
        if file is None or frame.file is not None:
            return None
        exact = index == 0 and stack.heading == "instruction pointer"
        place = file.address_of(frame, exact=exact)
        if place is None and frame.size is not None and file.path not in self.complaints:
            self.complaints[file.path] = (
                f"{file.path} is not what the log is of: {_difference(file, frame)}"
            )
        return place

    def _expanded(
        self, stack: Stack, located: dict[str | None, dict[tuple[str, int], list[Frame]]]
    ) -> list[Frame]:
        frames: list[Frame] = []
        for index, frame in enumerate(stack.frames):
            place = self._place(stack, index, frame)
            found = located[frame.module].get(place, []) if place else []
            if found:
                frames += [
                    dataclasses.replace(
                        each, module=frame.module, inline=True, reliable=frame.reliable
                    )
                    for each in found[:-1]
                ]
            frames.append(dataclasses.replace(frame, file=found[-1].file) if found else frame)
        return frames


def _difference(file: SymbolFile, frame: Frame) -> str:
    if file.is_other_build(frame):
        return f"its build id is {file.build_id}, in the log it is {frame.build_id}"
    known = ", ".join(f"{size:#x}" for size in file.sizes(frame.function))
    there = f"it has {known} bytes" if known else "there is none"
    return f"{frame.function} has {frame.size or 0:#x} bytes in the log, in the file {there}"


def source_lines(place: str, around: int = 2) -> list[str]:
    """Return the lines around ``file:line``, that line marked; none when there is no such file."""
    name, _, number = place.rpartition(":")
    try:
        # A stranger's module says where its source is.
        if Path(name).suffix not in CODE_SUFFIXES:
            return []
        lines = read_text(Path(name), errors="replace").splitlines()
        middle = int(number)
    except (OSError, ValueError):
        return []
    first = max(1, middle - around)
    last = min(len(lines), middle + around)
    return [
        f"{'>' if each == middle else ' '}{each:>5}  {lines[each - 1]}"
        for each in range(first, last + 1)
    ]
