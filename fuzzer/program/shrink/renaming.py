# SPDX-License-Identifier: Apache-2.0
"""Renaming: a word that several calls of a program share becomes shorter in all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from fuzzer.program.links import of_call
from fuzzer.program.payload import Value, pack_struct
from fuzzer.program.program import Call, Program
from fuzzer.program.shrink.lines import MANY, WORD
from fuzzer.program.shrink.plainer import Layouts, is_text, members

_LETTERS = tuple(bytes((letter,)) for letter in b"abcdefghijklmnopqrstuvwxyz")
_WORDS = 64


def renamed(program: Program, layouts: Layouts) -> Iterator[Program]:
    """Yield forms of a program with a word replaced everywhere by a letter that it does not use.

    Words of most calls come first; where there are many words, those of a single call are
    left out. A member that is the length of such a word in the same struct changes with it.
    """
    words: Counter[bytes] = Counter()
    for call in program:
        words.update(set(_words_of(call, layouts)))
    free = next((letter for letter in _LETTERS if letter not in words), None)
    if free is None:
        return
    for word, n_calls in words.most_common(_WORDS):
        if n_calls == 1 and len(words) > MANY:
            return
        # A single letter is replaced only by one that is earlier in the alphabet.
        if len(word) > 1 or word not in _LETTERS or word > free:
            yield tuple(_with(call, layouts, word, free) for call in program)


def _words_of(call: Call, layouts: Layouts) -> list[bytes]:
    if is_text(call, layouts):
        return WORD.findall(call.data)
    values = members(call, layouts) or {}
    return [value for value in values.values() if isinstance(value, bytes) and value]


def _with(call: Call, layouts: Layouts, word: bytes, new: bytes) -> Call:
    if is_text(call, layouts):
        data = WORD.sub(lambda match: new if match[0] == word else match[0], call.data)
        return replace(call, data=data)
    values = members(call, layouts)
    if values is None or word not in values.values():
        return call
    changed: dict[str, Value] = {}
    for name, value in values.items():
        if value == word:
            changed[name] = new
        elif value == len(word):
            changed[name] = len(new)
        else:
            changed[name] = value
    data, fixups = pack_struct(layouts[call.cmd], changed)
    return replace(call, data=data, fixups=fixups + of_call(call.fixups))
