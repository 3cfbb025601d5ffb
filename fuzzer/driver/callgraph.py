# SPDX-License-Identifier: Apache-2.0
"""The call graph of a driver, read from its object file.

A call of another file's function, or of one in another section, is a relocation; one
within a section may be assembled to the end, and is found by disassembling. A function
whose address is stored in a table of the driver's, as a ``struct file_operations``, is
called through it.
"""

from __future__ import annotations

import bisect
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from fuzzer.binutils import output_of
from fuzzer.driver.blocks import LINKED, linked_addresses
from fuzzer.driver.driver import Driver
from fuzzer.errors import BadInputError
from fuzzer.target.dwarf import declared_in, element_layout, variables

_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_STT_OBJECT, _STT_FUNC, _STT_FILE = 1, 2, 4
_STB_GLOBAL = 1
_SHF_EXECINSTR = 4
# R_X86_64_64; PC32 and PLT32, counted from the end of the operand; 32 and 32S.
_ADDRESS, _RELATIVE, _IMMEDIATE = 1, (2, 4), (10, 11)
# The compiler's pieces and copies of a function.
_PIECE = re.compile(r"(?:\.(?:cold|part|isra|constprop|llvm)(?:\.\d+)?)+$")
_DATA = (".rodata", ".data", ".ro_after_init", ".init.data")
_THIS_MODULE = ".gnu.linkonce.this_module"
# Prefix of variables that keep a function from being dropped: nothing calls it by them.
_KEPT = "__UNIQUE_ID___addressable_"
_EXPORTS = ("__ksymtab", "___ksymtab", ".export_symbol")
# Of names that the module loader knows: what one calls a function of the author's.
_LOADING = {"init_module": "when the module is loaded", "cleanup_module": "when it is unloaded"}
_POINTER = "through a pointer ("
_HEADING = re.compile(r"^Disassembly of section (.+):$")
_BRANCH = re.compile(r"^\s*([0-9a-f]+):\s+(?:\w+ )?(?:call|j[a-z]+)\s+([0-9a-f]+)(?: <.*)?$")
_TIMEOUT = 120.0
_KERNEL_HEADER = re.compile(r"(?:^|/)include/(?:\w+|uapi/\w+)$")


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A piece of code: a section and its offsets there."""

    section: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, order=True)
class Function:
    """A function with all its pieces, the first of which is where it begins."""

    name: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """A place in a function, and what stands there: a call, or the other's address is ``taken``."""

    function: Function
    section: str
    offset: int
    taken: bool = False


@dataclass(frozen=True, slots=True)
class CallGraph:
    """A driver's functions by place. ``callers`` are those of the driver itself.

    ``entries`` says how else a function is called, in words that follow "called".
    """

    functions: tuple[Function, ...]
    callers: Mapping[Function, tuple[Caller, ...]]
    entries: Mapping[Function, tuple[str, ...]]

    def index(self) -> FunctionIndex:
        """Return an index of the functions by place."""
        return FunctionIndex(self.functions)


class FunctionIndex:
    """Index of functions by place."""

    def __init__(self, functions: Sequence[Function]) -> None:
        self._spans: dict[str, list[tuple[int, int, Function]]] = defaultdict(list)
        for function in functions:
            for span in function.spans:
                self._spans[span.section].append((span.start, span.end, function))
        for spans in self._spans.values():
            spans.sort(key=lambda span: span[:2])

    def at(self, section: str, offset: int) -> Function | None:
        """Return the function with code at a place, or None."""
        spans = self._spans.get(section, [])
        number = bisect.bisect_right(spans, offset, key=lambda span: span[0]) - 1
        if number < 0 or offset >= spans[number][1]:
            return None
        return spans[number][2]


def read_call_graph(driver: Driver) -> CallGraph:
    """Return the call graph of a driver; of one in the kernel places are addresses there.

    Raises:
        BadInputError: it is no object file of this machine.
        InfrastructureError: objdump is missing or fails.
    """
    files = driver.parts or (driver.object,)
    graphs = [_Object(path).graph() for path in files]
    if driver.parts:
        found = zip(files, graphs, strict=True)
        graphs = [_moved(graph, path, driver.object) for path, graph in found]
    return _joined(graphs)


@dataclass(frozen=True, slots=True)
class _Reference:
    """A place that calls ``name``, which another object has, or takes its address."""

    name: str
    caller: Caller


@dataclass(frozen=True, slots=True)
class _Graph:
    """A call graph of one object. ``known`` are its global functions; ``others`` calls to such."""

    functions: tuple[Function, ...]
    callers: Mapping[Function, Sequence[Caller]]
    entries: Mapping[Function, Sequence[str]]
    known: Mapping[str, Function]
    others: Sequence[_Reference]


