# SPDX-License-Identifier: Apache-2.0
"""Places where YAML reads something else than what was written, and the mend of each."""

from __future__ import annotations

import re

import yaml

TAG = "tag:yaml.org,2002:"
WORDS = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
"""Words that, in any case, are no text to YAML where they stand without quotes."""

_OCTAL = re.compile(r"[-+]?0[0-7_]+\Z")
_PADDED = re.compile(r"[-+]?0[0-9]+\Z")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\Z")
_OCTAL_12 = re.compile(r"([-+]?)0[oO]([0-7]{1,40})\Z")
_EXPONENT = re.compile(r"[-+]?[0-9]{1,20}(?:\.[0-9]{0,20})?[eE]\+?[0-9]{1,2}\Z")
_FRACTION = re.compile(r"[-+]?[0-9]{1,20}\.0*\Z")
_LIKE_NUMBER = re.compile(r"[-+]?\.?[0-9]")
_NUMBER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|[0-9]+)\Z")
_ANCHOR = re.compile(r"&[^\s,\[\]{}]+")
_QUOTE = "put it in quotes"
_UNSTARTED = {"\t": "it is a tab: indent with spaces", "`": _QUOTE, "@": _QUOTE, "%": _QUOTE}


def in_text(node: yaml.Node, line: str) -> str:
    """Return why a node is no text, and the mend; empty where nothing need be said.

    ``line`` is the one that it is on.
    """
    if not isinstance(node, yaml.ScalarNode):
        return ""
    value, kind = str(node.value), node.tag.removeprefix(TAG)
    if node.tag.startswith("!"):
        return f"{node.tag} without quotes is a tag to YAML: {_QUOTE}"
    if kind == "merge":
        return "<< merges mappings in YAML, which is not done here: write the keys out"
    if kind == "null" and not value:
        if anchor := _ANCHOR.match(line, node.start_mark.column):
            return f"{anchor[0]} without quotes is an anchor to YAML: {_QUOTE}"
        return "nothing stands there"
    reading = _reading(kind, value)
    return f'{value} without quotes is {reading} to YAML: write "{value}"' if reading else ""


def in_integer(node: yaml.Node) -> str:
    """Return why a node is no integer, and the mend; empty where nothing need be said."""
    if not isinstance(node, yaml.ScalarNode):
        return ""
    value = str(node.value)
    if len(value) > 40:
        return ""
    if node.style in ("'", '"') and _LIKE_NUMBER.match(value):
        return "it is in quotes, which make it text: leave them out"
    if found := _OCTAL_12.match(value):
        number = int(found[1] + found[2], 8)
        return f"0o is octal in some versions of YAML only: write {number} or {number:#x}"
    if _PADDED.match(value):
        decimal = int(value)
        octal = int(value, 8) if _OCTAL.match(value) else "text"
        return (
            f"a leading 0 makes it octal in some versions of YAML, {octal}, "
            f"and in others {decimal}: write the one that is meant without it"
        )
    if _BASE_60.match(value):
        return f"YAML reads it in base 60: write {_number(node)}"
    if "_" in value and _NUMBER.match(value.replace("_", "")):
        return f"_ in numbers is for some versions of YAML only: write {_number(node)}"
    if _EXPONENT.match(value) or _FRACTION.match(value):
        fraction = float(value)
        if fraction.is_integer():
            return f"YAML has no such integers: write {int(fraction)}"
    if value.lower().lstrip("+-").startswith("0b") and node.tag == TAG + "int":
        return f"0b is for some versions of YAML only: write {_number(node)}"
    return ""


def in_braces(node: yaml.Node) -> str:
    """Return the text that a mapping was meant to be, ``{pool}``, empty if it is none."""
    if not isinstance(node, yaml.MappingNode) or not node.flow_style or not node.value:
        return ""
    names = []
    for key, value in node.value:
        is_empty = isinstance(value, yaml.ScalarNode) and value.tag == TAG + "null"
        if not is_empty or value.value or not isinstance(key, yaml.ScalarNode):
            return ""
        names.append(str(key.value))
    return "{" + ", ".join(names) + "}"


def in_broken(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what may be wrong with a file that YAML cannot read; empty if there is no guess."""
    problem = error.problem or ""
    mark = error.problem_mark or error.context_mark
    lines = text.split("\n")
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    here = line[mark.column : mark.column + 1] if mark else ""
    if "cannot start any token" in problem:
        return _UNSTARTED.get(here, "")
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return _UNSTARTED["\t"]
    if "undefined alias" in problem:
        return f"text that begins with * is an alias to YAML: {_QUOTE}"
    if "undefined tag" in problem or "tag handle" in problem:
        return f"text that begins with ! is a tag to YAML: {_QUOTE}"
    if "mapping values are not allowed" in problem:
        return f"text with ': ' in it is a key to YAML: {_QUOTE}"
    if "{" in line and (
        "',' or ']'" in problem or "',' or '}'" in problem or "<block end>" in problem
    ):
        return "text that begins with { is a mapping to YAML, as in {key}=1: put it in quotes"
    return ""


def _number(node: yaml.ScalarNode) -> int:
    return int(yaml.SafeLoader("").construct_yaml_int(node))


def _reading(kind: str, value: str) -> str:
    """Return what YAML takes a plain scalar for."""
    if kind == "int":
        if _BASE_60.match(value):
            return "a number in base 60"
        return "an octal number" if _OCTAL.match(value) and len(value) > 1 else "a number"
    return {
        "bool": "true or false",
        "float": "a number",
        "null": "nothing",
        "timestamp": "a date",
        "value": "a sign of its own",
    }.get(kind, "")
