# SPDX-License-Identifier: Apache-2.0
"""Facts in a module's file, and the kernels that it fits."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzzer.driver import modinfo, objects
from fuzzer.driver.modinfo import ModuleInfo, Parameter, read_modinfo, why_unfit
from fuzzer.driver.objects import check_objects, object_that_fits
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.target.target import ModuleSpec, Target, load_target
from tests.unit.made_module import SIZE, VERMAGIC, make_module

_FULL_SIZE = 1344


@pytest.fixture
def fast(tmp_path: Path) -> Kernel:
    return Kernel("fast", tmp_path, tmp_path, "1")


@pytest.fixture(autouse=True)
def _kernels(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Fake ``fast`` and ``full`` kernels whose struct module differs in size."""
    probe = read_modinfo(make_module(tmp_path_factory.mktemp("probe") / "probe.ko"))

    def expected(kernel: Kernel) -> ModuleInfo:
        size = _FULL_SIZE if kernel.flavour is Flavour.FULL else SIZE
        return dataclasses.replace(probe, struct_size=size)

    def ensure(flavour: Flavour, _options: KernelOptions) -> Kernel:
        return Kernel(flavour, Path("/nowhere"), Path("/nowhere"), flavour)

    monkeypatch.setattr(modinfo, "expected_modinfo", expected)
    monkeypatch.setattr(objects, "ensure_kernel", ensure)


def _target(tmp_path: Path, module: str) -> Target:
    path = tmp_path / "toy.yaml"
    path.write_text(
        "version: 1\nname: toy\ndevice: /dev/toy\n"
        f"module: {{object: {module}, name: toy}}\ncalls: [{{read: [1]}}]\n"
    )
    return load_target(path)


def test_all_that_a_module_says_of_itself_is_read(tmp_path: Path) -> None:
    entries = (
        "license=Dual MIT/GPL",
        "alias=pci:v00001AF4d*",
        "alias=of:N*T*Cacme,toyC*",
        "alias=devname:toy",
        "alias=char-major-10-223",
        "depends=crc8,toy_core",
        "parm=size:bytes: of a buffer",
        "parmtype=size:int",
        "parmtype=names:array of charp",
        f"vermagic={VERMAGIC}",
        "name=toy_main",
        "no equals sign",
    )
    info = read_modinfo(make_module(tmp_path / "toy-main.ko", entries))
    assert info == ModuleInfo(
        path=tmp_path / "toy-main.ko",
        name="toy_main",
        vermagic=VERMAGIC,
        depends=("crc8", "toy_core"),
        parameters=(
            Parameter("size", "int", "bytes: of a buffer"),
            Parameter("names", "array of charp"),
        ),
        aliases=(
            "pci:v00001AF4d*",
            "of:N*T*Cacme,toyC*",
            "devname:toy",
            "char-major-10-223",
        ),
        licence="Dual MIT/GPL",
        machine="x64",
        struct_size=SIZE,
        has_coverage=True,
        sanitizers=("KASAN",),
    )
    assert info.buses == ("of", "pci")


def test_a_module_without_a_name_has_that_of_its_file(tmp_path: Path) -> None:
    path = make_module(tmp_path / "my-toy.ko", [f"vermagic={VERMAGIC}"], size=0, calls=())
    info = read_modinfo(path)
    assert info.name == "my_toy"
    assert (info.struct_size, info.has_coverage, info.sanitizers) == (0, False, ())


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["license=GPL"], "it has no vermagic"),
        ([f"vermagic={VERMAGIC}", "x" * (1 << 20)], "its .modinfo is larger than"),
    ],
)
def test_an_object_file_that_is_no_module_is_told(
    tmp_path: Path, entries: list[str], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        read_modinfo(make_module(tmp_path / "x.ko", entries))


@pytest.mark.parametrize("content", [b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01" * 40])
def test_a_file_that_is_no_module_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.ko"
    path.write_bytes(content)
    with pytest.raises(BadInputError, match=r"x\.ko: not a kernel module: \w"):
        read_modinfo(path)


def test_a_module_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="Is a directory"):
        read_modinfo(tmp_path)


_DAMAGE = st.lists(
    st.tuples(st.integers(0, 1 << 16), st.binary(min_size=1, max_size=8)), max_size=6
)


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=_DAMAGE, cut=st.integers(0, 1 << 16))
def test_a_damaged_module_is_read_or_told_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, damage: list[tuple[int, bytes]], cut: int
) -> None:
    directory = tmp_path_factory.getbasetemp()
    good = directory / "good.ko"
    if not good.exists():
        make_module(good)
    content = bytearray(good.read_bytes())
    for at, data in damage:
        place = at % len(content)
        content[place : place + len(data)] = data
    path = directory / "damaged.ko"
    path.write_bytes(content[: cut % len(content)] if cut % 4 == 0 else content)
    with contextlib.suppress(BadInputError):
        assert read_modinfo(path).vermagic is not None


