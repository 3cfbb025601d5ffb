# SPDX-License-Identifier: Apache-2.0
"""Modules built by hand: each kernel loads its own, and those of others are refused before."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from fuzzer.driver.kerneltree import build_tree
from fuzzer.driver.modinfo import expected_modinfo, read_modinfo, why_unfit
from fuzzer.driver.objects import check_objects
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run

pytestmark = pytest.mark.vm

_DRIVER = Path(__file__).parent.parent / "drivers" / "session"


def _build(kernel: Kernel, directory: Path) -> Path:
    """Build the driver as a user does, in a directory of the flavour's name; return the .ko."""
    directory = directory / kernel.flavour
    shutil.copytree(_DRIVER, directory)
    subprocess.run(
        ["make", "-C", str(build_tree(kernel)), f"M={directory}", "modules"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return directory / "session.ko"


def _target(directory: Path, module: str) -> Target:
    text = (_DRIVER / "session.yaml").read_text()
    assert "  source: .\n" in text
    path = directory / f"{len(list(directory.glob('*.yaml')))}.yaml"
    path.write_text(text.replace("  source: .\n", f"  object: {module}\n"))
    shutil.copyfile(_DRIVER / "session.h", directory / "session.h")
    return load_target(path)


def test_each_kernel_loads_a_module_that_was_built_against_it_and_no_other(
    fast_kernel: Kernel, full_kernel: Kernel, guest: GuestFactory, tmp_path: Path
) -> None:
    kernels = {Flavour.FAST: fast_kernel, Flavour.FULL: full_kernel}
    built = {flavour: _build(kernel, tmp_path) for flavour, kernel in kernels.items()}
    for flavour, kernel in kernels.items():
        other = built[Flavour.FULL if flavour is Flavour.FAST else Flavour.FAST]
        assert why_unfit(built[flavour], kernel) is None
        reason = why_unfit(other, kernel)
        assert reason
        assert expected_modinfo(kernel).fit() in reason
        assert read_modinfo(other).fit() in reason
        assert read_modinfo(built[flavour]).sanitizers == ("KASAN",)

    both = _target(tmp_path, "{fast: fast/session.ko, full: full/session.ko}")
    check_objects(both, tuple(kernels), KernelOptions())
    for flavour in kernels:
        made = guest(flavour, target=both)
        assert made.blocks
        with made.restore() as machine:
            assert returned(run(machine, made, "close(f0)\nopen(f0)\n")) == [(0, 0)] * 2

    for flavour in kernels:
        alone = _target(tmp_path, f"{flavour}/session.ko")
        with pytest.raises(BadInputError, match=f"It is right for {flavour} alone"):
            check_objects(alone, tuple(kernels), KernelOptions())
