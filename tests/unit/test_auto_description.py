# SPDX-License-Identifier: Apache-2.0
"""A description made of nothing, and one made of a corpus: both can be loaded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fuzzer.campaign.auto_description import learned
from fuzzer.campaign.description import DriverFacts, describe, seeds
from fuzzer.driver.modinfo import Parameter
from fuzzer.program.ops import FLAG_VALUE, URING, Op
from fuzzer.program.program import Call
from fuzzer.program.text import parse_program
from fuzzer.target.calls import AnyIoctlSpec, IoctlSpec, ReadSpec, ReloadSpec, WriteSpec
from fuzzer.target.device import Device
from fuzzer.target.target import Target, load_target


def facts(directory: Path) -> DriverFacts:
    directory.mkdir()
    return DriverFacts("my_driver", (Device("/dev/thing"), Device("/proc/thing")), source=directory)


def loaded(text: str, directory: Path) -> Target:
    path = directory / "described.yaml"
    path.write_text(text)
    return load_target(path)


def test_a_driver_is_described_by_what_is_known_of_it(tmp_path: Path) -> None:
    known = facts(tmp_path / "a directory")
    target = loaded(describe(known, "Made by a test."), tmp_path)
    assert target.devices == known.devices
    assert (target.module.name, target.module.source) == ("my_driver", known.source)
    assert any(isinstance(spec, AnyIoctlSpec) for spec in target.calls)


def test_operations_that_a_driver_has_not_are_not_described(tmp_path: Path) -> None:
    known = replace(facts(tmp_path / "m"), operations=frozenset({"read"}))
    calls = loaded(describe(known, "Made by a test."), tmp_path).calls
    assert any(isinstance(spec, ReadSpec) for spec in calls)
    assert not any(isinstance(spec, WriteSpec | AnyIoctlSpec) for spec in calls)


def test_what_the_kernel_must_have_is_described(tmp_path: Path) -> None:
    known = replace(facts(tmp_path / "m"), config=("BLOCK=y", "NET=y"), params="mode=1")
    module = loaded(describe(known, "Made by a test."), tmp_path).module
    assert (module.config, module.params) == (("BLOCK=y", "NET=y"), "mode=1")


def test_a_built_module_does_as_well(tmp_path: Path) -> None:
    built = tmp_path / "some-driver.ko"
    built.touch()
    known = DriverFacts("some_driver", (Device("/dev/thing"),), object=built)
    target = loaded(describe(known, "Made by a test."), tmp_path)
    assert target.module.object == built


def test_the_seeds_are_programs(tmp_path: Path) -> None:
    known = facts(tmp_path / "m")
    target = loaded(describe(known, "Made by a test."), tmp_path)
    programs = seeds(known)
    assert len(programs) == 3
    for name, text in programs.items():
        assert parse_program(text, target, name)


def test_what_was_learned_are_numbers_sizes_and_texts(tmp_path: Path) -> None:
    known = facts(tmp_path / "m")
    program = (
        Call(Op.WRITE, data=b'go {1} "\xff\n'),
        Call(Op.WRITE, data=bytes(1000)),
        Call(Op.IOCTL, cmd=0x40085501, data=bytes(8)),
        Call(Op.IOCTL, cmd=0x5502, flags=FLAG_VALUE, arg=7),
        Call(Op.IOCTL, cmd=0xDEAD, data=bytes(4)),
    )
    path = tmp_path / "learned.yaml"
    path.write_text(learned(known, [program], {0x40085501, 0x5502}))
    calls = load_target(path).calls
    ioctls = {spec.number: spec for spec in calls if isinstance(spec, IoctlSpec)}
    assert ioctls.keys() == {0x40085501, 0x5502}
    assert ioctls[0x40085501].sizes == (8,)
    assert ioctls[0x5502].values == (7,)
    writes = [spec for spec in calls if isinstance(spec, WriteSpec) and not spec.positioned]
    assert [t.parts for spec in writes for t in spec.templates] == [(b'go {1} "\xff\n',)]


def test_what_was_learned_loads_the_module_with_other_parameters(tmp_path: Path) -> None:
    known = replace(facts(tmp_path / "m"), parameters=(Parameter("depth", "int", ""),))
    path = tmp_path / "learned.yaml"
    path.write_text(learned(known, [], set()))
    (reload,) = (spec for spec in load_target(path).calls if isinstance(spec, ReloadSpec))
    assert [template.parts[0] for template in reload.templates] == [b"depth="]


def test_commands_in_a_ring_are_learned_as_such(tmp_path: Path) -> None:
    known = facts(tmp_path / "m")
    program = (
        Call(Op.IOCTL, cmd=7, data=bytes(16), mode=URING),
        Call(Op.IOCTL, cmd=8, flags=FLAG_VALUE, arg=7, mode=URING),
        Call(Op.IOCTL, cmd=7, data=bytes(8)),
    )
    calls = loaded(learned(known, [program], {7, 8}), tmp_path).calls
    found = [each for each in calls if isinstance(each, IoctlSpec)]
    assert {(each.number, each.uring, each.sizes) for each in found} == {
        *((7, True, (16,)), (7, False, (8,)), (8, True, (0,))),
    }