def test_a_module_of_the_kernel_fits_it(tmp_path: Path, fast: Kernel) -> None:
    assert why_unfit(make_module(tmp_path / "toy.ko"), fast) is None


@pytest.mark.parametrize(
    ("vermagic", "size", "words"),
    [
        ("6.1.0 SMP mod_unload ", SIZE, "'6.1.0 SMP mod_unload '"),
        (VERMAGIC, SIZE + 64, f"struct module of {SIZE + 64} bytes"),
        (VERMAGIC + "modversions ", SIZE, "modversions"),
    ],
)
def test_one_of_another_kernel_does_not_and_both_sides_are_shown(
    tmp_path: Path, fast: Kernel, vermagic: str, size: int, words: str
) -> None:
    module = make_module(tmp_path / "toy.ko", [f"vermagic={vermagic}"], size=size)
    reason = why_unfit(module, fast)
    assert reason
    theirs, ours = reason.splitlines()[-2:]
    assert theirs.startswith("    the module:")
    assert words in theirs
    assert ours == f"    the fast kernel:  {VERMAGIC!r}, struct module of {SIZE} bytes"


def test_each_kernel_gets_its_own_of_two_modules(tmp_path: Path, fast: Kernel) -> None:
    make_module(tmp_path / "a.ko")
    make_module(tmp_path / "b.ko", size=_FULL_SIZE)
    target = _target(tmp_path, "{fast: a.ko, full: b.ko}")
    assert target.module.object == {"fast": tmp_path / "a.ko", "full": tmp_path / "b.ko"}
    assert object_that_fits(target.module, fast) == tmp_path / "a.ko"
    full = Kernel("full", tmp_path, tmp_path, "2")
    assert object_that_fits(target.module, full) == tmp_path / "b.ko"
    check_objects(target, (Flavour.FAST, Flavour.FULL), KernelOptions())
    with pytest.raises(BadInputError, match=r"names no \.ko for the kcsan kernel"):
        object_that_fits(target.module, Kernel("kcsan", tmp_path, tmp_path, "3"))


@pytest.mark.parametrize(
    ("size", "alone", "lacking"), [(SIZE, "fast", "full"), (_FULL_SIZE, "full", "fast")]
)
def test_a_campaign_is_refused_a_module_for_one_of_its_kernels(
    tmp_path: Path, size: int, alone: str, lacking: str
) -> None:
    make_module(tmp_path / "toy.ko", size=size)
    target = _target(tmp_path, "toy.ko")
    with pytest.raises(BadInputError) as raised:
        check_objects(target, (Flavour.FAST, Flavour.FULL), KernelOptions())
    message = str(raised.value)
    assert f"It is right for {alone} alone" in message
    assert f"make -C $(pkvfuzz kernel --path {lacking}) M=$PWD modules" in message
    assert f"--path {alone}" not in message
    assert "object: {fast: " in message


def test_a_module_that_fits_no_kernel_is_told_both_commands(tmp_path: Path) -> None:
    make_module(tmp_path / "toy.ko", size=64)
    with pytest.raises(BadInputError) as raised:
        check_objects(_target(tmp_path, "toy.ko"), (Flavour.FAST, Flavour.FULL), KernelOptions())
    for flavour in ("fast", "full"):
        assert f"the {flavour} kernel: " in str(raised.value)
        assert f"--path {flavour}" in str(raised.value)


def test_the_commands_are_for_the_kernels_that_were_asked_for(tmp_path: Path) -> None:
    make_module(tmp_path / "toy.ko", size=64)
    target = _target(tmp_path, "toy.ko, config: [BLOCK=y]")
    source = tmp_path / "my linux"
    with pytest.raises(BadInputError) as raised:
        check_objects(target, (Flavour.FAST,), KernelOptions(source))
    command = f"pkvfuzz kernel --path fast --config BLOCK=y --kernel-source '{source}'"
    assert f"make -C $({command}) M=$PWD modules" in str(raised.value)


def test_a_module_without_coverage_is_refused_and_says_how_to_get_it(
    tmp_path: Path, fast: Kernel
) -> None:
    module = ModuleSpec(None, make_module(tmp_path / "toy.ko", calls=()), "toy")
    with pytest.raises(BadInputError, match=r"no coverage points.*\n.*\n.*--path fast"):
        object_that_fits(module, fast)


def test_a_module_without_sanitizer_is_warned_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_module(tmp_path / "toy.ko", calls=["__sanitizer_cov_trace_pc"])
    check_objects(_target(tmp_path, "toy.ko"), (Flavour.FAST,), KernelOptions())
    assert "WARNING" in capsys.readouterr().err