def _joined(graphs: Sequence[_Graph]) -> CallGraph:
    callers: dict[Function, list[Caller]] = defaultdict(list)
    entries: dict[Function, list[str]] = defaultdict(list)
    known = {name: function for graph in graphs for name, function in graph.known.items()}
    for graph in graphs:
        for function, places in graph.callers.items():
            callers[function] += places
        for function, words in graph.entries.items():
            entries[function] += words
        for reference in graph.others:
            if reference.name in known:
                callers[known[reference.name]].append(reference.caller)
    return CallGraph(
        tuple(sorted(function for graph in graphs for function in graph.functions)),
        {function: tuple(places) for function, places in callers.items()},
        {function: tuple(dict.fromkeys(words)) for function, words in entries.items()},
    )


def _moved(graph: _Graph, path: Path, vmlinux: Path) -> _Graph:
    """Return an object's graph with the places that its functions have in the kernel."""
    addresses = linked_addresses(path, vmlinux)
    new: dict[Function, Function] = {}
    by: dict[Function, int] = {}
    for function in graph.functions:
        first = function.spans[0]
        if function.name in addresses and first.section == ".text":
            by[function] = addresses[function.name] - first.start
            end = first.end + by[function]
            new[function] = Function(function.name, (Span(LINKED, addresses[function.name], end),))

    def caller(place: Caller) -> Caller:
        moved = place.offset + by[place.function]
        return replace(place, function=new[place.function], section=LINKED, offset=moved)

    return _Graph(
        tuple(new.values()),
        {
            new[function]: [caller(place) for place in places if place.function in new]
            for function, places in graph.callers.items()
            if function in new
        },
        {new[function]: words for function, words in graph.entries.items() if function in new},
        {name: new[function] for name, function in graph.known.items() if function in new},
        [
            replace(each, caller=caller(each.caller))
            for each in graph.others
            if each.caller.function in new
        ],
    )


@dataclass(frozen=True, slots=True)
class _Symbol:
    name: str
    kind: int
    is_global: bool
    section: int
    value: int
    size: int
    file: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The struct that a table has, or is made of; ``kernels``: the kernel's headers declare it."""

    struct: str
    size: int
    members: Mapping[int, str]
    kernels: bool

    def way(self, offset: int) -> str:
        """Return how an entry is called; the table's name is to follow."""
        member = self.members.get(offset % self.size) if self.size else None
        if member is None:
            return _POINTER
        how = "by the kernel" if self.kernels else "through a pointer"
        return f"{how} ({self.struct}.{member} of "


