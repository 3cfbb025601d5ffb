# SPDX-License-Identifier: Apache-2.0
"""The source of a driver with the lines of its blocks, and the record that a campaign keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.driver_record import (
    DriverRecord,
    read_driver_record,
    write_driver_record,
)
from fuzzer.driver.blocks import LINKED, Block
from fuzzer.driver.known_builds import KnownBuild, find_build
from fuzzer.errors import BadInputError
from fuzzer.report.source_map import SourceMap, locate, source_map, source_map_from_json
from tests.support.made_campaign import MadeDriver, make_driver

RECORD = DriverRecord(
    name="drv",
    key="0123456789abcdef",
    flavour="fast",
    release="6.12.1",
    target="drv",
    description="drv.yaml",
    blocks=(Block(".init.text", 20), Block(".text", 16), Block(".text", 40)),
    loaded=frozenset({1}),
    sections={".text": 0, ".init.text": -0x4000},
    ioctls={0x1234: "SET"},
    any_ioctl=True,
)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeDriver:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    return make_driver(2)


def build_of(made: MadeDriver) -> KnownBuild:
    found = find_build(made.driver.key)
    assert found
    return found


def texts_of(made: MadeDriver, block: int) -> tuple[str, str]:
    """Return a block's function and the text of the line at which it begins."""
    start = made.source.starts[block]
    assert start
    name, line = start
    return made.source.functions[block], made.source.files[name].splitlines()[line - 1].strip()


def test_blocks_have_the_lines_and_functions_they_were_compiled_from(made: MadeDriver) -> None:
    (first, second) = made.marked("missed")
    assert texts_of(made, first) == ("drv_call0", "drv_state += 3; /* missed */")
    assert texts_of(made, second) == ("drv_call1", "drv_state += 3; /* missed */")
    assert set(made.source.files) == {"drv.c"}
    assert len(made.source.starts) == len(made.blocks)


def test_a_line_has_the_blocks_that_begin_there_else_those_with_its_code(
    made: MadeDriver,
) -> None:
    of_lines = made.source.blocks_of_lines()
    for block, start in enumerate(made.source.starts):
        assert start
        assert block in of_lines[start]
    begun = {start for start in made.source.starts if start}
    within = set(of_lines) - begun
    assert all(
        of_lines[place] == tuple(n for n, lines in enumerate(made.source.lines) if place in lines)
        for place in within
    )


def test_places_in_the_code_have_lines_of_the_drivers_own_files(made: MadeDriver) -> None:
    block = made.marked("never equal")[1]
    place = made.blocks[block]
    assert locate(build_of(made), [place]) == {place: made.source.starts[block]}
    assert locate(build_of(made), []) == {}
    assert locate(build_of(made), [Block(".text", 1 << 20)]) == {}


def test_it_is_read_once_of_a_build(made: MadeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzzer.report.source_map._read", None)
    assert source_map(build_of(made), made.blocks) == made.source


def test_a_build_without_debug_information_is_explained(made: MadeDriver) -> None:
    build = replace(build_of(made), key="other")
    stripped = made.driver.object.with_name("stripped.ko")
    stripped.write_bytes(b"\x7fELF no more")
    with pytest.raises(BadInputError, match=r"stripped\.ko"):
        source_map(replace(build, object=stripped), made.blocks)


def test_a_map_reads_back_the_same(made: MadeDriver) -> None:
    assert source_map_from_json(made.source.to_json()) == made.source
    empty = SourceMap({}, (None,), ((),), ("",))
    assert source_map_from_json(empty.to_json()) == empty


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 1, "starts": [], "lines": []}'])
def test_what_is_no_map_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        source_map_from_json(text)


def test_a_record_reads_back_the_same(tmp_path: Path) -> None:
    write_driver_record(tmp_path, RECORD)
    assert read_driver_record(tmp_path) == RECORD


@pytest.mark.parametrize(
    ("site", "place"),
    [
        (0x30, Block(".text", 0x30)),
        # Sections are anywhere around the code; a place is kept modulo 2^32.
        (0x1_0000_0000 - 0x4000 + 0x20, Block(".init.text", 0x20)),
        (0x100_0000, None),
    ],
)
def test_a_comparison_is_placed_in_the_section_that_has_it(site: int, place: Block | None) -> None:
    assert RECORD.places_of([site]) == ({site: place} if place else {})


def test_a_comparison_in_a_part_of_the_kernel_is_at_its_address() -> None:
    linked = replace(RECORD, blocks=(Block(LINKED, 0xFFFFFFFF81000010),), sections={})
    assert linked.places_of([0x81000020]) == {0x81000020: Block(LINKED, 0xFFFFFFFF81000020)}


def test_a_record_that_is_missing_damaged_or_newer_is_explained(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="missing"):
        read_driver_record(tmp_path)
    write_driver_record(tmp_path, RECORD)
    path = tmp_path / "driver.json"
    whole = json.loads(path.read_text())
    for content, message in (
        ("{", "damaged"),
        ("[]", "damaged"),
        (json.dumps({**whole, "blocks": [1]}), "damaged"),
        (json.dumps({**whole, "format": 99}), "format 99"),
    ):
        path.write_text(content)
        with pytest.raises(BadInputError, match=message):
            read_driver_record(tmp_path)
