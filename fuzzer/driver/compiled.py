# SPDX-License-Identifier: Apache-2.0
"""Names of a driver as it was compiled: its own includes and flags, headers and C files alike.

The compiler is run again as Kbuild ran it, on a file that includes the driver's source,
followed by the questions. Nothing of the driver is run.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from elftools.common.exceptions import DWARFError, ELFError
from elftools.elf.elffile import ELFFile

from fuzzer.driver.ioctls import (
    IoctlMacro,
    Macro,
    case_labels,
    code_of,
    coded_types,
    expansion_probe,
    ioctl_handlers,
    made_ioctls,
    read_macros,
)
from fuzzer.driver.unit_commands import Unit, read_unit, read_units
from fuzzer.errors import BadInputError
from fuzzer.target.dwarf import enumerators, named_layouts, type_names
from fuzzer.target.header import Header, unknown_symbol
from fuzzer.target.layout import StructLayout
from fuzzer.target.probe import Answers, Compiler, CompilerRun, ask, run_compiler
from fuzzer.untrusted import CODE_SUFFIXES, is_regular, read_text

_T = TypeVar("_T")
_WORD = re.compile(r"[A-Za-z_]\w*")
# More of them are tables of registers, not an interface.
_MOST_ASKED = 4096
_MOST_SIMILAR = 8


@dataclass(frozen=True)
class _Reading:
    """A translation unit and what its preprocessor knows: all macros, all words.

    ``code`` is that of the driver's own files, without comments.
    """

    unit: Unit
    compiler: Compiler
    macros: Mapping[str, Macro]
    words: Collection[str]
    code: tuple[str, ...]

    @property
    def mentioned(self) -> set[str]:
        """All words of the driver's own files."""
        return {word for code in self.code for word in _WORD.findall(code)}

    def labels(self, handlers: Collection[str]) -> list[str]:
        """Return the names that ioctl handlers compare the number with."""
        found = (name for code in self.code for name in case_labels(code, handlers))
        return [*dict.fromkeys(found)]

    def candidates(self, labels: Sequence[str]) -> list[str]:
        """Return names that may be ioctl numbers; those in ``labels`` are."""
        # Most macros of the kernel are mentioned nowhere.
        mentioned = self.mentioned
        macros = [name for name in self.macros if name in mentioned]
        return [*dict.fromkeys((*labels, *macros))][:_MOST_ASKED]


