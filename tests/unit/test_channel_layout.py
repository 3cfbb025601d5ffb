# SPDX-License-Identifier: Apache-2.0
"""The host's view of the channel and of programs is what vm/channel.h says."""

from __future__ import annotations

import ctypes
import enum
import re

import pytest

from fuzzer.errors import BadInputError
from fuzzer.machine import channel_layout as layout
from fuzzer.machine.channel import Channel, Comparisons
from fuzzer.paths import project_root
from fuzzer.program import flips, links, ops, program, syntax, wire
from fuzzer.program.comparison import Comparison
from fuzzer.program.csource import file_calls
from fuzzer.target.device import MAX_DEVICES, Device
from fuzzer.target.header import read_headers

HEADER = project_root() / "vm" / "channel.h"

# Names that differ; all others are the header's without CH_.
_FLAGS = (
    "TSC",
    "COMPARE",
    "NEW",
    "TRACE",
    "NAME",
    "KEEP",
    "WAITS",
    "HEARD",
    "NOBODY",
    "NOBODY_OPENS",
    "SETTLE",
    "STAY",
    "OUTCOMES",
)
_NAMES = {f"FLAG_{name}": f"CH_F_{name}" for name in _FLAGS}

_PROGRAM = {
    "W_N_FILES": program.N_FILES,
    "W_MAX_FIXUPS": program.MAX_FIXUPS,
    "W_N_THREADS": program.N_THREADS,
    "W_MAX_PARTS": program.MAX_PARTS,
    "W_VALUE": ops.FLAG_VALUE,
    "W_VECTOR": ops.FLAG_VECTOR,
    "W_NULL": ops.FLAG_NULL,
    "W_READONLY": ops.FLAG_READONLY,
    "W_COMPAT": ops.FLAG_COMPAT,
    "W_WIDE": ops.FLAG_WIDE,
    "W_COUNT": ops.FLAG_COUNT,
    "W_WAITS": ops.FLAG_WAITS,
    "W_POINTS": ops.POINTS,
    "W_URING": ops.URING,
    "W_URING_ASYNC": ops.URING_ASYNC,
    "W_URING_LEAVE": ops.URING_LEAVE,
    "W_URING_COMMAND": ops.URING_COMMAND,
    "W_MAP_TURNED": ops.MAP_TURNED,
    "W_MAP_PRIVATE": ops.MAP_PRIVATE,
    "W_REMAP_MOVE": ops.REMAP_MOVE,
    "W_MOST_ADVICE": ops.MOST_ADVICE,
    "W_MAX_WAIT": program.MAX_WAIT,
    "W_LOCK_START": file_calls.LOCK_START,
    "W_LOCK_LENGTH": file_calls.LOCK_LENGTH,
    "W_MEMFD_SIZE": file_calls.MEMFD_SIZE,
    "W_N_HANDLES": links.N_HANDLES,
    "W_FLIP_SIZE": flips.SIZE_SHIFT,
    "W_LOW": links.LOW,
    "W_LINK": links.LINK,
    "W_LINK_WIDE": links.WIDE,
    "W_LINK_FILE": links.FILE,
    "W_LINK_CALL": links.CALL,
    "CH_MAX_CALLS": program.MAX_CALLS,
    "CH_PROGRAM_SIZE": program.MAX_PROGRAM_SIZE,
    "CH_PRELOAD_SIZE": program.MAX_PRELOAD,
}


def _values(*names: str) -> dict[str, int]:
    return dict(read_headers([HEADER], constants=names).constants)


def test_each_constant_of_the_channel_is_the_headers() -> None:
    here = {
        _NAMES.get(name, f"CH_{name}"): value
        for name, value in vars(layout).items()
        if name.isupper() and isinstance(value, int) and not name.startswith(("_", "NO_"))
    }
    assert len(here) > 15
    assert _values(*here) == here


def test_the_mark_of_a_traced_call_is_the_headers() -> None:
    assert f'#define CH_MARK\t\t"{layout.MARK}"\n' in HEADER.read_text()


def test_each_constant_of_programs_is_the_headers() -> None:
    defined = set(re.findall(r"^#define\s+(W_\w+)", HEADER.read_text(), re.MULTILINE))
    assert defined - {"W_MAX_SLEEP"} == {name for name in _PROGRAM if name.startswith("W_")}
    assert _values(*_PROGRAM) == _PROGRAM


