# SPDX-License-Identifier: Apache-2.0
"""Text of a description with what is known of a driver, to be edited."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.campaign.source_calls import (
    SourceIoctl,
    file_calls,
    has_commands,
    ioctl_text,
    is_complete,
    remarks_text,
    source_ioctls,
    words,
    write_forms,
)
from fuzzer.campaign.source_handles import HandleKinds
from fuzzer.driver.ioctls import Direction, IoctlMacro
from fuzzer.driver.modinfo import Parameter
from fuzzer.driver.source.interface import NOTHING, Interface
from fuzzer.errors import BadInputError
from fuzzer.target.calls import FileKind
from fuzzer.target.device import Device, description_of
from fuzzer.target.equipment import Equipment
from fuzzer.target.header import Header
from fuzzer.target.schema import schema_line
from fuzzer.target.traps import WORDS

OPERATIONS = frozenset({"read", "write", "lseek", "poll", "ioctl", "mmap", "open"})
"""Usual operations of files; a driver of which nothing is known is taken to have all of them."""

_PLAIN_CALLS = (
    *("lseek", "poll", "mmap", "fasync", "lock", "flock", "fsync", "getdents", "fdinfo"),
    *("splice_read", "splice_write", "child"),
)

SEEDS = ("read-write.prog", "ioctls.prog", "two-files.prog")
"""The names of the files with seeds."""

_WORDS = ("", "0", "1", "a", "abc", "start", "stop")
_READ = """\
  - read: [1, 64, 4096]
    weight: 2
  - pread: [1, 64, 4096]
"""
_WRITE = """\
  - write: ["{word}", "{word}\\n", "{word} {word}\\n", "{word}={word}\\n", "{word}:{word}"]
    weight: 2
"""
_ANY = """\
  # An ioctl of any number: the fuzzer looks for those that the driver compares with.
  - ioctl: any
    payload: [0, 4, 8, 16, 32, 64, 256]
    weight: 4
"""
_ANY_COMPAT = """\
  # And so by 32-bit programs, for which the driver has an entry of its own.
  - ioctl: any
    compat: true
    payload: [4, 8, 16, 32]
    weight: 2
"""
_ANY_URING = """\
  # And a command of any number in a ring of io_uring, for which the driver has a function.
  - uring_cmd: any
    payload: [0, 8, 16, 80]
    weight: 4
