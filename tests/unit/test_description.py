# SPDX-License-Identifier: Apache-2.0
"""Descriptions that are made: whatever is known of a driver, they can be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.auto_description import learned
from fuzzer.campaign.description import DriverFacts, describe, seeds
from fuzzer.campaign.outlook import unnamed
from fuzzer.cli.main import main
from fuzzer.driver.driver import Driver
from fuzzer.driver.modinfo import Parameter
from fuzzer.driver.symbols import driver_ioctls, driver_symbols
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.program.text import parse_program
from fuzzer.target.calls import (
    AnyIoctlSpec,
    CreateSpec,
    FileKind,
    IoctlSpec,
    PlainKind,
    PlainSpec,
    ReadSpec,
    ReloadSpec,
    WriteSpec,
)
from fuzzer.target.check import DiagnosticSeverity, read_all
from fuzzer.target.device import Device
from fuzzer.target.equipment import Equipment
from fuzzer.target.header import Header
from fuzzer.target.lint import lint
from fuzzer.target.target import Target, load_target
from tests.unit.fake_build import build

WHY = "Made by a test."


def described(facts: DriverFacts, directory: Path) -> Target:
    """Return the target of what is written about a driver; it has no mistakes."""
    path = directory / "made.yaml"
    path.write_text(describe(facts, WHY))
    reading = read_all(path)
    assert not reading.errors
    assert [each for each in lint(reading) if each.severity is not DiagnosticSeverity.NOTE] == []
    assert reading.target is not None
    for text in seeds(facts).values():
        assert parse_program(text, reading.target, "seed")
    return reading.target


@pytest.fixture
def facts(tmp_path: Path) -> DriverFacts:
    """Return what is known of a driver."""
    (tmp_path / "mini").mkdir()
    return DriverFacts("mini", (Device("/dev/mini"),), source=tmp_path / "mini")


@pytest.mark.parametrize(
    "name",
    ["null", "on", "off", "yes", "y", "no", "123", "1e3", "0x10", "7_000", "true", "a-b", "12_30"],
)
def test_names_mean_themselves(name: str, facts: DriverFacts, tmp_path: Path) -> None:
    target = described(replace(facts, name=name), tmp_path)
    assert (target.name, target.module.name) == (name, name)


@pytest.mark.parametrize(
    "name", ["with blank", 'quo"te', "br{ace", "col: on", "hash #1", "new\nline", "tab\t", "'", "%"]
)
def test_directories_may_have_any_name(name: str, facts: DriverFacts, tmp_path: Path) -> None:
    place = tmp_path / name
    place.mkdir()
    target = described(replace(facts, source=place), tmp_path)
    assert target.module.source == place
    path = tmp_path / "made.yaml"
    path.write_text(describe(replace(facts, source=place), f"Made from {place}. To change it: x"))
    assert load_target(path).module.source == place


@pytest.mark.parametrize("stem", ["my.mini", "mini (1)", "ä", "_x", "x" * 80])
def test_a_modules_file_may_have_another_name_than_it_has(
    stem: str, facts: DriverFacts, tmp_path: Path
) -> None:
    path = tmp_path / f"{stem}.ko"
    path.touch()
    target = described(replace(facts, source=None, object=path), tmp_path)
    assert target.module.object == path


@pytest.mark.parametrize(
    "device",
    [
        Device("/dev/null-like"),
        Device("/dev/on"),
        Device('/proc/quo"te'),
        Device("/proc/back\\slash"),
        Device("/proc/{word}"),
        Device("/proc/a:b"),
        Device("/proc/#x"),
        Device("/dev/x", "my driver", 3),
        Device("/dev/x", "null", 0),
        Device("/dev/x", "12", 0),
        Device("/dev/x", 240, 7, block=True),
    ],
)
def test_files_are_named_as_they_are(device: Device, facts: DriverFacts, tmp_path: Path) -> None:
    target = described(replace(facts, devices=(device,)), tmp_path)
    assert target.devices == (device,)
    both = replace(facts, devices=(Device("/dev/first"), device))
    assert described(both, tmp_path).devices == both.devices


def test_many_files_are_all_named(facts: DriverFacts, tmp_path: Path) -> None:
    devices = tuple(Device(f"/dev/mini{number}") for number in range(64))
    assert described(replace(facts, devices=devices), tmp_path).devices == devices


@pytest.mark.parametrize(
    "operations",
    [
        (),
        ("read",),
        ("write",),
        ("ioctl",),
        ("lseek", "poll", "mmap"),
        ("fasync", "lock", "flock", "fsync", "getdents", "fdinfo", "splice_read", "splice_write"),
        ("child",),
        ("read", "write", "lseek", "poll", "ioctl", "mmap", "open"),
    ],
)
def test_only_the_operations_that_there_are_are_called(
    operations: Sequence[str], facts: DriverFacts, tmp_path: Path
) -> None:
    calls = described(replace(facts, operations=frozenset(operations)), tmp_path).calls
    kinds = {ReadSpec: "read", WriteSpec: "write", AnyIoctlSpec: "ioctl"}
    made = {spec.kind.value if isinstance(spec, PlainSpec) else kinds[type(spec)] for spec in calls}
    ring = {"uring"} if {"read", "write"} & {*operations} else set()
    assert made == {*operations, *ring, "open", "close"}


def test_commands_of_any_number_are_made_in_a_ring_if_the_driver_has_a_function_for_them(
    facts: DriverFacts, tmp_path: Path
) -> None:
    operations = frozenset(("uring_cmd", "read"))
    calls = described(replace(facts, operations=operations), tmp_path).calls
    assert PlainSpec(PlainKind.URING, 4) in calls
    assert [each for each in calls if isinstance(each, AnyIoctlSpec)] == [
        AnyIoctlSpec((0, 8, 16, 80), 4, uring=True)
    ]


def test_files_of_the_kinds_that_the_driver_takes_are_created(
    facts: DriverFacts, tmp_path: Path
) -> None:
    kinds = (FileKind.EVENTFD, FileKind.MEMFD)
    calls = described(replace(facts, takes_files=kinds), tmp_path).calls
    assert [each for each in calls if isinstance(each, CreateSpec)] == [CreateSpec(kinds)]


def test_what_the_driver_needs_is_written_down(facts: DriverFacts, tmp_path: Path) -> None:
    known = replace(facts, config=("NET=y", "CRYPTO=y"), params='name="a b" mode=1', kernel="6.1")
    module = described(known, tmp_path).module
    assert set(module.config) == {"CRYPTO=y", "NET=y"}
    assert (module.params, module.kernel) == (known.params, "6.1")


def test_what_is_registered_before_the_driver_is_written_down(
    facts: DriverFacts, tmp_path: Path
) -> None:
    equipment = (
        Equipment("gpio"),
        Equipment("i2c", ("lm75", "on")),
        Equipment("spi"),
        Equipment("usb", ("0951:1666",)),
        Equipment("platform", ("board",)),
    )
    assert described(replace(facts, equipment=equipment), tmp_path).module.equipment == equipment


def test_parameters_are_told_in_comments_whatever_they_say(
    facts: DriverFacts, tmp_path: Path
) -> None:
    parameters = (
        Parameter("size", "int", "bytes\nversion: 2\n# \x1b[31m"),
        Parameter("na\nme: x", "ki\nnd", ""),
        *(Parameter(f"p{number}") for number in range(20)),
    )
    text = describe(replace(facts, parameters=parameters), WHY)
    described(replace(facts, parameters=parameters), tmp_path)
    assert "#   size (int): bytes version: 2 #  [31m\n" in text
    assert "\x1b" not in text
    text = describe(replace(facts, parameters=parameters[1:]), WHY)
    described(replace(facts, parameters=parameters[1:]), tmp_path)
    assert '  # - reload: ["p0=1"]\n' in text
    # What the comment shows can be had by taking the # away.
    (tmp_path / "made.yaml").write_text(text.replace("  # - reload", "  - reload"))
    assert not read_all(tmp_path / "made.yaml").errors


@pytest.mark.parametrize("fails", [False, True])
def test_the_module_is_loaded_with_other_parameters(
    fails: bool, facts: DriverFacts, tmp_path: Path
) -> None:
    parameters = (
        Parameter("size", "uint"),
        Parameter("loud", "bool"),
        Parameter("name", "charp"),
        Parameter("ports", "array of int"),
        Parameter("odd", "of its own"),
    )
    made = described(replace(facts, parameters=parameters, params="id={1}", fails=fails), tmp_path)
    reloads = [spec for spec in made.calls if isinstance(spec, ReloadSpec)]
    templates = [each for spec in reloads for each in spec.templates if each.parts]
    firsts = [each.parts[0] for each in templates]
    names = [b"id={1} name=a"] if fails else [b"id={1} name="] * 2
    assert firsts == [b"id={1} size=", b"id={1} loud=", *names, b"id={1} ports="]
    if not fails:
        lengths = sorted(map(len, made.pools["long"]))
        assert lengths[:3] == [1, 15, 16]
        assert lengths[-1] == 257
    assert unnamed([each.name for each in parameters], made) == ("odd",)


def test_a_module_for_each_kernel_is_named(facts: DriverFacts, tmp_path: Path) -> None:
    objects = {flavour: tmp_path / f"{flavour}.ko" for flavour in ("fast", "full")}
    for path in objects.values():
        path.touch()
    target = described(replace(facts, source=None, object=objects), tmp_path)
    assert target.module.object == objects


SOURCE = """\
#include <linux/ioctl.h>
struct file;
struct toy_arg { unsigned int a, b; char name[8]; void *data; };
struct toy_many { int m0, m1, m2, m3, m4, m5, m6, m7, m8, m9; };
typedef struct { unsigned long x; } toy_pair;
typedef unsigned short toy_number;
union toy_any { int number; char bytes[12]; };
#define TOY_SET _IOW('t', 1, struct toy_arg)
#define TOY_GET _IOR('t', 2, toy_pair)
#define TOY_MANY _IOWR('t', 3, struct toy_many)
#define TOY_COUNT _IOR('t', 4, int)
#define TOY_RESET _IO('t', 5)
#define TOY_NAME _IOC(_IOC_READ, 't', 6, 16)
#define TOY_ANY _IOW('t', 7, union toy_any)
#define TOY_POINTER _IOW('t', 8, struct toy_arg *)
#define TOY_SHORT _IOW('t', 9, toy_number)
#define TOY_ARRAY _IOW('t', 10, char[4])
#define TOY_PLAIN 0x1234
#define TOY_TWIN _IO('t', 5)
struct operations { long (*unlocked_ioctl)(struct file *, unsigned int, unsigned long); };
static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case TOY_SET: case TOY_GET: case TOY_MANY: case TOY_COUNT: case TOY_RESET: case TOY_NAME:
	case TOY_ANY: case TOY_POINTER: case TOY_SHORT: case TOY_ARRAY: case TOY_PLAIN:
		return 1;
	}
	return 0;
}
struct operations toy_ops = { .unlocked_ioctl = toy_ioctl };
struct toy_arg arg; struct toy_many many; toy_pair pair; union toy_any any; toy_number number;
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Driver, Kernel]:
    """Return a driver with ioctls of all kinds, and the kernel it was built for."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "toy"
    directory.mkdir()
    (directory / "toy.c").write_text(SOURCE)
    kernel = Kernel(Flavour.FAST, tmp_path / "kernel", tmp_path, "key")
    build(directory, kernel.directory)
    return Driver("toy", directory / "toy.ko", "key"), kernel


def test_ioctls_of_all_kinds_are_described(toy: tuple[Driver, Kernel], tmp_path: Path) -> None:
    driver, kernel = toy

    def symbols(target: Target, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
        assert target.name == "toy"
        return driver_symbols(driver, kernel, constants=constants, structs=structs)

    ioctls = driver_ioctls(driver, kernel)
    known = DriverFacts("toy", (Device("/dev/toy"),), source=tmp_path / "toy", ioctls=ioctls)
    path = tmp_path / "made.yaml"
    for text in (describe(known, WHY), learned(known, [], set())):
        path.write_text(text)
        assert not read_all(path).errors
        target = load_target(path, symbols)
        specs = [spec for spec in target.calls if isinstance(spec, IoctlSpec)]
        assert {spec.name for spec in specs} >= {macro.name for macro in ioctls}
        structs = {spec.name: spec.struct.name for spec in specs if spec.struct}
        assert structs["TOY_SET"] == "toy_arg"
        assert structs["TOY_GET"] == "toy_pair"
        for seed in seeds(known).values():
            assert parse_program(seed, target, "seed")
    assert "# fields: {}    # any of m0, m1, m2, m3, m4, m5, m6, m7, ...\n" in describe(known, WHY)


def test_ioctls_of_32_bit_programs_are_described_where_a_driver_has_an_entry_for_them(
    toy: tuple[Driver, Kernel], tmp_path: Path
) -> None:
    driver, kernel = toy

    def symbols(target: Target, *, constants: Sequence[str], structs: Sequence[str]) -> Header:
        return driver_symbols(driver, kernel, constants=constants, structs=structs)

    made = {}
    for operations in (frozenset({"ioctl"}), frozenset({"ioctl", "compat"})):
        known = DriverFacts(
            "toy",
            (Device("/dev/toy"),),
            source=tmp_path / "toy",
            operations=operations,
            ioctls=driver_ioctls(driver, kernel),
        )
        path = tmp_path / "made.yaml"
        path.write_text(describe(known, WHY))
        assert not read_all(path).errors
        specs = [s for s in load_target(path, symbols).calls if isinstance(s, IoctlSpec)]
        made[len(operations)] = [spec for spec in specs if spec.compat]
        usual = [spec for spec in specs if not spec.compat]
    assert made[1] == []
    assert [replace(spec, compat=False) for spec in made[2]] == usual


def test_a_description_that_was_made_passes_the_check(
    facts: DriverFacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert facts.source
    (facts.source / "Kbuild").write_text("obj-m := mini.o\n")
    path = tmp_path / "made.yaml"
    path.write_text(describe(facts, WHY))
    (tmp_path / "seeds").mkdir()
    for name, text in seeds(facts).items():
        (tmp_path / "seeds" / name).write_text(text)
    assert main(["target", "check", str(path)]) == 0
    out = capsys.readouterr().out
    assert "seeds: 3 of 3 in " in out
    assert " 0 errors, 0 warnings" in out
