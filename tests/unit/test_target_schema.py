# SPDX-License-Identifier: Apache-2.0
"""The JSON Schema knows what the parser knows, and takes what the parser takes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from fuzzer.campaign.description import DriverFacts, describe
from fuzzer.cli.main import main
from fuzzer.errors import BadInputError
from fuzzer.paths import project_root
from fuzzer.target.call_parser import CALL_KEYS, CALLS, IOCTL_KEYS
from fuzzer.target.device import Device
from fuzzer.target.device_parser import DEVICE_KEYS
from fuzzer.target.equipment import BUSES
from fuzzer.target.field_parser import FIELD_KEYS, FIELD_RULES, RECORD_KEYS
from fuzzer.target.schema import schema_line, schema_path
from fuzzer.target.target import KEYS, MODULE_KEYS, RESET_KEYS, load_target
from fuzzer.target.templates import MAX_PAYLOAD

ROOT = project_root()
SCHEMA: dict[str, Any] = json.loads(schema_path().read_text())
DESCRIPTIONS = sorted(
    path
    for where in ("module", "vm/targets", "tests/drivers", "tests/data", "tests/unit/data")
    for path in (ROOT / where).rglob("*.yaml")
    if "golden" not in path.parts
)
HEAD = "version: 1\nname: x\ndevice: /dev/x\nmodule: {builtin: [x.c], name: x}\npools: {p: [a]}\n"


def problems(text: str) -> list[str]:
    validator = jsonschema.Draft7Validator(SCHEMA)
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def keys(schema: dict[str, Any]) -> set[str]:
    return set(schema["properties"])


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        (SCHEMA["definitions"]["call"], (*CALLS, *CALL_KEYS, *IOCTL_KEYS)),
        (SCHEMA["definitions"]["record"], RECORD_KEYS),
        (SCHEMA["definitions"]["field"], (*FIELD_RULES, *FIELD_KEYS)),
        (SCHEMA["properties"]["module"], MODULE_KEYS),
        (SCHEMA["properties"]["reset"], RESET_KEYS),
        (SCHEMA["properties"]["devices"]["items"]["anyOf"][1], DEVICE_KEYS),
    ],
)
def test_each_key_of_the_parser_is_in_it(schema: dict[str, Any], known: Iterable[str]) -> None:
    assert keys(schema) == set(known)
    assert schema["additionalProperties"] is False


def test_each_key_of_a_description_is_in_it() -> None:
    assert keys(SCHEMA) == set(KEYS)
    one_of = SCHEMA["definitions"]["call"]["oneOf"]
    assert {word for each in one_of for word in each["required"]} == set(CALLS)


def test_each_key_says_what_it_is_for() -> None:
    for key, schema in (*SCHEMA["properties"].items(), *SCHEMA["definitions"].items()):
        assert schema.get("description"), key


def test_what_stands_in_for_hardware_is_named_alike() -> None:
    for key, bus in BUSES.items():
        schema = SCHEMA["properties"]["module"]["properties"][key]
        names = [each for each in schema.get("anyOf", [schema]) if "items" in each]
        assert len(names) == 1
        assert bool(bus.alone) == ("anyOf" in schema)
        for each in names:
            assert each["maxItems"] == bus.most
            pattern = each["items"]["pattern"].replace("$", r"\Z")
            assert pattern == f"^{bus.name.pattern}".replace("(?:", "(")


def test_its_limits_are_the_parsers(tmp_path: Path) -> None:
    payload = SCHEMA["definitions"]["call"]["properties"]["payload"]["items"]
    assert payload["maximum"] == MAX_PAYLOAD
    path = tmp_path / "x.yaml"
    for call, fits in (("sleep: [2000]", True), ("sleep: [2001]", False), ("read: [-1]", False)):
        text = f"{HEAD}calls: [{{{call}}}]\n"
        path.write_text(text)
        assert bool(problems(text)) is not fits
        if fits:
            load_target(path)
        else:
            with pytest.raises(BadInputError):
                load_target(path)


@pytest.mark.parametrize("path", DESCRIPTIONS, ids=lambda path: path.stem)
def test_descriptions_are_valid(path: Path) -> None:
    assert problems(path.read_text()) == []


@pytest.mark.parametrize(
    "call",
    [
        "write: [a, {struct: x, fields: {m: {len: n}, n: {pool: p}}, count: [1, 4]}]",
        "pwrite: {struct: x, count: 2}",
        "reload: true",
        "reload: ['n={int:1..2}']",
        "ioctl: any\n    payload: [0, 4]",
        "ioctl: X_SET\n    struct: x\n    fields: {m: {values: [X_A, 1]}, k: {range: [0, X_B]}}",
        "ioctl: 0x10\n    value: [1, X_A]\n    weight: 2",
        "uring: true\n    weight: 3",
        "uring_cmd: X_RUN\n    struct: x\n    fields: {m: {values: [1]}}\n    returns: id",
        "uring_cmd: any\n    payload: [16, 80]\n    file: fd",
    ],
)
def test_calls_are_valid(call: str) -> None:
    assert problems(f"{HEAD}calls:\n  - {call}\n") == []


@pytest.mark.parametrize(
    "rest",
    [
        "calls: []",
        "calls: [{raed: [1]}]",
        "calls: [{read: [1], write: [a]}]",
        "calls: [{read: [1], struct: x}]",
        "calls: [{ioctl: 1, fields: {}}]",
        "calls: [{lseek: false}]",
        "calls: [{uring: true, file: fd}]",
        "calls: [{uring_cmd: 1, compat: true}]",
        "calls: [{write: [{struct: x, size: 1}]}]",
        "calls: [{ioctl: 1, struct: x, fields: {a: {pool: p, len: a}}}]",
        "calls: [{read: [1]}]\nreset: {reload: true, restore: true}",
        "calls: [{read: [1]}]\nheaders: x.h",
        "calls: [{read: [1]}]\nheader: []",
    ],
)
def test_mistakes_are_not_valid(rest: str) -> None:
    assert problems(HEAD + rest)


@pytest.mark.parametrize(
    "head",
    [
        "devices: [/dev/a, {path: /dev/b, major: b, block: true}]\nmodule: {object: x, name: x}\n",
        "device: /dev/x\nmodule: {object: {fast: a.ko, full: b.ko}, name: x, config: [A=y]}\n",
        "device: /dev/x\nheader: [a.h, b.h]\ninclude: [.]\nmodule: {source: ., name: x}\n",
    ],
)
def test_other_forms_are_valid(head: str) -> None:
    assert problems(f"version: 1\nname: x\n{head}calls: [{{read: [1]}}]\n") == []


def test_the_command_prints_it_or_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["target", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == SCHEMA
    assert main(["target", "schema", "--path"]) == 0
    assert Path(capsys.readouterr().out.strip()) == schema_path()


def test_a_description_that_is_made_names_it_and_is_valid(tmp_path: Path) -> None:
    module = tmp_path / "some.ko"
    module.write_bytes(b"")
    text = describe(DriverFacts("some", (Device("/dev/some"),), object=module), "Made by a test.")
    assert text.splitlines()[0] == schema_line()
    assert problems(text) == []
