# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for hardware: what a module asks for, what that takes, and how it is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from fuzzer.driver import equipment
from fuzzer.driver.author_build import BuildFailedError
from fuzzer.driver.equipment import (
    asked_for,
    bus_devices,
    equipment_modules,
    interfaces,
    needs_device_tree,
    require,
    require_options,
    wish,
)
from fuzzer.driver.modinfo import read_modinfo
from fuzzer.driver.source_build import BuiltModule
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.complaints import read_dependencies
from fuzzer.target.equipment import Equipment, listed, ordered
from fuzzer.target.target import load_target
from tests.unit.made_module import VERMAGIC, make_module


def asked(
    tmp_path: Path, aliases: Sequence[str] = (), calls: Sequence[str] = ()
) -> tuple[Equipment, ...]:
    entries = [f"vermagic={VERMAGIC}", "name=drv", *(f"alias={each}" for each in aliases)]
    return asked_for(read_modinfo(make_module(tmp_path / "drv.ko", entries, calls=calls)))


@pytest.mark.parametrize(
    ("aliases", "calls", "expected"),
    [
        ((), ("misc_register",), ()),
        (("pci:v00001AF4d*",), (), ()),
        (("i2c:lm75", "i2c:ds75"), ("i2c_register_driver",), [("i2c", "ds75", "lm75")]),
        # It makes its client itself.
        (("i2c:oled",), ("i2c_get_adapter", "i2c_new_client_device"), [("i2c",)]),
        (("spi:w25q", "of:N*T*Cwinbond,w25q"), (), [("spi", "w25q")]),
        ((), ("spi_busnum_to_master", "spi_new_device"), [("spi",)]),
        ((), ("gpio_to_desc",), [("gpio",)]),
        ((), ("my_gpio_request",), ()),
        (("i2c:expander",), ("devm_gpiod_get",), [("gpio",), ("i2c", "expander")]),
        # A driver for device trees alone, of this bus and of another one.
        (("of:N*T*Cti,tmpC*", "of:N*T*Cti,tmp"), ("i2c_register_driver",), [("i2c", "tmp")]),
        (("of:N*T*Cti,tmp",), ("__platform_driver_register",), ()),
        (("usb:vFFF0pFFF0d*dc*dsc*dp*ic*isc*ip*in*",), (), [("usb", "FFF0:FFF0")]),
        (
            (
                "usb:v*p*d*dc*dsc*dp*ic03isc01ip02in*",
                "usb:v0781p5581d00*dc*dsc*dp*ic*isc*ip*in*",
            ),
            (),
            [("usb", "0781:5581")],
        ),
        (("usb:v*p*d*dc*dsc*dp*ic08isc*ip50in*",), (), [("usb", "1209:0001:080050")]),
        (("usb:v05ACp*d*dc*dsc*dp*icFFiscFEip02in*",), (), [("usb", "05AC:0001:FFFE02")]),
        (("usb:v05ACp1234d*dc*dsc*dp*icFFisc*ip*in*",), (), [("usb", "05AC:1234:FF0000")]),
        (("usb:v05ACp*d*dc*dsc*dp*ic*isc*ip*in*",), (), [("usb", "05AC:0001")]),
        (("usb:v*p*d*dc09dsc*dp*ic*isc*ip*in*",), (), ()),
    ],
)
def test_what_a_module_asks_for(
    aliases: Sequence[str],
    calls: Sequence[str],
    expected: Sequence[tuple[str, ...]],
    tmp_path: Path,
) -> None:
    assert asked(tmp_path, aliases, calls) == tuple(
        Equipment(bus, tuple(names)) for bus, *names in expected
    )


def test_of_many_names_so_many_are_taken_as_fit(tmp_path: Path) -> None:
    (found,) = asked(tmp_path, [f"i2c:chip{number}" for number in range(20)])
    assert found.names == tuple(f"chip{number}" for number in (0, 1, 10, 11, 12, 13, 14, 15))
    assert asked(tmp_path, ["i2c:a,b", "i2c:" + 20 * "x"]) == ()


