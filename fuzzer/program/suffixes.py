# SPDX-License-Identifier: Apache-2.0
"""Suffixes: the words that follow a call in program text; ``text`` describes the format."""

from __future__ import annotations

import dataclasses

from fuzzer.program.links import (
    CALL,
    LINK,
    LOW,
    N_HANDLES,
    Address,
    Link,
    LinkKind,
    address_of,
    link_of,
)
from fuzzer.program.ops import (
    FLAG_COMPAT,
    FLAG_COUNT,
    FLAG_NULL,
    FLAG_READONLY,
    FLAG_VECTOR,
    FLAG_WAITS,
    FLAG_WIDE,
    OPERATIONS,
    POINTS,
    REQUESTS,
    URING,
    can_lie_in_mapping,
    can_point,
    flags_used,
)
from fuzzer.program.program import (
    HALF,
    N_FILES,
    Call,
    Fixup,
    is_request_call,
    mapping_of,
    pointed_mapping,
)
from fuzzer.program.syntax import URING as URING_WAYS
from fuzzer.program.syntax import TextError, TokenLine, quote, show_integer

HANDLES = {f"h{number}": number for number in range(N_HANDLES)}
"""The numbers of handles by name."""

_FILES = {f"f{number}": number for number in range(N_FILES)}
_BESIDE = {LinkKind.TAKE_NEXT: "next", LinkKind.TAKE_LAST: "last"}
_WIDE = 8
TAKEN = frozenset({*HANDLES, *_FILES, *_BESIDE.values()})
"""Words that begin the text of a link which a call takes."""

_FORMS = {
    "split": FLAG_VECTOR,
    "null": FLAG_NULL,
    "readonly": FLAG_READONLY,
    "compat": FLAG_COMPAT,
    "count": FLAG_COUNT,
    "waits": FLAG_WAITS,
}
_HIDDEN_BITS = {"file": 8, "flags": 8, "cmd": 32, "arg": 64, "mode": 8}
_FIELDS = {
    "fail": "fault",
    "cut": "cut",
    "in": "mode",
    "points": "mode",
    "split": "cmd",
    "count": "arg",
} | {
    "!data": "data",
    **{f"!{field}": field for field in _HIDDEN_BITS},
}
_URING_BITS = URING | sum(URING_WAYS.values())
_CONTRADICTIONS = (
    ("null", "readonly"),
    ("null", "cut"),
    ("null", "in"),
    ("compat", "in"),
    ("in", "points"),
    ("in", "!mode"),
    ("points", "!mode"),
    ("uring", "in"),
    ("uring", "points"),
    ("uring", "!mode"),
    ("split", "!cmd"),
    ("count", "!arg"),
    *((form, "!flags") for form in _FORMS),
)


def format_suffixes(call: Call, told: Call) -> str:
    """Return the suffixes of ``call``; its arguments as text already give ``told``."""
    forms = _forms(call, told)
    if forms:
        told = dataclasses.replace(told, flags=call.flags)
    if "split" in forms:
        told = dataclasses.replace(told, cmd=call.cmd)
    if "count" in forms:
        told = dataclasses.replace(told, arg=told.arg & ~HALF | call.arg & HALF)
    values = {"split": call.cmd, "count": call.arg & HALF}
    parts = [f"{form}={show_integer(values[form])}" if form in values else form for form in forms]
    if call.fault:
        parts.append(f"fail={call.fault}")
    if call.cut:
        parts.append(f"cut={call.cut}")
    if mapping_of(call) is not None and call.mode <= N_FILES:
        told = dataclasses.replace(told, mode=call.mode)
        parts.append(f"in=f{call.mode - 1}")
    elif pointed_mapping(call) is not None and POINTS < call.mode <= POINTS + N_FILES:
        told = dataclasses.replace(told, mode=call.mode)
        parts.append(f"points=f{call.mode - POINTS - 1}")
    elif is_request_call(call) and not call.mode & ~_URING_BITS:
        told = dataclasses.replace(told, mode=call.mode)
        ways = "|".join([name for name, bit in URING_WAYS.items() if call.mode & bit])
        parts.append(f"uring={ways}" if ways else "uring")
    parts += [_format_fixup(fixup) for fixup in call.fixups[len(told.fixups) :]]
    for field in _HIDDEN_BITS:
        value = getattr(call, field)
        if value != getattr(told, field):
            parts.append(f"!{field}={value:#x}")
    if call.data != told.data:
        parts.append(f"!data={quote(call.data)}")
    return "".join([f" {part}" for part in parts])


