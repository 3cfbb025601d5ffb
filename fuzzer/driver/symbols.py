# SPDX-License-Identifier: Apache-2.0
"""Names of a built driver, read once: they are kept in the cache, by the driver's key."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fuzzer.cache import build_once, content_key
from fuzzer.driver.compiled import CompiledDriver, read_module
from fuzzer.driver.driver import Driver, build_driver
from fuzzer.driver.ioctls import IoctlMacro
from fuzzer.driver.source.child import read_apart
from fuzzer.driver.source.interface import Interface, from_json, to_json
from fuzzer.driver.source_build import build_root
from fuzzer.kernel.kernel import Kernel
from fuzzer.progress import say
from fuzzer.sandbox import KernelView, Sandbox
from fuzzer.target.header import Header
from fuzzer.target.layout import layout_from_json, layout_to_json
from fuzzer.target.probe import CompilerRun
from fuzzer.target.target import SymbolSource, Target

# Changes when other things are read, or in another way.
_VERSION = "2"
# The same, of what is read with libclang.
_READING = "12"
_KEEP = 200
_FILE = "symbols.json"
_COMPILE_SECONDS = 120.0


def symbol_source(
    kernel_for: Callable[[Target], Kernel], run: CompilerRun | None = None
) -> SymbolSource:
    """Return a source of the names in a target's driver, for ``load_target``.

    The driver is built first, against the kernel that ``kernel_for`` returns, unless it comes
    ready built. ``run`` runs the compiler, in a sandbox if it is None.
    """

    def look_up(target: Target, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
        given = target.module.object
        if given is not None:
            path = given if isinstance(given, Path) else next(iter(given.values()))
            return read_module(path, constants=constants, structs=structs)
        kernel = kernel_for(target)
        driver = build_driver(target, kernel)
        return driver_symbols(driver, kernel, constants=constants, structs=structs, run=run)

    return look_up


def driver_symbols(
    driver: Driver,
    kernel: Kernel,
    *,
    constants: Sequence[str],
    structs: Sequence[str],
    run: CompilerRun | None = None,
) -> Header:
    """Return the meanings of names in a driver that was built from source.

    Raises:
        UnknownSymbolError: it has no such name.
        BadInputError: it does not compile any more.
    """

    def build(directory: Path) -> None:
        say(f"reading names from the source of {driver.name} (seconds)")
        found = _compiled(driver, kernel, run).read(constants=constants, structs=structs)
        _write_header(directory, found)

    key = content_key(_VERSION, driver.key, driver.name, *constants, "", *structs)
    return _read_header(build_once("symbols", key, build, keep=_KEEP))


def driver_ioctls(
    driver: Driver, kernel: Kernel, run: CompilerRun | None = None
) -> tuple[IoctlMacro, ...]:
    """Return the ioctls of a driver that was built from source, by their place in it.

    Raises:
        BadInputError: it does not compile any more.
    """

    def build(directory: Path) -> None:
        _write(
            directory, [_ioctl_to_json(each) for each in _compiled(driver, kernel, run).ioctls()]
        )

    key = content_key(_VERSION, driver.key, driver.name, "ioctls")
    return tuple(map(_ioctl_from_json, _read(build_once("symbols", key, build, keep=_KEEP))))


def driver_known(
    driver: Driver,
    kernel: Kernel,
    *,
    constants: Sequence[str],
    structs: Sequence[str],
    run: CompilerRun | None = None,
) -> Header:
    """Return the meanings of names in a driver that was built from source, as far as known.

    Raises:
        BadInputError: it does not compile any more.
    """

    def build(directory: Path) -> None:
        found = _compiled(driver, kernel, run).known(constants=constants, structs=structs)
        _write_header(directory, found)

    key = content_key(_VERSION, driver.key, driver.name, "known", *constants, "", *structs)
    return _read_header(build_once("symbols", key, build, keep=_KEEP))


def driver_interface(driver: Driver, kernel: Kernel) -> Interface:
    """Return the interface that the source of a driver tells.

    Raises:
        BadInputError: it could not be read, and why.
    """

    def build(directory: Path) -> None:
        say(f"reading the source of {driver.name} (seconds)")
        compiled = _compiled(driver, kernel, None)
        own = tuple(unit.source for unit in compiled.units) if driver.parts else ()
        own = own or (build_root(driver.object.parent),)
        _write(directory, to_json(read_apart(compiled.units, own)))

    key = content_key(_VERSION, _READING, driver.key, driver.name, "interface")
    return from_json(_read(build_once("symbols", key, build, keep=_KEEP)))


def _compiled(driver: Driver, kernel: Kernel, run: CompilerRun | None) -> CompiledDriver:
    directory = kernel.directory if driver.parts else driver.object.parent
    return CompiledDriver(
        directory,
        kernel.directory,
        module=driver.name,
        objects=driver.parts,
        run=run or sandboxed(build_root(directory), kernel),
    )


def sandboxed(root: Path, kernel: Kernel) -> CompilerRun:
    """Return a runner of a compiler for a stranger's files below ``root``, which sees no others."""

    def run(
        command: Sequence[str], directory: Path, *, scratch: Path
    ) -> subprocess.CompletedProcess[bytes]:
        view = KernelView(kernel.release(), kernel.directory, kernel.source)
        environment = {"TMPDIR": str(scratch)}
        sandbox = Sandbox(scratch, (root,), view, environment)
        return sandbox.capture(command, directory, _COMPILE_SECONDS)

    return run


def _write_header(directory: Path, header: Header) -> None:
    layouts = {name: layout_to_json(layout) for name, layout in header.structs.items()}
    _write(directory, {"constants": dict(header.constants), "structs": layouts})


def _read_header(directory: Path) -> Header:
    content = _read(directory)
    layouts = {name: layout_from_json(each) for name, each in content["structs"].items()}
    return Header(content["constants"], layouts, None)


def _write(directory: Path, content: object) -> None:
    (directory / _FILE).write_text(json.dumps(content))


def _read(directory: Path) -> Any:
    return json.loads((directory / _FILE).read_text())


def _ioctl_to_json(macro: IoctlMacro) -> list[Any]:
    struct = layout_to_json(macro.struct) if macro.struct is not None else None
    place = [str(macro.file), macro.line]
    return [macro.name, macro.number, macro.type, struct, *place, macro.coded]


def _ioctl_from_json(content: list[Any]) -> IoctlMacro:
    name, number, c_type, struct, file, line, coded = content
    layout = layout_from_json(struct) if struct is not None else None
    return IoctlMacro(name, number, c_type, layout, Path(file), line, coded)
