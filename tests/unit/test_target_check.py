# SPDX-License-Identifier: Apache-2.0
"""``target check``: all mistakes in one run, what may not be meant, and what will be fuzzed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from fuzzer.cli.main import main
from fuzzer.paths import project_root
from fuzzer.target.check import Diagnostic, DiagnosticSeverity, read_all
from fuzzer.target.lint import lint
from fuzzer.target.target import load_target

DEMO = Path(__file__).parent / "data" / "demo"
HEAD = (
    "version: 1\nname: demo\ndevice: /dev/demo\nmodule: {source: ., name: demo}\nheader: demo.h\n"
)
POOLS = "pools:\n  key: [a, b]\n"
DELETE = """\
  - ioctl: DEMO_IOC_DELETE
    struct: demo_delete
    fields: {key: {pool: key}, key_len: {len: key}}
"""


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Return the path of a description, with the demo's header beside it."""
    shutil.copytree(DEMO, tmp_path / "demo")
    return tmp_path / "demo" / "demo.yaml"


def errors(path: Path, text: str) -> list[tuple[int, int, str]]:
    path.write_text(text)
    found = read_all(path).errors
    assert all(error.severity is DiagnosticSeverity.ERROR for error in found)
    return [(error.line, error.column, error.message) for error in found]


def findings(path: Path, text: str) -> list[Diagnostic]:
    path.write_text(text)
    reading = read_all(path)
    assert not reading.errors
    return list(lint(reading))


def told(found: list[Diagnostic], severity: DiagnosticSeverity) -> list[tuple[int, int, str]]:
    return [(each.line, each.column, each.message) for each in found if each.severity is severity]


def test_all_mistakes_are_told_with_their_places(demo: Path) -> None:
    text = """\
version: 2
name: a b
device: /etc/passwd
module: {source: nowhere, name: demo}
header: demo.h
colour: blue
pools:
  key: [a, off]
  words: []
calls:
  - write: ["{key}", "{kay}", "{le31:1}"]
    wieght: 2
  - raed: [1]
  - read: [1, 0o17]
  - ioctl: DEMO_IOC_DELETE
    struct: demo_delete
    fields:
      key: {pool: nope}
      kee: {pool: key}
      key_len: {len: key}
  - ioctl: DEMO_IOC_NONE
  - ioctl: DEMO_IOC_LIST
    struct: demo_lits
reset: {calls: true}
call_timeout_ms: 0
"""
    expected = [
        (1, 10, "version is 2"),
        (2, 7, "name is 'a b'"),
        (3, 9, "device is '/etc/passwd'"),
        (4, 18, "source: there is no"),
        (6, 1, "has no 'colour'"),
        (8, 12, "off without quotes is true or false to YAML"),
        (9, 10, "too few items"),
        (11, 22, "no pool 'kay'; did you mean 'key'?"),
        (11, 31, "no form 'le31'"),
        (12, 5, "has no 'wieght'; did you mean 'weight'?"),
        (13, 5, "no call 'raed'"),
        (14, 15, "write 15 or 0xf"),
        (18, 19, "no pool 'nope'"),
        (19, 12, "no member 'kee'"),
        (21, 12, "no usable DEMO_IOC_NONE"),
        (23, 13, "no usable demo_lits"),
        (24, 16, "reset calls is true or false"),
        (25, 18, "call_timeout_ms is 0"),
    ]
    found = errors(demo, text)
    assert [(line, column) for line, column, _ in found] == [each[:2] for each in expected]
    for (*_, message), (*_, part) in zip(found, expected, strict=True):
        assert part in message


def test_what_is_required_and_what_is_twice_there_are_told_together(demo: Path) -> None:
    found = errors(demo, "name: demo\nname: again\ncalls:\n  - read: [x]\n")
    assert len(found) == 5
    messages = " | ".join(message for _, _, message in found)
    for part in ("lacks 'version'", "no 'device'", "lacks 'module'", "'name' twice", "a count"):
        assert part in messages


def test_files_with_mistakes_are_told_once(demo: Path) -> None:
    devices = "devices: [/dev/a, {path: /dev/b, major: b, minor: x}]\n"
    text = HEAD.replace("device: /dev/demo\n", devices) + "calls: [{read: [x]}]\n"
    assert [(line, column) for line, column, _ in errors(demo, text)] == [(3, 51), (6, 17)]
    text = text.replace("devices:", "device: /dev/demo\ndevices:")
    (first, _) = errors(demo, text)
    assert first[:2] == (4, 10)
    assert "both 'device' and 'devices'" in first[2]


@pytest.mark.parametrize(
    "text",
    ["a: [", "", "- 1\n", "version: 1\n", HEAD + "calls: [{raed: [1]}]\n", HEAD + "calls: 5\n"],
)
def test_where_nothing_is_left_there_is_an_error(demo: Path, text: str) -> None:
    demo.write_text(text)
    reading = read_all(demo)
    assert reading.target is None
    assert reading.errors


def test_a_description_that_loads_has_no_errors(demo: Path) -> None:
    reading = read_all(demo)
    assert reading.target == load_target(demo)
    assert not reading.errors
    assert reading.is_resolved


def test_members_of_which_nothing_is_said_are_told_with_what_they_get(demo: Path) -> None:
    text = HEAD + POOLS + DELETE.replace("  - ioctl", "calls:\n  - write: ['{key}']\n  - ioctl", 1)
    text += "  - write: {struct: demo_odd, fields: {tag: {values: [1]}}}\n"
    notes = told(findings(demo, text), DiagnosticSeverity.NOTE)
    (message,) = [message for line, column, message in notes if (line, column) == (13, 21)]
    assert message.startswith(
        "struct demo_odd: nothing is said of pair.low, pair.high, inner.key_l"
    )
    assert "next (pointers: mostly NULL, else such numbers)" in message
    assert "(bytes: mostly zeros, else strings of any pool; of a union any member)" in message


