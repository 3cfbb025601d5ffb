# SPDX-License-Identifier: Apache-2.0
"""Names explained by a compiler: values of macros, layouts of structs.

A generated C file uses every wanted name on lines of their own, so that a
compiler error says which name is not what it was taken for; what is left is
compiled again. The object file is only read: constants by their symbols,
layouts from its DWARF. Nothing is run but the compiler.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeVar

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.target.dwarf import pointed_type, variables, whole_layout
from fuzzer.target.layout import StructLayout
from fuzzer.tools import missing_tool
from fuzzer.untrusted import open_regular

_T = TypeVar("_T")
_COMPILE_SECONDS = 120
_CONSTANT, _TYPE = "pkvfuzz_constant_", "pkvfuzz_type_"
_SECTION = ".pkvfuzz"
# Rounds of compiling: errors that hide others are few.
_MOST_ROUNDS = 8
_ERROR = re.compile(r"^([^\s:][^:\n]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", re.MULTILINE)
_NO_STRUCT = "no struct, union or typedef of that name is defined"
_SOURCE, _OBJECT = "probe.c", "probe.o"
# Errors inside a macro are reported where it is used: on the line of its name.
_PROBE_FLAGS = (
    *("-w", "-gdwarf-5", "-ftrack-macro-expansion=0", "-fdiagnostics-color=never"),
    *("-fno-diagnostics-show-caret", "-fmax-errors=0"),
)
# The same in the words of clang.
_CLANG = re.compile(r"(?:.*-)?clang(?:-\d+)?\Z")
_CLANG_FLAGS = (
    *("-w", "-gdwarf-5", "-fno-color-diagnostics", "-fno-caret-diagnostics", "-ferror-limit=0"),
    "-Qunused-arguments",
)


class UnknownSymbolError(BadInputError):
    """A name that is not defined as a constant or a struct."""

    def __init__(self, symbol: str, problem: str) -> None:
        super().__init__(problem)
        self.symbol = symbol


class NotCompiledError(BadInputError):
    """The code that should explain the names does not compile; the compiler's first error."""


class CompilerRun(Protocol):
    """Runs a compiler in a directory; ``scratch`` is another one, which it writes to."""

    def __call__(
        self, command: Sequence[str], directory: Path, *, scratch: Path
    ) -> subprocess.CompletedProcess[bytes]: ...


