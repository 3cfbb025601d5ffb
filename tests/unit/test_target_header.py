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


@pytest.mark.parametrize(
    "text",
    [
        "struct s { unsigned a, b; };\n#define N _IOW('m', 1, struct s)\n",
        "struct s { uint32_t a; __u32 b; };\n#define N _IOW('m', 1, struct s)\n",
        "struct s { u32 a; u32 __user b; } __packed;\n#define N _IOW('m', 1, struct s)\n",
    ],
    ids=["_IOW", "uint32_t", "u32"],
)
def test_what_the_users_of_a_header_include_before_it_may_lack(tmp_path: Path, text: str) -> None:
    header = tmp_path / "c.h"
    header.write_text(text)
    found = read_headers([header], constants=["N"], structs=["s"])
    assert found.constants == {"N": 0x40086D01}
    assert found.structs["s"].size == 8
    assert "#include <sys/ioctl.h>" in (found.prelude or ())


def test_a_header_that_lacks_nothing_is_read_as_it_is(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text("typedef struct { unsigned long uint32_t; } bool;\n")
    found = read_headers([header], structs=["bool"])
    assert (found.prelude, found.structs["bool"].size) == ((), 8)


def test_typedefs_and_unions_are_found_by_name(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text(
        "typedef struct { int a; } bare;\ntypedef struct tag { long b; } alias;\n"
        "union either { int a; char b[3]; };\ntypedef const alias *pointer;\ntypedef int number;\n"
        "typedef struct { char c; } both;\nstruct both { int d; };\n"
    )
    names = ["bare", "tag", "alias", "either", "both"]
    structs = read_headers([header], structs=names).structs
    assert [(structs[name].c_type, structs[name].size) for name in names] == [
        *(("bare", 4), ("struct tag", 8), ("alias", 8), ("union either", 4), ("struct both", 4)),
    ]
    assert [member.name for member in structs["alias"].members] == ["b"]
    for name in ("pointer", "number"):
        with pytest.raises(UnknownSymbolError, match=f"no usable {name}"):
            read_headers([header], structs=[name])


def test_several_headers_are_read_in_their_order(tmp_path: Path) -> None:
    first, second = tmp_path / "a.h", tmp_path / "b.h"
    first.write_text("typedef unsigned short word;\n#define LATER EARLIER\n")
    second.write_text("struct s { word w; };\n#define EARLIER 5\n")
    found = read_headers([first, second], constants=["LATER"], structs=["s"])
    assert (found.constants["LATER"], found.structs["s"].size) == (5, 2)
    with pytest.raises(BadInputError, match="unknown type name 'word'"):
        read_headers([second], structs=["s"])


def test_a_guess_is_a_name_that_is_defined(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text(
        "/* MINI_SETS and mini_arg2 were other names */\n"
        "#define MINI_SET 1\nenum { MINI_GET };\nstruct mini_arg { int a; };\n"
    )
    for name, guess in (("MINI_SETT", "MINI_SET"), ("MINI_GETT", "MINI_GET")):
        with pytest.raises(UnknownSymbolError, match=rf"{name}, did you mean {guess}\?"):
            read_headers([header], constants=[name])
    with pytest.raises(UnknownSymbolError, match=r"mini_args, did you mean mini_arg\?"):
        read_headers([header], structs=["mini_args"])
    with pytest.raises(UnknownSymbolError, match=r"no usable OTHER \("):
        read_headers([header], constants=["OTHER"])


def test_of_many_errors_the_first_is_told_as_the_compiler_wrote_it(tmp_path: Path) -> None:
    header = tmp_path / "c.h"
    header.write_text("struct s {\n" + "\tstruct mutex m;\n\tspinlock_t l;\n" * 50 + "};\n")
    with pytest.raises(BadInputError) as caught:
        read_headers([header], structs=["s"])
    assert f"{header}:2:22: error: field 'm' has incomplete type" in str(caught.value)
    assert "\n" not in str(caught.value)
