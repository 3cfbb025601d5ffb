# SPDX-License-Identifier: Apache-2.0
"""Filler of templates' placeholders: strings of pools, numbers, and lengths of the strings."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from fuzzer.program.choices import NOTHING_SEEN, Seen, integer_chooser, pool_chooser
from fuzzer.program.program import MAX_PAYLOAD
from fuzzer.target.calls import Between, CallTemplate, LengthOf, NumberForm, NumberRef, PoolRef

_OUT_OF_RANGE = 0.05
"""Share of numbers outside of those that the description has for them."""

_LIE = 0.06
"""Share of lengths that are not the true ones."""

_Pick = Callable[[Seen], bytes]
_Number = Callable[[Sequence[bytes]], int]


class TemplateFiller:
    """Fills templates; the same ``rng`` state gives the same results."""

    def __init__(self, rng: random.Random, pools: Mapping[str, Sequence[bytes]]) -> None:
        self._random = rng.random
        self._integer = integer_chooser(rng)
        self._pools = pools
        self._choosers = {n: pool_chooser(rng, n, found) for n, found in pools.items()}

    def filler(self, template: CallTemplate) -> _Pick:
        """Return a function that fills a template, mostly validly, at times with seen strings."""
        return self._filler(template, self._choosers, wrong=True)

    def described(self, template: CallTemplate) -> Callable[[], bytes]:
        """Return a function that fills a template validly, with strings of its pools only."""
        fill = self._filler(
            template, {name: self._plain(found) for name, found in self._pools.items()}, wrong=False
        )
        return lambda: fill(NOTHING_SEEN)

    def _plain(self, strings: Sequence[bytes]) -> _Pick:
        rand, count = self._random, len(strings)
        return lambda seen: strings[int(rand() * count)]

    def _filler(
        self, template: CallTemplate, choosers: Mapping[str, _Pick], *, wrong: bool
    ) -> _Pick:
        literals = [part if isinstance(part, bytes) else b"" for part in template.parts]
        picks = [
            (index, choosers[part.pool])
            for index, part in enumerate(template.parts)
            if isinstance(part, PoolRef)
        ]
        # Lengths are filled in after the parts that they are the length of.
        numbers = [
            (index, self._number(part, wrong=wrong), _writer(part.form))
            for index, part in enumerate(template.parts)
            if isinstance(part, NumberRef)
        ]

        def fill(seen: Seen) -> bytes:
            parts = literals.copy()
            for index, pick in picks:
                parts[index] = pick(seen)
            for index, number, write in numbers:
                parts[index] = write(number(parts))
            return b"".join(parts)[:MAX_PAYLOAD]

        return fill

    def _number(self, part: NumberRef, *, wrong: bool) -> _Number:
        rand, integer = self._random, self._integer
        choices = tuple(self._choice(choice, wrong=wrong) for choice in part.choices)
        count, out_of_range = len(choices), _OUT_OF_RANGE if wrong else 0.0

        def number(parts: Sequence[bytes]) -> int:
            if out_of_range and rand() < out_of_range:
                return integer()
            return choices[int(rand() * count)](parts)

        return number

    def _choice(self, choice: Between | LengthOf, *, wrong: bool) -> _Number:
        rand = self._random
        if isinstance(choice, Between):
            low, span = choice.low, choice.high - choice.low + 1
            return lambda parts: low + min(int(rand() * span), span - 1)
        target, lie = choice.part, _LIE if wrong else 0.0

        def length(parts: Sequence[bytes]) -> int:
            true = len(parts[target])
            if lie and (kind := rand()) < lie:
                lies = (true + 1, true - 1, 0)
                return lies[int(kind / lie * len(lies))]
            return true

        return length


def _writer(form: NumberForm) -> Callable[[int], bytes]:
    """Return a function that writes a number, cut to its width."""
    size, bits = form.size, (1 << 64) - 1
    if form is NumberForm.INT:
        return lambda value: b"%d" % value
    if form is NumberForm.HEX:
        return lambda value: b"%x" % (value & bits)
    mask = (1 << 8 * size) - 1
    if form.value.startswith("be"):
        return lambda value: (value & mask).to_bytes(size, "big")
    return lambda value: (value & mask).to_bytes(size, "little")
