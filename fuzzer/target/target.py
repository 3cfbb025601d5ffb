# SPDX-License-Identifier: Apache-2.0
"""A target: the interface of one driver, and ``load_target``, which reads its description."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import yaml

from fuzzer.errors import BadInputError
from fuzzer.flavour import NAMES
from fuzzer.packages import KERNEL_VERSION
from fuzzer.target.call_parser import CallParser
from fuzzer.target.calls import CallSpec
from fuzzer.target.device import Device
from fuzzer.target.device_parser import read_devices
from fuzzer.target.document import Document
from fuzzer.target.equipment import BUSES, Equipment
from fuzzer.target.header import Header, read_headers
from fuzzer.target.layout import StructLayout
from fuzzer.target.probe import UnknownSymbolError
from fuzzer.target.symbols import HeaderSymbols
from fuzzer.untrusted import is_regular, read_bytes

KEYS = (
    "version",
    "name",
    "device",
    "devices",
    "module",
    "header",
    "include",
    "pools",
    "calls",
    "reset",
    "call_timeout_ms",
)
MODULE_KEYS = (
    "source",
    "object",
    "builtin",
    "fails",
    "config",
    "name",
    "params",
    "kernel",
    "needs",
    *BUSES,
)
RESET_KEYS = ("calls", "reload", "restore")
_REQUIRED = ("version", "name", "module", "calls")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_POOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# struct ch_header of vm/channel.h has 512 bytes for these, with a NUL.
_PARAMS = re.compile(r"[\x20-\x7e]{0,511}\Z")
_PARAMS_ALLOWED = "up to 511 printable characters"
_KERNEL_SOURCE = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_.-]*/)*[A-Za-z0-9_-]+\.c\Z")
_OPTION = re.compile(r'[A-Z0-9][A-Z0-9_]*=(?:y|n|-?\d+|0x[0-9a-fA-F]+|"[\x20-\x21\x23-\x7e]*")\Z')
_RESET_IOCTL = re.compile(r"\s*ioctl\s*\(\s*f\d\s*,\s*([A-Za-z_]\w*)")
_MAX_POOL_STRING = 4096
_NOT_FOR_USER = (
    "name with 'header: [a.h, b.h]' and 'include: [directory]' what it needs before it, or leave "
    "'header' out: names are then taken from the driver as it is built"
)


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """The driver: exactly one of ``source``, ``object`` and ``builtin``.

    ``source`` is a driver's directory, ``object`` a .ko, or one for each flavour of
    kernel. ``builtin`` are C files of the kernel's own tree, relative to it.
    ``config`` are options (``NAME=y``) that the kernels must have for it, those
    that build it in included. ``kernel`` is the version of the kernel that it is
    written for, as ``6.1``; empty for the default. ``needs`` are other modules of the
    same source that are loaded before it, which it does not name as dependencies;
    ``equipment`` is registered before it, in place of hardware. One that ``fails`` is
    not loaded before programs load it: its init function returns an error.
    """

    source: Path | None
    object: Path | Mapping[str, Path] | None
    name: str
    params: str = ""
    builtin: tuple[str, ...] = ()
    config: tuple[str, ...] = ()
    kernel: str = ""
    needs: tuple[str, ...] = ()
    equipment: tuple[Equipment, ...] = ()
    fails: bool = False

    def object_for(self, flavour: str) -> Path | None:
        """Return the .ko for a flavour of kernel; None if there is none."""
        return self.object.get(flavour) if isinstance(self.object, Mapping) else self.object


class ResetKind(enum.Enum):
    """The way back to the known state between programs."""

    NONE = "none"
    CALLS = "calls"
    RELOAD = "reload"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class ResetSpec:
    """``lines`` are program text for CALLS; ``line_numbers`` say where they stand."""

    kind: ResetKind = ResetKind.NONE
    lines: tuple[str, ...] = ()
    line_numbers: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Target:
    """One driver's interface. ``path`` is the description's own; all paths are absolute.

    ``devices`` are its files, at least one; a program's file 0 is the first of them.
    ``constants`` are the ioctl numbers and other macros that the description
    uses, by name; ``structs`` its structs' layouts, by tag or typedef. ``prelude`` are
    the lines of C that the headers need before them in user space; None if they are not
    for user space, or have not all the names: these are then known from the built driver.
    ``include`` are directories that the headers include from.
    """

    name: str
    devices: tuple[Device, ...]
    path: Path
    module: ModuleSpec
    headers: tuple[Path, ...]
    pools: Mapping[str, tuple[bytes, ...]]
    calls: tuple[CallSpec, ...]
    reset: ResetSpec
    call_timeout_ms: int
    constants: Mapping[str, int]
    structs: Mapping[str, StructLayout]
    prelude: tuple[str, ...] | None = ()
    include: tuple[Path, ...] = ()

    @property
    def device(self) -> str:
        """The path of the first device."""
        return self.devices[0].path


def module_name(name: str) -> str:
    """Return the name that the kernel knows a module by: without hyphens, unlike its file's."""
    return name.replace("-", "_")