@pytest.mark.parametrize(
    ("c_enum", "prefix", "here"),
    [
        ("ch_command", "CH_", layout.Command),
        ("ch_status", "CH_", layout.Status),
        ("ch_node", "CH_NODE_", layout.Node),
        ("w_op", "W_", ops.Op),
        ("w_link", "W_", links.LinkKind),
    ],
)
def test_each_enumerator_is_the_headers(c_enum: str, prefix: str, here: type[enum.IntEnum]) -> None:
    body = re.search(rf"enum {c_enum} {{(.*?)}};", HEADER.read_text(), re.DOTALL)
    assert body
    names = re.findall(rf"^\s*({prefix}\w+)", body[1], re.MULTILINE)
    names = [name for name in names if name not in {"W_N_OPS", "W_N_LINKS"}]
    assert {name.removeprefix(prefix) for name in names} == {member.name for member in here}
    assert _values(*names) == {f"{prefix}{member.name}": member.value for member in here}


@pytest.mark.parametrize(
    ("prefix", "here"),
    [("W_", syntax.SPLICE), ("W_", syntax.CREATED), ("W_", syntax.FCNTL), ("W_", syntax.EPOLL)],
    ids=["splice", "create", "fcntl", "epoll"],
)
def test_each_name_of_program_text_is_the_headers(prefix: str, here: dict[str, int]) -> None:
    assert _values(*(f"{prefix}{name}" for name in here)) == {
        f"{prefix}{name}": number for name, number in here.items()
    }


@pytest.mark.parametrize(
    ("name", "here"),
    [
        ("ch_header", layout.ChannelHeader),
        ("ch_device", layout.RawDevice),
        ("ch_result", layout.RawResult),
        ("ch_comparison", layout.RawComparison),
        ("ch_comparisons", layout.RawComparisons),
    ],
)
def test_each_member_is_where_the_compiler_puts_it(name: str, here: type[ctypes.Structure]) -> None:
    layout = read_headers([HEADER], structs=[name]).structs[name]
    ours = []
    for field in here._fields_:
        descriptor = getattr(here, field[0])
        ours.append((field[0], descriptor.offset, descriptor.size))
    assert ours == [(member.name, member.offset, member.size) for member in layout.members]
    assert ctypes.sizeof(here) == layout.size


def test_the_wire_form_is_packed_as_the_compiler_packs_it() -> None:
    structs = read_headers([HEADER], structs=["w_call", "w_fixup"]).structs
    assert structs["w_call"].size == wire.HEADER_SIZE
    assert structs["w_fixup"].size == wire.FIXUP_SIZE
    values = tuple(range(1, 12))
    packed = wire.HEADER.pack(*values)
    members = structs["w_call"].members
    assert [
        int.from_bytes(packed[member.offset : member.offset + member.size], "little")
        for member in members
    ] == list(values)
    assert [member.name for member in members] == [
        *("op", "file", "flags", "n_fixups", "cmd", "arg", "length"),
        *("fault", "cut", "thread", "mode"),
    ]
    assert wire.PLAIN_HEADER.pack(*values[:7]) == wire.HEADER.pack(*values[:7], 0, 0, 0, 0)


def test_the_regions_do_not_overlap() -> None:
    regions = {
        "header": (0, ctypes.sizeof(layout.ChannelHeader)),
        "results": (
            layout.RESULTS,
            layout.MAX_CALLS * ctypes.sizeof(layout.RawResult),
        ),
    }
    for name in ("RESET", "PROGRAM", "OUTPUT", "LOG", "COUNTERS", "DEVICES", "TABLE", "BULK"):
        regions[name] = (getattr(layout, name), getattr(layout, f"{name}_SIZE"))
    end = 0
    for start, size in sorted(regions.values()):
        assert start >= end
        end = start + size
    assert end <= layout.SIZE


def test_a_command_is_finished_when_the_guest_repeats_its_number() -> None:
    link = Channel()
    link.post(layout.Command.PING, 7)
    header = link.header
    assert (header.command, header.length, header.req_seq) == (layout.Command.PING, 7, 1)
    assert not link.finished()
    assert not link.wait(0.01)
    header.done_seq = 1
    assert link.finished()
    assert link.wait(0.01)
    link.close()
    link.close()