def parse_suffixes(line: TokenLine, call: Call) -> Call:
    """Return the call with the suffixes that follow on the line; TextError for a mistake."""
    fixups = list(call.fixups)
    flags = call.flags
    given: set[str] = set()
    changes: dict[str, int | bytes] = {}
    allowed = _allowed(call)
    while not line.at_end():
        if line.accept("@"):
            fixups.append(_parse_fixup(line))
            continue
        hidden = line.accept("!")
        name = f"!{line.name('a field')}" if hidden else line.take().text
        if name in HANDLES:
            line.expect("=")
            fixups.append(_parse_given(line, HANDLES[name]))
            continue
        if name not in allowed:
            raise TextError(
                f"{name!r} after the call; allowed there: {', '.join(allowed.values())}"
            )
        if name in given:
            raise TextError(f"{name} is given twice")
        given.add(name)
        for one, other in _CONTRADICTIONS:
            if one in given and other in given:
                raise TextError(f"{one} and {other} contradict each other; give one of them")
        flags |= _FORMS.get(name, 0)
        if name == "uring":
            changes["mode"] = _uring(line)
        if name in _FIELDS:
            line.expect("=")
            changes[_FIELDS[name]] = _value(line, name)
            if name == "count":
                changes["arg"] = call.arg & ~HALF | int(changes["arg"])
    changes.setdefault("flags", flags)
    # mypy cannot see which field each of these values belongs to.
    return dataclasses.replace(call, fixups=tuple(fixups), **changes)  # type: ignore[arg-type]


def _format_fixup(fixup: Fixup) -> str:
    link = link_of(fixup)
    if link is None or link.fixup() != fixup:
        address = address_of(fixup)
        if address is not None and address.is_low:
            return f"@{fixup.at}->{address.to}:{address.size}"
        return f"@{fixup.at}->{fixup.to}"
    width = ":8" if link.is_wide else ""
    if link.kind is LinkKind.GIVE:
        given = "ret" if link.at == CALL else f"@{link.at}{width}"
        return f"h{link.number}={given}"
    at = "arg" if link.at == CALL else link.at
    return f"@{at}={show_taken(link)}{width}"


def show_taken(link: Link) -> str:
    """Return the text of the handle or file that a link takes, or of a number beside it."""
    taken = f"{'f' if link.is_file else 'h'}{link.number}"
    return taken if link.kind is LinkKind.TAKE else f"{_BESIDE[link.kind]}({taken})"


def parse_taken(line: TokenLine, at: int) -> Link:
    """Read a link that takes 4 bytes at ``at``."""
    name = line.name("a handle, h0 to h7, or a file")
    kind = next((kind for kind, beside in _BESIDE.items() if beside == name), LinkKind.TAKE)
    if kind is not LinkKind.TAKE:
        line.expect("(")
        name = line.name("a handle, h0 to h7, or a file")
        line.expect(")")
    if name in HANDLES:
        return Link(kind, at, HANDLES[name])
    if name in _FILES:
        return Link(kind, at, _FILES[name], is_file=True)
    raise TextError(f"{name!r} where a handle, h0 to h7, or a file is expected")


