# SPDX-License-Identifier: Apache-2.0
"""The driver, kernels and parameters that tests with the plugin of pytest are of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fuzzer.errors import BadInputError
from fuzzer.target.layout import Member, MemberKind, StructLayout
from fuzzer.testing.configuration import INI, Configuration, configurations
from fuzzer.testing.driver_machine import Reply
from fuzzer.testing.members import pack_members

_NUMBER = Member("", 0, 4, MemberKind.INTEGER)
_INNER = StructLayout("inner", 8, (Member("x", 0, 8, MemberKind.INTEGER),))
LAYOUT = StructLayout(
    "outer",
    40,
    (
        Member("size", 0, 4, MemberKind.INTEGER, signed=True),
        Member("name", 4, 4, MemberKind.BYTES, count=4, is_text=True),
        Member("buf", 8, 8, MemberKind.POINTER),
        Member("inner", 16, 8, MemberKind.POINTER, of=_INNER),
        Member("ids", 24, 8, MemberKind.BYTES, 2, element=StructLayout("", 4, (_NUMBER,))),
        Member("points", 32, 8, MemberKind.BYTES, 1, element=_INNER),
    ),
)


def ini(**given: Any) -> dict[str, Any]:
    """Return what pytest has of an ini file's options."""
    empty = {name: "" if kind == "string" else [] for name, (kind, _) in INI.items()}
    return empty | {f"pkvfuzz_{name}": value for name, value in given.items()}


def test_each_kernel_and_each_parameters_is_one(tmp_path: Path) -> None:
    options = ini(driver=".", kernels=["fast", "full"], params=["a=1", ""])
    found = configurations(tmp_path, options, [])
    assert [each.title for each in found] == [
        *("fast-a=1", "fast-default", "full-a=1", "full-default"),
    ]


def test_the_nearest_marker_overrules_the_others_and_the_ini_file(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    markers: list[dict[str, Any]] = [
        {"kernels": ["kcsan"]},
        {"kernels": ["fast"], "driver": "own", "cpus": 2},
    ]
    assert configurations(tmp_path, ini(driver=".", module="m"), markers) == [
        Configuration(tmp_path / "own", "kcsan", "m", cpus=2)
    ]


def test_without_more_it_is_the_kernel_with_every_check(tmp_path: Path) -> None:
    (found,) = configurations(tmp_path, ini(driver="."), [])
    assert found.title == "full"


@pytest.mark.parametrize(
    ("options", "marker", "told"),
    [
        (ini(), {}, "which driver"),
        (ini(driver="nowhere"), {}, "there is no .*nowhere"),
        (ini(driver=".", kernels=["faster"]), {}, "'faster' is none of fast, full, kcsan"),
        (ini(driver="."), {"kernel": "fast"}, "allowed are driver, module"),
        (ini(driver="."), {"params": "lock=rcu"}, "a list is needed"),
    ],
)
def test_a_mistake_is_told(
    tmp_path: Path, options: dict[str, Any], marker: dict[str, Any], told: str
) -> None:
    with pytest.raises(BadInputError, match=told):
        configurations(tmp_path, options, [marker])


def test_members_are_packed_by_their_kinds() -> None:
    data, fixups = pack_members(
        LAYOUT,
        {
            "size": -1, "name": "ab", "buf": b"xyz", "inner": {"x": 5}, "ids": [1, 2],
            "points": [{"x": 9}],
        },
    )  # fmt: skip
    assert data[:8] == b"\xff\xff\xff\xffab\0\0"
    assert data[24:40] == b"\1\0\0\0\2\0\0\0" + (9).to_bytes(8, "little")
    assert [(fixup.at, data[fixup.to : fixup.to + 3]) for fixup in fixups] == [
        *((8, b"xyz"), (16, b"\5\0\0")),
    ]


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"sizes": 1}, "no member sizes; did you mean size"),
        ({"size": b"a"}, "size takes a number"),
        ({"size": None}, "size takes no NoneType"),
        ({"inner": [1]}, "an element is a mapping"),
    ],
)
def test_a_member_that_does_not_fit_is_told(members: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        pack_members(LAYOUT, members)


def test_members_of_a_reply_are_read() -> None:
    reply = Reply(0, b"\xfe\xff\xff\xffabcd" + bytes(32), LAYOUT)
    assert (reply["size"], reply["name"]) == (-2, b"abcd")
    with pytest.raises(KeyError, match="no member 'other'; there are: size, name"):
        reply["other"]
