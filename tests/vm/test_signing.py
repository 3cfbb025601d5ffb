# SPDX-License-Identifier: Apache-2.0
"""The driver on a kernel that takes signed modules alone, and what that kernel refuses."""

from __future__ import annotations

import errno
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.kernel.kbuild import BuiltKernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import boot
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.machine import DriverImage, Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.selftest.kernels import ensure_signed_kernel
from fuzzer.target.target import Target
from tests.support.signing import sign_module
from tests.vm.guests import returned, wire

_MISSING_SYMBOL = """\
// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>

extern int nothing_exports_this(void);

static int __init needy_init(void)
{
	return nothing_exports_this();
}
module_init(needy_init);
MODULE_DESCRIPTION("Needs a function that no kernel has");
MODULE_LICENSE("GPL");
"""


@pytest.fixture(scope="module")
def kernel() -> BuiltKernel:
    """Return the kernel that takes signed modules alone."""
    return ensure_signed_kernel()


@pytest.fixture(scope="module")
def machine(kernel: BuiltKernel, accel: Accel) -> Iterator[Machine]:
    """Return a machine with that kernel; a module that was refused leaves nothing behind."""
    initrd, _ = ensure_initrd()
    with boot(kernel.image, initrd, Hardware(), accel, None) as booted:
        yield booted


@pytest.fixture(scope="module")
def module(
    kernel: BuiltKernel, pkv_target: Target, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return the driver, built against that kernel and not signed."""
    directory = tmp_path_factory.mktemp("driver") / "module"
    assert pkv_target.module.source is not None
    shutil.copytree(pkv_target.module.source, directory, ignore=shutil.ignore_patterns("bugs"))
    return _make(kernel, directory, f"{pkv_target.module.name}.ko")


def _make(kernel: BuiltKernel, directory: Path, name: str, *variables: str) -> Path:
    """Build the module in ``directory`` against a kernel, without any instrumentation."""
    subprocess.run(
        ["make", "-s", "-C", kernel.directory, f"M={directory}", *variables, "modules"],
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=300,
    )
    return directory / name


def _signed(kernel: BuiltKernel, module: Path, image: bytes | None = None) -> bytes:
    """Return a module signed; of other content, if ``image`` is given."""
    changed = module.with_suffix(".changed")
    changed.write_bytes(module.read_bytes() if image is None else image)
    signed = module.with_suffix(".signed")
    sign_module(kernel, changed, signed)
    return signed.read_bytes()


def _refusal(machine: Machine, image: bytes, name: str = "pkv") -> tuple[int, str]:
    """Return the errno with which the kernel refuses a module, and what it printed."""
    with pytest.raises(BadInputError, match=r"init_module fails with "):
        machine.load(DriverImage(image, name, ()))
    records = machine.channel.log().decode(errors="replace").splitlines()
    return machine.channel.header.error, "\n".join(line.split(";", 1)[-1] for line in records)


def test_the_signed_driver_is_loaded_and_works(
    kernel: BuiltKernel, machine: Machine, module: Path, pkv_target: Target
) -> None:
    image = _signed(kernel, module)
    machine.load(DriverImage(image, pkv_target.module.name, pkv_target.devices))
    result = machine.run(wire('write(f0, "a=1\\n")\nread(f0, 64)', pkv_target), 30.0)
    assert returned(result) == [(4, 0), (1, 0)]
    assert result.results[1].output == b"1"


def test_an_unsigned_module_is_refused(machine: Machine, module: Path) -> None:
    error, log = _refusal(machine, module.read_bytes())
    assert error == errno.EKEYREJECTED
    assert "Loading of unsigned module is rejected" in log


def test_a_module_changed_after_it_was_signed_is_refused(
    kernel: BuiltKernel, machine: Machine, module: Path
) -> None:
    image = bytearray(_signed(kernel, module))
    image[module.stat().st_size // 2] ^= 1
    error, log = _refusal(machine, bytes(image))
    assert error == errno.EKEYREJECTED
    # Nothing is printed of a bad signature; of one that is missing there would be.
    assert "rejected" not in log


def test_a_signed_module_of_another_kernel_is_refused(
    kernel: BuiltKernel, machine: Machine, module: Path
) -> None:
    image, changes = re.subn(rb"vermagic=6", b"vermagic=5", module.read_bytes())
    assert changes == 1
    error, log = _refusal(machine, _signed(kernel, module, image))
    assert error == errno.ENOEXEC
    assert re.search(r"version magic '5\S* .*' should be '6\S* ", log)


def test_a_signed_module_that_needs_a_missing_symbol_is_refused(
    kernel: BuiltKernel, machine: Machine, tmp_path: Path
) -> None:
    (tmp_path / "needy.c").write_text(_MISSING_SYMBOL)
    (tmp_path / "Kbuild").write_text("obj-m := needy.o\n")
    module = _make(kernel, tmp_path, "needy.ko", "KBUILD_MODPOST_WARN=1")
    error, log = _refusal(machine, _signed(kernel, module), "needy")
    assert error == errno.ENOENT
    assert "needy: Unknown symbol nothing_exports_this (err -2)" in log
