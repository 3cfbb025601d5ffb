# SPDX-License-Identifier: Apache-2.0
"""Call graphs of objects that gcc makes here."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.driver.blocks import LINKED, read_blocks
from fuzzer.driver.callgraph import CallGraph, Function, read_call_graph
from fuzzer.driver.driver import Driver
from fuzzer.errors import BadInputError
from tests.unit.toy_kernel import write_files

_FS = "struct file_operations { void *owner; int (*read)(int); int (*unlocked_ioctl)(int); };\n"
_SOURCE = """\
#include <linux/fs.h>
extern int elsewhere(int);
extern void set_timer(int (*)(int));
struct strategy { const char *name; int (*begin)(int); };
__attribute__((noinline)) static int leaf(int x) { return x ? elsewhere(x) : 1; }
__attribute__((noinline)) static int middle(int x) { if (x > 3) return leaf(x) + 2; return 0; }
__attribute__((noinline)) static int later(int x) { return leaf(x + 1) + x; }
__attribute__((noinline)) int tail(int x) { return middle(x * 2); }
static int toy_read(int x) { return x > 2 ? middle(x) + 1 : 0; }
static int toy_ioctl(int x) { set_timer(later); return tail(x) - 1; }
static int one_begin(int x) { return x - 1; }
static int two_begin(int x) { return x - 2; }
static int lonely(int x) { return x - 3; }
__attribute__((used)) static int dead(int x) { return x - 4; }
const struct file_operations toy_fops = { .read = toy_read, .unlocked_ioctl = toy_ioctl };
struct file_operations other_fops = { .read = toy_read };
static const struct strategy strategies[2] __attribute__((used)) = {
    { "one", one_begin }, { "two", two_begin },
};
int (*hook)(int) = lonely;
__attribute__((section(".init.text"))) int toy_init(void) { return tail(7); }
int init_module(void) __attribute__((alias("toy_init")));
struct { int (*init)(void); } __this_module
    __attribute__((section(".gnu.linkonce.this_module"))) = { init_module };
"""


def compiled(directory: Path, *flags: str, source: str = _SOURCE, name: str = "toy") -> Path:
    write_files(directory, {"include/linux/fs.h": _FS, f"{name}.c": source})
    command = ["gcc", "-O2", "-fno-pic", "-fsanitize-coverage=trace-pc", "-Iinclude", *flags]
    subprocess.run([*command, "-c", f"{name}.c"], cwd=directory, check=True, timeout=60)
    return directory / f"{name}.o"


def graph_of(path: Path, parts: Sequence[Path] = ()) -> CallGraph:
    return read_call_graph(Driver("toy", path, "key", tuple(parts)))


def function(graph: CallGraph, name: str) -> Function:
    (found,) = [each for each in graph.functions if each.name == name]
    return found


def callers(graph: CallGraph, name: str) -> list[str]:
    places = graph.callers.get(function(graph, name), ())
    return sorted({f"&{each.function.name}"[not each.taken :] for each in places})


@pytest.mark.parametrize("flags", [("-g",), ("-g", "-ffunction-sections"), ("-g", "-O0")])
def test_callers_and_tables_are_found(tmp_path: Path, flags: Sequence[str]) -> None:
    graph = graph_of(compiled(tmp_path, *flags))
    assert callers(graph, "leaf") == ["later", "middle"]
    assert callers(graph, "middle") == ["tail", "toy_read"]
    assert callers(graph, "tail") == ["toy_init", "toy_ioctl"]
    assert callers(graph, "later") == ["&toy_ioctl"]
    assert callers(graph, "dead") == []

    def entries(name: str) -> tuple[str, ...]:
        return graph.entries.get(function(graph, name), ())

    assert entries("toy_ioctl") == ("by the kernel (file_operations.unlocked_ioctl of toy_fops)",)
    (read,) = entries("toy_read")
    assert read.startswith("by the kernel (file_operations.read of ")
    assert read.endswith(" and 1 more)")
    assert entries("two_begin") == ("through a pointer (strategy.begin of strategies)",)
    assert entries("lonely") == ("through a pointer (hook)",)
    assert entries("toy_init") == ("by the kernel when the module is loaded",)
    assert entries("leaf") == entries("dead") == ()


def test_without_debug_information_tables_have_their_names(tmp_path: Path) -> None:
    graph = graph_of(compiled(tmp_path))
    toy_ioctl = function(graph, "toy_ioctl")
    assert graph.entries[toy_ioctl] == ("through a pointer (toy_fops)",)


def test_each_block_is_in_a_function_and_pieces_are_put_together(tmp_path: Path) -> None:
    source = """
    extern void complain(void) __attribute__((cold));
    int often(int x) { if (x > 7) { complain(); complain(); } return x + 1; }
    """
    path = compiled(tmp_path, "-freorder-blocks-and-partition", source=source)
    graph = graph_of(path)
    (often,) = graph.functions
    assert {span.section for span in often.spans} == {".text", ".text.unlikely"}
    index = graph.index()
    blocks = read_blocks(path)
    assert {index.at(block.section, block.offset - 1) for block in blocks} == {often}
    assert index.at(".text", 1 << 20) is None
    assert index.at(".nowhere", 0) is None


def test_functions_of_a_driver_in_the_kernel_are_where_they_were_linked(tmp_path: Path) -> None:
    one = "int helper(int x); int start(int x) { return x > 3 ? helper(x) + 1 : 2; }\n"
    two = "int helper(int x) { return x > 5 ? x : 4; }\nvoid __sanitizer_cov_trace_pc(void) {}\n"
    parts = [
        compiled(tmp_path, source=source, name=name)
        for name, source in (("one", one), ("two", two))
    ]
    linked = tmp_path / "vmlinux"
    command = ["ld", "-Ttext=0x7000000", "-e", "0", "one.o", "two.o", "-o", "vmlinux"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    graph = graph_of(linked, parts)
    assert callers(graph, "helper") == ["start"]
    helper, start = function(graph, "helper"), function(graph, "start")
    assert helper.spans[0].section == LINKED
    assert helper.spans[0].start > start.spans[0].start >= 0x7000000
    (place,) = graph.callers[helper]
    assert start.spans[0].start <= place.offset < start.spans[0].end


def test_what_is_no_object_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.ko").write_bytes(b"\177ELF")
    with pytest.raises(BadInputError, match=r"x\.ko: not an object file"):
        graph_of(tmp_path / "x.ko")
