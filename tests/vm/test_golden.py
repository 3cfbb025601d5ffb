# SPDX-License-Identifier: Apache-2.0
"""Golden logs are what our kernels print: some kinds of report are provoked again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.target.target import load_target
from tests.golden.found import find, wanted
from tests.golden.index import load_index
from tests.golden.provoke import TARGET, provoke
from tests.vm.guests import GuestFactory

INDEX = load_index()


@pytest.mark.parametrize(
    "name",
    [
        "slab-uaf-read",
        "uaf-timer",
        "shift",
        "null-read",
        "bug",
        "circular",
        "list-del-twice",
        "fault-injected",
        "user-segfault",
        "race-read-write",
    ],
)
def test_a_kind_shows_live_as_in_its_golden_log(
    name: str, guest: GuestFactory, tmp_path: Path
) -> None:
    target = load_target(TARGET)

    def make(flavour: Flavour, *, cpus: int = 1, arguments: str = "") -> Guest:
        return guest(flavour, target=target, cpus=cpus, arguments=arguments)

    golden = INDEX.logs[name]
    lines = provoke(golden.recipe, make, tmp_path)
    assert lines
    assert find(lines) == wanted(golden.expected)