def test_arguments_are_strings_one_after_the_other() -> None:
    link = Channel()
    link.post_execution(["/bin/echo", "", "é"], b"\x7fELF", 1.5)
    header, start = link.header, layout.ChannelHeader.exec_args.offset
    expected = b"/bin/echo\0\0\xc3\xa9\0"
    assert bytes(link.memory[start : start + len(expected)]) == expected
    assert bytes(link.memory[layout.BULK : layout.BULK + 4]) == b"\x7fELF"
    assert (header.command, header.length) == (layout.Command.EXEC, 4)
    assert (header.exec_argc, header.exec_timeout_ms) == (3, 1500)
    link.close()


@pytest.mark.parametrize(
    ("argv", "image", "message"),
    [
        ([], b"", "0 arguments in 0 bytes"),
        (["x" * 1024], b"", "1 arguments in 1025 bytes"),
        (["a\0b"], b"", "without NUL"),
        (["a"], bytes(layout.BULK_SIZE + 1), "at most 8388608 fit"),
    ],
)
def test_what_cannot_be_executed_is_refused(argv: list[str], image: bytes, message: str) -> None:
    link = Channel()
    with pytest.raises(BadInputError, match=message):
        link.post_execution(argv, image, 1.0)
    assert link.finished()
    link.close()


def test_comparisons_are_read_as_the_guest_lays_them_out() -> None:
    link = Channel()
    link.post_comparing(b"program")
    assert link.header.flags == layout.FLAG_COMPARE
    assert link.comparisons() == Comparisons(able=False, found=(), dropped=0)
    raw = layout.RawComparisons.from_buffer(link.map, layout.BULK)
    raw.able, raw.count, raw.dropped = 1, 3, 7
    records = (layout.RawComparison * 3).from_buffer(
        link.map, layout.BULK + ctypes.sizeof(layout.RawComparisons)
    )
    records[0] = layout.RawComparison(0xFFFFFFFFFFFFFFFF, 1, 0xC0000040, 3, 8, 1)
    records[1] = layout.RawComparison(2, 33, 0, 127, 4, 0)
    records[2] = layout.RawComparison(9, 9, 7, 1, 4, 1)
    assert link.comparisons() == Comparisons(
        able=True,
        found=(
            Comparison(0xFFFFFFFFFFFFFFFF, 1, 3, 8, constant=True, site=0xC0000040),
            Comparison(2, 33, 127, 4, constant=False),
        ),
        dropped=7,
        equal=(Comparison(9, 9, 1, 4, constant=True, site=7),),
    )
    raw.count = 0xFFFFFFFF
    found = link.comparisons()
    assert len(found.found + found.equal) == layout.MAX_CALLS * layout.CALL_COMPARISONS
    link.close()


def test_devices_are_where_the_executor_looks_for_them() -> None:
    link = Channel()
    link.set_devices(
        [Device("/proc/a"), Device("/dev/b", "b c", 3), Device("/dev/d", 240, 1, True)]
    )
    raw = (layout.RawDevice * 3).from_buffer(link.map, layout.DEVICES)
    assert link.header.n_devices == 3
    assert [(each.path, each.major_name, each.major, each.minor, each.node) for each in raw] == [
        (b"/proc/a", b"", 0, 0, layout.Node.THERE),
        (b"/dev/b", b"b c", 0, 3, layout.Node.CHAR),
        (b"/dev/d", b"", 240, 1, layout.Node.BLOCK),
    ]
    assert ctypes.sizeof(layout.RawDevice) * MAX_DEVICES == layout.DEVICES_SIZE
    with pytest.raises(ValueError, match="65 devices; at most 64 fit"):
        link.set_devices([Device("/dev/a")] * 65)
    link.close()


def test_a_saved_channel_is_restored_with_its_devices() -> None:
    link, other = Channel(), Channel()
    link.set_devices([Device("/dev/first"), Device("/dev/second", "drv")])
    link.header.module_name = b"drv"
    other.restore_header(link.save_header())
    assert (other.header.n_devices, other.header.module_name) == (2, b"drv")
    assert other.save_header() == link.save_header()
    link.close()
    other.close()


def test_results_that_point_outside_are_cut() -> None:
    link = Channel()
    raw = layout.RawResult.from_buffer(link.map, layout.RESULTS)
    raw.ret, raw.out_offset, raw.out_length = 3, layout.OUTPUT_SIZE - 2, 0xFFFFFFFF
    link.header.n_results = 0xFFFFFFFF
    link.memory[layout.OUTPUT : layout.OUTPUT + layout.OUTPUT_SIZE] = b"\xaa" * layout.OUTPUT_SIZE
    found = link.results()
    assert len(found) == layout.MAX_CALLS
    assert found[0].output == b"\xaa\xaa"
    link.close()