def test_the_functions_of_lines_are_read_from_the_source(tmp_path: Path) -> None:
    (tmp_path / "drv.c").write_text(
        'led = devm_gpiod_get(&pdev->dev, "led", GPIOD_OUT_LOW);\n'
        'reset = gpiod_get_optional(get_device(dev),\n\t"reset", GPIOD_OUT_LOW);\n'
        'gpiod_get(dev, NULL, 0); dev_err(dev, "no line"); gpiod_get_value(led);\n'
    )
    assert asked(tmp_path, (), ("devm_gpiod_get",)) == (Equipment("gpio", ("led", "reset")),)
    # It is another module's.
    assert asked(tmp_path, (), ("gpio_to_desc",)) == (Equipment("gpio"),)
    assert asked(tmp_path, (), ("misc_register",)) == ()


def test_a_table_for_device_trees_is_needed_where_there_is_no_other(tmp_path: Path) -> None:
    def needs(aliases: Sequence[str], *calls: str) -> bool:
        entries = [f"vermagic={VERMAGIC}", "name=drv", *(f"alias={each}" for each in aliases)]
        return needs_device_tree(
            read_modinfo(make_module(tmp_path / "drv.ko", entries, calls=calls))
        )

    assert needs(["of:N*T*Cti,tmp"], "i2c_register_driver")
    assert not needs(["of:N*T*Cti,tmp", "i2c:tmp"], "i2c_register_driver")
    assert not needs(["of:N*T*Cti,tmp"], "i2c_register_driver", "i2c_get_adapter")
    assert not needs(["of:N*T*Cti,tmp"], "__spi_register_driver")


def _kernel(tmp_path: Path, *options: str) -> Kernel:
    (tmp_path / ".config").write_text("".join(f"CONFIG_{each}=y\n" for each in options))
    return Kernel("fast", tmp_path, tmp_path, "key")


def test_what_a_kernel_is_without_is_told_as_a_need_of_the_driver(tmp_path: Path) -> None:
    wanted = (Equipment("i2c", ("lm75",)), Equipment("usb", ("FFF0:FFF0",)))
    require(wanted, _kernel(tmp_path, "I2C", "USB", "USB_GADGET", "USB_DUMMY_HCD"))
    with pytest.raises(BuildFailedError) as caught:
        require(wanted, _kernel(tmp_path, "I2C", "USB"))
    assert str(caught.value) == (
        "registering the i2c device lm75 and the usb device FFF0:FFF0 takes a kernel with "
        "USB_GADGET, USB_DUMMY_HCD"
    )
    assert read_dependencies(caught.value.kconfig) == ("USB_GADGET", "USB_DUMMY_HCD")
    assert read_dependencies(wish(wanted[:1], device_tree=True)) == ("I2C", "OF")
    require((), _kernel(tmp_path))


def test_a_subsystem_may_make_files_by_an_option_alone(tmp_path: Path) -> None:
    entries = [f"vermagic={VERMAGIC}"]
    keys, mere = (
        read_modinfo(make_module(tmp_path / f"{call}.ko", entries, calls=[call]))
        for call in ("input_register_device", "printk")
    )
    assert interfaces(keys) == ("INPUT_EVDEV",)
    assert not interfaces(mere)
    require_options(("INPUT_EVDEV",), _kernel(tmp_path, "INPUT_EVDEV"), "a file")
    with pytest.raises(BuildFailedError, match="a file takes a kernel with INPUT_EVDEV") as caught:
        require_options(("INPUT_EVDEV",), _kernel(tmp_path), "a file")
    assert read_dependencies(caught.value.kconfig) == ("INPUT_EVDEV",)


def test_each_bus_has_its_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[list[str]] = []

    def build(_source: Path, _kernel: Kernel, variables: list[str]) -> SimpleNamespace:
        built.append(variables)
        return SimpleNamespace(module=lambda name: BuiltModule(Path(f"{name}.ko"), name))

    monkeypatch.setattr(equipment, "build_source", build)
    wanted = (Equipment("gpio"), Equipment("platform", ("a", "b")))
    assert equipment_modules(wanted, _kernel(tmp_path, "GPIOLIB")) == (
        (Path("pkvfuzz_gpio.ko"), ""),
        (Path("pkvfuzz_platform.ko"), "names=a,b"),
    )
    assert built == [["PKVFUZZ_DEVICES=gpio"], ["PKVFUZZ_DEVICES=platform"]]


