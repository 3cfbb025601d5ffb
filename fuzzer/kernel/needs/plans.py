# SPDX-License-Identifier: Apache-2.0
"""Plans for turning options on at the least price.

The graph of options has cycles (two can select each other), so plans are looked
for until none becomes cheaper.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import kconfiglib

_NEVER = float("inf")
# Prices, whole numbers: a sum of them does not depend on the order. Each option that is
# asked for has the first one, and each that it selects makes it dearer by 1.
_ASKED = 20
# A request that Kconfig follows by itself is better than one that must be made.
_FOLLOWS = 2
# An option without a prompt is for others to select: what does so, and is cheap, is better.
_UNPROMPTED = 6
_ELSEWHERE = 60
_AVOIDED = 400
# Steps of a plan.
_LONGEST = 60
_ON = 2
# Options that would change far more than the one that asks for them.
_NEVER_ASKED = frozenset({"BROKEN", "COMPILE_TEST", "HYPERV", "KUNIT", "XEN"})
# Abilities of an architecture or a tool, which cannot be asked for.
_CAPABILITY = re.compile(r"(ARCH|HAVE|HAS|CC|AS|LD|GENERIC|NEED)_")
# Drivers that make devices of their own when the kernel boots, which would be in the way.
_MAKES_DEVICES = re.compile(r"TEST|DUMMY|VIRTUAL|SAMPLE")


class Step(NamedTuple):
    """An option that is asked for, or comes on because another one selects it."""

    option: str
    price: int
    asked: bool


Plan = frozenset[Step]


class Plans:
    """The best plans for options of one tree, with the values that they have now."""

    def __init__(self, avoided: Iterable[str] = ()) -> None:
        """Take ``avoided`` options into plans only where nothing else will do."""
        self._avoided = frozenset(avoided)
        self._found: dict[Any, Plan | None] = {}

    def clear(self) -> None:
        """Forget all: values have changed."""
        self._found.clear()

    def best(self, symbol: Any) -> Plan | None:
        """Return the best plan for an option; None if nothing turns it on."""
        self._reach(symbol)
        if not self._found[symbol]:
            return self._found[symbol]
        # What is wanted itself is not avoided.
        return self._best(self._ways(symbol, avoid=False))

    def _reach(self, symbol: Any) -> None:
        """Find plans for an option and all that may be needed for it."""
        waiting, found = [symbol], []
        while waiting:
            each = waiting.pop()
            if each in self._found:
                continue
            self._found[each] = frozenset() if each.tri_value == _ON else None
            if self._found[each] is None and not getattr(each, "is_constant", False):
                found.append((each, self._ways(each)))
                for condition, _ in found[-1][1]:
                    # In an order that is the same each time: of plans of one price, the first wins.
                    waiting.extend(sorted(kconfiglib.expr_items(condition), key=_label))
        changed = True
        while changed:
            changed = False
            for each, ways in found:
                plan = self._best(ways)
                if _price(plan) < _price(self._found[each]):
                    self._found[each] = plan
                    changed = True

    def _best(self, ways: list[tuple[Any, Plan]]) -> Plan | None:
        plans = [_joined(self._made_true(condition), steps) for condition, steps in ways]
        return min(plans, key=_price, default=None)

    def _made_true(self, expression: Any) -> Plan | None:
        """Return the plan that makes an expression true."""
        if not isinstance(expression, tuple):
            return self._found.get(expression)
        operator = expression[0]
        if operator == kconfiglib.AND:
            return _joined(self._made_true(expression[1]), self._made_true(expression[2]))
        if operator == kconfiglib.OR:
            return min(map(self._made_true, expression[1:]), key=_price)
        items = kconfiglib.expr_items(expression)
        constant = any(item.is_constant for item in items) or operator == kconfiglib.NOT
        if constant and kconfiglib.expr_value(expression) == _ON:
            return frozenset()
        _, left, *right = expression
        if operator == kconfiglib.EQUAL and not right[0].is_constant:
            return _joined(self._found.get(left), self._found.get(right[0]))
        on_by_equal = operator == kconfiglib.EQUAL and right[0].name in ("y", "m")
        on_by_other = operator == kconfiglib.UNEQUAL and right[0].name == "n"
        return self._found.get(left) if on_by_equal or on_by_other else None

    def _ways(self, item: Any, *, avoid: bool = True) -> list[tuple[Any, Plan]]:
        """Return how an option can come on: what must hold, and the steps besides."""
        prompts = [node.prompt[1] for node in item.nodes if node.prompt]
        if not isinstance(item, kconfiglib.Symbol):
            return [(condition, frozenset()) for condition in prompts]
        ways: list[tuple[Any, Plan]] = []
        # Of two that can be asked for, the one that brings fewer others.
        price = _ASKED + len(item.selects)
        if avoid and (item.name in self._avoided or _MAKES_DEVICES.search(item.name)):
            price += _AVOIDED
        ask = Step(item.name, price, asked=True)
        if item.name not in _NEVER_ASKED and item.type in (kconfiglib.BOOL, kconfiglib.TRISTATE):
            ways += [(condition, frozenset({ask})) for condition in prompts]
        if not prompts:
            if is_selectable(item) and not _CAPABILITY.match(item.name):
                dearer = ask._replace(price=price + _UNPROMPTED)
                ways.append((item.direct_dep, frozenset({dearer})))
            follows = frozenset({Step(item.name, _FOLLOWS, asked=False)})
            ways += [((kconfiglib.AND, *default), follows) for default in item.defaults]
        for selection in kconfiglib.split_expr(item.rev_dep, kconfiglib.OR):
            selector = kconfiglib.split_expr(selection, kconfiglib.AND)[0]
            price = _FOLLOWS + _distance(item, selector)
            ways.append((selection, frozenset({Step(item.name, price, asked=False)})))
        return ways


def is_selectable(symbol: Any) -> bool:
    """Tell whether an option has no prompt, and comes on when another one selects it."""
    prompted = any(node.prompt for node in symbol.nodes)
    selected = symbol.rev_dep is not symbol.kconfig.n
    switch = symbol.type in (kconfiglib.BOOL, kconfiglib.TRISTATE)
    return bool(symbol.nodes) and switch and selected and not prompted


def _label(item: Any) -> str:
    return item.name or str(item.nodes[0].linenr)


def _joined(one: Plan | None, other: Plan | None) -> Plan | None:
    if one is None or other is None or len(one) + len(other) > _LONGEST:
        return None
    return one | other


def _price(plan: Plan | None) -> float:
    return _NEVER if plan is None else sum(step.price for step in plan)


def _distance(item: Any, selector: Any) -> int:
    """Return the price of an option's being selected from another part of the kernel."""
    if not isinstance(selector, kconfiglib.Symbol):
        return 0
    here, there = ({_part(node) for node in each.nodes} for each in (item, selector))
    return _ELSEWHERE if here.isdisjoint(there) else 0


def _part(node: Any) -> str:
    return "/".join(Path(node.filename).parent.parts[:2])
