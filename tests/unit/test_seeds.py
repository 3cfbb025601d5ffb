# SPDX-License-Identifier: Apache-2.0
"""The programs that a campaign starts from where a target has none."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.campaign.seeds import load_seeds
from fuzzer.program.ops import Op
from fuzzer.program.wire import decode
from fuzzer.target.target import load_target


@pytest.mark.parametrize(
    ("module", "unloads"),
    [("{source: ., name: toy}", True), ("{builtin: [drivers/toy.c], name: toy}", False)],
)
def test_a_module_is_unloaded_once_while_its_file_is_open(
    tmp_path: Path, module: str, unloads: bool
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(
        f"version: 1\nname: toy\ndevice: /dev/toy\nmodule: {module}\ncalls:\n  - read: [8]\n"
    )
    programs = [decode(each) for each in load_seeds(load_target(path), None, 1)]
    first = [program[0].op for program in programs]
    assert (first.count(Op.UNLOAD), first[-1] is Op.UNLOAD) == (int(unloads), unloads)
