# SPDX-License-Identifier: Apache-2.0
"""Coverage by function of a driver, for a terminal."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Sequence

from fuzzer.campaign.corpus_functions import CallEdge, FunctionCoverage
from fuzzer.wording import ranges

# The compiler makes them for each file.
_CONSTRUCTOR = re.compile(r"_sub_[DI]_\d+_\d+$")
_WIDTH = 100
_LONGEST = 30


def format_functions(functions: Sequence[FunctionCoverage]) -> str:
    """Return a line or more for each function of which something is left, then the others."""
    blocks, reached = _sums(functions)
    constructors = [each for each in functions if _CONSTRUCTOR.match(each.name)]
    functions = [each for each in functions if not _CONSTRUCTOR.match(each.name)]
    called = sum(each.reached > 0 for each in functions)
    left = [each for each in functions if each.reached < each.blocks]
    whole = [each.name for each in functions if each.reached == each.blocks]
    shown = _Names(left)
    text = f"{reached} of {blocks} blocks, {called} of {len(functions)} functions reached"
    lines = [f"{text}; what is left, most worth looking at first:" if left else text]
    numbers = max([len(_share(each)) for each in left], default=0)
    column = min(max([len(each.name) for each in left], default=0), _LONGEST)
    for each in left:
        start = f"{_share(each):>{numbers}}  {each.name:<{column}}  "
        lines += _wrapped(start, numbers + column + 4, shown.what_is_left(each))
    if whole:
        lines += textwrap.wrap(
            f"reached whole: {', '.join(sorted(whole))}", _WIDTH, subsequent_indent="  "
        )
    if constructors:
        own, known = _sums(constructors)
        lines.append(f"the sanitizer's own functions: {known} of {own} blocks")
    return "".join(f"{line}\n" for line in lines)


def _sums(functions: Sequence[FunctionCoverage]) -> tuple[int, int]:
    """Return how many blocks functions have, and how many of these were reached."""
    return sum(each.blocks for each in functions), sum(each.reached for each in functions)


def _share(each: FunctionCoverage) -> str:
    return f"{each.reached}/{each.blocks}"


def _wrapped(start: str, column: int, text: str) -> list[str]:
    """Return the lines of an entry whose text is in a column, below a name that is too long."""
    lines = textwrap.wrap(text, _WIDTH - column, break_on_hyphens=False, break_long_words=True)
    first, indent = start, " " * column
    made = []
    if len(start) > column:
        made.append(start.rstrip())
        first = indent
    for line in lines or [""]:
        made.append(f"{first}{line}".rstrip())
        first = indent
    return made


class _Names:
    """Says places by the shortest names of their files."""

    def __init__(self, functions: Sequence[FunctionCoverage]) -> None:
        places = [place for each in functions for place in each.missed]
        places += [link.place for each in functions for link in each.links if link.place]
        files = {place.rpartition(":")[0] for place in places}
        directories = {os.path.dirname(file) for file in files}  # noqa: PTH120
        try:
            root = os.path.commonpath(directories) if directories else ""
        except ValueError:
            # Some are relative, some are not.
            root = ""
        self._short = {file: os.path.relpath(file, root) if root else file for file in files}

    def what_is_left(self, each: FunctionCoverage) -> str:
        """Return the lines, or how the function is called."""
        if each.reached:
            return self._lines(each.missed) or "lines unknown"
        return f"never reached; {self._called(each)}"

    def _lines(self, places: Sequence[str]) -> str:
        numbers: dict[str, list[int]] = {}
        for place in places:
            file, _, line = place.rpartition(":")
            numbers.setdefault(self._short[file], []).append(int(line))
        return "; ".join(f"{file}:{ranges(lines)}" for file, lines in numbers.items())

    def _called(self, each: FunctionCoverage) -> str:
        if not each.links:
            return f"called {each.entry}" if each.entry else "nothing in the driver calls it"
        first, last = each.links[0], each.links[-1]
        if first.reached:
            return self._link(first)
        text = f"{self._link(first)}, never reached either"
        if last.reached:
            return f"{text}; the nearest that is: {last.caller}{self._at(last)}"
        if not each.entry:
            return text
        who = ", which is" if len(each.links) == 1 else f"; {last.caller} behind it is"
        return f"{text}{who} called {each.entry}"

    def _link(self, link: CallEdge) -> str:
        how = "called through a pointer that is set by" if link.taken else "called by"
        return f"{how} {link.caller}{self._at(link)}"

    def _at(self, link: CallEdge) -> str:
        if not link.place:
            return ""
        file, _, line = link.place.rpartition(":")
        return f" ({self._short[file]}:{line})"