class SymbolSource(Protocol):
    """A function that explains names by a driver's source, building it if need be.

    The target that it is called with has its module, but no values of names.

    Raises UnknownSymbolError for a name that the driver does not have, BadInputError when
    it does not build and InfrastructureError when building is not possible.
    """

    def __call__(
        self, target: Target, *, constants: Sequence[str], structs: Sequence[str]
    ) -> Header: ...


def load_target(path: Path, symbols: SymbolSource | None = None) -> Target:
    """Read a target description and the C headers it names.

    Names that the headers do not explain are looked up in ``symbols``, if there is one.

    Raises BadInputError with file, line and what is allowed, and
    InfrastructureError when the headers cannot be compiled for lack of gcc.
    """
    return _Loader(Document(path), symbols).target()


def load_shape(path: Path) -> Target:
    """Read a target description without its headers: names stand for nothing in it.

    Raises BadInputError with file, line and what is allowed.
    """
    return _Loader(Document(path)).shape()


def read_document(document: Document) -> tuple[Target, bool]:
    """Return the target that a document describes, and whether all its names are known.

    Names that no header has stand for nothing, as in ``load_shape``. Raises as
    ``load_target`` does.
    """
    try:
        return _Loader(document, _not_built).target(), True
    except _NotBuiltError:
        return _Loader(document).shape(), False


class _NotBuiltError(Exception):
    """Names that only a driver explains which is not built here."""