"""
_IN_RINGS = frozenset({"read_iter", "write_iter", "uring_cmd"})
_MOST_LISTED = 8
# Kinds of module parameters.
_FLAGS = frozenset({"bool", "invbool", "bint"})
_NUMBERS = frozenset(
    ("byte", "short", "ushort", "int", "uint", "long", "ulong", "hexint", "ullong")
)
_TEXTS = frozenset({"charp", "string"})
# Values around the limits of tables, shifts and allocations.
_LIMITS = "0..4|7..9|15..17|31..33|63..65|127|128|255..257|1024|4096|65535|65536"
_UNSIGNED, _SIGNED = f"{{int:{_LIMITS}}}", f"{{int:{_LIMITS}|-1|2147483647}}"
# Lengths of texts, around the sizes of buffers.
_LENGTHS = (1, 15, 16, 17, 31, 32, 33, 64, 255, 256, 257)
_PARAMETER = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")


_NO_NAMES = Header({}, {}, None)


@dataclass(frozen=True, slots=True)
class DriverFacts:
    """Known facts of a driver without a description.

        ``source`` is its directory; without one ``object`` is its .ko, one for all kernels or
        one for each, or ``builtin`` are its C files in the kernel's tree. ``operations`` are those
    that any of its files has, ``takes_files`` the kinds of files not its own of which it may
    be given descriptors. ``kernel`` is the series that it was built for, such as ``6.1``;
    empty for the usual one. ``needs`` are other modules of its source to load before it. A
    driver that ``fails`` cannot be loaded. ``interface`` is read from its source, with
    ``known`` names.
    """

    name: str
    devices: tuple[Device, ...]
    source: Path | None = None
    object: Path | Mapping[str, Path] | None = None
    params: str = ""
    config: tuple[str, ...] = ()
    kernel: str = ""
    operations: frozenset[str] = OPERATIONS
    takes_files: tuple[FileKind, ...] = ()
    ioctls: tuple[IoctlMacro, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    needs: tuple[str, ...] = ()
    equipment: tuple[Equipment, ...] = ()
    fails: bool = False
    root: str = ""
    interface: Interface = NOTHING
    known: Header = _NO_NAMES
    builtin: tuple[str, ...] = ()

    @property
    def source_ioctls(self) -> tuple[SourceIoctl, ...]:
        """The ioctls that the source handles."""
        return source_ioctls(self.interface, self.ioctls, self.known)

    @property
    def described(self) -> tuple[IoctlMacro | SourceIoctl, ...]:
        """The ioctls of a description: those of the source, and macros that may be some."""
        handled = self.source_ioctls
        numbers = {each.number for each in handled}
        others = [each for each in self.ioctls if each.number not in numbers]
        return (*handled, *([] if is_complete(self.interface) else others))


def pools(facts: DriverFacts) -> str:
    """Return the pools of strings: some that any driver may take, and those it compares with."""
    found = dict.fromkeys((*_WORDS, *words(facts.interface)))
    text = f"pools:\n  word: [{', '.join(map(json.dumps, found))}]\n"
    if any(_base(each.kind) in _TEXTS for each in _named(facts)[:_MOST_LISTED]):
        text += "  # Parameters as long as what they may be copied to, and longer.\n"
        text += f"  long: [{', '.join('a' * length for length in _LENGTHS)}]\n"
    return text


def head(facts: DriverFacts, why: str) -> str:
    """Return a description's part on devices and module, with ``why`` as its first comment."""
    lines = [schema_line(), *(f"# {_one_line(line)}" for line in why.splitlines())]
    lines += ["version: 1", f"name: {_quoted(facts.name)}"]
    lines += [description_of(facts.devices).rstrip("\n"), "module:"]
    if facts.source is not None:
        lines.append(f"  source: {json.dumps(str(facts.source))}")
    elif isinstance(facts.object, Path):
        lines.append(f"  object: {json.dumps(str(facts.object))}")
    elif facts.object:
        objects = {flavour: str(path) for flavour, path in facts.object.items()}
        lines.append(f"  object: {json.dumps(objects)}")
    if facts.builtin:
        lines.append("  builtin:")
        lines += [f"    - {json.dumps(name)}" for name in facts.builtin]
    lines.append(f"  name: {_quoted(facts.name)}")
    if facts.kernel:
        lines.append(f'  kernel: "{facts.kernel}"')
    if facts.config:
        lines.append(f"  config: [{', '.join(facts.config)}]")
    if facts.needs:
        lines.append(f"  needs: [{', '.join(facts.needs)}]    # loaded before it")
    for each in facts.equipment:
        names = ", ".join(map(json.dumps, each.names))
        lines.append(f"  {each.bus}: {f'[{names}]' if names else 'true'}    # registered before it")
    if facts.fails:
        lines.append("  fails: true    # to load; programs load it, and do little else")
    if facts.params:
        lines.append(f"  params: {json.dumps(facts.params)}")
    return "\n".join(lines) + "\n"


def describe(facts: DriverFacts, why: str) -> str:
    """Return a description with all that is known, and comments where a person must decide."""
    if facts.fails:
        calls = "calls:\n  - reload: true\n  - open: true\n  - close: true\n"
        return head(facts, why) + calls + parameters(facts, "a")
    text = head(facts, why) + pools(facts) + "calls:\n" + plain_calls(facts)
    if "write" in facts.operations:
        text += "  # What the driver expects to be written is for you to say; {word} is from\n"
        text += "  # the pool above.\n" + _write(facts)
    if {"ioctl", "uring_cmd"} & facts.operations:
        text += described_ioctls(facts) + _any(facts)
    return text + parameters(facts) + remarks_text(facts.interface, facts.root)