def _parse_fixup(line: TokenLine) -> Fixup:
    at = CALL
    if line.peek().text == "arg":
        line.take()
    else:
        at = line.integer("a fixup's place", 16)
        if line.accept("->"):
            to = line.integer("a fixup's target", 16)
            if not line.accept(":"):
                return Fixup(at, to)
            if line.counted("the bytes of an address", 4, 8) == _WIDE:
                return Fixup(at, to)
            if to >= LINK - LOW:
                raise TextError(f"an address of 4 bytes is of one of the first {LINK - LOW} bytes")
            return Address(at, to, is_low=True).fixup()
    line.expect("=")
    link = parse_taken(line, at)
    return dataclasses.replace(link, is_wide=at != CALL and _is_wide(line)).fixup()


def _parse_given(line: TokenLine, handle: int) -> Fixup:
    if line.accept("@"):
        link = Link(LinkKind.GIVE, line.counted("a handle's place", 0, CALL - 1), handle)
        return dataclasses.replace(link, is_wide=_is_wide(line)).fixup()
    if line.name("ret, or @ and a place,") != "ret":
        raise TextError("a handle is given by what a call returned, ret, or by its buffer, @at")
    return Link(LinkKind.GIVE, CALL, handle).fixup()


def _is_wide(line: TokenLine) -> bool:
    return line.accept(":") and line.counted("the bytes of a handle", 4, 8) == _WIDE


def _forms(call: Call, told: Call) -> list[str]:
    """Return the words for all of a call's flags, none if there are flags without a word."""
    flags = call.flags
    if flags & ~flags_used(call.op, flags):
        return []
    # There is no word for FLAG_WIDE, and none for the upper half of ``arg`` beside a count.
    if flags & ~told.flags & FLAG_WIDE or (
        flags & FLAG_COUNT and told.arg & ~HALF != call.arg & ~HALF
    ):
        return []
    if flags & FLAG_NULL and (flags & FLAG_READONLY or call.cut):
        return []
    return [name for name, flag in _FORMS.items() if flags & flag & ~told.flags]


def _allowed(call: Call) -> dict[str, str]:
    """Return the names that may follow a call, each in the form that messages show."""
    used = flags_used(call.op, call.flags)
    names = [name for name, flag in _FORMS.items() if used & flag]
    names += ["fail", "cut"] + ["in"] * can_lie_in_mapping(call.op, call.flags)
    names += ["points"] * can_point(call.op, call.flags) + ["uring"] * (call.op in REQUESTS)
    names += [*(f"!{field}" for field in _HIDDEN_BITS), "!data"]
    if OPERATIONS[call.op].uses_file:
        names.remove("!file")
    return {name: f"{name}=" if name in _FIELDS else name for name in names} | {
        "@": "@at->to",
        "@=": "@at=h0",
        "h": "h0=ret",
    }


def _uring(line: TokenLine) -> int:
    """Read in what way a request is made, behind the word for it."""
    mode = URING
    more = line.accept("=")
    while more:
        name = line.name("ASYNC or LEAVE")
        if name not in URING_WAYS:
            raise TextError(f"no way {name!r} to make a request; allowed: ASYNC, LEAVE")
        mode |= URING_WAYS[name]
        more = line.accept("|")
    return mode


def _value(line: TokenLine, name: str) -> int | bytes:
    """Read the value behind a name."""
    if name == "!data":
        return line.string(name)
    if name in ("fail", "cut"):
        return line.counted(name, 1, 0xFFFF)
    if name in ("split", "count"):
        return line.counted(name, 0, 0xFFFFFFFF)
    if name in ("in", "points"):
        file = line.name("a file, f0 to f7,")
        if file not in _FILES:
            raise TextError(f"no file {file!r}; allowed: f0 to f{N_FILES - 1}")
        return _FILES[file] + 1 + POINTS * (name == "points")
    field = name[1:]
    if field == "file":
        return line.counted(field, 0, N_FILES - 1)
    return line.integer(field, _HIDDEN_BITS[field])
