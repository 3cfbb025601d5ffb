# SPDX-License-Identifier: Apache-2.0
"""The module that is chosen of a driver's, for a toy of a kernel and a guest that is made up."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign import discovery, trial_loads
from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe, seeds
from fuzzer.campaign.discovery import discover, lacks_its_own
from fuzzer.driver.author_build import BuildFailedError
from fuzzer.driver.driver import Driver, Needed
from fuzzer.driver.fitting import Means, fitted
from fuzzer.driver.operations import OperationTable
from fuzzer.driver.source.interface import NOTHING, Interface
from fuzzer.driver.source_build import BuiltModule, SourceBuild
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.kernel.needs.needs import Needs
from fuzzer.machine.accel import Accel
from fuzzer.machine.machine import DriverImage
from fuzzer.target.device import Device
from fuzzer.target.equipment import Equipment
from fuzzer.target.target import load_target
from tests.unit.linking_kernel import SOURCE, toy_kernel
from tests.unit.made_module import make_module

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

    load_log = b""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    kernel = toy_kernel(tmp_path / "kernel")
    means = Means(ensure=lambda *_: kernel, versions=tuple)
    monkeypatch.setattr(discovery, "fitted", functools.partial(fitted, means=means))
    monkeypatch.setattr(trial_loads, "bus_devices", lambda *_: ())
    monkeypatch.setattr(trial_loads, "ensure_base", lambda *_: (None, None))
    monkeypatch.setattr(trial_loads, "Machine", _Machine)
    for module in (discovery, trial_loads):
        monkeypatch.setattr(module, "read_operations", lambda *_: ())
    monkeypatch.setattr(discovery, "driver_ioctls", lambda *_: ())
    monkeypatch.setattr(discovery, "driver_interface", lambda *_: NOTHING)
    return kernel


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Callable[[Made], None]:
    """Return what says which files modules make."""

    def make(made: Made) -> None:
        def find(_machine: object, image: DriverImage) -> tuple[Device, ...]:
            path = made(image.name, frozenset(name for _, name, _ in image.needs))
            return (Device(path),) if path else ()

        monkeypatch.setattr(trial_loads, "find_devices", find)

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


def _found(path: Path, module: str = "") -> DriverFacts:
    return discover(Choice(path, module), KernelOptions(), Accel.TCG, Flavour.FAST)[0]


def _noting_needs(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> list[str]:
    """Let discovery find no kernel with more options; return a list of those that it asks for."""
    asked: list[str] = []

    def needs(_output: str, _kernel: Kernel, kconfig: str, _unlinked: object) -> Needs:
        asked.append(kconfig)
        return Needs(())

    means = Means(ensure=lambda *_: kernel, versions=tuple, needs=needs)
    monkeypatch.setattr(discovery, "fitted", functools.partial(fitted, means=means))
    return asked


@pytest.mark.parametrize("module", ["", "drv"])
def test_a_driver_is_loaded_after_what_registers_its_device(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, module: str
) -> None:
    guest(lambda name, needs: "/dev/drv" if name == "drv" and "setup" in needs else "")
    facts = _found(_driver(tmp_path, "drv", "other", "setup"), module)
    assert (facts.name, facts.needs) == ("drv", ("setup",))
    assert facts.devices == (Device("/dev/drv"),)


def test_a_driver_whose_source_cannot_be_read_is_described_as_before(
    kernel: Kernel,
    guest: Callable[[Made], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def unreadable(*_: object) -> Interface:
        raise BadInputError("no libclang here\nand more")

    monkeypatch.setattr(discovery, "driver_interface", unreadable)
    guest(lambda name, _: f"/dev/{name}")
    facts = _found(_driver(tmp_path, "drv"))
    assert (facts.name, facts.interface) == ("drv", NOTHING)
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "source of drv" in line)
    assert told.endswith("no more than its macros do: no libclang here")


def test_a_module_that_makes_its_files_alone_is_loaded_alone(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path
) -> None:
    guest(lambda name, _: "/dev/drv" if name == "drv" else "")
    facts = _found(_driver(tmp_path, "drv", "setup"))
    assert (facts.name, facts.needs) == ("drv", ())


def test_a_driver_whose_calls_only_fail_gets_a_kernel_in_which_they_do_not(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest(lambda *_: "")
    stub = "#ifdef CONFIG_BELL\nint ring(void);\n#else\n"
    stub += "static inline int ring(void)\n{\n\treturn -ENOSYS;\n}\n#endif\n"
    header = kernel.source / "include" / "linux" / "bell.h"
    header.parent.mkdir(parents=True)
    header.write_text(stub)
    path = _driver(tmp_path, "drv")
    calls = f'#define ENOSYS 38\n#include "{header}"\nint init(void) {{ return ring(); }}\n'
    (path / "drv.c").write_text(calls + SOURCE.replace("name=toy", "name=drv"))
    asked = _noting_needs(monkeypatch, kernel)
    with pytest.raises(BuildFailedError, match=r"calling ring\(\) takes a kernel with BELL"):
        _found(path)
    assert asked == ["depends on BELL\n"]
    # A kernel of the user's is taken as it is.
    monkeypatch.setattr(trial_loads, "require_options", lambda options, *_: options and 1 / 0)
    with pytest.raises(BadInputError, match=r"without BELL: calling ring\(\) only fails"):
        discover(Choice(path), KernelOptions(build=kernel.directory), Accel.TCG, Flavour.FAST)


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


@pytest.mark.parametrize(
    ("path", "struct", "can"),
    [
        ("/dev/drv", "file_operations", {"write"}),
        ("/proc/drv", "file_operations", {"read", "write", "lseek"}),
        ("/proc/drv", "proc_ops", {"write"}),
        ("/sys/class/drv/x", "proc_ops", {"read", "write", "lseek"}),
    ],
)
def test_a_file_of_proc_is_read_though_the_drivers_own_table_has_no_read(
    kernel: Kernel,
    guest: Callable[[Made], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    path: str,
    struct: str,
    can: set[str],
) -> None:
    table = OperationTable("drv_fops", struct, frozenset({"write"}))
    monkeypatch.setattr(discovery, "read_operations", lambda *_: (table,))
    guest(lambda *_: path)
    assert _found(_driver(tmp_path, "drv")).operations == can


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
    equip(monkeypatch, on_buses=[Equipment("platform", ("board-drv",))])
    with pytest.raises(BadInputError, match="Registered for it: the platform device board-drv, wi"):
        _found(path)


def equip(
    monkeypatch: pytest.MonkeyPatch,
    *,
    asked: Sequence[Equipment] = (),
    on_buses: Sequence[Equipment] = (),
) -> None:
    """Let a driver ask for equipment, and take it."""

    def take(driver: Driver, equipment: Sequence[Equipment], _kernel: Kernel) -> Driver:
        path = driver.object
        return replace(driver, needs=tuple(Needed(path.with_name(each.bus)) for each in equipment))

    monkeypatch.setattr(trial_loads, "asked_for", lambda _: tuple(asked))
    monkeypatch.setattr(trial_loads, "bus_devices", lambda *_: tuple(on_buses))
    monkeypatch.setattr(trial_loads, "with_equipment", take)
    monkeypatch.setattr(Driver, "needed_images", _names_of_needs)


def _names_of_needs(driver: Driver) -> tuple[tuple[bytes, str, str], ...]:
    return tuple((b"", each.path.stem, each.params) for each in driver.needs)


def test_hardware_is_stood_in_for(
    kernel: Kernel,
    guest: Callable[[Made], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (kernel.directory / ".config").write_text("CONFIG_GPIOLIB=y\n")
    lines, board = Equipment("gpio"), Equipment("platform", ("drv",))
    equip(monkeypatch, asked=[lines], on_buses=[board])
    guest(lambda _, needs: "/dev/drv" if needs == {"gpio", "platform"} else "")
    facts = _found(_driver(tmp_path, "drv"))
    assert (facts.devices, facts.equipment) == ((Device("/dev/drv"),), (lines, board))
    said = capsys.readouterr().err
    assert "registering gpio lines for drv\n" in said
    assert "registering the platform device drv for drv\n" in said


def test_a_driver_that_makes_its_files_gets_the_lines_that_it_asks_for(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel.directory / ".config").write_text("CONFIG_GPIOLIB=y\n")
    equip(monkeypatch, asked=[Equipment("gpio"), Equipment("i2c", ("chip",))])
    guest(lambda *_: "/dev/drv")
    path = _driver(tmp_path, "drv")
    assert _found(path).equipment == (Equipment("gpio"),)
    guest(lambda _, needs: "" if needs else "/dev/drv")
    assert _found(path).equipment == ()
    guest(lambda *_: "/dev/drv")
    # A kernel of the user's is what it is.
    (kernel.directory / ".config").write_text("")
    given = KernelOptions(build=tmp_path)
    facts, _ = discover(Choice(path), given, Accel.TCG, Flavour.FAST)
    assert (facts.devices, facts.equipment) == ((Device("/dev/drv"),), ())


def test_what_stands_in_for_hardware_may_take_another_kernel(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel.directory / ".config").write_text("")
    equip(monkeypatch, asked=[Equipment("i2c", ("drv",))])
    guest(lambda _, needs: "/dev/drv" if needs == {"i2c"} else "")
    asked: list[str] = []

    def needs(_output: str, _kernel: Kernel, kconfig: str, _unlinked: object) -> Needs:
        asked.append(kconfig)
        (kernel.directory / ".config").write_text("CONFIG_I2C=y\n")
        return Needs(("I2C=y",))

    means = Means(ensure=lambda *_: kernel, versions=tuple, needs=needs, ready=lambda *_: kernel)
    monkeypatch.setattr(discovery, "fitted", functools.partial(fitted, means=means))
    facts = _found(_driver(tmp_path, "drv"))
    assert asked == ["depends on I2C\n"]
    assert (facts.config, facts.equipment) == (("I2C=y",), (Equipment("i2c", ("drv",)),))


def test_a_kernel_is_asked_for_what_hardware_takes_with_what_the_driver_lacks(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = ("vermagic=6.12.0", "alias=usb:vFFF0pFFF0d*dc*dsc*dp*ic*isc*ip*in*")
    module = make_module(tmp_path / "drv.ko", entries, calls=["usb_add"])
    (tmp_path / "build.log").touch()
    built = SourceBuild(
        tmp_path, "key", (BuiltModule(module, "drv", undefined=("usb_add",)),), (), "make"
    )
    monkeypatch.setattr(discovery, "build_source", lambda *_: built)
    asked = _noting_needs(monkeypatch, kernel)
    with pytest.raises(BuildFailedError, match=r"drv\.ko needs .*: usb_add"):
        _found(tmp_path)
    assert "depends on USB_DUMMY_HCD\n" in asked[0]


def test_why_a_driver_is_not_loaded_is_told_with_its_hardware(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kernel.directory / ".config").write_text("CONFIG_GPIOLIB=y\n")
    equip(monkeypatch, asked=[Equipment("gpio")])

    def find(_machine: object, image: DriverImage) -> tuple[Device, ...]:
        raise BadInputError(f"loading drv: refused with {[name for _, name, _ in image.needs]}")

    monkeypatch.setattr(trial_loads, "find_devices", find)
    with pytest.raises(BadInputError) as caught:
        _found(_driver(tmp_path, "drv"))
    first, *others = str(caught.value).splitlines()
    assert first == "loading drv: refused with ['gpio']"
    assert any(line.startswith("Registered for it: gpio lines, without") for line in others)
    assert any("before it loads" in line for line in others)


def test_what_compiles_is_of_no_use_without_what_it_calls(tmp_path: Path) -> None:
    (tmp_path / "core.c").write_text("int core;\nEXPORT_SYMBOL_GPL( core_get );\n")

    def built(*undefined: str) -> SourceBuild:
        modules = (BuiltModule(tmp_path / "front.ko", "front", undefined=undefined),)
        return SourceBuild(tmp_path, "key", modules, ("core.o",), "make")

    assert lacks_its_own(built("printk", "core_get"))
    # A kernel that is only prepared has no symbol at all.
    assert not lacks_its_own(built("printk"))


def test_a_driver_that_makes_no_file_but_a_report_is_loaded_by_programs(
    kernel: Kernel, guest: Callable[[Made], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert kernel.directory.is_dir()
    guest(lambda *_: "")
    driver = _driver(tmp_path, "drv")
    with pytest.raises(BadInputError):
        _found(driver)
    monkeypatch.setattr(_Machine, "load_log", b"2,1,1,-;kernel BUG at drivers/drv.c:3!\n")
    facts = _found(driver)
    assert facts.fails
    assert [device.path for device in facts.devices] == ["/dev/drv"]
    assert all("load(" in text for text in seeds(facts).values())
    assert "fails: true" in describe(facts, "")
