# SPDX-License-Identifier: Apache-2.0
"""Facts in a module's file, and a check that the module fits a kernel.

A ``.ko`` is a stranger's file: what is read of it is bounded, and any damage is reported
as bad input.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile

from fuzzer.cache import build_once
from fuzzer.driver.probe_module import build_probe
from fuzzer.errors import BadInputError
from fuzzer.kernel.kbuild import BuiltKernel

_MAX_SECTIONS = 1 << 16
_MAX_INFO = 1 << 20
_MAX_NAMES = 64 << 20
_TRACE_PC = b"\0__sanitizer_cov_trace_pc\0"
# Prefixes of calls into each sanitizer, by the option that turns it on.
_SANITIZERS = {"KASAN": b"\0__asan_", "KCSAN": b"\0__tsan_", "KMSAN": b"\0__msan_"}
# Aliases of these forms name no bus.
_NOT_BUSES = ("devname", "symbol")
_BUS = re.compile(r"([a-z][a-z0-9_-]{0,30}):")
_PROBE = '#include <linux/module.h>\nMODULE_LICENSE("GPL");\n'
_PROBE_NAME = "pkvfuzz_probe"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A module parameter: ``kind`` is ``int``, ``charp``, ``array of int`` and so on."""

    name: str
    kind: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class ModuleInfo:
    """Facts in a module's file.

    ``aliases`` are as in its file, such as ``pci:v00001AF4d*``. ``struct_size`` is that
    of its ``struct module`` in bytes, 0 if it has none; ``machine`` what it was built
    for (``x64``). ``has_coverage`` and ``sanitizers`` (KASAN, KCSAN, KMSAN) tell of
    instrumentation that it calls.
    """

    path: Path
    name: str
    vermagic: str
    depends: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    aliases: tuple[str, ...]
    licence: str
    machine: str
    struct_size: int
    has_coverage: bool
    sanitizers: tuple[str, ...]

    @property
    def buses(self) -> tuple[str, ...]:
        """The buses on which it asks for devices, by its aliases: pci, usb, of, i2c ..."""
        found = (match[1] for alias in self.aliases if (match := _BUS.match(alias)))
        return tuple(sorted({bus for bus in found if bus not in _NOT_BUSES}))

    def fit(self) -> str:
        """Return the facts that a kernel compares with its own before it loads a module."""
        return f"{self.vermagic!r}, struct module of {self.struct_size} bytes"


def read_modinfo(path: Path) -> ModuleInfo:
    """Return the facts in a .ko.

    Raises:
        BadInputError: it cannot be read, or is no kernel module.
    """
    try:
        with path.open("rb") as file:
            return _read(path, ELFFile(file))
    except OSError as error:
        raise BadInputError(f"reading the module {path}: {error.strerror}") from error
    # Errors of pyelftools for a file that is not what its headers say.
    except (
        ELFError,
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        TypeError,
        ValueError,
        struct.error,
    ) as error:
        raise BadInputError(
            f"{path}: not a kernel module: {str(error) or type(error).__name__}. "
            "Give the .ko that the driver's build makes"
        ) from error


def _read(path: Path, elf: ELFFile) -> ModuleInfo:
    if elf.num_sections() > _MAX_SECTIONS:
        raise ValueError(f"it claims {elf.num_sections()} sections")
    fields = _fields(_section(elf, ".modinfo", _MAX_INFO))
    if "vermagic" not in fields:
        raise ValueError("it has no vermagic")
    names = _section(elf, ".strtab", _MAX_NAMES)
    this = elf.get_section_by_name(".gnu.linkonce.this_module")
    return ModuleInfo(
        path=path,
        name=_first(fields, "name") or path.stem.replace("-", "_"),
        vermagic=_first(fields, "vermagic"),
        depends=tuple(filter(None, _first(fields, "depends").split(","))),
        parameters=_parameters(fields),
        aliases=tuple(fields.get("alias", ())),
        licence=_first(fields, "license"),
        machine=str(elf.get_machine_arch()),
        struct_size=int(this["sh_size"]) if this else 0,
        has_coverage=_TRACE_PC in names,
        sanitizers=tuple(name for name, mark in _SANITIZERS.items() if mark in names),
    )


def _section(elf: ELFFile, name: str, limit: int) -> bytes:
    """Return a section's content; nothing if there is none of the name."""
    section = elf.get_section_by_name(name)
    if section is None or section["sh_type"] == "SHT_NOBITS":
        return b""
    if max(section["sh_size"], section.data_size) > limit:
        raise ValueError(f"its {name} is larger than {limit} bytes")
    return bytes(section.data())


def _fields(info: bytes) -> dict[str, list[str]]:
    fields: dict[str, list[str]] = {}
    for entry in info.split(b"\0"):
        key, equals, value = entry.decode(errors="replace").partition("=")
        if equals:
            fields.setdefault(key, []).append(value)
    return fields


def _first(fields: dict[str, list[str]], key: str) -> str:
    return fields.get(key, [""])[0]


def _parameters(fields: dict[str, list[str]]) -> tuple[Parameter, ...]:
    """Return the parameters in order; of some only the type or the description is told."""
    kinds = dict(value.partition(":")[::2] for value in fields.get("parmtype", ()))
    texts = dict(value.partition(":")[::2] for value in fields.get("parm", ()))
    return tuple(
        Parameter(name, kinds.get(name, ""), texts.get(name, "")) for name in {**kinds, **texts}
    )


def expected_modinfo(kernel: BuiltKernel) -> ModuleInfo:
    """Return the facts of a kernel's modules, from an empty one that is built there once.

    Raises:
        InfrastructureError: it does not build.
    """

    def build(directory: Path) -> None:
        build_probe(kernel, directory, _PROBE, f"{_PROBE_NAME}.ko")

    directory = build_once("module", kernel.key, build, keep=8)
    return read_modinfo(directory / f"{_PROBE_NAME}.ko")


def why_unfit(module: Path, kernel: BuiltKernel) -> str | None:
    """Return why a kernel would refuse a .ko, with both sides of it; None if it fits.

    Raises:
        BadInputError: it is no kernel module.
    """
    found, expected = read_modinfo(module), expected_modinfo(kernel)
    if found.machine != expected.machine:
        return f"it was built for {found.machine}, the kernel for {expected.machine}"
    if (found.vermagic, found.struct_size) == (expected.vermagic, expected.struct_size):
        return None
    return (
        "it was built against another kernel, or with another configuration:\n"
        f"    {'the module:':17} {found.fit()}\n"
        f"    {f'the {kernel.name} kernel:':17} {expected.fit()}"
    )
