# SPDX-License-Identifier: Apache-2.0
"""Constants and layouts read from a header by compiling it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.target.header import read_headers
from fuzzer.target.layout import Member, MemberKind
from fuzzer.target.probe import UnknownSymbolError

DEMO = Path(__file__).parent / "data" / "demo" / "demo.h"

INTEGER, BYTES, POINTER = MemberKind.INTEGER, MemberKind.BYTES, MemberKind.POINTER


def test_nested_anonymous_and_odd_members() -> None:
    layout = read_headers([DEMO], structs=["demo_odd"]).structs["demo_odd"]
    assert layout.size == 64
    assert layout.members == (
        Member("tag", 0, 1, INTEGER),
        Member("pair.low", 2, 2, INTEGER),
        Member("pair.high", 4, 2, INTEGER),
        Member("union_8", 8, 4, BYTES, 4),
        Member("inner.key_len", 12, 4, INTEGER),
        Member("inner.key", 16, 16, BYTES, 16),
        Member("bits_32", 32, 2, BYTES, 2),
        Member("table", 34, 6, BYTES, 3),
        Member("next", 40, 8, POINTER),
        Member("mode", 48, 4, INTEGER, signed=True),
        Member("ratio", 56, 8, BYTES, 8),
        Member("tail", 64, 0, BYTES, 0),
    )
    assert layout.members[8].is_pointer
    assert layout.member("next") is layout.members[8]
    assert layout.member("nowhere") is None


def test_constants_keep_their_sign_and_width(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text("#define A (-2)\n#define B (~0ull)\n#define C 'x'\nenum { D = 7 };\n")
    constants = read_headers([header], constants=["A", "B", "C", "D"]).constants
    assert constants == {"A": -2, "B": (1 << 64) - 1, "C": ord("x"), "D": 7}


def test_include_directories_are_searched(tmp_path: Path) -> None:
    extra = tmp_path / "with space"
    extra.mkdir()
    (extra / "inner.h").write_text("#define X 3\n")
    header = tmp_path / "outer.h"
    header.write_text("#include <inner.h>\n")
    assert read_headers([header], include=[extra], constants=["X"]).constants == {"X": 3}
    with pytest.raises(BadInputError, match=r"inner\.h: No such file"):
        read_headers([header], constants=["X"])


@pytest.mark.parametrize("value", ["&object", "1.5", '"text"', "main()", "nothing", ""])
def test_what_is_not_an_integer_is_refused(tmp_path: Path, value: str) -> None:
    header = tmp_path / "c.h"
    header.write_text(f"static int object;\n#define X {value}\n")
    with pytest.raises(UnknownSymbolError) as caught:
        read_headers([header], constants=["X"])
    assert caught.value.symbol == "X"


def test_an_incomplete_struct_is_refused(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text("struct s;\n")
    with pytest.raises(UnknownSymbolError, match="no usable s"):
        read_headers([header], structs=["s"])
