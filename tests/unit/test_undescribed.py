# SPDX-License-Identifier: Apache-2.0
"""A description made of nothing, and one made of a corpus: both can be loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.campaign.undescribed import describe, learned
from fuzzer.errors import BadInputError
from fuzzer.program.program import FLAG_VALUE, Call, Op
from fuzzer.target.calls import AnyIoctlSpec, IoctlSpec, WriteSpec
from fuzzer.target.target import load_target


def source(directory: Path) -> Path:
    directory.mkdir()
    (directory / "Kbuild").write_text("obj-m := my-driver.o\nmy-driver-y := a.o b.o\n")
    return directory


def test_any_device_is_described_by_its_node_and_its_module(tmp_path: Path) -> None:
    module = source(tmp_path / "a directory")
    target = load_target(describe("/dev/thing", module, tmp_path / "work"))
    assert (target.device, target.module.name) == ("/dev/thing", "my_driver")
    assert target.module.source == module
    assert any(isinstance(spec, AnyIoctlSpec) for spec in target.calls)


def test_a_built_module_does_as_well(tmp_path: Path) -> None:
    (tmp_path / "some-driver.ko").touch()
    target = load_target(describe("/dev/thing", tmp_path / "some-driver.ko", tmp_path))
    assert target.module.name == "some_driver"
    assert target.module.object == tmp_path / "some-driver.ko"


@pytest.mark.parametrize("name", ["nothing", "empty", "file.c"])
def test_what_is_no_module_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.c").touch()
    with pytest.raises(BadInputError, match=r"a \.ko file, or a directory with a Kbuild file"):
        describe("/dev/thing", tmp_path / name, tmp_path)


def test_what_was_learned_are_numbers_sizes_and_texts(tmp_path: Path) -> None:
    target = load_target(describe("/dev/thing", source(tmp_path / "m"), tmp_path))
    program = (
        Call(Op.WRITE, data=b'go {1} "\xff\n'),
        Call(Op.WRITE, data=bytes(1000)),
        Call(Op.IOCTL, cmd=0x40085501, data=bytes(8)),
        Call(Op.IOCTL, cmd=0x5502, flags=FLAG_VALUE, arg=7),
        Call(Op.IOCTL, cmd=0xDEAD, data=bytes(4)),
    )
    path = tmp_path / "learned.yaml"
    path.write_text(learned(target, [program], {0x40085501, 0x5502}))
    calls = load_target(path).calls
    ioctls = {spec.number: spec for spec in calls if isinstance(spec, IoctlSpec)}
    assert ioctls.keys() == {0x40085501, 0x5502}
    assert ioctls[0x40085501].sizes == (8,)
    assert ioctls[0x5502].values == (7,)
    writes = [spec for spec in calls if isinstance(spec, WriteSpec) and not spec.positioned]
    assert [t.parts for spec in writes for t in spec.templates] == [(b'go {1} "\xff\n',)]