def plain_calls(facts: DriverFacts) -> str:
    """Return the calls that need nothing to be known but the operations."""
    text = _READ if "read" in facts.operations else ""
    if "write" in facts.operations:
        text += '  - pwrite: ["{word}"]\n'
    for name in _PLAIN_CALLS:
        if name in facts.operations:
            text += f"  - {name}: true\n"
    if facts.takes_files:
        kinds = ", ".join(kind.name.lower() for kind in facts.takes_files)
        text += f"  - create: [{kinds}]    # files that are not its own, as it takes descriptors\n"
    if {"read", "write"} & facts.operations:
        text += "  - uring: true    # a few reads, writes and polls are requests of io_uring\n"
        # Others have a thread of the kernel's make them, which calls what a read would.
        if _IN_RINGS & facts.operations:
            text += "    weight: 4\n"
    return text + "  - open: true    # with flags as well\n  - close: true\n"


def described_ioctls(facts: DriverFacts) -> str:
    """Return a call for each ioctl of the driver's source.

    If the driver has an entry for 32-bit programs, there is a second call that uses it.
    """
    macros = {each.number: each for each in reversed(facts.ioctls)}
    forms, commands, others = "", "", []
    kinds = HandleKinds(facts.interface)
    for each in facts.described:
        if isinstance(each, IoctlMacro):
            others.append(each)
            continue
        text = ioctl_text(each, macros.get(each.number), facts.known, kinds)
        if each.uring:
            commands += text
        else:
            forms += text
    forms += "".join(map(_ioctl, others))
    calls = commands + file_calls(facts.interface)
    if "compat" not in facts.operations or any(each.compat for each in facts.source_ioctls):
        return forms + calls
    compat = re.sub(r"^(  - ioctl: .*)$", r"\1\n    compat: true", forms, flags=re.M)
    return forms + compat + calls


def _write(facts: DriverFacts) -> str:
    forms = "".join(f"      - {form}\n" for form in write_forms(facts.interface, facts.known))
    if not forms:
        return _WRITE
    return f"  - write:\n{forms}    weight: 2\n{_WRITE}"


def _any(facts: DriverFacts) -> str:
    """Return calls of ioctls that are not known; few if the source told all."""
    text = _ANY if "ioctl" in facts.operations else ""
    text += _ANY_COMPAT if "compat" in facts.operations else ""
    if is_complete(facts.interface):
        text = _unweighted(text)
    commands = _ANY_URING if "uring_cmd" in facts.operations else ""
    return text + (_unweighted(commands) if has_commands(facts.interface) else commands)


def _unweighted(text: str) -> str:
    return re.sub(r"^    weight: .*\n", "", text, flags=re.M)


def _ioctl(macro: IoctlMacro) -> str:
    text = f"  - ioctl: {macro.name}\n"
    if macro.struct is not None:
        return text + _struct(macro)
    if macro.coded and macro.direction is not Direction.NONE and macro.size:
        return (
            f"{text}    payload: [{macro.size}]    # {macro.type or 'not known'}\n    weight: 2\n"
        )
    # Without a size the argument is a number, or the author did not state its type.
    return f"{text}    value: [0, 1, -1]\n  - ioctl: {macro.name}\n    payload: [8, 64]\n"


def _struct(macro: IoctlMacro) -> str:
    assert macro.struct is not None
    members = ", ".join(member.name for member in macro.struct.members[:_MOST_LISTED])
    more = ", ..." if len(macro.struct.members) > _MOST_LISTED else ""
    return (
        f"    struct: {macro.struct.name}\n"
        f"    # fields: {{}}    # any of {members}{more}\n"
        "    weight: 3\n"
    )