class _Guest:
    """A guest in which a driver registers itself on buses when it is loaded."""

    def __init__(self, *drivers: str) -> None:
        self._lists = [("platform/drivers/old",), ("platform/drivers/old", *drivers)]

    def execute(self, _argv: object, timeout: float) -> SimpleNamespace:
        assert timeout
        return SimpleNamespace(output="\n".join((*self._lists.pop(0), "ls: nothing")).encode())

    def load(self, _driver: object) -> None:
        pass


@pytest.mark.parametrize(
    ("drivers", "aliases", "known", "expected"),
    [
        (("platform/drivers/board",), (), (), [Equipment("platform", ("board",))]),
        (
            ("platform/drivers/board",),
            ("platform:v2", "platform:v1"),
            (),
            [Equipment("platform", ("v1", "v2"))],
        ),
        (
            ("spi/drivers/flash", "i2c/drivers/flash"),
            (),
            (),
            [Equipment("i2c", ("flash",)), Equipment("spi", ("flash",))],
        ),
        (("i2c/drivers/oled",), (), (Equipment("i2c"),), []),
        ((), ("platform:v1",), (), []),
        (("platform/drivers/" + 24 * "x",), (), (), []),
    ],
)
def test_devices_go_by_the_buses_on_which_a_driver_is(
    drivers: Sequence[str],
    aliases: Sequence[str],
    known: Sequence[Equipment],
    expected: Sequence[Equipment],
) -> None:
    info = SimpleNamespace(aliases=aliases)
    found = bus_devices(_Guest(*drivers), None, info, known)  # type: ignore[arg-type]
    assert ordered(found) == tuple(expected)


def test_equipment_is_told_in_words() -> None:
    wanted = [
        Equipment("platform", ("a", "b")),
        Equipment("gpio"),
        Equipment("i2c"),
        Equipment("spi", ("c",)),
    ]
    assert listed(wanted) == (
        "the platform devices a, b and gpio lines and i2c adapters and the spi device c"
    )
    assert str(Equipment("gpio", ("led", "reset"))) == "gpio lines led, reset"
    assert [each.bus for each in ordered(wanted)] == ["gpio", "i2c", "spi", "platform"]
    assert [each.has_devices for each in wanted] == [True, False, False, True]


def _described(tmp_path: Path, keys: str) -> tuple[Equipment, ...]:
    path = tmp_path / "x.yaml"
    module = f"{{source: ., name: x, {keys}}}"
    path.write_text(
        f"version: 1\nname: x\ndevice: /dev/x\nmodule: {module}\ncalls: [{{read: [1]}}]\n"
    )
    return load_target(path).module.equipment


def test_a_description_names_it(tmp_path: Path) -> None:
    keys = 'platform: [b.1], usb: ["FFF0:ffF0"], spi: [c, d], gpio: true, i2c: true'
    assert _described(tmp_path, keys) == (
        Equipment("gpio"),
        Equipment("i2c"),
        Equipment("spi", ("c", "d")),
        Equipment("usb", ("FFF0:ffF0",)),
        Equipment("platform", ("b.1",)),
    )


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("gpio: ['l,d']", "an entry of gpio is 'l,d'; a function of up to"),
        ("gpio: false", r"a list of names or true \(leave"),
        ("i2c: lm75", r"i2c is a string 'lm75'; a list of names or true \(leave"),
        ("i2c: ['a,b']", "an entry of i2c is 'a,b'; a name of up to 19 characters is allowed"),
        ("platform: true", "platform"),
        ("spi: []", "spi"),
        ("usb: ['FFF0']", "an entry of usb is 'FFF0'; an id such as"),
        ("usb: ['FFF0:0001', 'FFF0:0002']", "the number of names for usb is 2; 1 to 1 is allowed"),
        ("platform: [a, b, c, d, e, f, g, h, i]", "the number of names for platform is 9"),
    ],
)
def test_what_it_cannot_be(keys: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=message):
        _described(tmp_path, keys)


def test_it_is_for_drivers_in_source_form(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(
        "version: 1\nname: x\ndevice: /dev/x\nmodule: {builtin: [x.c], name: x, gpio: true}\n"
        "calls: [{read: [1]}]\n"
    )
    with pytest.raises(BadInputError, match="'gpio' goes with 'source' only"):
        load_target(path)
