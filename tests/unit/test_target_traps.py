# SPDX-License-Identifier: Apache-2.0
"""Traps of YAML, which reads something else than was written: the message has the mend."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.target.document import Document
from fuzzer.target.target import load_target

HEAD = "version: 1\nname: x\ndevice: /dev/x\nmodule: {builtin: [x.c], name: x}\n"


def message(tmp_path: Path, rest: str) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(HEAD + rest)
    with pytest.raises(BadInputError) as caught:
        load_target(path)
    text = str(caught.value)
    assert text.startswith(f"{path}:")
    return text.removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        *((word, "true or false") for word in ("off", "no", "yes", "on", "true", "False")),
        ("1", "a number"),
        ("1.5", "a number"),
        ("1_000", "a number"),
        ("012", "an octal number"),
        ("12:30:45", "a number in base 60"),
        ("2024-01-31", "a date"),
        ("null", "nothing"),
        ("~", "nothing"),
    ],
)
def test_text_that_yaml_takes_for_something_else(
    tmp_path: Path, written: str, expected: str
) -> None:
    text = message(tmp_path, f"pools: {{p: [a, {written}]}}\ncalls: [{{read: [1]}}]\n")
    assert text.startswith("5: an entry of pool 'p' is ")
    assert f'; {written} without quotes is {expected} to YAML: write "{written}"' in text


@pytest.mark.parametrize(
    ("written", "mend"),
    [
        ("1e3", "YAML has no such integers: write 1000"),
        ("1.0e+3", "YAML has no such integers: write 1000"),
        ("5.0", "YAML has no such integers: write 5"),
        ("0o17", "write 15 or 0xf"),
        ("012", "octal in some versions of YAML, 10, and in others 12: write the one that is"),
        ("08", "a leading 0"),
        ("1_000", "_ in numbers is for some versions of YAML only: write 1000"),
        ("0xff_ff", "write 65535"),
        ("0b101", "0b is for some versions of YAML only: write 5"),
        ("12:30:45", "YAML reads it in base 60: write 45045"),
        ("'5'", "it is in quotes, which make it text: leave them out"),
    ],
)
def test_integers_that_yaml_reads_otherwise(tmp_path: Path, written: str, mend: str) -> None:
    for call in (f"read: [{written}]", f"ioctl: {written}"):
        text = message(tmp_path, f"calls:\n  - {call}\n")
        assert text.startswith("6: ")
        assert mend in text


@pytest.mark.parametrize(
    ("rest", "line", "expected"),
    [
        ("pools:\n  on: [a]\n", 6, 'on without quotes is true or false to YAML: write "on"'),
        ("pools:\n  <<: {a: [b]}\n", 6, "<< merges mappings in YAML, which is not done here"),
        ("pools:\n  p: [a]\n  p: [b]\n", 7, "has 'p' twice, on line 6 too; each key once"),
        ("pools:\n\tp: [a]\n", 6, "it is a tab: indent with spaces"),
        ("pools:\n  p: [@a]\n", 6, "broken YAML: "),
        ("pools:\n  p: [@a]\n", 6, "; put it in quotes"),
        ("pools:\n  p: [*a]\n", 6, "text that begins with * is an alias to YAML: put it in quotes"),
        ("pools:\n  p: [&a, b]\n", 6, "&a without quotes is an anchor to YAML: put it in quotes"),
        ("pools:\n  p: [!a b]\n", 6, "!a without quotes is a tag to YAML: put it in quotes"),
        ("pools:\n  p:\n    - \n", 7, "nothing stands there"),
        ("pools: {p: [a]}\ncalls:\n  - write: [{p}]\n", 7, "{p} without quotes is a mapping to"),
        ("pools: {p: [a]}\ncalls:\n  - write: [{p}=1]\n", 7, "text that begins with { is a mappi"),
        ("calls:\n  - write: a: b\n", 6, "text with ': ' in it is a key to YAML: put it in quo"),
    ],
)
def test_signs_that_mean_something_to_yaml(
    tmp_path: Path, rest: str, line: int, expected: str
) -> None:
    text = message(tmp_path, rest if "calls" in rest else rest + "calls: [{read: [1]}]\n")
    assert text.startswith(f"{line}: ")
    assert expected in text


def test_what_is_in_quotes_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    words = ["off", "012", "12:30:45", "*a", "&a", "!a", "@a", "{p}", "a: b", "2024-01-31"]
    path.write_text(f"{HEAD}pools: {{p: {words}}}\ncalls: [{{read: [0x10]}}]\n")
    assert load_target(path).pools["p"] == tuple(word.encode() for word in words)


def test_aliases_are_what_they_stand_for(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"{HEAD}pools: {{p: &it [a, b], q: *it}}\ncalls: [{{read: [1]}}]\n")
    assert load_target(path).pools["q"] == (b"a", b"b")


def test_an_error_knows_its_column(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\nb: {c: 2}\n")
    document = Document(path)
    ((_, _), (_, value)) = document.root.value
    assert document.error(value, "x").column == 4
    assert document.error(2, "x").column == 0