class CompiledDriver:
    """A driver that was built with Kbuild in ``directory``, against the kernel in ``kernel``.

    ``module`` chooses one of several that were built there; ``objects`` name the driver's
    objects if others lie beside them, as in the kernel's own tree. ``run`` runs the compiler.
    """

    def __init__(
        self,
        directory: Path,
        kernel: Path,
        *,
        module: str = "",
        objects: Sequence[Path] = (),
        run: CompilerRun = run_compiler,
    ) -> None:
        self._directory = directory.resolve()
        self._kernel = kernel
        self._module = module.replace("-", "_")
        self._objects = tuple(objects)
        self._run = run
        source = kernel / "source"
        self._foreign = tuple({kernel.absolute(), kernel.resolve(), source.resolve(), Path("/usr")})

    @functools.cached_property
    def units(self) -> tuple[Unit, ...]:
        """The driver's translation units.

        Raises:
            BadInputError: there is none, or a command that would run something else.
        """
        if self._objects:
            commands = (path.with_name(f".{path.name}.cmd") for path in self._objects)
            found = (read_unit(path, self._kernel) for path in commands if path.is_file())
            units = tuple(unit for unit in found if unit is not None)
        else:
            units = read_units(self._directory, self._kernel)
            own = tuple(unit for unit in units if self._module in unit.modules)
            units = own or units
        if not units:
            raise BadInputError(
                f"{self._directory}: no object here has a command of Kbuild's beside it "
                "(.NAME.o.cmd) that compiles C; name the driver's headers with 'header'"
            )
        return units

    def constants(self, names: Sequence[str]) -> Mapping[str, int]:
        """Return the values of macros and enumerators by name.

        Raises:
            UnknownSymbolError: a name is none of an integer's, in no unit.
            BadInputError: the driver does not compile any more.
        """
        return self.read(constants=names).constants

    def structs(self, names: Sequence[str]) -> Mapping[str, StructLayout]:
        """Return the layouts of structs, unions and typedefs by name; raises as above."""
        return self.read(structs=names).structs

    def read(self, *, constants: Sequence[str] = (), structs: Sequence[str] = ()) -> Header:
        """Return the meanings of names in a description; raises as above."""
        answers = self._answers(constants, structs)
        values, layouts, problems = answers.constants, answers.structs, answers.problems
        missing = [name for name in constants if name not in values]
        missing += [name for name in structs if name not in layouts]
        if missing:
            # In the order of the description; the reason is that of the last unit that has it.
            reasons = {name: problems.get(name, "its source has no such name") for name in missing}
            where = self._module or self._directory.name
            similar = self._similar(missing[0], is_struct=missing[0] not in constants)
            raise unknown_symbol(where, Answers(problems=reasons), similar)
        return Header(values, layouts, None)

    def known(self, *, constants: Sequence[str] = (), structs: Sequence[str] = ()) -> Header:
        """Return the meanings of names, without those that have none.

        Raises:
            BadInputError: the driver does not compile any more.
        """
        answers = self._answers(constants, structs)
        return Header(answers.constants, answers.structs, None)

    def _answers(self, constants: Sequence[str], structs: Sequence[str]) -> Answers:
        values: dict[str, int] = {}
        layouts: dict[str, StructLayout] = {}
        problems: dict[str, str] = {}
        for reading in self._readings:
            known = reading.words
            numbers = [name for name in constants if name not in values and name in known]
            tags = [name for name in structs if name not in layouts and name in known]
            if not numbers and not tags:
                continue
            answers = ask(reading.compiler, constants=numbers, structs=tags)
            values.update(answers.constants)
            layouts.update(answers.structs)
            problems.update(answers.problems)
        return Answers(constants=values, structs=layouts, problems=problems)

    def ioctls(self) -> tuple[IoctlMacro, ...]:
        """Return the macros that are ioctl numbers, in the order of their definition.

        These are the ones made by ``_IO()`` and the like, of the driver's own files and of
        the kernel's if the driver mentions them, and those that its ioctl handlers compare
        the number with.

        Raises:
            BadInputError: the driver does not compile any more.
        """
        found: dict[str, IoctlMacro] = {}
        seen: set[Macro] = set()
        codes = (code for reading in self._readings for code in reading.code)
        handlers = sorted({name for code in codes for name in ioctl_handlers(code)})
        for reading in self._readings:
            labels = reading.labels(handlers)
            names = [
                name
                for name in reading.candidates(labels)
                if name not in found and reading.macros.get(name) not in seen
            ]
            seen.update(reading.macros[name] for name in names if name in reading.macros)
            for each in self._evaluated(reading, names, labels):
                found.setdefault(each.name, each)
        return tuple(sorted(found.values(), key=lambda each: (str(each.file), each.line)))

    @functools.cached_property
    def _readings(self) -> tuple[_Reading, ...]:
        return tuple(map(self._reading, self.units))

    def _reading(self, unit: Unit) -> _Reading:
        if '"' in str(unit.source) or "\n" in str(unit.source):
            raise BadInputError(f"{unit.source}: C cannot include a file of that name; rename it")
        source = unit.source.absolute()
        compiler = Compiler(
            unit.command, unit.directory, str(source), f'#include "{source}"\n', self._run
        )
        text = compiler.output(["-E", "-dD"], "")
        macros = read_macros(text, unit.directory)
        files = dict.fromkeys((unit.source, *(macro.file for macro in macros.values())))
        code = [
            code_of(read_text(file, errors="replace"))
            for file in files
            if self._is_own(file, unit) and is_regular(file) and file.suffix in CODE_SUFFIXES
        ]
        return _Reading(unit, compiler, macros, set(_WORD.findall(text)), tuple(code))

    def _is_own(self, file: Path, unit: Unit) -> bool:
        """Return whether a file is the driver's, not the kernel's or the compiler's."""
        if self._objects:
            return file == unit.source
        path = file.resolve()
        if path.is_relative_to(self._directory):
            return True
        return path.is_file() and not any(path.is_relative_to(each) for each in self._foreign)

    def _evaluated(
        self, reading: _Reading, names: Sequence[str], labels: Collection[str]
    ) -> Iterator[IoctlMacro]:
        if not names:
            return iter(())
        types = coded_types(reading.compiler.output(["-E"], expansion_probe(names)))
        wanted = [name for name in names if name in types or name in labels]
        if not wanted:
            return iter(())
        asked = dict.fromkeys(each for name in wanted if (each := types.get(name, "")))
        answers = ask(reading.compiler, constants=wanted, types=[*asked])
        return made_ioctls(
            reading.macros, types, answers.constants, answers.types, reading.unit.source
        )

    def _similar(self, name: str, *, is_struct: bool) -> set[str]:
        """Return similar names of the driver's own files, and names that are defined."""
        words = {word for reading in self._readings for word in reading.mentioned} - {name}
        close = difflib.get_close_matches(name, sorted(words), n=_MOST_SIMILAR, cutoff=0.75)
        found: set[str] = set()
        for reading in self._readings:
            asked = [word for word in close if word in reading.words and word not in found]
            if not asked:
                continue
            if is_struct:
                found.update(ask(reading.compiler, structs=asked).structs)
            else:
                found.update(ask(reading.compiler, constants=asked).constants)
        return found


def read_object(path: Path, read: Callable[[ELFFile], _T]) -> _T:
    """Return what is read of an object file.

    Raises:
        BadInputError: it is none, or its debugging information makes no sense.
    """
    try:
        with path.open("rb") as file:
            return read(ELFFile(file))
    except (OSError, DWARFError, ELFError, ValueError, KeyError, RecursionError) as error:
        raise BadInputError(f"{path}: cannot read its debugging information: {error}") from error


def read_module(path: Path, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
    """Return what names stand for in a module without sources: enumerators and structs.

    Raises:
        UnknownSymbolError: it has no such name, or is without debugging information.
        BadInputError: it is no object file.
    """
    values = read_object(path, enumerators) if constants else {}
    layouts = read_object(path, lambda elf: named_layouts(elf, set(structs))) if structs else {}
    reason = "of a .ko, enumerators and structs are known; name with 'header' where others are"
    missing = [name for name in constants if name not in values]
    missing += [name for name in structs if name not in layouts]
    if missing:
        problems = dict.fromkeys(missing, reason)
        raise unknown_symbol(path.name, Answers(problems=problems), read_object(path, type_names))
    return Header(
        {name: values[name] for name in constants},
        {name: layouts[name] for name in structs},
        None,
    )
