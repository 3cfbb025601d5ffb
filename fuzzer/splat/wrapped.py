# SPDX-License-Identifier: Apache-2.0
"""Lines of a report that a mail program or a terminal wrapped, put together again.

Only what a report is read by: the first line, the task and its kernel, and functions with
their modules.
"""

from __future__ import annotations

import re

from fuzzer.splat.frames import parse_frame
from fuzzer.splat.machinery import is_machinery
from fuzzer.splat.prefix import ReportStart, find_start
from fuzzer.splat.rules import has_hint

_QUOTED = re.compile(r"^(?:[>|] ?)+")
_MODULE = re.compile(r"^\[\w+(?: [0-9a-f]{8,})?\](?: |$)")
# Ends of first lines, and what follows them: an address, a file's line, a function.
_OPEN = re.compile(r"\b(?:address:?|addr|dereference,?|request|virtual|at:?|in)$")
_FOLLOWS = re.compile(
    r"^(?:(?:0x)?[0-9a-f]{8,16}\b|[A-Za-z_][\w.$]*\+0x|[\w./-]+\.[chS]:\d|(?:virtual )?address|at )"
)
_TASK = re.compile(r"^CPU: \d+ ")
_WHOLE_TASK = re.compile(r"\b(?:Not tainted|Tainted: [A-Z ]+?) +\(?(?:\d+\.\S|[\w.+~-]+ #\d)")
_TASK_WORD = re.compile(r"^(?:UID|PID|Comm|Kdump|loaded|Not|Tainted)\b")
# Lines of a report that are none's rest.
_OTHER_LINE = re.compile(
    r"^(?:CPU:|Hardware name|Call Trace|RIP:|Modules linked|Workqueue:|Tainted)"
)
_POINTER = re.compile(r"^(?:RIP:(?: 0010:)?|pc :|lr :|PC is at|LR is at) *$")
# Characters of a line of a terminal, and of what mail programs wrap at least: with the next word
# a line would have more.
_COLUMNS = 80
_NARROW = 60


def _is_full(columns: int, text: str) -> bool:
    """Tell whether a line had no room for the first word of the next one."""
    return columns + 1 + len(text.partition(" ")[0]) > _NARROW


def without_quotes(text: str) -> str:
    """Return a line without the marks of a quotation."""
    return _QUOTED.sub("", text)


def rejoined_frame(last: str, text: str) -> str | None:
    """Return two lines as the frame of a stack that they are; None where they are none."""
    whole = last + text
    return whole if parse_frame(last) is None and parse_frame(whole) is not None else None


def rejoined(last: str, text: str, columns: int) -> str | None:
    """Return two lines of a report as the one that they were; None where they were two.

    ``columns`` is how wide the first of them was, with all that stood before it.
    """
    text = without_quotes(text)
    is_task = _TASK.match(last) is not None and _WHOLE_TASK.search(last) is None
    if columns % _COLUMNS == 0:
        # A terminal cuts words in two.
        whole = last + text
        if rejoined_frame(last, text) or (is_task and _WHOLE_TASK.search(whole)):
            return whole
    if is_task and _WHOLE_TASK.search(last + text):
        is_number = last[-1:].isdigit() and text[:1].isdigit()
        if text[:1] == " " or is_number or not _WHOLE_TASK.search(f"{last} {text}"):
            return last + text
    if not text or text[0] == " " or not _is_full(columns, text):
        return None
    spaced = f"{last.rstrip()} {text}"
    if is_task:
        return spaced if _TASK_WORD.match(text) or _WHOLE_TASK.search(spaced) else None
    if _MODULE.match(text):
        frame = parse_frame(last)
        is_named = last.startswith("Workqueue: ") or (
            frame is not None and not frame.module and not is_machinery(frame)
        )
        return spaced if is_named else None
    if (_OPEN.search(last) and _FOLLOWS.match(text)) or (
        _POINTER.match(last) and parse_frame(spaced)
    ):
        return spaced
    return rejoined_frame(last, text)


def wrapped_start(
    last: str, text: str, columns: int, known: ReportStart | None = None
) -> str | None:
    """Return two lines as the one that starts a report, None where they start none.

    ``known`` is what the first of them starts: then both together have to say more.
    ``columns`` is how wide the first of them was, with all that stood before it.
    """
    text = without_quotes(text)
    if not text.strip() or not _is_full(columns, text) or find_start(text):
        return None
    if _OTHER_LINE.match(text):
        return None
    if not (has_hint(last) or has_hint(text)):
        return None
    glued, spaced = last + text, f"{last.rstrip()} {text.lstrip()}"
    for whole in (glued, spaced) if columns % _COLUMNS == 0 else (spaced, glued):
        start = find_start(whole)
        if start is None:
            continue
        if known is None or start.rule is not known.rule or start.match.end() > len(last) + 1:
            return whole
    return None
