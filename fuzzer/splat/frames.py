# SPDX-License-Identifier: Apache-2.0
"""Frames of a stack, in each of the forms in which a log shows them.

- ``name+0x12/0x80 [module]``: the kernel's own, ``? `` before it when the
  unwinder is not sure; an address in brackets before it on old kernels, a build
  id after the module's name with ``CONFIG_STACKTRACE_BUILD_ID``;
- ``name+0x12/0x80 file.c:33``, ``name file.c:33 [inline]``: symbolised as syzbot does;
- ``name (file.c:33 (discriminator 2)) module``: the kernel's scripts/decode_stacktrace.sh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from fuzzer.splat.rust_names import rust_name

SUFFIX = re.compile(r"\.(?:isra|constprop|part|cold|llvm)(?:\.\d+)*.*$")
"""The suffix that a compiler adds to the name of a function's clone."""

_NAME = r"(?P<name>[A-Za-z_][\w.$]*)"
_IP = r"RIP:\ [0-9a-f]+:|IP:\ |pc\ :\ |PC\ is\ at\ "
_FRAME = re.compile(
    rf"""^\ *(?P<guess>\?\ )?(?:\[<[0-9a-fx]+>\]\ )?(?P<guess2>\?\ )?
    (?:(?P<ip>{_IP})|(?P<lr>lr\ :\ |LR\ is\ at\ ))?
    (?:\[<[0-9a-f]+>\]\ +)*
    {_NAME}\+0x(?P<offset>[0-9a-f]+)/0x(?P<size>[0-9a-f]+)
    (?:\ (?P<file>[\w./-]+:\d+))?(?:\ \[(?P<module>\w+)(?:\ (?P<build>[0-9a-f]{{8,}}))?\])?""",
    re.VERBOSE,
)
_INLINE = re.compile(rf"^ *(?:RIP: [0-9a-f]+:)?{_NAME} (?P<file>[\w./-]+:\d+) \[inline\]")
# The first file and line are those of the innermost function that was inlined.
_DECODED = re.compile(
    rf"""^\ *(?:\[<[0-9a-fx]+>\]\ )?(?P<guess>\?\ )?
    (?:(?:{_IP})|(?P<lr>lr\ :\ |LR\ is\ at\ ))?{_NAME}
    \ \((?:(?P<file>[^\s():?]+:\d+)|[^\s():]*:[\d?]+)(?:[^()]|\([^()]*\)){{0,2000}}\)
    (?:\ \[?(?P<module>\w+)(?:\ [0-9a-f]{{8,}})?\]?)?(?:\ \([A-Z]+\))?\ *$""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Frame:
    """One function of a stack.

    ``offset`` into the function and its ``size`` are bytes. ``module`` is None
    in the kernel's own code. ``file`` is ``name:line`` where the log has
    it. A frame that is not ``reliable`` is one that the unwinder guessed. An
    ``inline`` one has no code of its own: its module is its caller's. ``build_id`` is
    the module's, in hexadecimal digits.
    """

    function: str
    offset: int | None = None
    size: int | None = None
    module: str | None = None
    file: str | None = None
    inline: bool = False
    reliable: bool = True
    build_id: str | None = None


def plain_name(name: str) -> str:
    """Return a function's name without the compiler's suffix, a Rust one as its source has it."""
    plain = SUFFIX.sub("", name)
    return rust_name(plain) if plain.startswith(("_R", "__R")) else plain


def parse_frame(text: str) -> Frame | None:
    """Return the frame that a line shows, None when it shows none."""
    match = _FRAME.match(text)
    if match:
        return Frame(
            plain_name(match["name"]),
            int(match["offset"], 16),
            int(match["size"], 16),
            match["module"],
            match["file"],
            reliable=not (match["guess"] or match["guess2"] or match["lr"]),
            build_id=match["build"],
        )
    if match := _INLINE.match(text):
        return Frame(plain_name(match["name"]), file=match["file"], inline=True)
    if match := _DECODED.match(text):
        return Frame(
            plain_name(match["name"]),
            module=match["module"],
            file=match["file"],
            reliable=not (match["guess"] or match["lr"]),
        )
    return None
