# SPDX-License-Identifier: Apache-2.0
"""A description without the part that a mistake is in, so that the next one can be looked for."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import yaml

from fuzzer.target.document import LocatedError


def _node(text: str) -> yaml.Node:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    assert node is not None
    return node


# Stand for what has to be there.
_STAND_INS = {
    key: _node(text)
    for key, text in {
        "version": "1",
        "name": "unnamed",
        "device": "/dev/null",
        "devices": "[/dev/null]",
        "module": "{builtin: [x.c], name: unnamed}",
    }.items()
}
_POOL = _node("[x]")


@dataclass(frozen=True, slots=True)
class _PathStep:
    """Entry number ``index`` of a list or mapping; of the latter its key, or its value."""

    parent: yaml.CollectionNode
    index: int
    is_key: bool = False

    @property
    def key(self) -> str:
        """The entry's key, empty in a list."""
        if not isinstance(self.parent, yaml.MappingNode):
            return ""
        return str(self.parent.value[self.index][0].value)

    def remove(self) -> None:
        """Take the entry out."""
        del self.parent.value[self.index]

    def put(self, value: yaml.Node) -> None:
        """Give the entry, which is of a mapping, another value."""
        self.parent.value[self.index] = (self.parent.value[self.index][0], value)


def repair(root: yaml.Node, error: LocatedError) -> bool:
    """Take out of a document what an error is about; return whether that could be done.

    As little as possible is taken: a field, an item of a list, a call, or all
    under a key.
    """
    if not isinstance(root, yaml.MappingNode):
        return False
    if error.node is root:
        keys = {str(key.value) for key, _ in root.value}
        missing = error.missing or ("" if keys & {"device", "devices"} else "device")
        stand_in = _STAND_INS.get(missing)
        if stand_in is not None:
            root.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", missing), stand_in))
        return stand_in is not None
    steps = _steps(root, error)
    if not steps:
        return False
    top = steps[0]
    if top.is_key or (top.key == "devices" and any(key.value == "device" for key, _ in root.value)):
        top.remove()
    elif top.key in _STAND_INS:
        if top.parent.value[top.index][1] is _STAND_INS[top.key]:
            return False
        top.put(_STAND_INS[top.key])
    elif top.key == "pools" and len(steps) > 1:
        _repair_pool(steps[1])
    elif top.key == "calls":
        return _repair_call(steps)
    else:
        top.remove()
    return True


def _repair_pool(step: _PathStep) -> None:
    # Without the pool, all that use it would seem wrong. A wrong name is not put right by that.
    if step.is_key or step.parent.value[step.index][1] is _POOL:
        step.remove()
    else:
        step.put(_POOL)


def _repair_call(steps: list[_PathStep]) -> bool:
    if len(steps) < 2:
        return False
    for before, step in pairwise(steps[2:]):
        if before.key == "fields" and not before.is_key:
            step.remove()
            return True
    last = steps[-1]
    if last.is_key and len(steps) > 2:
        last.remove()
        return True
    for step in steps[2:]:
        if isinstance(step.parent, yaml.SequenceNode) and len(step.parent.value) > 1:
            step.remove()
            return True
    steps[1].remove()
    return bool(steps[1].parent.value)


def _steps(root: yaml.MappingNode, error: LocatedError) -> list[_PathStep]:
    """Return the way from the root to the node of an error, or to the last on its line."""
    found: list[_PathStep] = []
    seen: set[int] = set()

    def visit(node: yaml.Node, way: list[_PathStep]) -> bool:
        nonlocal found
        if node is error.node:
            found = way
            return True
        if error.node is None and node.start_mark and node.start_mark.line + 1 == error.line:
            found = way
        if not isinstance(node, yaml.CollectionNode) or id(node) in seen:
            return False
        seen.add(id(node))
        for index, entry in enumerate(node.value):
            parts = entry if isinstance(entry, tuple) else (entry,)
            for part in parts:
                is_key = len(parts) > 1 and part is parts[0]
                if visit(part, [*way, _PathStep(node, index, is_key)]):
                    return True
        return False

    visit(root, [])
    return found
