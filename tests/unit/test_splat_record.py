# SPDX-License-Identifier: Apache-2.0
"""The JSON form of a record is the one that ``fuzzer/splat/README.md`` describes."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest

from fuzzer.paths import project_root
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.frames import Frame
from fuzzer.splat.memory import Access, AddressClass, SlabObject
from fuzzer.splat.rules import RULES, Family
from fuzzer.splat.severity import Level, Severity
from fuzzer.splat.splat import Holder, Module, Splat, Task, to_json
from fuzzer.splat.stacks import Role, Stack
from tests.unit.splats import LOGS, read_lines

DOC = (project_root() / "fuzzer" / "splat" / "README.md").read_text()
CLASSES = {
    "record": Splat,
    "severity": Severity,
    "access": Access,
    "object": SlabObject,
    "task": Task,
    "module": Module,
    "holder": Holder,
    "stack": Stack,
    "frame": Frame,
}
TYPES: dict[str, dict[str, tuple[type, ...]]] = {
    "record": {
        **dict.fromkeys(("title", "kind", "family", "text"), (str,)),
        **dict.fromkeys(
            (
                *("function", "corrupted", "kernel", "taint"),
                "caller",
                "message",
                "advice",
                "source",
            ),
            (str, type(None)),
        ),
        **dict.fromkeys(("access", "object", "module"), (dict, type(None))),
        **dict.fromkeys(("severity", "task"), (dict,)),
        **dict.fromkeys(("stacks", "locks", "modules", "holders"), (list,)),
        "line": (int,),
        "crash": (bool,),
        "cut": (bool,),
    },
    "severity": {"level": (str,), "score": (int,), "reasons": (list,), "meaning": (str,)},
    "access": {
        "direction": (str, type(None)),
        "size": (int, type(None)),
        "address": (str, type(None)),
        "address_class": (str, type(None)),
    },
    "object": {
        "cache": (str, type(None)),
        "size": (int, type(None)),
        "offset": (int, type(None)),
        "where": (str, type(None)),
        "state": (str, type(None)),
    },
    "task": {"name": (str, type(None)), "pid": (int, type(None)), "cpu": (int, type(None))},
    "module": {"name": (str,), "marks": (list,)},
    "holder": {
        "lock": (str,),
        "task": (str,),
        "pid": (int,),
        "function": (str, type(None)),
    },
    "stack": {"role": (str,), "frames": (list,), "heading": (str,), "closed": (bool,)},
}


def documented(name: str) -> dict[str, str]:
    section = re.split(r"^#+ ", DOC.split(f"### {name}\n")[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", section, re.MULTILINE))


def checked(name: str, value: dict[str, Any]) -> None:
    assert value.keys() == TYPES[name].keys()
    for field, allowed in TYPES[name].items():
        assert isinstance(value[field], allowed), (name, field, value[field])


@pytest.mark.parametrize("name", CLASSES)
def test_the_document_has_every_field(name: str) -> None:
    assert list(documented(name)) == [field.name for field in dataclasses.fields(CLASSES[name])]


def test_the_document_has_every_value() -> None:
    fields = documented("record")
    assert set(re.findall(r"`([\w-]+)`", fields["kind"])) == {rule.kind for rule in RULES}
    assert set(re.findall(r"`([\w-]+)`", fields["family"])) == set(Family)
    assert set(re.findall(r"`([\w-]+)`", documented("stack")["role"])) == set(Role)
    assert set(re.findall(r"`(\w+)`", documented("access")["address_class"])) == set(AddressClass)
    assert set(re.findall(r"`(\w+)`", documented("severity")["level"])) == set(Level)


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_every_stored_log_has_the_form_of_the_document(path: Any) -> None:
    for record in all_splats(read_lines(path)):
        value = json.loads(json.dumps(to_json(record)))
        assert value.pop("format") == 1
        checked("record", value)
        checked("severity", value["severity"])
        checked("task", value["task"])
        for name in ("access", "object"):
            if value[name] is not None:
                checked(name, value[name])
        for stack in value["stacks"]:
            checked("stack", stack)
            for frame in stack["frames"]:
                assert frame.keys() <= set(documented("frame"))
                assert {"function", "inline", "reliable"} <= frame.keys()
