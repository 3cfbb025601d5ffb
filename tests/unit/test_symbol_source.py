# SPDX-License-Identifier: Apache-2.0
"""Descriptions whose names come from the driver as it was built, and when that is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.driver.driver import Driver
from fuzzer.driver.symbols import driver_ioctls, driver_symbols, symbol_source
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.header import Header
from fuzzer.target.probe import UnknownSymbolError, run_compiler
from fuzzer.target.target import Target, load_shape, load_target
from tests.unit.fake_build import build

_YAML = """\
version: 1
name: toy
device: /dev/toy
module: {source: ., name: toy}
calls:
  - ioctl: TOY_SET
    struct: toy_arg
    fields: {a: {values: [TOY_HOT]}}
"""
_SOURCE = """\
#include <linux/ioctl.h>
struct toy_arg { unsigned int a, b; };
#define TOY_SET _IOW('t', 1, struct toy_arg)
enum { TOY_HOT = 9 };
"""


class Source:
    """Builds nothing, and counts how often it is asked."""

    def __init__(self, driver: Driver, kernel: Kernel) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.compiled = 0
        self.driver, self.kernel = driver, kernel

    def __call__(
        self, target: Target, *, constants: Sequence[str], structs: Sequence[str]
    ) -> Header:
        self.asked.append((target.name, *constants, *structs))
        return driver_symbols(
            self.driver, self.kernel, constants=constants, structs=structs, run=self.run
        )

    def run(
        self, command: Sequence[str], directory: Path, *, scratch: Path
    ) -> subprocess.CompletedProcess[bytes]:
        self.compiled += 1
        return run_compiler(command, directory, scratch=scratch)


@pytest.fixture
def description(tmp_path: Path) -> Path:
    """Return the description of a driver without a header."""
    directory = tmp_path / "toy"
    directory.mkdir()
    (directory / "Kbuild").write_text("obj-m := toy.o\n")
    (directory / "toy.c").write_text(_SOURCE)
    (directory / "toy.yaml").write_text(_YAML)
    return directory / "toy.yaml"


@pytest.fixture
def source(description: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """Return what knows the driver's names."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    kernel = Kernel(Flavour.FAST, tmp_path / "kernel", tmp_path, "key")
    build(description.parent, kernel.directory)
    return Source(Driver("toy", description.parent / "toy.ko", "key"), kernel)


def test_a_description_needs_no_header(description: Path, source: Source) -> None:
    target = load_target(description, source)
    (spec,) = target.calls
    assert isinstance(spec, IoctlSpec)
    assert spec.number == 0x40087401
    assert spec.struct is not None
    assert [member.name for member in spec.struct.members] == ["a", "b"]
    assert target.constants == {"TOY_SET": 0x40087401, "TOY_HOT": 9}
    assert target.prelude is None
    assert source.asked == [("toy", "TOY_SET", "TOY_HOT", "toy_arg")]


def test_what_was_read_is_not_compiled_again(description: Path, source: Source) -> None:
    first = load_target(description, source)
    compiled = source.compiled
    second = load_target(description, source)
    assert (first, len(source.asked), source.compiled) == (second, 2, compiled)
    ioctls = driver_ioctls(source.driver, source.kernel, source.run)
    assert [(each.name, each.struct) for each in ioctls] == [("TOY_SET", first.structs["toy_arg"])]
    compiled = source.compiled
    assert driver_ioctls(source.driver, source.kernel, source.run) == ioctls
    assert source.compiled == compiled


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        (_SOURCE, 0),
        (_SOURCE + "struct toy { struct mutex lock; };\n", 1),
        ("/* nothing */\n", 1),
    ],
    ids=["explains them", "does not compile", "lacks them"],
)
def test_the_driver_is_asked_when_its_header_does_not_explain_a_name(
    description: Path, source: Source, header: str, asked: int
) -> None:
    (description.parent / "toy.h").write_text(header)
    description.write_text(f"{_YAML}header: toy.h\n")
    target = load_target(description, source)
    assert target.constants == {"TOY_SET": 0x40087401, "TOY_HOT": 9}
    assert (target.prelude is None, len(source.asked)) == (bool(asked), asked)


def test_a_name_that_is_nowhere_in_the_source_is_told_at_once(
    description: Path, source: Source
) -> None:
    (description.parent / "toy.h").write_text(_SOURCE)
    description.write_text(f"{_YAML}header: [toy.h]\n".replace("TOY_HOT", "TOY_HOTT"))
    with pytest.raises(BadInputError, match=r"toy\.yaml:8: .* did you mean TOY_HOT\?"):
        load_target(description, source)
    assert not source.asked


def test_an_unknown_name_is_located(description: Path, source: Source) -> None:
    description.write_text(_YAML.replace("TOY_HOT", "TOY_HOTT"))
    with pytest.raises(BadInputError, match=r"toy\.yaml:8: toy has no usable TOY_HOTT, did you"):
        load_target(description, source)


def test_without_a_driver_at_hand_it_is_said_what_to_do(description: Path) -> None:
    with pytest.raises(BadInputError, match=r"toy\.yaml:6: TOY_SET needs a header; name it"):
        load_target(description)
    (description.parent / "toy.h").write_text("struct toy_arg { struct mutex lock; };\n")
    description.write_text(f"{_YAML}header: toy.h\n")
    with pytest.raises(BadInputError, match="leave 'header' out: names are then taken from"):
        load_target(description)


def test_a_shape_needs_neither_header_nor_driver(description: Path) -> None:
    shape = load_shape(description)
    assert (shape.name, shape.module.name, len(shape.calls)) == ("toy", "toy", 1)
    assert not shape.constants


def test_a_module_that_comes_built_needs_no_kernel(description: Path, source: Source) -> None:
    def no_kernel(target: Target) -> Kernel:
        raise AssertionError(target)

    (description.parent / "toy.c").write_text(
        "struct toy_arg { unsigned int a, b; } arg;\nenum toy { TOY_HOT = 9 } toy;\n"
    )
    build(description.parent, source.kernel.directory)
    (description.parent / "toy.o").rename(description.parent / "toy.ko")
    text = _YAML.replace("source: .", "object: toy.ko")
    description.write_text(text.replace("TOY_SET", "0x40087401"))
    target = load_target(description, symbol_source(no_kernel))
    assert (target.constants, target.structs["toy_arg"].size) == ({"TOY_HOT": 9}, 8)
    description.write_text(text)
    with pytest.raises(BadInputError, match=r"toy\.yaml:6: toy\.ko has no usable TOY_SET"):
        load_target(description, symbol_source(no_kernel))


def test_a_name_that_the_driver_does_not_have_is_asked_anew(source: Source) -> None:
    for _ in range(2):
        compiled = source.compiled
        with pytest.raises(UnknownSymbolError):
            driver_symbols(
                source.driver, source.kernel, constants=["NO"], structs=(), run=source.run
            )
        assert source.compiled > compiled
