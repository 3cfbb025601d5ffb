# SPDX-License-Identifier: Apache-2.0
"""Counts, ranges and tables as people read them."""

from __future__ import annotations

import pytest

from fuzzer.wording import count, ranges, table, visible


def test_one_thing_is_no_plural() -> None:
    assert [count(number, "run") for number in (0, 1, 2)] == ["0 runs", "1 run", "2 runs"]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [((), ""), ((3,), "3"), ((3, 4), "3-4"), ((1, 3, 4, 5, 9), "1, 3-5, 9")],
)
def test_numbers_are_shortened_to_ranges(numbers: tuple[int, ...], text: str) -> None:
    assert ranges(numbers) == text


def test_columns_of_a_table_are_aligned_and_no_space_trails() -> None:
    rows = [("name", "count", "note"), ("a", "10", ""), ("long one", "9", "x")]
    assert table(rows, right=(1,)) == [
        "name      count  note",
        "a            10",
        "long one      9  x",
    ]
    assert table([]) == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("as it is: é, 字\n\tand so on", "as it is: é, 字\n\tand so on"),
        ("\x1b[2J\x07\r\x00\x7f\x9b1m", r"\x1b[2J\x07\r\x00\x7f\x9b1m"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("name\udcff", r"name\udcff"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert visible(text) == shown
    assert visible(shown) == shown
