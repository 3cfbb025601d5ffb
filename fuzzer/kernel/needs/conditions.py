# SPDX-License-Identifier: Apache-2.0
"""Conditions on kernel options: those of Makefiles, of the C preprocessor and of Kconfig.

A condition is a set of terms that must all hold; alternatives are conditions of
which one must. Whatever is no option (a compiler's version, an include guard)
counts as true, both as it is and negated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

# Alternatives that are told apart, at most.
_MOST = 24


class Term(NamedTuple):
    """An option by its name, without CONFIG_, that must be on, or off."""

    option: str
    on: bool = True


BuildCondition = frozenset[Term]
Alternatives = tuple[BuildCondition, ...]

ALWAYS: Alternatives = (frozenset(),)
NEVER: Alternatives = ()


def only(option: str, *, on: bool = True) -> Alternatives:
    """Return the condition of one option."""
    return (frozenset({Term(option, on)}),)


def either(*several: Alternatives) -> Alternatives:
    """Return alternatives of which one holds if any of those given does, the smallest first."""
    conditions = sorted({condition for each in several for condition in each}, key=_order)
    kept: list[BuildCondition] = []
    for condition in conditions:
        if not any(smaller <= condition for smaller in kept):
            kept.append(condition)
    return tuple(kept[:_MOST])


def both(*several: Alternatives) -> Alternatives:
    """Return alternatives of which one holds if all of those given do."""
    joined = ALWAYS
    for each in several:
        products = (one | other for one in joined for other in each)
        joined = either(tuple(product for product in products if _possible(product)))
    return joined


def _possible(condition: BuildCondition) -> bool:
    return not any(Term(term.option, not term.on) in condition for term in condition)


def _order(condition: BuildCondition) -> tuple[int, list[Term]]:
    return len(condition), sorted(condition)


_TOKEN = re.compile(
    r'\s*(&&|\|\||[!=<>]=|[()!<>=]|"[^"]*"|\$\([^()]*\)|[\w.]+|[^\s\w()!=<>&|"]+|.)', re.DOTALL
)


class _Parser:
    """A parser of ``&&``, ``||``, ``!`` and comparisons, as C and Kconfig write them."""

    def __init__(self, text: str, option: Callable[[str], str | None]) -> None:
        self._tokens = _TOKEN.findall(text)
        self._at = 0
        self._option = option

    def alternatives(self, *, wanted: bool) -> Alternatives:
        try:
            return self._any(wanted)
        except RecursionError:
            return ALWAYS

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _take(self) -> str:
        token = self._peek()
        self._at += 1
        return token

    def _any(self, wanted: bool) -> Alternatives:
        parts = [self._all(wanted)]
        while self._peek() == "||":
            self._take()
            parts.append(self._all(wanted))
        return either(*parts) if wanted else both(*parts)

    def _all(self, wanted: bool) -> Alternatives:
        parts = [self._one(wanted)]
        while self._peek() == "&&":
            self._take()
            parts.append(self._one(wanted))
        return both(*parts) if wanted else either(*parts)

    def _one(self, wanted: bool) -> Alternatives:
        word = self._take()
        if word == "!":
            return self._one(not wanted)
        if word == "(":
            inner = self._any(wanted)
            # Text that was not understood inside stays within the parenthesis.
            while self._peek() not in (")", ""):
                self._take()
            self._take()
            return inner
        name = self._option(word)
        compared = False
        while self._peek() not in ("&&", "||", ")", ""):
            operator, value = self._take(), self._take()
            compared = True
            if operator == "(":
                while value not in (")", ""):
                    value = self._take()
            elif name and operator in ("=", "==", "!=") and value in ("y", "m", "n"):
                is_on = (value != "n") == (operator != "!=")
                return only(name, on=is_on == wanted)
        return only(name, on=wanted) if name and not compared else ALWAYS


_DEFINED = re.compile(
    r"(?:defined|IS_ENABLED|IS_BUILTIN|IS_REACHABLE|IS_MODULE)\s*\(?\s*(CONFIG_\w+)\s*\)?"
)


def _macro_option(token: str) -> str | None:
    match = re.fullmatch(r"CONFIG_(\w+?)(?:_MODULE)?", token)
    return match[1] if match else None


def parse_preprocessor(text: str, *, wanted: bool = True) -> Alternatives:
    """Return what makes the expression of an ``#if`` true (or, not ``wanted``, false)."""
    return _Parser(_DEFINED.sub(r"\1", text), _macro_option).alternatives(wanted=wanted)


def parse_dependency(text: str) -> Alternatives:
    """Return what makes the expression of a Kconfig ``depends on`` true."""

    def option(token: str) -> str | None:
        return token if re.fullmatch(r"[A-Z0-9]\w*", token) else None

    return _Parser(text, option).alternatives(wanted=True)


_DIRECTIVE = re.compile(r"\s*#\s*(if|ifdef|ifndef|elif|else|endif)\b(.*)")


def guarded_lines(text: str) -> Iterator[tuple[str, Callable[[], Alternatives]]]:
    """Yield the lines of C that are no ``#if``, each with a function that returns its condition."""
    # One list for each #if that is open: the branches so far, the present one last.
    stack: list[list[str]] = []
    for line in text.splitlines():
        match = _DIRECTIVE.match(line)
        if not match:
            branches = tuple(tuple(each) for each in stack)
            yield line, lambda branches=branches: _joined(branches)  # type: ignore[misc]
            continue
        kind, rest = match[1], re.sub(r"/\*.*?(\*/|$)|//.*", "", match[2]).strip()
        if kind in ("if", "ifdef", "ifndef"):
            negation = {"ifdef": "", "ifndef": "!"}.get(kind)
            stack.append([rest if negation is None else f"{negation}defined({rest})"])
        elif stack and kind == "elif":
            stack[-1].append(rest)
        elif stack and kind == "else":
            stack[-1].append("1")
        elif stack:
            stack.pop()


def _joined(stack: Iterable[tuple[str, ...]]) -> Alternatives:
    parts: list[Alternatives] = []
    for branches in stack:
        parts.extend(parse_preprocessor(branch, wanted=False) for branch in branches[:-1])
        parts.append(parse_preprocessor(branches[-1]))
    return both(*parts)
