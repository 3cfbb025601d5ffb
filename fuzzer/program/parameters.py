# SPDX-License-Identifier: Apache-2.0
"""Parameters to load a target's module with, by the description's reloads."""

from __future__ import annotations

import random
from collections import Counter

from fuzzer.program.choices import NOTHING_SEEN
from fuzzer.program.ops import Op
from fuzzer.program.templates import TemplateFiller
from fuzzer.program.wire import PLAIN_HEADER
from fuzzer.target.calls import CallTemplate, ReloadSpec
from fuzzer.target.target import Target

# Parameters drawn for a preload, of which those used least are taken.
_DRAWN = 8
# Parameters that a load keeps when it gets another one.
_KEPT = 3
_O_RDWR = 2

_PACK = PLAIN_HEADER.pack


class Parameters:
    """Makes strings of parameters; the same ``rng`` state gives the same ones."""

    def __init__(self, target: Target, rng: random.Random, templates: TemplateFiller) -> None:
        self._random = rng.random
        own = target.module.params.encode()
        reloads: list[CallTemplate] = []
        for spec in target.calls:
            if isinstance(spec, ReloadSpec) and not target.module.builtin:
                reloads += spec.templates * spec.weight
        params = [templates.filler(template) for template in reloads]
        # A machine preloaded with the module's usual parameters would be like all others.
        self._preloads = tuple(
            templates.described(template) for template in reloads if template.parts or own
        )
        params.append(lambda seen: own)
        self._params = tuple(params)

    def draw(self) -> bytes:
        """Return parameters of the description, or the module's usual ones."""
        return self._params[int(self._random() * len(self._params))](NOTHING_SEEN)

    def change(self, known: bytes) -> bytes:
        """Return parameters to load the module with, often in addition to some of ``known``.

        They are empty if the description has none.
        """
        rand = self._random
        made = self.draw()
        if rand() < 0.5 or b'"' in known:
            return made
        names = {word.partition(b"=")[0] for word in made.split()}
        kept = [word for word in known.split() if word.partition(b"=")[0] not in names]
        return b" ".join((*kept[-_KEPT:], made))

    def all(self) -> list[bytes]:
        """Return one string of parameters for each ``reload`` of the description."""
        return [form() for form in self._preloads]

    def choose_preload(self, used: Counter[bytes]) -> bytes:
        """Return calls that load the module with parameters, in the wire form.

        The parameters are the least ``used`` of a few that are drawn, and are counted as used
        once more. Empty if the description has none to load it with.
        """
        forms = self._preloads
        if not forms:
            return b""
        drawn = [forms[int(self._random() * len(forms))]() for _ in range(_DRAWN)]
        params = min(drawn, key=lambda each: used[each])
        used[params] += 1
        calls = (
            _PACK(int(Op.CLOSE), 0, 0, 0, 0, 0, 0),
            _PACK(int(Op.UNLOAD), 0, 0, 0, 0, 0, 0),
            _PACK(int(Op.LOAD), 0, 0, 0, 0, 0, len(params)) + params,
            _PACK(int(Op.OPEN), 0, 0, 0, _O_RDWR, 0, 0),
        )
        return b"".join(calls)
