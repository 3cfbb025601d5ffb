# SPDX-License-Identifier: Apache-2.0
"""Coverage by function: what is left of each, in the order in which it is worth looking at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fuzzer.campaign.corpus_functions import (
    CallEdge,
    FunctionCoverage,
    function_coverage,
    reached_blocks,
    source_lines_of,
)
from fuzzer.driver.blocks import Block, read_blocks
from fuzzer.driver.callgraph import Caller, CallGraph, Function, Span
from fuzzer.driver.provision import Guest
from fuzzer.report.functions import format_functions
from tests.unit.test_callgraph import compiled, graph_of

_SIZE = 100


def measured(
    sizes: Mapping[str, int],
    reached: Mapping[str, int],
    calls: Mapping[str, str] | None = None,
    entries: Mapping[str, str] | None = None,
) -> dict[str, FunctionCoverage]:
    """Return what is said of functions of so many blocks, of which the first ones were reached.

    ``calls`` has for each function its callers, ``&`` before one that takes its address.
    """
    names = list(sizes)
    functions = {
        name: Function(name, (Span(".text", n * _SIZE, (n + 1) * _SIZE),))
        for n, name in enumerate(names)
    }
    blocks = [
        Block(".text", n * _SIZE + 5 * number + 5)
        for n, name in enumerate(names)
        for number in range(sizes[name])
    ]
    covered = {
        number
        for number, block in enumerate(blocks)
        if block.offset % _SIZE <= 5 * reached.get(names[block.offset // _SIZE], 0)
    }
    callers = {
        functions[name]: tuple(
            Caller(
                functions[each.lstrip("&")],
                ".text",
                functions[each.lstrip("&")].spans[0].start,
                taken=each.startswith("&"),
            )
            for each in text.split()
        )
        for name, text in (calls or {}).items()
    }
    graph = CallGraph(
        tuple(functions.values()),
        callers,
        {functions[name]: (words,) for name, words in (entries or {}).items()},
    )
    found = function_coverage(
        blocks,
        covered,
        graph,
        lambda places: {
            place: ("include/inlined.h:3", f"drv/{names[place[1] // _SIZE]}.c:{place[1] % _SIZE}")
            for place in places
        },
    )
    return {each.name: each for each in found}


def test_what_is_left_of_a_function_is_told_by_line() -> None:
    found = measured({"a": 4, "b": 2}, {"a": 2, "b": 2})
    assert list(found) == ["a", "b"]
    assert found["a"].missed == ("drv/a.c:14", "drv/a.c:19")
    assert (found["a"].reached, found["a"].blocks, found["a"].gain) == (2, 4, 2)
    assert found["b"].missed == ()


def test_the_nearest_reached_caller_is_found() -> None:
    calls = {"far": "mid", "mid": "near &set", "near": "set"}
    found = measured(dict.fromkeys(("far", "mid", "near", "set"), 2), {"set": 1}, calls)
    assert found["far"].links == (
        CallEdge("mid", "drv/mid.c:0", taken=False, reached=False),
        CallEdge("set", "drv/set.c:0", taken=True, reached=True),
    )
    assert [each.caller for each in found["near"].links] == ["set"]
    # Reaching one reaches what it leads to.
    assert (found["far"].gain, found["mid"].gain, found["near"].gain) == (2, 4, 6)
    assert list(found) == ["near", "mid", "set", "far"]


def test_without_a_reached_caller_it_is_told_who_calls_from_elsewhere() -> None:
    found = measured(
        dict.fromkeys(("a", "b", "c", "d", "e"), 1),
        {},
        {"a": "b", "d": "e", "e": "d"},
        {"b": "by the kernel (x)", "c": "through a pointer (y)"},
    )
    assert (found["a"].entry, [each.caller for each in found["a"].links]) == (
        "by the kernel (x)",
        ["b"],
    )
    assert (found["b"].entry, found["b"].links) == ("by the kernel (x)", ())
    assert found["c"].entry == "through a pointer (y)"
    # They call each other, and nobody them.
    assert (found["d"].entry, [each.caller for each in found["d"].links]) == ("", ["e"])


def test_the_table_says_most_worth_looking_at_first_and_fits_a_terminal() -> None:
    sizes = {"big": 15, "part": 9, "deep": 2, "lost": 12, "done": 1, "_sub_D_65535_0": 3}
    sizes["quite_a_long_name_of_a_function_that_is_never_reached_at_all"] = 1
    found = measured(
        sizes,
        {"part": 3, "done": 1},
        {"deep": "big", "quite_a_long_name_of_a_function_that_is_never_reached_at_all": "&done"},
        {"big": "by the kernel (file_operations.unlocked_ioctl of a_table_with_a_long_name)"},
    )
    text = format_functions(list(found.values()))
    lines = text.splitlines()
    assert lines == [
        "4 of 43 blocks, 2 of 6 functions reached; what is left, most worth looking at first:",
        "0/15  big                             never reached; called by the kernel",
        " " * 38 + "(file_operations.unlocked_ioctl of a_table_with_a_long_name)",
        " 3/9  part                            part.c:19, 24, 29, 34, 39, 44",
        " 0/1  quite_a_long_name_of_a_function_that_is_never_reached_at_all",
        " " * 38 + "never reached; called through a pointer that is set by done",
        " " * 38 + "(done.c:0)",
        f" 0/2  deep{' ' * 28}never reached; called by big (big.c:0), never reached either,",
        " " * 38 + "which is called by the kernel (file_operations.unlocked_ioctl",
        " " * 38 + "of a_table_with_a_long_name)",
        "0/12  lost                            never reached; nothing in the driver calls it",
        "reached whole: done",
        "the sanitizer's own functions: 0 of 3 blocks",
    ]
    assert max(map(len, lines)) <= 100


def test_many_lines_and_names_are_wrapped() -> None:
    places = tuple(f"/x/drv/sub/file{n % 2}.c:{3 * n}" for n in range(200))
    part = FunctionCoverage("f", 201, 1, 200, tuple(sorted(places)))
    whole = [FunctionCoverage(f"function_{n}", 1, 1, 0) for n in range(40)]
    lines = format_functions([part, *whole]).splitlines()
    assert max(map(len, lines)) <= 100
    assert "/x/" not in "".join(lines)
    assert "function_39" in "".join(lines)


def test_everything_reached_is_told_in_short() -> None:
    text = format_functions([FunctionCoverage("f", 2, 2, 0)])
    assert text == "2 of 2 blocks, 1 of 1 functions reached\nreached whole: f\n"


def test_blocks_are_joined_over_programs_and_the_load() -> None:
    runs: dict[bytes, bytes | None] = {b"a": bytes([0, 2, 0, 0, 9]), b"b": None, b"c": bytes(5)}
    guest = SimpleNamespace(load_blocks=frozenset((3,)), blocks=range(4))
    reached, crashed = reached_blocks(cast(Guest, guest), runs.__getitem__, [b"a", b"b", b"c"])
    assert (reached, crashed) == (frozenset((1, 3)), 1)


def test_a_real_object_is_told_by_its_lines(tmp_path: Path) -> None:
    path = compiled(tmp_path, "-g", "-O0")
    blocks = read_blocks(path)
    graph = graph_of(path)
    index = graph.index()
    owners = [index.at(block.section, block.offset - 1) for block in blocks]
    reached = {n for n, owner in enumerate(owners) if owner and owner.name == "toy_read"}
    reached -= {max(reached)}
    found = {
        each.name: each for each in function_coverage(blocks, reached, graph, source_lines_of(path))
    }
    line = 1 + (tmp_path / "toy.c").read_text().splitlines().index(
        "static int toy_read(int x) { return x > 2 ? middle(x) + 1 : 0; }"
    )
    assert found["toy_read"].missed == (f"{tmp_path}/toy.c:{line}",)
    assert found["middle"].links == (CallEdge("toy_read", f"{tmp_path}/toy.c:{line}", False, True),)
    assert f"called by toy_read (toy.c:{line})" in format_functions(list(found.values()))


@pytest.mark.parametrize("names", [["relative.c:1", "/absolute.c:2"], ["a/b.c:1"]])
def test_files_of_any_name_are_shown(names: Sequence[str]) -> None:
    text = format_functions([FunctionCoverage("f", 3, 1, 2, tuple(names))])
    assert "b.c:1" in text or "relative.c:1; /absolute.c:2" in text
