# SPDX-License-Identifier: Apache-2.0
"""Real drivers without their headers: the names are those that the headers give."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.campaign.subject import symbols_for
from fuzzer.driver.driver import build_driver
from fuzzer.driver.symbols import driver_ioctls
from fuzzer.kernel.kernel import Kernel, KernelOptions
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import load_target

pytestmark = pytest.mark.vm

_DRIVERS = Path(__file__).parent.parent / "drivers"


_WITH_HEADERS = [path for path in _DRIVERS.glob("*/*.yaml") if "\nheader:" in path.read_text()]


@pytest.mark.parametrize("name", sorted(path.stem for path in _WITH_HEADERS))
def test_a_built_driver_explains_what_its_header_does(
    name: str, fast_kernel: Kernel, tmp_path: Path
) -> None:
    path = _DRIVERS / name / f"{name}.yaml"
    known = load_target(path)
    text = path.read_text().replace("source: .", f"source: {path.parent}")
    bare = tmp_path / path.name
    bare.write_text(text.replace(f"header: {name}.h\n", ""))
    target = load_target(bare, symbols_for(KernelOptions()))
    assert (target.headers, target.prelude) == ((), None)
    assert (target.constants, target.structs) == (known.constants, known.structs)
    assert target.calls == known.calls

    found = {
        each.name: each for each in driver_ioctls(build_driver(known, fast_kernel), fast_kernel)
    }
    for spec in known.calls:
        if isinstance(spec, IoctlSpec) and spec.name is not None:
            assert (found[spec.name].number, found[spec.name].struct) == (spec.number, spec.struct)
