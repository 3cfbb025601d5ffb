# SPDX-License-Identifier: Apache-2.0
"""The module that is chosen of a driver's, for a toy of a kernel and a guest that is made up."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuzzer.campaign import discovery
from fuzzer.campaign.description import Facts, describe
from fuzzer.campaign.discovery import Choice, discover, lacks_its_own
from fuzzer.errors import BadInputError
from fuzzer.machine.accel import Accel
from fuzzer.machine.author_build import BuildFailedError
from fuzzer.machine.fitting import Means, fitted
from fuzzer.machine.kernel import Flavour, Kernel, KernelOptions
from fuzzer.machine.machine import DriverImage
from fuzzer.machine.source_build import BuiltModule, SourceBuild
from fuzzer.target.device import Device
from fuzzer.target.target import load_target
from tests.unit.linking_kernel import SOURCE, toy_kernel

# What a module makes, by its name and the names of those that were loaded before it.
Made = Callable[[str, frozenset[str]], str]


class _Machine:
    """A guest whose kernel says one thing, whatever is loaded."""

    @classmethod
    @contextlib.contextmanager
    def restore(cls, _base: object) -> Iterator[_Machine]:
        yield cls()

    @staticmethod
    def said() -> str:
        return " The kernel said: drv: no such GPIO"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    kernel = toy_kernel(tmp_path / "kernel")
    means = Means(ensure=lambda *_: kernel, versions=tuple)
    monkeypatch.setattr(discovery, "fitted", functools.partial(fitted, means=means))
    monkeypatch.setattr(discovery, "platform_drivers", lambda *_: ())
    monkeypatch.setattr(discovery, "ensure_base", lambda *_: (None, None))
    monkeypatch.setattr(discovery, "Machine", _Machine)
    monkeypatch.setattr(discovery, "read_operations", lambda *_: ())
    monkeypatch.setattr(discovery, "driver_ioctls", lambda *_: ())
    return kernel


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Callable[[Made], None]:
    """Return what says which files modules make."""

    def make(made: Made) -> None:
        def find(_machine: object, image: DriverImage) -> tuple[Device, ...]:
            path = made(image.name, frozenset(name for _, name, _ in image.needs))
            return (Device(path),) if path else ()

        monkeypatch.setattr(discovery, "find_devices", find)

    return make


def _driver(tmp_path: Path, *names: str, broken: str = "") -> Path:
    """Return the directory of a driver with some modules, one of which does not compile."""
    directory = tmp_path / "driver"
    directory.mkdir()
    for name in names:
        (directory / f"{name}.c").write_text(SOURCE.replace("name=toy", f"name={name}"))
    if broken:
        (directory / f"{broken}.c").write_text("broken\n")
    objects = [f"{name}.o" for name in (*names, broken) if name]
    (directory / "Kbuild").write_text(f"obj-m := {' '.join(objects)}\n")
    return directory


def _found(path: Path, module: str = "") -> Facts:
    return discover(Choice(path, module), KernelOptions(), Accel.TCG, Flavour.FAST)[0]


@pytest.mark.parametrize("module", ["", "drv"])
def test_a_driver_is_loaded_after_what_registers_its_device(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, module: str
) -> None:
    guest(lambda name, needs: "/dev/drv" if name == "drv" and "setup" in needs else "")
    facts = _found(_driver(tmp_path, "drv", "other", "setup"), module)
    assert (facts.name, facts.needs) == ("drv", ("setup",))
    assert facts.devices == (Device("/dev/drv"),)


def test_a_module_that_makes_its_files_alone_is_loaded_alone(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path
) -> None:
    guest(lambda name, _: "/dev/drv" if name == "drv" else "")
    facts = _found(_driver(tmp_path, "drv", "setup"))
    assert (facts.name, facts.needs) == ("drv", ())


def test_modules_that_make_nothing_are_told_each(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path
) -> None:
    guest(lambda *_: "")
    with pytest.raises(BadInputError, match=r"a: loaded, and made no file\n +b: loaded"):
        _found(_driver(tmp_path, "a", "b"))


def test_a_module_that_does_not_compile_is_told_where_the_others_are_of_no_use(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path
) -> None:
    guest(lambda *_: "")
    with pytest.raises(BuildFailedError, match=r"drv\.o does not compile:\ndrv\.c:1:1: error"):
        _found(_driver(tmp_path, "helper", broken="drv"))


def test_what_is_loaded_before_a_driver_is_in_its_description(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path
) -> None:
    guest(lambda name, needs: "/dev/drv" if name == "drv" and "setup" in needs else "")
    facts = _found(_driver(tmp_path, "drv", "setup"))
    (tmp_path / "drv.yaml").write_text(describe(facts, "Made by a test."))
    assert load_target(tmp_path / "drv.yaml").module.needs == ("setup",)


def test_what_the_kernel_said_is_told_of_a_module_that_makes_nothing(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest(lambda *_: "")
    path = _driver(tmp_path, "drv")
    with pytest.raises(BadInputError) as caught:
        _found(path)
    assert str(caught.value).splitlines() == [
        "drv was loaded, but made no file to fuzz. The kernel said: drv: no such GPIO",
        "It has no file operations: it may have nothing that could be fuzzed",
        "If it makes a file later, name it with --device",
    ]
    monkeypatch.setattr(discovery, "platform_drivers", lambda *_: ("board-drv",))
    monkeypatch.setattr(discovery, "with_platform_devices", lambda driver, *_: driver)
    with pytest.raises(BadInputError, match="A device named board-drv was registered for it"):
        _found(path)


def test_what_compiles_is_of_no_use_without_what_it_calls(tmp_path: Path) -> None:
    (tmp_path / "core.c").write_text("int core;\nEXPORT_SYMBOL_GPL( core_get );\n")

    def built(*undefined: str) -> SourceBuild:
        modules = (BuiltModule(tmp_path / "front.ko", "front", undefined=undefined),)
        return SourceBuild(tmp_path, "key", modules, ("core.o",), "make")

    assert lacks_its_own(built("printk", "core_get"))
    # A kernel that is only prepared has no symbol at all.
    assert not lacks_its_own(built("printk"))
