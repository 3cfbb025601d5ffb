# SPDX-License-Identifier: Apache-2.0
"""JSON and YAML from anywhere, checked before it is used: its form, its size, its depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from fuzzer.untrusted import read_bytes, read_text

MOST_DEPTH = 64
"""Levels of lists and mappings within each other, in YAML."""

_RECORD_BYTES = 16 << 20
_YAML_BYTES = 4 << 20
# Nodes of a document with each alias counted as what it stands for.
_MOST_NODES = 1_000_000
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Record = TypeVar("_Record")


def parse_json(data: bytes | str, form: type[_Record]) -> _Record:
    """Return JSON text as a value of a type: a dataclass, or a type of the standard library's.

    What a record has beyond the fields of a dataclass is left out: newer versions add some.

    Raises:
        ValueError: it is no JSON, or of another form; the message says where.
    """
    try:
        return msgspec.json.decode(data, type=form)
    except RecursionError:
        raise ValueError("too many brackets within each other") from None


def read_json(
    path: Path,
    form: type[_Record],
    *,
    within: Path | None = None,
    limit: int = _RECORD_BYTES,
) -> _Record:
    """Return a file of JSON as a value of a type.

    Raises:
        OSError: it cannot be read, or is too large; see :mod:`fuzzer.untrusted`.
        ValueError: see :func:`parse_json`.
    """
    return parse_json(read_bytes(path, within=within, limit=limit), form)


def check_yaml(text: str) -> None:
    """Look at a document before it is made a tree of nodes.

    Raises:
        yaml.YAMLError: it is broken, too deep, or too large once its aliases are written out.
    """
    sizes: dict[str, int] = {}
    # Anchor and nodes of each open list or mapping; the first is the document.
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
            if len(open_nodes) > MOST_DEPTH:
                raise yaml.MarkedYAMLError(
                    problem=f"more than {MOST_DEPTH} lists and mappings within each other",
                    problem_mark=event.start_mark,  # type: ignore[arg-type]
                )
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, size = open_nodes.pop()
        elif isinstance(event, yaml.AliasEvent):
            anchor, size = None, sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor:
            sizes[anchor] = size
        above, total = open_nodes[-1]
        open_nodes[-1] = (above, total + size)
        if total + size > _MOST_NODES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {_MOST_NODES:,} values",
                problem_mark=event.start_mark,  # type: ignore[arg-type]
            )


def compose_yaml(text: str) -> yaml.Node | None:
    """Return a document as a tree of nodes, None if it is empty.

    Raises:
        yaml.YAMLError: see :func:`check_yaml`.
    """
    check_yaml(text)
    return yaml.compose(text, Loader=_LOADER)


def parse_yaml(text: str, form: type[_Record]) -> _Record:
    """Return a YAML text as a value of a type; see :func:`parse_json`.

    Raises:
        ValueError: it is no YAML, or of another form; the message says where.
    """
    try:
        check_yaml(text)
        content = yaml.load(text, Loader=_LOADER)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError, ValueError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    return msgspec.convert(content, form)


def read_yaml(path: Path, form: type[_Record]) -> _Record:
    """Return a file of YAML as a value of a type.

    Raises:
        OSError: it cannot be read, or is too large.
        ValueError: see :func:`parse_yaml`.
    """
    return parse_yaml(yaml_text(path), form)


def yaml_text(path: Path) -> str:
    """Return the text of a file of YAML.

    Raises:
        OSError: it cannot be read, or is too large.
        ValueError: it is not UTF-8.
    """
    return read_text(path, limit=_YAML_BYTES)
