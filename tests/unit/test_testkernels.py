# SPDX-License-Identifier: Apache-2.0
"""The kernels of the tests: a driver put into a source tree, a module signed; nothing is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kbuild import BuiltKernel
from fuzzer.selftest.kernels import ensure_builtin_kernel, graft
from tests.support.signing import sign_module

_KCONFIG = 'menu "Character devices"\n\nconfig MEM\n\tbool\n\nendmenu\n'


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return the directory of a driver."""
    directory = tmp_path / "driver"
    directory.mkdir()
    (directory / "toy.c").write_text("int toy;\n")
    (directory / "Kbuild").write_text("obj-$(CONFIG_TOY) += toy.o\n")
    (directory / "Kconfig").write_text('config TOY\n\ttristate "Toy"\n')
    return directory


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return what a driver's place in a kernel's source looks like."""
    directory = tmp_path / "linux"
    (directory / "drivers" / "char" / "tpm").mkdir(parents=True)
    (directory / "drivers" / "tty").mkdir()
    (directory / "mm").mkdir()
    (directory / "mm" / "slub.c").write_text("int slub;\n")
    (directory / "drivers" / "char" / "mem.c").write_text("int mem;\n")
    (directory / "drivers" / "char" / "Makefile").write_text("obj-y += mem.o\n")
    (directory / "drivers" / "char" / "Kconfig").write_text(_KCONFIG)
    return directory


def test_a_driver_becomes_a_part_of_the_tree_and_the_source_stays_as_it_is(
    source: Path, driver: Path, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    graft(source, sorted(driver.iterdir()), "toy", "TOY", tree)
    char = tree / "drivers" / "char"
    assert (char / "toy" / "toy.c").read_text() == "int toy;\n"
    assert (char / "Makefile").read_text() == "obj-y += mem.o\nobj-$(CONFIG_TOY) += toy/\n"
    assert (char / "Kconfig").read_text() == _KCONFIG.replace(
        "endmenu", 'source "drivers/char/toy/Kconfig"\nendmenu'
    )
    for path in ("mm/slub.c", "drivers/char/mem.c", "drivers/char/tpm", "drivers/tty"):
        assert (tree / path).resolve() == source / path
    assert (source / "drivers" / "char" / "Makefile").read_text() == "obj-y += mem.o\n"
    assert (source / "drivers" / "char" / "Kconfig").read_text() == _KCONFIG
    assert not (source / "drivers" / "char" / "toy").exists()


@pytest.mark.parametrize("missing", ["Kconfig", "Kbuild"])
def test_a_driver_without_kconfig_or_kbuild_cannot_be_built_in(driver: Path, missing: str) -> None:
    (driver / missing).unlink()
    with pytest.raises(BadInputError, match=f"has no {missing}: it cannot be built into a kernel"):
        ensure_builtin_kernel(driver, "toy")


def test_a_driver_whose_symbol_is_not_clear_cannot_be_built_in(driver: Path) -> None:
    (driver / "Kconfig").write_text('config TOY\n\tbool "Toy"\n')
    with pytest.raises(BadInputError, match="must have one tristate, the driver; it has 0"):
        ensure_builtin_kernel(driver, "toy")


@pytest.fixture
def kernel(tmp_path: Path) -> BuiltKernel:
    """Return a kernel with a key, whose sign-file writes down what it was given."""
    directory = tmp_path / "build"
    (directory / "scripts").mkdir(parents=True)
    (directory / "certs").mkdir()
    (directory / ".config").write_text('CONFIG_MODULE_SIG_HASH="sha256"\n')
    (directory / "certs" / "signing_key.pem").touch()
    (directory / "certs" / "signing_key.x509").touch()
    tool = directory / "scripts" / "sign-file"
    tool.write_text('#!/bin/sh\nshift 3\ncat "$1" > "$2"; echo "signed" >> "$2"\n')
    tool.chmod(0o755)
    return BuiltKernel("signed", directory, directory, "key")


def test_a_module_is_signed_into_a_copy(kernel: BuiltKernel, tmp_path: Path) -> None:
    module, signed = tmp_path / "toy.ko", tmp_path / "signed.ko"
    module.write_text("toy\n")
    sign_module(kernel, module, signed)
    assert signed.read_text() == "toy\nsigned\n"
    assert module.read_text() == "toy\n"


@pytest.mark.parametrize("missing", ["scripts/sign-file", "certs/signing_key.pem"])
def test_a_kernel_without_a_key_cannot_sign(
    kernel: BuiltKernel, tmp_path: Path, missing: str
) -> None:
    (kernel.directory / missing).unlink()
    (tmp_path / "toy.ko").touch()
    with pytest.raises(BadInputError, match=f"cannot sign modules: it has no {missing}"):
        sign_module(kernel, tmp_path / "toy.ko", tmp_path / "signed.ko")


def test_a_kernel_that_takes_unsigned_modules_cannot_sign(
    kernel: BuiltKernel, tmp_path: Path
) -> None:
    (kernel.directory / ".config").write_text("# CONFIG_MODULE_SIG is not set\n")
    with pytest.raises(BadInputError, match="it has no CONFIG_MODULE_SIG_HASH"):
        sign_module(kernel, tmp_path / "toy.ko", tmp_path / "signed.ko")


def test_a_module_that_is_not_there_cannot_be_signed(kernel: BuiltKernel, tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"no module .*toy\.ko to sign"):
        sign_module(kernel, tmp_path / "toy.ko", tmp_path / "signed.ko")


def test_what_sign_file_says_is_shown_when_it_fails(kernel: BuiltKernel, tmp_path: Path) -> None:
    (kernel.directory / "scripts" / "sign-file").write_text(
        "#!/bin/sh\necho 'At main.c:168: key' >&2; exit 1\n"
    )
    (tmp_path / "toy.ko").touch()
    with pytest.raises(InfrastructureError, match=r"signing .*toy\.ko failed: At main\.c:168"):
        sign_module(kernel, tmp_path / "toy.ko", tmp_path / "signed.ko")
