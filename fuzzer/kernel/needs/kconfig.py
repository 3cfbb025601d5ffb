# SPDX-License-Identifier: Apache-2.0
"""A kernel's Kconfig, and the options to ask for so that others are on.

Options that come into sight stay off unless they are asked for, as in a
variant of a kernel (``fuzzer.kernel.variant``).
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import kconfiglib

from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kbuild import TOP_KCONFIG
from fuzzer.kernel.needs.plans import Plans, is_selectable
from fuzzer.kernel.source import compiler_version

_ON = 2
_PROGRAMS = {
    "CC": "gcc", "HOSTCC": "gcc", "HOSTCXX": "g++", "LD": "ld", "AR": "ar", "NM": "nm",
    "OBJCOPY": "objcopy", "READELF": "readelf", "PAHOLE": "pahole", "RUSTC": "rustc",
    "BINDGEN": "bindgen",
}  # fmt: skip
# Attributes that kconfiglib does not know (newer kernels' ones), and what it makes of them.
_ATTRIBUTES = ((re.compile(r"(?m)^(\s+)modules\s*$"), r"\1option modules"),
               (re.compile(r"(?m)^\s+transitional\s*$"), ""))  # fmt: skip


class _Kconfig(kconfiglib.Kconfig):  # type: ignore[misc]
    """kconfiglib's reader, extended by newer syntax of the kernel's."""

    def _open(self, filename: str, mode: str) -> TextIO:
        file: TextIO = super()._open(filename, mode)
        if mode != "r" or "Kconfig" not in Path(filename).name:
            return file
        with file:
            text = file.read()
        for pattern, replacement in _ATTRIBUTES:
            text = pattern.sub(replacement, text)
        return io.StringIO(text)


class _Setting:
    """An option's lines in the configuration, to be restored."""

    def __init__(self, symbol: Any) -> None:
        self._symbol = symbol
        self._value = symbol.user_value
        self._selection = symbol.choice.user_selection if symbol.choice else None
        self._selectors = symbol.rev_dep

    def turn_on(self) -> None:
        """Turn the option on: as a user would, or by selecting it if it has no prompt."""
        symbol = self._symbol
        if is_selectable(symbol):
            symbol.rev_dep = (kconfiglib.OR, self._selectors, symbol.direct_dep)
            # The library knows of no change to what it has read: values are stale.
            symbol._rec_invalidate()
        else:
            symbol.set_value(_ON)

    def restore(self) -> None:
        if self._symbol.rev_dep is not self._selectors:
            self._symbol.rev_dep = self._selectors
            self._symbol._rec_invalidate()
            return
        choice = self._symbol.choice
        if choice and choice.user_selection is self._symbol:
            choice.unset_value()
            if self._selection:
                self._selection.set_value(_ON)
        if self._value is None:
            self._symbol.unset_value()
        elif not choice:
            self._symbol.set_value(self._value)


class OptionTree:
    """The options of a kernel's source, with the values of one configuration."""

    def __init__(
        self, tree: Path, config: Path, avoided: Iterable[str] = (), arch: str = "x86"
    ) -> None:
        """Read the tree's Kconfig files, which takes seconds.

        ``avoided`` are options that are asked for where nothing else will do.

        Raises:
            InfrastructureError: they cannot be read.
        """
        try:
            top = config.parent / TOP_KCONFIG
            with _environment(_variables(tree, arch)):
                name = str(top.resolve()) if top.is_file() else "Kconfig"
                self._kconfig = kconfig = _Kconfig(name, warn=False)
            for symbol in kconfig.unique_defined_syms:
                if symbol.choice is None:
                    symbol.set_value(0)
            kconfig.load_config(str(config), replace=False)
        except (kconfiglib.KconfigError, OSError, RecursionError) as error:
            first = str(error).strip().splitlines()[:1]
            raise InfrastructureError(f"reading Kconfig of {tree}: {' '.join(first)}") from error
        self._plans = Plans(avoided)

    def known(self, option: str) -> bool:
        """Tell whether there is such an option."""
        symbol = self._kconfig.syms.get(option)
        return symbol is not None and bool(symbol.nodes)

    def on(self, option: str) -> bool:
        """Tell whether the configuration has it, built in or as a module."""
        return self.known(option) and self._kconfig.syms[option].tri_value > 0

    def builtin(self, option: str) -> bool:
        """Tell whether the configuration has it built in."""
        return self.known(option) and bool(self._kconfig.syms[option].tri_value == _ON)

    def plan(self, option: str) -> frozenset[str] | None:
        """Return options to ask for so that one is built in; None if nothing makes it so."""
        symbol = self._kconfig.syms.get(option)
        if symbol is None or not symbol.nodes:
            return None
        plan = self._plans.best(symbol)
        return None if plan is None else frozenset(step.option for step in plan if step.asked)

    def settle(self, wanted: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Return the least to ask for so that options are built in, and those that will not be."""
        wanted = sorted(set(wanted))
        before: dict[str, _Setting] = {}
        for option in wanted:
            # What is asked for so far may be a part of it, or all.
            self._plans.clear()
            for name in sorted(self.plan(option) or ()):
                before.setdefault(name, _Setting(self._kconfig.syms[name])).turn_on()
        had = [option for option in wanted if self.builtin(option)]
        asked = set(before)
        for name, setting in sorted(before.items()):
            setting.restore()
            if all(self.builtin(option) for option in had):
                asked.discard(name)
            else:
                setting.turn_on()
        for setting in before.values():
            setting.restore()
        self._plans.clear()
        return frozenset(asked), frozenset(wanted) - frozenset(had)

    def module_only(self, option: str) -> bool:
        """Tell whether an option can be a module, but not be built in."""
        symbol = self._kconfig.syms.get(option)
        return symbol is not None and 1 in symbol.assignable and _ON not in symbol.assignable

    def selectable(self, option: str) -> bool:
        """Tell whether an option has no prompt, and comes on when another one selects it."""
        symbol = self._kconfig.syms.get(option)
        return symbol is not None and is_selectable(symbol)

    def dependencies(self, option: str) -> str:
        """Return the expression that an option depends on, as Kconfig writes it."""
        symbol = self._kconfig.syms.get(option)
        return "" if symbol is None else kconfiglib.expr_str(symbol.direct_dep)


def _variables(tree: Path, arch: str) -> dict[str, str]:
    version = re.findall(
        r"^(?:VERSION|PATCHLEVEL|SUBLEVEL) *= *(\d+)", (tree / "Makefile").read_text(), re.MULTILINE
    )
    return _PROGRAMS | {
        "srctree": str(tree),
        "ARCH": arch,
        "SRCARCH": arch,
        "KERNELVERSION": ".".join(version),
        "CC_VERSION_TEXT": compiler_version(),
        "CLANG_FLAGS": "",
        "KBUILD_RUSTFLAGS": "",
        # Untouched by what the user's shell has for another kernel.
        "CONFIG_": "CONFIG_",
        "KCONFIG_CONFIG_HEADER": "",
    }


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Set variables of the process for a while: kconfiglib reads them there."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
