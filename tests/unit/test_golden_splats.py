# SPDX-License-Identifier: Apache-2.0
"""Every golden log, of a real run of our kernels, is taken for what it is."""

from __future__ import annotations

import re

import pytest

from tests.golden.found import find, wanted
from tests.golden.index import DIRECTORY, Golden, load_index

INDEX = load_index()
CRASHES = sorted(name for name, golden in INDEX.logs.items() if golden.expected)
HARMLESS = sorted(name for name, golden in INDEX.logs.items() if not golden.expected)


def golden(name: str) -> Golden:
    """Return a log of the index."""
    return INDEX.logs[name]


def test_each_log_is_in_the_index_and_each_entry_has_one() -> None:
    assert {path.stem for path in DIRECTORY.glob("*.log")} == INDEX.logs.keys()


def test_what_is_not_provoked_has_a_reason() -> None:
    assert all(INDEX.not_provoked.values())
    assert not INDEX.not_provoked.keys() & INDEX.logs.keys()


@pytest.mark.parametrize("name", CRASHES)
def test_a_crash_is_found_and_named(name: str) -> None:
    assert find(golden(name).lines()) == wanted(golden(name).expected)


@pytest.mark.parametrize("name", HARMLESS)
def test_what_is_no_crash_is_not_taken_for_one(name: str) -> None:
    lines = golden(name).lines()
    assert lines
    assert find(lines) is None


@pytest.mark.parametrize("name", CRASHES)
def test_the_index_says_what_the_log_says(name: str) -> None:
    """A slip in the index is found here: functions and accesses are words of the log."""
    expected = golden(name).expected
    assert expected is not None
    text = golden(name).path.read_text()
    if expected.function is not None:
        # Of a race both are named.
        for function in expected.function.split(" / "):
            # A system call is entered by functions with other names, such as __x64_sys_close().
            assert re.search(rf"[ :_]{re.escape(function)}\b", text)
        assert " in " not in expected.title or expected.title.endswith(f" in {expected.function}")
    if expected.access is not None:
        assert f"{expected.access} of size " in text
        assert f" {expected.access} in " in expected.title