def _not_built(target: Target, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
    raise _NotBuiltError


def with_params(target: Target, params: str) -> Target:
    """Return the target with other module parameters.

    Raises BadInputError for text that the kernel could not be handed.
    """
    if not _PARAMS.match(params):
        raise BadInputError(f"module parameters {params!r}: {_PARAMS_ALLOWED} are allowed")
    if params and target.module.builtin:
        raise BadInputError(f"{target.name} is built into the kernel and takes no --params")
    return dataclasses.replace(target, module=dataclasses.replace(target.module, params=params))


class _Loader:
    def __init__(self, document: Document, symbols: SymbolSource | None = None) -> None:
        self._document = document
        self._source = symbols
        self._directory = document.path.absolute().parent
        self._symbols = HeaderSymbols(document)
        self._root = document.mapping(
            document.root, "a target description", allowed=KEYS, required=_REQUIRED
        )

    def target(self) -> Target:
        shape = self.shape()
        facts = self._facts(shape, shape.include)
        if facts.constants or facts.structs:
            self._symbols.header = facts
            parser = CallParser(self._document, self._symbols, shape.pools)
            shape = dataclasses.replace(shape, calls=parser.calls(self._root["calls"]))
        return dataclasses.replace(
            shape, constants=facts.constants, structs=facts.structs, prelude=facts.prelude
        )

    def shape(self) -> Target:
        """Return the target with a stand-in value for each name."""
        document, root = self._document, self._root
        document.integer(root["version"], "version", 1, 1)
        name = self._document.matching(root["name"], "name", _NAME, "letters, digits, _ and -")
        devices = read_devices(document, root)
        module = self._module(root["module"])
        headers = self._headers()
        include = self._include()
        pools = self._pools()
        reset = self._reset()
        timeout = 1000
        if "call_timeout_ms" in root:
            timeout = document.integer(root["call_timeout_ms"], "call_timeout_ms", 1, 600_000)
        return Target(
            name=name,
            devices=devices,
            path=document.path.absolute(),
            module=module,
            headers=headers,
            pools=pools,
            calls=CallParser(document, self._symbols, pools).calls(root["calls"]),
            reset=reset,
            call_timeout_ms=timeout,
            constants={},
            structs={},
            include=include,
        )

    def _path(self, node: yaml.Node, what: str, is_right: Callable[[Path], bool]) -> Path:
        """Return a path relative to the description, which exists and is of the right kind."""
        given = self._document.string(node, what)
        path = self._directory / given
        if "\0" in given or not path.exists():
            raise self._document.error(node, f"{what}: there is no {path}")
        if not is_right(path):
            kind = "a directory" if is_right is Path.is_dir else "a file"
            raise self._document.error(node, f"{what}: {path} is not {kind}")
        return path.resolve()

    def _module(self, node: yaml.Node) -> ModuleSpec:
        document = self._document
        entries = document.mapping(node, "module", allowed=MODULE_KEYS, required=("name",))
        if sum(key in entries for key in ("source", "object", "builtin")) != 1:
            raise document.error(
                node, "module needs exactly one of 'source', 'object' and 'builtin'"
            )
        if "params" in entries and "builtin" in entries:
            raise document.error(entries["params"], "'params' goes without 'builtin'")
        if "needs" in entries and "source" not in entries:
            raise document.error(entries["needs"], "'needs' goes with 'source' only")
        source: Path | None = None
        built: Path | Mapping[str, Path] | None = None
        if "source" in entries:
            source = self._path(entries["source"], "source", Path.is_dir)
        elif "object" in entries:
            built = self._object(entries["object"])
        builtin = self._texts(entries, "builtin", _KERNEL_SOURCE, "a .c file of the kernel's tree")
        config = self._texts(entries, "config", _OPTION, "NAME=y, without CONFIG_,")
        params = ""
        if "params" in entries:
            params = document.matching(entries["params"], "params", _PARAMS, _PARAMS_ALLOWED)
        name = document.matching(entries["name"], "module name", _NAME, "letters, digits, _ and -")
        kernel = self._kernel(entries["kernel"]) if "kernel" in entries else ""
        needs = self._texts(entries, "needs", _NAME, "a module's name")
        equipment = tuple(self._equipment(entries, key) for key in BUSES if key in entries)
        fails = "fails" in entries
        if fails:
            document.true(entries["fails"], "fails")
            if builtin:
                raise document.error(entries["fails"], "'fails' goes without 'builtin'")
        return ModuleSpec(
            source, built, name, params, builtin, config, kernel, needs, equipment, fails
        )

    def _equipment(self, entries: Mapping[str, yaml.Node], key: str) -> Equipment:
        document, bus, node = self._document, BUSES[key], entries[key]
        if "source" not in entries:
            raise document.error(node, f"'{key}' goes with 'source' only")
        if bus.alone and not isinstance(node, yaml.SequenceNode):
            document.true(node, key, otherwise="a list of names")
            return Equipment(key)
        names = self._texts(entries, key, bus.name, bus.allowed)
        document.in_range(node, f"the number of names for {key}", len(names), 1, bus.most)
        return Equipment(key, names)

    def _kernel(self, node: yaml.Node) -> str:
        """Return the version of a kernel; as a number 6.10 would be 6.1 to other programs."""
        expected = 'a version in quotes, such as "6.1",'
        return self._document.matching(node, "kernel", KERNEL_VERSION, expected)

    def _object(self, node: yaml.Node) -> Path | Mapping[str, Path]:
        if not isinstance(node, yaml.MappingNode):
            return self._path(node, "object", Path.is_file)
        entries = self._document.mapping(node, "object", allowed=NAMES)
        if not entries:
            raise self._document.error(node, "object: it needs a .ko, or one for fast and full")
        return {
            name: self._path(entry, f"object: {name}", Path.is_file)
            for name, entry in entries.items()
        }

    def _texts(
        self, entries: Mapping[str, yaml.Node], key: str, pattern: re.Pattern[str], allowed: str
    ) -> tuple[str, ...]:
        if key not in entries:
            return ()
        items = self._document.sequence(entries[key], key)
        return tuple(
            self._document.matching(item, f"an entry of {key}", pattern, allowed) for item in items
        )

    def _headers(self) -> tuple[Path, ...]:
        if "header" not in self._root:
            return ()
        node = self._root["header"]
        items = [node]
        if isinstance(node, yaml.SequenceNode):
            items = self._document.sequence(node, "header")
        return tuple(self._path(item, "header", Path.is_file) for item in items)

    def _include(self) -> tuple[Path, ...]:
        if "include" not in self._root:
            return ()
        items = self._document.sequence(self._root["include"], "include", least=0)
        return tuple(self._path(item, "include", Path.is_dir) for item in items)

    def _pools(self) -> dict[str, tuple[bytes, ...]]:
        if "pools" not in self._root:
            return {}
        document = self._document
        pools: dict[str, tuple[bytes, ...]] = {}
        for name, node in document.mapping(self._root["pools"], "pools").items():
            if not _POOL_NAME.match(name):
                raise document.error(node, f"pool name {name!r}; an identifier is allowed")
            strings = []
            for item in document.sequence(node, f"pool {name!r}"):
                strings.append(document.bytes(item, f"an entry of pool {name!r}"))
                document.in_range(item, "its length", len(strings[-1]), 0, _MAX_POOL_STRING)
            pools[name] = tuple(strings)
        return pools

    def _reset(self) -> ResetSpec:
        if "reset" not in self._root:
            return ResetSpec()
        document, node = self._document, self._root["reset"]
        entries = document.mapping(node, "reset", allowed=RESET_KEYS)
        if len(entries) != 1:
            raise document.error(node, "reset needs exactly one of calls, reload and restore")
        ((kind, value),) = entries.items()
        if kind != "calls":
            document.true(value, kind)
            return ResetSpec(ResetKind(kind))
        items = document.sequence(value, "reset calls")
        lines = tuple(document.string(item, "a reset call") for item in items)
        numbers = tuple(document.line(item) for item in items)
        # Parsing the text is the job of fuzzer.program; its macros' values are needed here.
        for text, number in zip(lines, numbers, strict=True):
            if found := _RESET_IOCTL.match(text):
                self._symbols.constant(found[1], number)
        return ResetSpec(ResetKind.CALLS, lines, numbers)

    def _facts(self, shape: Target, include: tuple[Path, ...]) -> Header:
        """Return the meanings of names: from the headers, else from the driver as it is built."""
        constants, structs = self._symbols.constants, self._symbols.structs
        problem: BadInputError | None = None
        if shape.headers:
            try:
                return read_headers(
                    shape.headers,
                    home=self._directory,
                    include=include,
                    constants=[*constants],
                    structs=[*structs],
                )
            except UnknownSymbolError as error:
                problem = self._unknown(error)
                if not _mentions(shape.module.source, error.symbol):
                    raise problem from None
            except BadInputError as error:
                problem = self._document.error(self._root["header"], f"{error}; {_NOT_FOR_USER}")
        if not constants and not structs and (problem is None or self._source is not None):
            return Header({}, {}, () if problem is None else None)
        if self._source is None:
            raise problem or self._no_header()
        try:
            return self._source(shape, constants=[*constants], structs=[*structs])
        except UnknownSymbolError as error:
            raise self._unknown(error) from None

    def _unknown(self, error: UnknownSymbolError) -> BadInputError:
        where = self._symbols.constants.get(error.symbol) or self._symbols.structs[error.symbol]
        return self._document.error(where, str(error))

    def _no_header(self) -> BadInputError:
        needed = self._symbols.constants | self._symbols.structs
        name, where = min(needed.items(), key=lambda item: self._document.line(item[1]))
        return self._document.error(
            where, f"{name} needs a header; name it with 'header', or give a number"
        )


def _mentions(source: Path | None, name: str) -> bool:
    """Return whether a driver's source mentions a name, which costs less to find than a build."""
    word = re.compile(rb"\b%s\b" % name.encode())
    files = source.rglob("*.[ch]") if source is not None else ()
    return any(is_regular(path, within=source) and word.search(read_bytes(path)) for path in files)
