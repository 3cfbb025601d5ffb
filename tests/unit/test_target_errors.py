# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a target description: each is located and says what is allowed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.target.target import load_target

DEMO = Path(__file__).parent / "data" / "demo"


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    shutil.copytree(DEMO, tmp_path / "demo")
    return tmp_path / "demo" / "demo.yaml"


# What is replaced in demo.yaml, by what, and the message after "file:line: ",
# where the line is that of the replacement's first character plus an offset.
MISTAKES = [
    ("call_timeout_ms: 250", "call_timeout: 250", 0, "no 'call_timeout'; did you mean 'call_time"),
    ("call_timeout_ms: 250", "call_timeout_ms: fast", 0, "a string 'fast'; an integer from 1 to"),
    ("call_timeout_ms: 250", "call_timeout_ms: 0", 0, "is 0; 1 to 600000 is allowed"),
    ("version: 1", "version: 2", 0, "version is 2; 1 to 1 is allowed"),
    ("name: demo\n", "", -1, "lacks 'name'"),
    ("name: demo\n", "name: a b\n", 0, "name is 'a b'; letters, digits"),
    ("name: demo\n", "name: demo\nname: demo\n", 1, "has 'name' twice"),
    ("name: demo\n", "name: ]\n", 0, "broken YAML"),
    ("name: demo\n", "name: \tdemo\x01\n", 0, "broken YAML"),
    ("/dev/demo", "/etc/passwd", 0, "device is '/etc/passwd'; /dev/..., /proc/... or /sys/"),
    ("/dev/demo", "/dev/../etc/passwd", 0, "device is '/dev/../etc/passwd'; "),
    ("device: /dev/demo\n", "", -2, "has no 'device'; exactly one of"),
    ("device:", "devices: [/dev/a]\ndevice:", 0, "has both 'device' and 'devices'"),
    ("device: /dev/demo", "devices: []", 0, "too few items"),
    ("device: /dev/demo", "devices: /dev/demo", 0, "devices is a string '/dev/demo'; a list"),
    ("device: /dev/demo", "devices: [/dev/a, /dev/a]", 0, "/dev/a is named twice"),
    ("device: /dev/demo", "devices: [/dev/a b]", 0, "an entry of devices is '/dev/a b'"),
    ("device: /dev/demo", "devices: [{path: /dev/a}]", 0, "lacks 'major'"),
    ("device: /dev/demo", "devices: [{path: /proc/a, major: a}]", 0, "with a major can be made be"),
    ("device: /dev/demo", "devices: [{path: /dev/a, major: 4096}]", 0, "major is 4096; 0 to 4095"),
    ("device: /dev/demo", "devices: [{path: /dev/a, major: on}]", 0, "major is true or false 'on'"),
    ("device: /dev/demo", "devices: [{path: /dev/a, major: a, minor: b}]", 0, "minor is a string"),
    (
        "device: /dev/demo",
        "devices: [{path: /dev/a, major: a, blok: 1}]",
        0,
        "did you mean 'block'",
    ),
    (
        "device: /dev/demo",
        f"devices: [{', '.join(f'/dev/a{n}' for n in range(65))}]",
        0,
        "the number of devices is 65; 1 to 64 is allowed",
    ),
    ("source: .", "source: nowhere", 0, "source: there is no "),
    ("source: .", "source: demo.h", 0, "demo.h is not a directory"),
    ("source: .", "object: demo.ko", 0, "object: there is no "),
    ("source: .", "object: {fast: demo.ko}", 0, "object: fast: there is no "),
    ("source: .", "object: {quick: demo.h}", 0, "object has no 'quick'; allowed: fast, full"),
    ("source: .", "object: {}", 0, "it needs a .ko, or one for fast and full"),
    (
        "source: .\n",
        "source: .\n  object: demo.h\n",
        0,
        "exactly one of 'source', 'object' and 'builtin'",
    ),
    ("header: demo.h", "header: demo.hpp", 0, "header: there is no "),
    ("header: demo.h", "header: .", 0, "is not a file"),
    ("header: demo.h\n", "", 14, "DEMO_IOC_DELETE needs a header"),
    ('value: ["", "1"', 'value: ["", 1', 0, "an integer '1'; a string (put it in quotes) is"),
    ('value: ["", "1", hello]', "value: []", 0, "too few items"),
    ('value: ["", "1", hello]', "value: [!!binary '?']", 0, "is not base64"),
    ('value: ["", "1", hello]', "value: hello", 0, "is a string 'hello'; a list is expected"),
    ("{key}={value}", "{kee}={value}", 0, "no pool 'kee'; did you mean 'key'?"),
    ("{key}={value}", "{key={value}", 0, "a template has a single '{'"),
    ("weight: 4", "weight: 0", 0, "weight is 0; 1 to 100 is allowed"),
    ("weight: 4", "weigth: 4", 0, "a write call has no 'weigth'; did you mean 'weight'?"),
    ("weight: 4", "read: [1]", -1, "write and read; exactly one of"),
    ("- read: [0", "- raed: [0", 0, "no call 'raed'; did you mean 'read'?"),
    ("- read: [0", "- read: [" + "9" * 5000, 0, "a count is an integer '9999999999"),
    ("- read: [0", "- read: [0x_", 0, "a count is "),
    ("- read: [0", "- read: [1:30", 0, "a count is an integer '1:30'"),
    ("- read: [0", "- read: [-1", 0, "a count is -1; 0 to"),
    ("lseek: true", "lseek: false", 0, "lseek is true or false 'false'; true (leave"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: DEMO_IOC_CLAER\n", 0, "did you mean DEMO_IOC_CLEAR?"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: DEMO_TEXT\n", 0, "no usable DEMO_TEXT"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: 1; rm\n", 0, "ioctl is '1; rm'; an integer or a macro"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: DEMO_COLD\n", 0, "ioctl (DEMO_COLD) is -1; 0 to"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: 0x100000000\n", 0, "ioctl is 4294967296; 0 to"),
    ("ioctl: DEMO_IOC_CLEAR\n", "ioctl: 1\n    fields: {}\n", 1, "fields without a struct"),
    ("struct: demo_delete", "struct: demo_delet", 0, "no usable demo_delet, did you mean demo_d"),
    ("struct: demo_delete", "struct: demo_delete\n    value: [1]", 1, "value beside struct"),
    ("key: {pool: key}", "kay: {pool: key}", 0, "demo_delete has no member 'kay'; did you mean"),
    ("key: {pool: key}", "key: {pool: nope}", 0, "no pool 'nope'; allowed: key, value"),
    ("key: {pool: key}", "key: {poool: key}", 0, "no 'poool'; did you mean 'pool'?"),
    ("key: {pool: key}", "key: {}", 0, "needs exactly one of pool, len, pointer, values"),
    ("key: {pool: key}", "key: {range: [0, 1]}", 0, "'range' is for an integer; member 'key'"),
    ("key_len: {len: key}", "key_len: {pool: key}", 0, "'pool' is for an array; member 'key_l"),
    ("key_len: {len: key}", "key_len: {len: kez}", 0, "no member 'kez'; did you mean 'key'?"),
    ("key_len: {len: key}", "key_len: {pointer: 8}", 0, "'pointer' is for a pointer or a 64-bit"),
    ("buf: {pointer: 256}", "buf: {pointer: 65535}", -2, "and its buffers are 65559 bytes"),
    ("[0, DEMO_F_FAST, ", "[0, 0x100000000, ", 0, "field 'flags' is 4294967296; -2147483648 to"),
    ("[DEMO_COLD, 0x10]", "[0x10, DEMO_COLD]", 0, "range is [lowest, highest]"),
    ("reset:\n", "reset:\n  reload: true\n", 1, "reset needs exactly one of calls, reload"),
    ("ioctl(f0, DEMO_IOC_SEEN", "ioctl(f0, DEMO_IOC_SEN", 0, "no usable DEMO_IOC_SEN"),
]


@pytest.mark.parametrize(("old", "new", "offset", "message"), MISTAKES)
def test_a_mistake_is_located_and_explained(
    demo: Path, old: str, new: str, offset: int, message: str
) -> None:
    text = demo.read_text()
    before, found, after = text.partition(old)
    assert found, "the test's own mistake"
    demo.write_text(before + new + after)
    line = before.count("\n") + 1 + offset
    with pytest.raises(BadInputError) as caught:
        load_target(demo)
    assert str(caught.value).startswith(f"{demo}:{line}: ")
    assert message in str(caught.value)


def test_a_header_that_does_not_compile_is_shown_with_gccs_text(demo: Path) -> None:
    header = demo.parent / "demo.h"
    header.write_text(header.read_text().replace("__u32 key_len;", "spinlock_t lock;"))
    with pytest.raises(BadInputError, match=re.escape(f"{demo}:9: ")) as caught:
        load_target(demo)
    assert "does not compile" in str(caught.value)
    assert "unknown type name 'spinlock_t'" in str(caught.value)


def test_a_macro_that_is_wrong_inside_is_named(demo: Path) -> None:
    header = demo.parent / "demo.h"
    header.write_text(header.read_text().replace("2, struct demo_list)", "2, struct demo_lost)"))
    with pytest.raises(BadInputError, match=r"no usable DEMO_IOC_LIST.*demo_lost"):
        load_target(demo)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", ":1: it is empty"),
        (b"# nothing\n", ":1: it is empty"),
        (b"version: 1\nname: \xff\n", ":2: not UTF-8"),
        (b"- 1\n", ":1: a target description is a list; a mapping with the keys version, name"),
        (b"a: 1\n---\nb: 2\n", ":2: broken YAML"),
        (b"[" * 5000, ": broken YAML"),
        (b"a: &x [*x]\n", "no 'a'"),
        (b"1: 1\n", ":1: a key of a target description is an integer"),
        (b"? [a]\n: 1\n", ":1: a key of a target description is a list"),
    ],
)
def test_a_file_that_is_no_description(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "t.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as caught:
        load_target(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_missing_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        load_target(tmp_path / "none.yaml")
    with pytest.raises(BadInputError, match="Is a directory"):
        load_target(tmp_path)
