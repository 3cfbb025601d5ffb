# SPDX-License-Identifier: Apache-2.0
"""Templates of text and bytes, and their placeholders in braces.

A placeholder is ``{POOL}``, or ``{FORM:WHAT}`` with a form of
:class:`fuzzer.target.calls.NumberForm`. ``WHAT`` are alternatives with ``|``
between them: a number, ``LOW..HIGH``, or ``len:POOL``, the length of the next
``{POOL}`` of the template, or of the last one before when none follows. Numbers
may be macros of the header. ``{len:POOL}`` is short for ``{int:len:POOL}``.
Braces that are doubled are braces.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import yaml

from fuzzer.target.calls import Between, CallTemplate, LengthOf, NumberForm, NumberRef, PoolRef
from fuzzer.target.document import Document, one_of
from fuzzer.target.symbols import HeaderSymbols

# A payload's length is 16 bits wide in the wire form.
MAX_PAYLOAD = 0xFFFF
"""Bytes of one call's payload."""

_TOKEN = re.compile(rb"\{\{|\}\}|\{([^{}]*)\}|[^{}]+|[{}]")
_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]{1,16}|[1-9][0-9]{0,19}|0)\Z")
_MACRO = re.compile(r"[A-Za-z_]\w*\Z", re.ASCII)
_FORMS = tuple(form.value for form in NumberForm)
_LEN = "len"
_BRACES = "{pool} picks from a pool, {le32:0..9} is a number, {{ and }} are braces"


@dataclass(frozen=True, slots=True)
class _PoolLength:
    """A length whose part is not known yet."""

    pool: str


class TemplateParser:
    """Turns strings into templates, given the pools and the header's symbols."""

    def __init__(
        self, document: Document, symbols: HeaderSymbols, pools: Mapping[str, tuple[bytes, ...]]
    ) -> None:
        self._document = document
        self._symbols = symbols
        self._pools = pools

    def template(self, node: yaml.Node) -> CallTemplate:
        """Return a template; BadInputError located at the node for a mistake."""
        text = self._document.bytes(node, "a template")
        parts: list[bytes | PoolRef | NumberRef] = []
        lengths: list[tuple[int, NumberForm, list[Between | _PoolLength]]] = []
        for match in _TOKEN.finditer(text):
            token = match[0]
            if match[1] is not None:
                content = match[1].decode("latin-1")
                if ":" in content:
                    form, choices = self._number(node, content)
                    lengths.append((len(parts), form, choices))
                    parts.append(NumberRef(form, ()))
                else:
                    parts.append(PoolRef(self.pool(node, content)))
                continue
            if token in (b"{", b"}"):
                raise self._document.error(
                    node, f"a template has a single {token.decode()!r}; {_BRACES}"
                )
            literal = token[:1] if token in (b"{{", b"}}") else token
            last = parts[-1] if parts else None
            if isinstance(last, bytes):
                parts[-1] = last + literal
            else:
                parts.append(literal)
        pools = {i: part.pool for i, part in enumerate(parts) if isinstance(part, PoolRef)}
        for index, form, choices in lengths:
            parts[index] = NumberRef(
                form, tuple(self._choice(node, each, index, pools) for each in choices)
            )
        template = CallTemplate(tuple(parts))
        if (least := self._least(template)) > MAX_PAYLOAD:
            raise self._document.error(
                node, f"a template of at least {least} bytes; {MAX_PAYLOAD} are allowed"
            )
        return template

    def parameters(self, node: yaml.Node) -> CallTemplate:
        """Return a template of a module's parameters, which are text."""
        template = self.template(node)
        for part in template.parts:
            if isinstance(part, NumberRef) and part.form.size:
                raise self._document.error(
                    node,
                    f"a module's parameters are text, and {part.form.value} is not; "
                    "int and hex are allowed",
                )
        return template

    def pool(self, node: yaml.Node, name: str) -> str:
        """Return the name of a pool that there is."""
        if name not in self._pools:
            forms = f"; or a number: {', '.join(f'{{{form}:...}}' for form in _FORMS)}"
            known = one_of(name, [*self._pools])
            hint = forms if name in (*_FORMS, _LEN) else ""
            raise self._document.error(node, f"no pool {name!r}; {known}{hint}")
        return name

    def _number(
        self, node: yaml.Node, content: str
    ) -> tuple[NumberForm, list[Between | _PoolLength]]:
        name, _, what = content.partition(":")
        if name == _LEN:
            return NumberForm.INT, [_PoolLength(self.pool(node, what))]
        if name not in _FORMS:
            raise self._document.error(
                node, f"{{{content}}}: no form {name!r}; {one_of(name, (*_FORMS, _LEN))}"
            )
        form = NumberForm(name)
        return form, [self._alternative(node, content, form, each) for each in what.split("|")]

    def _alternative(
        self, node: yaml.Node, content: str, form: NumberForm, text: str
    ) -> Between | _PoolLength:
        if text.startswith(f"{_LEN}:"):
            return _PoolLength(self.pool(node, text[len(_LEN) + 1 :]))
        ends = text.split("..")
        if len(ends) > 2:
            raise self._wrong(node, content, text)
        low, high = (self._value(node, content, form, end) for end in (ends[0], ends[-1]))
        if low is None or high is None:
            # Known when the header is read.
            return Between(0, 0)
        if low > high:
            raise self._document.error(
                node, f"{{{content}}}: {text} begins above its end; LOW..HIGH is expected"
            )
        return Between(low, high)

    def _value(self, node: yaml.Node, content: str, form: NumberForm, text: str) -> int | None:
        what = f"{{{content}}}: {text}"
        if _NUMBER.match(text):
            value: int | None = int(text, 0)
        elif _MACRO.match(text):
            value = self._symbols.constant(text, node)
        else:
            raise self._wrong(node, content, text)
        if value is None:
            return None
        low, high = form.bounds
        if not low <= value <= high:
            shown = what if _NUMBER.match(text) else f"{what} ({value})"
            raise self._document.error(
                node, f"{shown} does not fit {form.value}; {low} to {high} is allowed"
            )
        return value

    def _wrong(self, node: yaml.Node, content: str, text: str) -> Exception:
        return self._document.error(
            node,
            f"{{{content}}}: {text!r} is no number; a number, a macro of the header, LOW..HIGH "
            "and len:POOL are allowed, with | between several",
        )

    def _choice(
        self, node: yaml.Node, choice: Between | _PoolLength, index: int, pools: Mapping[int, str]
    ) -> Between | LengthOf:
        if isinstance(choice, Between):
            return choice
        places = [place for place, pool in pools.items() if pool == choice.pool]
        if not places:
            raise self._document.error(
                node,
                f"len:{choice.pool} is the length of nothing; "
                f"the template has no {{{choice.pool}}}",
            )
        later = [place for place in places if place > index]
        return LengthOf(later[0] if later else places[-1])

    def _least(self, template: CallTemplate) -> int:
        total = 0
        for part in template.parts:
            if isinstance(part, bytes):
                total += len(part)
            elif isinstance(part, PoolRef):
                total += min(map(len, self._pools[part.pool]))
            else:
                total += part.form.size or 1
        return total