class _Object:
    """One object file, read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with path.open("rb") as file:
                self._read(ELFFile(file))
        except (OSError, ELFError, struct.error, ValueError, KeyError, IndexError) as error:
            raise BadInputError(f"{path}: not an object file: {error}") from error

    def _read(self, elf: ELFFile) -> None:
        self._sections = [section.name for section in elf.iter_sections()]
        flags = [section["sh_flags"] for section in elf.iter_sections()]
        self._code = {n for n, each in enumerate(flags) if each & _SHF_EXECINSTR}
        self._symbols = list(_symbols(elf))
        self._functions, self._known = self._collect()
        self._index = FunctionIndex([*self._functions])
        self._callers: dict[Function, list[Caller]] = defaultdict(list)
        self._entries: dict[Function, list[str]] = defaultdict(list)
        self._others: list[_Reference] = []
        self._tables: list[tuple[_Symbol, int, Function]] = []
        self._relocated: set[tuple[str, int]] = set()
        for section in elf.iter_sections():
            if isinstance(section, RelocationSection) and section.is_RELA():
                self._read_relocations(elf, section)
        self._read_tables(elf)
        self._read_branches()

    def graph(self) -> _Graph:
        """Return the call graph of the object."""
        functions = tuple(self._functions)
        return _Graph(functions, self._callers, self._entries, self._known, self._others)

    def _collect(self) -> tuple[list[Function], dict[str, Function]]:
        """Return the functions, pieces put together, and the global ones by name."""
        found = [each for each in self._symbols if each.kind == _STT_FUNC and each.section]
        found = [each for each in found if each.section in self._code]
        first: dict[tuple[int, int], _Symbol] = {}
        # Of several names for one place the loader's is the last choice.
        for each in sorted(found, key=lambda each: each.name in _LOADING):
            first.setdefault((each.section, each.value), each)
        names = {each.name for each in first.values() if each.is_global}
        spans: dict[tuple[int, str], list[Span]] = defaultdict(list)
        for each in sorted(first.values(), key=lambda each: bool(_PIECE.search(each.name))):
            name = _PIECE.sub("", each.name)
            # A local piece may be one of a global function.
            own = (each.file, name)
            key = own if own in spans or name not in names else (0, name)
            section = self._sections[each.section]
            spans[key].append(Span(section, each.value, each.value + max(each.size, 1)))
        functions = {key: Function(key[1], tuple(pieces)) for key, pieces in spans.items()}
        known = {name: functions[0, name] for name in names if (0, name) in functions}
        return sorted(functions.values()), known

    def _read_relocations(self, elf: ELFFile, section: RelocationSection) -> None:
        target = section["sh_info"]
        name, data = self._sections[target], elf.get_section(target).data()
        for offset, info, addend in _RELOCATION.iter_unpack(section.data()):
            kind, symbol = info & 0xFFFFFFFF, self._symbols[info >> 32]
            if target in self._code:
                self._relocated.add((name, offset))
                self._read_code(name, offset, data, symbol, kind=kind, addend=addend)
            elif (function := self._target(symbol, addend)) is not None:
                if name.startswith(_EXPORTS):
                    self._entries[function].append("by other modules (it is exported)")
                elif name.startswith(_THIS_MODULE):
                    when = _LOADING.get(symbol.name, "when the module is loaded or unloaded")
                    self._entries[function].append(f"by the kernel {when}")
                elif name.startswith(_DATA) and kind == _ADDRESS:
                    self._note_table(target, offset, function)

    def _target(self, symbol: _Symbol, addend: int) -> Function | None:
        """Return the function that begins at a place, or None."""
        if not symbol.section or symbol.section >= len(self._sections):
            return None
        section, offset = self._sections[symbol.section], symbol.value + addend
        function = self._index.at(section, offset)
        if function is None or all(
            (span.section, span.start) != (section, offset) for span in function.spans
        ):
            return None
        return function

    def _read_code(
        self, section: str, offset: int, data: bytes, symbol: _Symbol, *, kind: int, addend: int
    ) -> None:
        caller = self._index.at(section, offset)
        if caller is None or kind not in {*_RELATIVE, *_IMMEDIATE, _ADDRESS}:
            return
        relative = kind in _RELATIVE
        before = data[max(offset - 2, 0) : offset]
        conditional = len(before) == 2 and before[0] == 0x0F and before[1] & 0xF0 == 0x80
        branches = relative and (before[-1:] in (b"\xe8", b"\xe9") or conditional)
        place = Caller(caller, section, offset - 1, taken=not branches)
        if not symbol.section:
            self._others.append(_Reference(symbol.name, place))
            return
        target = self._target(symbol, addend + 4 * relative)
        if target is not None and target is not caller:
            self._callers[target].append(place)

    def _read_branches(self) -> None:
        """Find the calls that need no relocation."""
        section = ""
        for line in _disassembly(self._path):
            if heading := _HEADING.match(line):
                section = heading[1]
            elif match := _BRANCH.match(line):
                at, to = int(match[1], 16), int(match[2], 16)
                caller, target = self._index.at(section, at), self._index.at(section, to)
                if caller is None or target is None or target is caller:
                    continue
                # The operand of one that is relocated says nothing.
                if not any((section, at + n) in self._relocated for n in (1, 2)):
                    self._callers[target].append(Caller(caller, section, at))

    def _note_table(self, section: int, offset: int, function: Function) -> None:
        for symbol in self._symbols:
            if (
                symbol.kind == _STT_OBJECT
                and symbol.section == section
                and symbol.value <= offset < symbol.value + symbol.size
            ):
                if not symbol.name.startswith(_KEPT):
                    self._tables.append((symbol, offset - symbol.value, function))
                return
        self._entries[function].append("through a pointer")

    def _read_tables(self, elf: ELFFile) -> None:
        layouts: dict[str, _Layout] = {}
        try:
            for name, die in variables(elf, {symbol.name for symbol, *_ in self._tables}):
                layout = element_layout(die)
                if layout is not None:
                    members = {member.offset: member.name for member in layout.members}
                    kernels = bool(_KERNEL_HEADER.search(declared_in(die)))
                    layouts[name] = _Layout(layout.name, layout.size, members, kernels)
        except (DWARFError, ELFError, KeyError, ValueError, IndexError):
            # Without debugging information tables have their own names and no more.
            layouts.clear()
        ways: dict[tuple[Function, str], list[str]] = defaultdict(list)
        for symbol, offset, function in self._tables:
            table = layouts.get(symbol.name)
            ways[function, table.way(offset) if table else _POINTER].append(symbol.name)
        for (function, words), tables in ways.items():
            names = dict.fromkeys(tables)
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            self._entries[function].append(f"{words}{tables[0]}{more})")


def _symbols(elf: ELFFile) -> Iterator[_Symbol]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return
    names = table.stringtable.data()
    file = 0
    for name, info, _, section, value, size in _SYMBOL.iter_unpack(table.data()):
        kind, is_global = info & 0xF, info >> 4 == _STB_GLOBAL
        file += kind == _STT_FILE
        text = str(names[name : names.index(b"\0", name)], "ascii", "replace")
        yield _Symbol(text, kind, is_global, section, value, size, 0 if is_global else file)


def _disassembly(path: Path) -> Iterator[str]:
    command = ["objdump", "-d", "-w", "--no-show-raw-insn", str(path)]
    yield from output_of(command, path, _TIMEOUT).splitlines()