def parameters(facts: DriverFacts, word: str = "{word}") -> str:
    """Return the call that loads the module with other parameters, ``word`` for texts."""
    known = _named(facts)
    if not known:
        return ""
    text = "  # The module is loaded anew at times, with other parameters. Of these it has:\n"
    for each in known[:_MOST_LISTED]:
        told = f"{each.name} ({each.kind or 'of unknown type'})"
        if each.description:
            told += f": {each.description}"
        text += f"  #   {_one_line(told)}\n"
    # Its own parameters come first, as without them it may make no file.
    own = f"{facts.params} ".replace("{", "{{").replace("}", "}}") if facts.params else ""
    forms = [f"{own}{each.name}={value}" for each in known[:_MOST_LISTED]
             for value in _values(each.kind, word)]  # fmt: skip
    if not forms:
        return text + f'  # - reload: ["{known[0].name}=1"]\n'
    return text + "  - reload:\n" + "".join(f"      - {json.dumps(form)}\n" for form in forms)


def _values(kind: str, word: str) -> list[str]:
    """Return templates of values for a kind of parameter; none if the kind is not known."""
    kind = _base(kind)
    if kind in _FLAGS:
        return ["{int:0..1}"]
    if kind in _NUMBERS:
        return [_UNSIGNED if kind.startswith("u") else _SIGNED]
    if kind not in _TEXTS:
        return []
    return [word, "{long}"] if word == "{word}" else [word]


def _named(facts: DriverFacts) -> list[Parameter]:
    return [each for each in facts.parameters if _PARAMETER.match(each.name)]


def _base(kind: str) -> str:
    return kind.removeprefix("array of ")


def _quoted(name: str) -> str:
    """Return a name as YAML: in quotes where it would mean something else."""
    plain = _PLAIN.match(name) and name.lower() not in WORDS
    return name if plain else json.dumps(name)


def _one_line(text: str) -> str:
    """Return text of a module as a part of a comment."""
    return "".join(char if char.isprintable() else " " for char in text)[:200]


def seeds(facts: DriverFacts) -> dict[str, str]:
    """Return three seeds, as text by file name."""
    if facts.fails:
        named = [each.name for each in facts.parameters if _PARAMETER.match(each.name)]
        other = f'load("{named[0]}=1")\n' if named else 'load("")\nunload()\n'
        loads = ('load("")\n', other, 'load("")\nload("")\n')
        return dict(zip(SEEDS, loads, strict=True))
    first = 'write(f0, "1\\n")\n' if "write" in facts.operations else ""
    first += "read(f0, 64)\n" if "read" in facts.operations else ""
    second = "poll(f0, POLLIN | POLLOUT)\n" if "poll" in facts.operations else ""
    second += "".join(f"{call}\n" for call in _calls(facts)[:16])
    other = f", {json.dumps(facts.devices[1].path)}" if len(facts.devices) > 1 else ""
    third = f"open(f1{other})\n"
    third += "read(f1, 4096)\n" if "read" in facts.operations else ""
    texts = (first or "close(f0)\n", second or "open(f1)\nclose(f0)\n", third + "close(f1)\n")
    return dict(zip(SEEDS, texts, strict=True))


def _calls(facts: DriverFacts) -> list[str]:
    """Return a call of each ioctl, by name, or number where it has none; each once."""
    made = (
        f"ioctl(f0, {each.name})"
        if isinstance(each, IoctlMacro)
        else f"ioctl(f0, {each.title}){' uring' * each.uring}"
        for each in facts.described
    )
    return [*dict.fromkeys(made)]


def known_names(facts: DriverFacts, constants: Sequence[str], structs: Sequence[str]) -> Header:
    """Return what names of a description that is made stand for.

    Raises:
        BadInputError: one is not known.
    """
    numbers = {**{each.name: each.number for each in facts.ioctls}, **facts.known.constants}
    layouts = {each.struct.name: each.struct for each in facts.ioctls if each.struct is not None}
    layouts |= facts.known.structs
    missing = [name for name in constants if name not in numbers]
    missing += [name for name in structs if name not in layouts]
    if missing:
        raise BadInputError(f"{missing[0]} is not known")
    return Header(
        {name: numbers[name] for name in constants},
        {name: layouts[name] for name in structs},
        None,
    )
