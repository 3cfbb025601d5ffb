# SPDX-License-Identifier: Apache-2.0
"""Lines of older kernels, of other architectures and of decoded logs, in the form of today's x86.

One form means that what reads stacks knows one only. What has no stack in it stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

# Also as scripts/decode_stacktrace.sh has it: "f (file.c:3 (discriminator 1)) drv".
_FUNCTION = (
    r"[A-Za-z_][\w.$]*(?:\+0x[0-9a-f]+/0x[0-9a-f]+"
    r"|\ \([^\s():]+:[\d?]+(?:[^()]|\([^()]*\)){0,2000}\)(?:\ \w+)?)"
)
_MODULE = r"(?:\ \[\w+(?:\ [0-9a-f]{8,})?\])?"
# "<IRQ>  [<ffffffff81656735>] dump_stack+0x19/0x1b": what the mark opens or closes, and the frame.
_MARK = re.compile(
    r"^ *<{1,2}/?(?P<name>TASK|IRQ|NMI|SOFTIRQ|EOI|EOE|#\w{2,3}|UNK)>{1,2} *(?P<rest>.*)$"
)
_CLOSED = {"EOI": " </IRQ>", "EOE": " </NMI>"}
_GLUED = re.compile(r"^ *(Call [Tt]race:|[Bb]acktrace:) +(?=\S)(?P<rest>.*\S)$")
# An address before a function; a web page eats what looks like a tag, and leaves the brackets.
_ADDRESS = re.compile(
    r"\(?\[ ?(?:< *(?:none|[0-9a-fx. ]*?) *>)? ?\]\)? *|\[[0-9a-f]{8,16}\] (?=[\[A-Za-z_?.])"
)
# A blank that a scan or a typist put there.
_TYPED = re.compile(r"\[ *(\w+) *\]$|(?<=\w) ?([+/]) ?(?=0x[0-9a-f])")
# What syzkaller had for an inlined function.
_INLINED = re.compile(r"^ *\[< *inline *>\] ([\w.$]+) (\S+:\d+)$")
# powerpc's first ABI has a dot before the name of a function's code.
_DOT = re.compile(r"(?<![\w.>])\.(?=[A-Za-z_]\w*\+0x)")
_POINTER = re.compile(
    rf"""^\ {{0,4}}(?:E?IP\ is\ at\ |R?E?IP:?\ +(?:[0-9a-f]{{4}}:)?\ *|NIP\ +
    |epc\ *:\ (?:[0-9a-f]{{8,16}}\ +)?
    |(?:ERA|pc):\ [0-9a-f]{{16}}\ |TPC:\ <|Krnl\ PSW\ :\ [0-9a-f]{{16}}\ [0-9a-f]{{16}}\ \(
    |Krnl\ PSW\ :\ [0-9a-f]{{8}}\ [0-9a-f]{{8}}\ \()
    (?P<frame>{_FUNCTION}{_MODULE})""",
    re.VERBOSE,
)
_RETURN = re.compile(
    rf"^ {{0,4}}(?:LR +|ra *: (?:[0-9a-f]{{8,16}} +)?|I7: <|RPC: <)(?P<frame>{_FUNCTION}{_MODULE})"
)
_KNOWN_POINTER = re.compile(r"^(?:RIP: 0010:|RIP: 0033:|IP: |pc : |PC is at )")
# Kernels of 2.6 name the module first: ":drv:drv_open+0x1/0x2".
_OLD_MODULE = re.compile(
    r"(?<![\w:]):(?P<module>[a-z]\w*):(?P<frame>[A-Za-z_]\w*\+0x[0-9a-f]+/0x[0-9a-f]+)"
)
_LETTER = re.compile(r"(?<=[+/])Ox(?=[0-9a-f])")
# arm: "(f+0x10/0x20) from (g+0x1/0x2)", "(f) from (g+0x1/0x2)", "f from g+0x1/0x2".
_FROM = re.compile(
    rf"^ *\(?(?P<callee>[\w.$]+(?P<offset>\+0x[0-9a-f]+/0x[0-9a-f]+)?{_MODULE})\)? from "
    rf"\(?(?P<caller>{_FUNCTION}(?:\ [\w./-]+:\d+)?{_MODULE}|[\w.$]+\ [\w./-]+:\d+\ \[inline\])\)?$"
)
_BARE_FRAME = re.compile(
    r"^(?:\? )?[A-Za-z_][\w.$]*(?:\+0x[0-9a-f]+/0x[0-9a-f]+| \([^\s():]+:(?:\d+|\?)"
    r"| [\w./-]+:\d+ \[inline\])"
)
_UNRELIABLE = re.compile(rf"^ *(?P<frame>{_FUNCTION}{_MODULE}) \(unreliable\)$")
_HEADING = re.compile(r"^ *(?:Call [Tt]race:|[Bb]acktrace(?:\(.*\))?:? *$)")
_NAMELESS = re.compile(r"^Workqueue:  +(?!0x)([A-Za-z_].*)$")
# Cheap: lines without one of these are in today's form.
_OTHER = re.compile(
    r"\[ ?<|\[\]|\[ | \]|[+/] 0x| [+/]0x|> |[^ ]> *$"
    r"|^(?:RIP|EIP|NIP|LR|IP|epc|TPC|Krnl|I7|RPC)\b|^ *(?:ra|epc|ERA|pc)\b"
    r"| from |unreliable|\[[0-9a-f]{8,16}\]|^[A-Za-z_?]\S*(?: \S+)?(?:\+0x| \()|race: +\S| +$"
    r"|[+/]Ox|^ *[Bb]acktrace|^Workqueue:  "
)
_SAVED = re.compile(r"^(?:Exception stack|[0-9a-f]{3,4}: | r\d{1,2} ?:[0-9a-f]{8})")
# Parts of a backtrace that a heading stands before on other architectures.
_FIRST = re.compile(r"^ *(?:\[<[0-9a-f]+>\] *)?\(?\w[\w.]*\S*(?: \[\w+\])?\)? from ")


def is_saved(text: str) -> bool:
    """Tell whether a line is of registers that arm saved: the caller is told after them."""
    return _SAVED.match(text) is not None


def current_forms(texts: Iterable[str]) -> list[str]:
    """Return the lines of a report as a kernel of today prints them."""
    current: list[str] = []
    in_stack = False
    for number, text in enumerate(texts):
        if not number or _OTHER.search(text) is None:
            current.append(text)
            in_stack = in_stack and (text.startswith(" ") or is_saved(text))
            continue
        is_arm = _FIRST.match(text) is not None
        if is_arm and not in_stack:
            current.append("Call trace:")
        in_stack = is_arm or _HEADING.match(text) is not None or (in_stack and is_saved(text))
        current.extend(_lines(text.rstrip(" ")))
    return current


def _lines(text: str) -> Iterator[str]:
    """Yield what a line says, in as many lines as a kernel of today takes for it."""
    if glued := _GLUED.match(text):
        yield "Call Trace:"
        yield from _lines(" " + glued["rest"])
        return
    if mark := _MARK.match(text):
        yield _CLOSED.get(mark["name"], text if not mark["rest"] else f" <{mark['name']}>")
        if mark["rest"]:
            yield from _lines(" " + mark["rest"])
        return
    if _HEADING.match(text):
        # kmemleak's is indented.
        yield "Call trace:" if text.startswith("Backtrace") else text
        return
    if nameless := _NAMELESS.match(text):
        yield f"Workqueue: nameless {nameless[1]}"
        return
    if inlined := _INLINED.match(text):
        yield f" {inlined[1]} {inlined[2]} [inline]"
        return
    bare = _ADDRESS.sub("", text) if "[" in text else text
    if "Ox" in bare:
        # What was read off a photograph.
        bare = _LETTER.sub("0x", bare)
    if " ]" in bare or "[ " in bare or "0x" in bare:
        bare = _TYPED.sub(lambda typed: f"[{typed[1]}]" if typed[1] else typed[2], bare)
    if "." in bare:
        bare = _DOT.sub("", bare)
    if ":" in bare:
        bare = _OLD_MODULE.sub(r"\g<frame> [\g<module>]", bare)
    if not _KNOWN_POINTER.match(bare) and (pointer := _POINTER.match(bare)):
        yield f"PC is at {pointer['frame']}"
    elif returns := _RETURN.match(bare):
        yield f"LR is at {returns['frame']}"
    elif called := _FROM.match(bare):
        yield " " + (called["callee"] if called["offset"] else called["caller"])
    elif guess := _UNRELIABLE.match(bare):
        yield f" ? {guess['frame']}"
    elif _BARE_FRAME.match(bare):
        yield " " + bare
    else:
        yield bare if bare.strip() else text
