# SPDX-License-Identifier: Apache-2.0
"""The records of kernel flavours, and the one option that names a flavour."""

from __future__ import annotations

import pickle

import pytest

from fuzzer.cli.parser import build_parser
from fuzzer.crash.leaks import LEAK
from fuzzer.driver.modinfo import _SANITIZERS
from fuzzer.flavour import NAMES, STANDARD, Flavour, summaries
from fuzzer.paths import project_root
from fuzzer.splat.rules import RULES

_GIVEN = {
    "run": (),
    "bench bugs": (),
    "shell": (),
    "replay": ("x.prog",),
    "minimize": ("x.prog",),
    "bisect": ("x.prog", "--good", "v1"),
}


@pytest.mark.parametrize("flavour", Flavour)
def test_the_files_of_a_flavour_are_there(flavour: Flavour) -> None:
    spec = flavour.spec
    for name in (*spec.fragments, spec.patch, spec.checked):
        assert not name or (project_root() / "vm" / "kernel" / name).is_file(), name
    assert spec.summary in summaries()
    assert spec.sanitizer in _SANITIZERS


def test_a_flavour_is_judged_on_full_or_on_itself() -> None:
    assert {flavour.judged_on for flavour in Flavour if not flavour.spec.judges} == {Flavour.FULL}
    assert Flavour.KCSAN.judged_on is Flavour.KCSAN
    assert all(flavour.judged_on in STANDARD for flavour in STANDARD)


def test_a_flavour_is_the_same_one_in_another_process() -> None:
    assert pickle.loads(pickle.dumps(Flavour.KCSAN)) is Flavour.KCSAN  # noqa: S301 - our own


def test_what_only_one_flavour_reports_is_a_kind_of_report() -> None:
    kinds = {rule.kind for rule in RULES} | {LEAK}
    assert {kind for flavour in Flavour for kind in flavour.spec.only_here} <= kinds


@pytest.mark.parametrize("command", _GIVEN)
def test_the_kernel_option_has_its_former_name_too(command: str) -> None:
    parser = build_parser([command])
    for name in NAMES:
        new, old = (
            parser.parse_args([command, *_GIVEN[command], option, name])
            for option in ("--kernel", "--flavour")
        )
        assert new.kernel == name
        assert new == old
    # What fuzzes has a default; the others look at the crash that they are given.
    options = parser.parse_args([command, *_GIVEN[command]])
    assert options.kernel == (Flavour.FAST if command in ("run", "bench bugs") else None)
