# SPDX-License-Identifier: Apache-2.0
"""The planted bugs: each is described, has its program, and is in the README's table."""

from __future__ import annotations

import re

import pytest

from fuzzer.driver.driver import PlantedBug, list_bugs
from fuzzer.paths import project_root
from fuzzer.program.text import load_program
from fuzzer.report.bugs import markdown_table, text_table
from fuzzer.target.target import Target

NEEDS = {"sequence", "value", "fault", "partial-copy", "race", "reload", "expiry"}


@pytest.fixture
def bugs(pkv_target: Target) -> list[PlantedBug]:
    return list_bugs(pkv_target)


def test_there_are_at_least_24(bugs: list[PlantedBug]) -> None:
    assert len(bugs) >= 24


def test_each_says_what_it_is_and_what_it_takes(bugs: list[PlantedBug]) -> None:
    for bug in bugs:
        assert all((bug.kind, bug.expect, bug.description, bug.needs)), bug.name
        assert bug.cwe.isdigit(), bug.name
        assert set(bug.needs) <= NEEDS, bug.name


def test_each_has_a_program(bugs: list[PlantedBug], pkv_target: Target) -> None:
    for bug in bugs:
        assert load_program(bug.path.with_suffix(".prog"), pkv_target), bug.name


def test_no_program_is_without_its_bug(bugs: list[PlantedBug], pkv_target: Target) -> None:
    programs = {path.stem for path in (pkv_target.path.parent / "bugs").glob("*.prog")}
    assert programs == {bug.name for bug in bugs}


def test_the_readme_has_the_table(bugs: list[PlantedBug]) -> None:
    text = (project_root() / "module" / "README.md").read_text()
    shown = re.search(r"<!-- pkvfuzz bugs --markdown -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert shown
    assert shown[1] == markdown_table(bugs), "put in what this prints: ./pkvfuzz bugs --markdown"


def test_the_table_is_aligned(bugs: list[PlantedBug]) -> None:
    lines = text_table(bugs).splitlines()
    column = lines[0].index("CWE")
    assert all(line[column - 1] == " " and line[column] != " " for line in lines)
