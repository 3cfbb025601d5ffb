# SPDX-License-Identifier: Apache-2.0
"""A target: the interface of one driver, and ``load_target``, which reads its description."""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from fuzzer.errors import BadInputError
from fuzzer.target.call_parser import CallParser
from fuzzer.target.calls import CallSpec
from fuzzer.target.device import (
    MAJOR_NAME,
    MAJOR_NAME_ALLOWED,
    MAX_DEVICES,
    MAX_MAJOR,
    MAX_MINOR,
    PATH,
    PATH_ALLOWED,
    Device,
)
from fuzzer.target.document import Document
from fuzzer.target.header import Header, UnknownSymbolError, read_header
from fuzzer.target.layout import StructLayout
from fuzzer.target.symbols import Symbols

_KEYS = (
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


@dataclass(frozen=True, slots=True)
class ModuleSpec:
    """The driver: exactly one of ``source``, ``object`` and ``builtin``.

    ``source`` is a Kbuild directory, ``object`` a .ko. ``builtin`` are C files of
    the kernel's own tree, relative to it, which the options ``config`` (``NAME=y``)
    build into the kernel.
    """

    source: Path | None
    object: Path | None
    name: str
    params: str = ""
    builtin: tuple[str, ...] = ()
    config: tuple[str, ...] = ()


class ResetKind(enum.Enum):
    """How to get back to the known state between programs."""

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
    uses, by name; ``structs`` its structs' layouts, by tag.
    """

    name: str
    devices: tuple[Device, ...]
    path: Path
    module: ModuleSpec
    header: Path | None
    pools: Mapping[str, tuple[bytes, ...]]
    calls: tuple[CallSpec, ...]
    reset: ResetSpec
    call_timeout_ms: int
    constants: Mapping[str, int]
    structs: Mapping[str, StructLayout]

    @property
    def device(self) -> str:
        """The path of the first device."""
        return self.devices[0].path


def module_name(name: str) -> str:
    """Return the name that the kernel knows a module by: without hyphens, unlike its file's."""
    return name.replace("-", "_")


def load_target(path: Path) -> Target:
    """Read a target description and the C header it names.

    Raises BadInputError with file, line and what is allowed, and
    InfrastructureError when the header cannot be compiled for lack of gcc.
    """
    return _Loader(path).target()


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
    def __init__(self, path: Path) -> None:
        self._document = document = Document(path)
        self._directory = path.absolute().parent
        self._symbols = Symbols(document)
        self._root = document.mapping(
            document.root, "a target description", allowed=_KEYS, required=_REQUIRED
        )

    def target(self) -> Target:
        document, root = self._document, self._root
        document.integer(root["version"], "version", 1, 1)
        name = self._matching(root["name"], "name", _NAME, "letters, digits, _ and -")
        devices = self._devices()
        module = self._module(root["module"])
        header = self._path(root["header"], "header", Path.is_file) if "header" in root else None
        include = self._include()
        pools = self._pools()
        reset = self._reset()
        timeout = 1000
        if "call_timeout_ms" in root:
            timeout = document.integer(root["call_timeout_ms"], "call_timeout_ms", 1, 600_000)
        parser = CallParser(document, self._symbols, pools)
        calls = parser.calls(root["calls"])
        facts = self._read_header(header, include)
        if facts.constants or facts.structs:
            self._symbols.header = facts
            calls = parser.calls(root["calls"])
        return Target(
            name=name,
            devices=devices,
            path=document.path.absolute(),
            module=module,
            header=header,
            pools=pools,
            calls=calls,
            reset=reset,
            call_timeout_ms=timeout,
            constants=facts.constants,
            structs=facts.structs,
        )

    def _devices(self) -> tuple[Device, ...]:
        document, root = self._document, self._root
        if ("device" in root) == ("devices" in root):
            given = "both 'device' and 'devices'" if "device" in root else "no 'device'"
            raise document.error(
                root.get("devices", document.root),
                f"a target description has {given}; exactly one of 'device' (a path) and "
                "'devices' (a list) is needed",
            )
        if "device" in root:
            return (Device(self._matching(root["device"], "device", PATH, PATH_ALLOWED)),)
        items = document.sequence(root["devices"], "devices")
        document.in_range(root["devices"], "the number of devices", len(items), 1, MAX_DEVICES)
        devices: list[Device] = []
        for item in items:
            device = self._one_device(item)
            if device.path in [other.path for other in devices]:
                raise document.error(item, f"{device.path} is named twice; once is allowed")
            devices.append(device)
        return tuple(devices)

    def _one_device(self, node: yaml.Node) -> Device:
        document = self._document
        what = "an entry of devices"
        if not isinstance(node, yaml.MappingNode):
            return Device(self._matching(node, what, PATH, PATH_ALLOWED))
        keys = ("path", "major", "minor", "block")
        entries = document.mapping(node, what, allowed=keys, required=("path", "major"))
        path = self._matching(entries["path"], "path", PATH, PATH_ALLOWED)
        if not path.startswith("/dev/"):
            raise document.error(
                entries["path"], f"path is {path!r}; a node with a major can be made below /dev"
            )
        major: str | int
        if document.is_integer(entries["major"]):
            major = document.integer(entries["major"], "major", 0, MAX_MAJOR)
        else:
            major = self._matching(entries["major"], "major", MAJOR_NAME, MAJOR_NAME_ALLOWED)
        minor = 0
        if "minor" in entries:
            minor = document.integer(entries["minor"], "minor", 0, MAX_MINOR)
        if "block" in entries:
            document.true(entries["block"], "block")
        return Device(path, major, minor, "block" in entries)

    def _matching(self, node: yaml.Node, what: str, pattern: re.Pattern[str], allowed: str) -> str:
        text = self._document.text(node, what)
        if not pattern.match(text):
            raise self._document.error(node, f"{what} is {text!r}; {allowed} is allowed")
        return text

    def _path(self, node: yaml.Node, what: str, is_right: Callable[[Path], bool]) -> Path:
        """Return a path relative to the description that exists as what it should be."""
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
        keys = ("source", "object", "builtin", "config", "name", "params")
        entries = document.mapping(node, "module", allowed=keys, required=("name",))
        if sum(key in entries for key in ("source", "object", "builtin")) != 1:
            raise document.error(
                node, "module needs exactly one of 'source', 'object' and 'builtin'"
            )
        for key in ("config", "params"):
            if key in entries and ("builtin" in entries) != (key == "config"):
                owner = "" if key == "config" else "out"
                raise document.error(entries[key], f"'{key}' goes with{owner} 'builtin'")
        source = built = None
        if "source" in entries:
            source = self._path(entries["source"], "source", Path.is_dir)
            if not any((source / name).is_file() for name in ("Kbuild", "Makefile")):
                raise document.error(entries["source"], f"source: {source} has no Kbuild file")
        elif "object" in entries:
            built = self._path(entries["object"], "object", Path.is_file)
        builtin = self._texts(entries, "builtin", _KERNEL_SOURCE, "a .c file of the kernel's tree")
        config = self._texts(entries, "config", _OPTION, "NAME=y, without CONFIG_,")
        params = ""
        if "params" in entries:
            params = self._matching(entries["params"], "params", _PARAMS, _PARAMS_ALLOWED)
        name = self._matching(entries["name"], "module name", _NAME, "letters, digits, _ and -")
        return ModuleSpec(source, built, name, params, builtin, config)

    def _texts(
        self, entries: Mapping[str, yaml.Node], key: str, pattern: re.Pattern[str], allowed: str
    ) -> tuple[str, ...]:
        if key not in entries:
            return ()
        items = self._document.sequence(entries[key], key)
        return tuple(self._matching(item, f"an entry of {key}", pattern, allowed) for item in items)

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
        entries = document.mapping(node, "reset", allowed=("calls", "reload", "restore"))
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

    def _read_header(self, header: Path | None, include: tuple[Path, ...]) -> Header:
        constants, structs = self._symbols.constants, self._symbols.structs
        if header is None:
            needed = constants | structs
            for name, line in sorted(needed.items(), key=lambda item: item[1]):
                raise self._document.error(
                    line, f"{name} needs a header; name it with 'header', or give a number"
                )
            return Header({}, {})
        try:
            return read_header(header, include=include, constants=[*constants], structs=[*structs])
        except UnknownSymbolError as error:
            line = constants.get(error.symbol) or structs[error.symbol]
            raise self._document.error(line, str(error)) from None
        except BadInputError as error:
            raise self._document.error(self._root["header"], str(error)) from None