def run_compiler(
    command: Sequence[str], directory: Path, *, scratch: Path
) -> subprocess.CompletedProcess[bytes]:
    """Run a compiler as it is, with a time limit; its messages are in English."""
    return subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "LC_ALL": "C", "TMPDIR": str(scratch)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_COMPILE_SECONDS,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Compiler:
    """A compiler's command without a source, and the directory in which it is run.

    ``start`` is C text in front of what is asked, ``subject`` names for messages what is read.
    """

    arguments: tuple[str, ...]
    directory: Path
    subject: str
    start: str = ""
    run: CompilerRun = run_compiler

    def output(self, options: Sequence[str], text: str) -> str:
        """Return what the compiler prints for a C text, behind ``start``.

        Raises:
            NotCompiledError: it has an error.
            InfrastructureError: the compiler is missing or does not work.
        """
        with tempfile.TemporaryDirectory(prefix="pkvfuzz-probe-") as name:
            scratch = Path(name)
            _write(scratch / _SOURCE, self.start + text)
            done = self.compile(scratch, options)
        if done.returncode:
            raise NotCompiledError(self._first_error(_text(done.stderr)))
        return done.stdout.decode(errors="replace")

    def object_of(self, options: Sequence[str], read: Callable[[ELFFile], _T]) -> _T:
        """Return what is read of the object file that the compiler makes of ``start``.

        Raises:
            NotCompiledError: it has an error.
            InfrastructureError: the compiler is missing or does not work.
        """
        with tempfile.TemporaryDirectory(prefix="pkvfuzz-probe-") as name:
            scratch = Path(name)
            _write(scratch / _SOURCE, self.start)
            done = self.compile(scratch, ["-c", *options, "-o", str(scratch / _OBJECT)])
            if done.returncode:
                raise NotCompiledError(self._first_error(_text(done.stderr)))
            with open_regular(scratch / _OBJECT, within=scratch) as file:
                return read(ELFFile(file))

    def compile(self, scratch: Path, options: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run the compiler on the probe in a directory."""
        flags = _CLANG_FLAGS if _CLANG.match(self.arguments[0]) else _PROBE_FLAGS
        command = [*self.arguments, *flags, *options, str(scratch / _SOURCE)]
        try:
            return self.run(command, self.directory, scratch=scratch)
        except FileNotFoundError as error:
            raise missing_tool(command[0], f"reading {self.subject}") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InfrastructureError(
                f"cannot read {self.subject}: {command[0]} does not work: {error}"
            ) from None

    def _first_error(self, text: str) -> str:
        """Return the first error as the compiler wrote it."""
        found = _ERROR.search(text)
        if found is None:
            raise InfrastructureError(f"cannot read {self.subject}: the compiler failed:\n{text}")
        return found[0]

    def errors(self, text: str, scratch: Path) -> dict[int, str]:
        """Return the compiler's messages by the probe's line; of each line the first one.

        Raises:
            NotCompiledError: one is elsewhere.
        """
        found: dict[int, str] = {}
        first = self.start.count("\n") + 1
        for match in _ERROR.finditer(text):
            if match[1] != str(scratch / _SOURCE) or int(match[2]) < first:
                raise NotCompiledError(match[0])
            found.setdefault(int(match[2]), match[3])
        if not found:
            self._first_error(text)
        return found


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers of a probe; ``problems`` has the names without one, each with the reason.

    ``types`` are layouts by the types asked for, as C writes them: structs, unions, or pointers to
    one, for which it is the layout of what they point to; other types are left out.
    """

    constants: Mapping[str, int] = field(default_factory=dict)
    structs: Mapping[str, StructLayout] = field(default_factory=dict)
    types: Mapping[str, StructLayout] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of a probe: what it asks, and the variable that has the answer."""

    name: str
    text: str
    variable: str
    keyword: str | None = None


def ask(
    compiler: Compiler,
    *,
    constants: Sequence[str] = (),
    structs: Sequence[str] = (),
    types: Sequence[str] = (),
) -> Answers:
    """Return the values and layouts that a compiler has for names.

    ``constants`` are macros or enumerators with an integer value, ``structs`` are tags of
    structs or unions without the keyword, or typedefs; ``types`` are types as C writes them.

    Raises:
        NotCompiledError: the code itself does not compile.
        InfrastructureError: the compiler is missing or does not work.
    """
    lines = [*_constant_lines(constants), *_struct_lines(structs), *_type_lines(types)]
    reasons: dict[_Line, str] = {}
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-probe-") as name:
        scratch = Path(name)
        offset = compiler.start.count("\n") + 1
        for _ in range(_MOST_ROUNDS):
            text = "".join(f"{line.text}\n" for line in lines)
            _write(scratch / _SOURCE, compiler.start + text)
            done = compiler.compile(scratch, ["-c", "-o", str(scratch / _OBJECT)])
            if not done.returncode:
                break
            errors = compiler.errors(_text(done.stderr), scratch)
            # An error at the end of the file belongs to the last line.
            rejected = {
                lines[min(number - offset, len(lines) - 1)]: problem
                for number, problem in errors.items()
            }
            reasons.update(rejected)
            others = [other for line in rejected for other in _other_lines(line)]
            lines = [*(line for line in lines if line not in rejected), *others]
        else:
            raise InfrastructureError(
                f"cannot read {compiler.subject}: the compiler finds ever more errors in it: "
                f"{next(iter(reasons.values()), '')}"
            )
        return _read(scratch / _OBJECT, lines, reasons, compiler.subject)


def _write(path: Path, text: str) -> None:
    # A file's name, in an #include, can be anything.
    path.write_bytes(text.encode(errors="surrogateescape"))


def _text(output: bytes) -> str:
    return output.decode(errors="replace").strip()


def _constant_lines(names: Sequence[str]) -> list[_Line]:
    attribute = f'__attribute__((used, section("{_SECTION}")))'
    return [
        _Line(
            name,
            # "&" refuses what is not an integer: an address would need a relocation.
            f"const unsigned long long {_CONSTANT}{number}[2] {attribute} "
            f"= {{ ({name}) & ~0ull, ({name}) < 0 }};",
            f"{_CONSTANT}{number}",
        )
        for number, name in enumerate(names)
    ]


def _struct_lines(names: Sequence[str]) -> list[_Line]:
    return [_struct_line(name, f"{_TYPE}{number}", "struct") for number, name in enumerate(names)]


def _struct_line(name: str, variable: str, keyword: str) -> _Line:
    c_type = f"{keyword} {name}".lstrip()
    # A size has what is defined, and not only declared.
    text = f'{c_type} *{variable}; _Static_assert(sizeof({c_type}) + 1, "");'
    return _Line(name, text, variable, keyword)


def _other_lines(line: _Line) -> list[_Line]:
    """Return the other ways to ask for what a line asked for in vain."""
    if line.keyword != "struct":
        return []
    return [
        _struct_line(line.name, f"{line.variable}_union", "union"),
        _struct_line(line.name, f"{line.variable}_typedef", ""),
    ]


def _type_lines(types: Sequence[str]) -> list[_Line]:
    return [
        _Line(text, f"__typeof__({text}) *{_TYPE}of_{number};", f"{_TYPE}of_{number}")
        for number, text in enumerate(types)
    ]


def _read(
    path: Path, lines: Sequence[_Line], reasons: Mapping[_Line, str], subject: str
) -> Answers:
    by_variable = {line.variable: line for line in lines}
    structs: dict[str, StructLayout] = {}
    types: dict[str, StructLayout] = {}
    problems: dict[str, str] = {}
    try:
        with open_regular(path, within=path.parent) as file:
            elf = ELFFile(file)
            constants = _read_constants(elf, by_variable)
            wanted = {line.variable for line in lines if line.variable.startswith(_TYPE)}
            for variable, die in variables(elf, wanted):
                line = by_variable[variable]
                layout = whole_layout(pointed_type(die), through_pointer=line.keyword is None)
                if layout is None and line.keyword is None:
                    continue
                if layout is None:
                    problems.setdefault(line.name, "it is neither struct nor union")
                elif line.keyword is None:
                    types[line.name] = layout
                else:
                    structs.setdefault(line.name, layout.named(line.name, line.keyword))
    except (DWARFError, ELFError) as error:
        raise InfrastructureError(
            f"cannot read {subject}: the compiler's object file makes no sense: {error}"
        ) from error
    for line, reason in reasons.items():
        if line.keyword is not None:
            problems.setdefault(line.name, _NO_STRUCT)
        elif line.variable.startswith(_CONSTANT):
            problems[line.name] = reason
    known = {*constants, *structs}
    return Answers(
        constants,
        structs,
        types,
        {name: reason for name, reason in problems.items() if name not in known},
    )


def _read_constants(elf: ELFFile, lines: Mapping[str, _Line]) -> dict[str, int]:
    section, table = elf.get_section_by_name(_SECTION), elf.get_section_by_name(".symtab")
    if section is None or not isinstance(table, SymbolTableSection):
        return {}
    data = section.data()
    values: dict[str, int] = {}
    for symbol in table.iter_symbols():
        line = lines.get(symbol.name)
        if line is not None and symbol.name.startswith(_CONSTANT):
            value, negative = struct.unpack_from("<QQ", data, symbol["st_value"])
            values[line.name] = value - (1 << 64) if negative else value
    return values