def test_lengths_of_nothing_and_wrong_sizes_are_told(demo: Path) -> None:
    text = (
        HEAD + POOLS + "calls:\n"
        "  - ioctl: DEMO_IOC_LIST\n"
        "    struct: demo_delete\n"
        "    fields: {key_len: {len: key}}\n"
        "  - ioctl: DEMO_IOC_DELETE\n"
        "    struct: demo_list\n"
        "    fields: {size: {len: flags}, buf: {pointer: 1}, flags: {values: [1]}}\n"
    )
    found = findings(demo, text)
    assert told(found, DiagnosticSeverity.WARNING) == [
        (10, 13, "DEMO_IOC_LIST tells 24 bytes (_IOWR), struct demo_delete has 20"),
        (11, 23, "len of 'key', of which nothing is said: it is mostly 0"),
        (13, 13, "DEMO_IOC_DELETE tells 20 bytes (_IOW), struct demo_list has 24"),
        (14, 20, "len of 'flags', which is integer and no array or pointer: it is 0"),
    ]


def test_what_is_not_used_or_twice_there_is_told(demo: Path) -> None:
    text = (
        HEAD + "pools:\n  key: [a, b]\n  other: [&x y]\ncalls:\n" + DELETE + "  - close: true\n"
        "  - ioctl: DEMO_IOC_CLEAR\n"
        "  - {ioctl: 0x6400, weight: 3}\n"
        "  - {ioctl: 0x6400, value: [3]}\n"
        "  - ioctl: 0x40086405\n"
    )
    found = findings(demo, text)
    assert told(found, DiagnosticSeverity.WARNING) == [
        (8, 11, "&x is an anchor to YAML, and not text: nothing refers to it; put it in quotes"),
        (15, 13, "ioctl 0x6400 is on line 14 too, with the same argument"),
    ]
    notes = told(found, DiagnosticSeverity.NOTE)
    assert notes[0] == (5, 9, "demo.h has ioctls that no call makes: DEMO_IOC_LIST, DEMO_IOC_SEEN")
    assert notes[1][:2] == (8, 3)
    assert "pool 'other' is used by no template" in notes[1][2]
    assert notes[2] == (13, 12, "only the first file is ever open without 'open: true'")
    assert notes[3] == (16, 13, "ioctl 0x6400 is on line 14 too, with another argument")
    assert notes[4][:2] == (17, 12)
    assert "0x40086405 tells 8 bytes (_IOW), and a mere value is passed" in notes[4][2]


def test_a_builtin_driver_is_never_loaded_again(demo: Path) -> None:
    head = HEAD.replace("source: .", "builtin: [x.c]")
    found = findings(demo, head + "calls: [{read: [1]}, {reload: true}]\n")
    assert told(found, DiagnosticSeverity.WARNING) == [
        (6, 31, "never made: a driver that is built in is not loaded again")
    ]


def test_names_that_only_a_built_driver_has_are_not_looked_up(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (demo.parent / "Kbuild").write_text("obj-m := demo.o\n")
    demo.write_text(HEAD.replace("header: demo.h\n", "") + POOLS + "calls:\n" + DELETE)
    assert main(["target", "check", str(demo)]) == 0
    out = capsys.readouterr().out
    assert "names of macros and structs are not looked up here" in out
    assert "ioctl DEMO_IOC_DELETE" in out


def test_the_command_shows_what_will_be_fuzzed(capsys: pytest.CaptureFixture[str]) -> None:
    path = project_root() / "module" / "pkv.yaml"
    assert main(["target", "check", str(path)]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "25.0 % write 2 templates" in lines
    assert "12.5 % ioctl PKV_IOC_DELETE 0x4028bb01 _IOW struct pkv_delete 40" in lines
    assert "- reload 4 templates" in lines
    assert "between programs: ioctl(f0, PKV_IOC_CLEAR)" in lines
    assert any(line.startswith("seeds: 12 of 12 in ") for line in lines)
    assert lines[-1] == f"{path}: 0 errors, 0 warnings, 1 note"


def test_the_command_ends_with_2_and_names_every_place(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    demo.write_text(HEAD + "calls:\n  - read: [x]\n  - write: ['{']\n  - poll: true\n")
    assert main(["target", "check", str(demo)]) == 2
    out = capsys.readouterr().out
    assert f"{demo}:7:12: error: a count is a string 'x'" in out
    assert f"{demo}:8:13: error: a template has a single '{{'" in out
    assert "100.0 %  poll" in out
    assert out.endswith(f"{demo}: 2 errors, 0 warnings, 0 notes\n")


def test_seeds_and_resets_that_cannot_be_read_are_errors(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds = demo.parent / "seeds"
    seeds.mkdir()
    (seeds / "good.prog").write_text("read(f0, 1)\n")
    (seeds / "bad.prog").write_text("read(f0, 1)\nread(f9, 1)\n")
    demo.write_text(HEAD + "calls: [{read: [1]}]\nreset: {calls: ['raed(f0, 1)']}\n")
    assert main(["target", "check", "--json", str(demo)]) == 2
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert [problem.split(": ")[0] for problem in found["problems"]] == [
        f"{demo}:7",
        f"{seeds / 'bad.prog'}:2",
    ]
    assert not found["usable"]
    assert found["files"] == ["/dev/demo"]
    assert found["calls"][0]["share"] == 1.0
    assert len(found["seeds"]) == 2


def test_a_missing_file_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "check", "/nonexistent.yaml"]) == 2
    assert "there is no such file" in capsys.readouterr().err
