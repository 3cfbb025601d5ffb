# SPDX-License-Identifier: Apache-2.0
"""The options that a kernel must have for a driver whose build failed for lack of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from fuzzer.kernel.kernel import Kernel, flavour_requests
from fuzzer.kernel.needs.complaints import Complaints, read_complaints, read_dependencies
from fuzzer.kernel.needs.conditions import (
    ALWAYS,
    Alternatives,
    BuildCondition,
    only,
    parse_dependency,
)
from fuzzer.kernel.needs.headers import SourceHeaders
from fuzzer.kernel.needs.kconfig import OptionTree
from fuzzer.kernel.needs.symbols import Export, SourceSymbols
from fuzzer.kernel.source import whole_source

# Longer ones say nothing to a reader.
_LONGEST_EXPRESSION = 160


# Functions that take a file of a kind that programs can only create where an option is on.
_MAKERS = {"dma_buf_get": "UDMABUF"}


@dataclass(frozen=True, slots=True)
class Unexplained:
    """Something that a build did not find and that no option brings, with the reason."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Needs:
    """The options that a driver needs of a kernel.

    ``options`` (``NAME=y``, sorted) are to be asked for on top of the kernel's
    own: as few as will do, those that they depend on included.
    """

    options: tuple[str, ...]
    unexplained: tuple[Unexplained, ...] = ()


def needed_options(
    output: str, kernel: Kernel, kconfig: str = "", unlinked: Collection[str] = ()
) -> Needs:
    """Return what a failed build of a driver says that it needs of the kernel it was built with.

    ``output`` is all that make, gcc and modpost printed, in the C locale. ``kconfig`` is
    the text of the driver's own Kconfig, if it has one: what it depends on and
    selects is needed as well. ``unlinked`` are the symbols that its objects are without: that
    is not told where one that does not compile prevents linking.
    It takes seconds, and a minute at most the first time for a source.

    Raises:
        InfrastructureError: the kernel's source cannot be read.
    """
    complaints = read_complaints(output)
    if complaints == Complaints() and not kconfig and not unlinked:
        return Needs(())
    search = _Search(kernel)
    search.depend(read_dependencies(kconfig))
    search.link(complaints.symbols)
    search.link(sorted(set(unlinked) - set(complaints.symbols)), told=False)
    search.compile(complaints)
    search.tell(complaints)
    return search.result()


def options_that_build(name: str, alternatives: Alternatives, kernel: Kernel) -> Needs:
    """Return what builds a part of the kernel's own tree in, which is built under a condition.

    Raises:
        InfrastructureError: the kernel's Kconfig files cannot be read.
    """
    search = _Search(kernel)
    search.build(name, alternatives)
    return search.result()


class _Search:
    """Search for options: those wanted of a kernel so far, and reasons for those it cannot have."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        avoided = (name.removeprefix("CONFIG_") for name in flavour_requests(kernel.flavour))
        self._options = OptionTree(
            whole_source(kernel.source), kernel.directory / ".config", avoided
        )
        # Wanted options, each with what it is wanted for.
        self._wanted: dict[str, str] = {}
        self._reasons: dict[str, str] = {}

    def result(self) -> Needs:
        asked, lost = self._options.settle(self._wanted)
        for option in sorted(lost):
            self._reasons.setdefault(self._wanted[option], self._refused(option))
        unexplained = (Unexplained(name, why) for name, why in sorted(self._reasons.items()))
        return Needs(tuple(f"{option}=y" for option in sorted(asked)), tuple(unexplained))

    def depend(self, expressions: Sequence[str]) -> None:
        """Want what a driver's own Kconfig depends on; its own options are none of the kernel's."""
        for expression in expressions:
            known = tuple(
                frozenset(term for term in condition if self._options.known(term.option))
                for condition in parse_dependency(expression)
            )
            if known and not any(map(self._fulfilled, known)):
                self._choose(expression, known, "the driver's Kconfig names it")

    def build(self, name: str, alternatives: Alternatives) -> None:
        """Want what builds a part of the tree in, unless it is built in."""
        if not any(map(self._fulfilled, alternatives)):
            self._choose(name, alternatives, "its Makefile builds it under a condition")

    def link(self, symbols: Sequence[str], *, told: bool = True) -> None:
        """Want what exports the symbols; say why not if the build ``told`` of them."""
        if not symbols:
            return
        for symbol, export in (
            SourceSymbols(whole_source(self._kernel.source)).exports(symbols).items()
        ):
            if export.files:
                self._choose(symbol, export.conditions, f"{export.files[0]} exports it")
            else:
                self._reasons[symbol] = self._not_exported(export)
            if not told:
                self._reasons.pop(symbol, None)
            maker = _MAKERS.get(symbol)
            if maker and not self._options.builtin(maker) and self._options.plan(maker):
                self._wanted.setdefault(maker, symbol)

    def compile(self, complaints: Complaints) -> None:
        """Want what makes the headers declare what is missing."""
        headers = SourceHeaders(whole_source(self._kernel.source))
        declared = headers.names(complaints.names)
        for name in complaints.names:
            option = name.removeprefix("CONFIG_")
            if option != name and self._options.known(option):
                self._choose(name, only(option), f"it is the option {option}")
            elif name not in declared:
                self._reasons[name] = f"no header of {self._release()} declares it"
            else:
                self._see(name, declared[name], "declares it")
        bodies = headers.tags(complaints.tags)
        for tag in complaints.tags:
            if tag in bodies:
                self._see(f"struct {tag}", bodies[tag], "has it")
            else:
                self._reasons[f"struct {tag}"] = f"no header of {self._release()} has it"
        members = headers.members(complaints.members)
        for tag, member in complaints.members:
            name = f"{tag}.{member}"
            if (tag, member) in members:
                self._see(name, members[tag, member], "has it")
            else:
                self._reasons[name] = f"struct {tag} of {self._release()} has no such member"

    def tell(self, complaints: Complaints) -> None:
        """Want what ``#error`` asks for, and take note of what is no matter of options."""
        for error, place in complaints.errors:
            words = re.findall(r"\b(?:CONFIG_)?([A-Z][A-Z0-9_]{2,})\b", error)
            # include/acpi complains of being read without ACPI, and does not name it.
            options = sorted(
                {word for word in (*words, place.upper()) if self._options.known(word)}
            )
            missing = [option for option in options if not self._options.builtin(option)]
            for option in missing:
                self._choose(f"#error {error}", only(option), "it names an option")
            if not missing:
                self._reasons[f"#error {error}"] = "it names no option that this kernel is without"
        for header in complaints.headers:
            there = SourceHeaders(whole_source(self._kernel.source)).has(header)
            self._reasons[header] = (
                "the kernel's source has it, and this build has not"
                if there
                else f"{self._release()} has no such header"
            )
        for symbol in complaints.licences:
            self._reasons[symbol] = "it is exported to modules of a GPL licence alone"
        for symbol, namespace in complaints.namespaces:
            self._reasons[symbol] = f"the driver does not MODULE_IMPORT_NS({namespace})"

    def _see(self, name: str, declared: Alternatives, what: str) -> None:
        if declared == ALWAYS:
            self._reasons[name] = "a header has it that the driver does not include there"
        else:
            self._choose(name, declared, f"a header {what}")

    def _choose(self, name: str, alternatives: Alternatives, where: str) -> None:
        """Want the alternative that takes least beyond what is wanted already."""
        if any(self._fulfilled(condition) for condition in alternatives):
            self._reasons[name] = f"{where}, and this kernel has all that it takes"
            return
        possible = []
        for condition in alternatives:
            if (price := self._price(condition)) is not None:
                possible.append((price, sorted(condition), condition))
        if possible:
            best = min(possible, key=lambda each: each[:2])[2]
            self._wanted |= {term.option: name for term in sorted(best) if term.on}
        elif alternatives:
            self._reasons[name] = f"{where}; {self._impossible(alternatives[0])}"
        else:
            self._reasons[name] = f"{where}, which is not built for this machine"

    def _fulfilled(self, condition: BuildCondition) -> bool:
        return all(
            self._options.builtin(term.option) if term.on else not self._options.on(term.option)
            for term in condition
        )

    def _price(self, condition: BuildCondition) -> int | None:
        """Return how many options a condition takes that nothing else asks for."""
        asked: set[str] = set()
        for term in condition:
            if not term.on:
                if self._options.on(term.option):
                    return None
                continue
            plan = self._options.plan(term.option)
            if plan is None:
                return None
            asked |= plan
        return len(asked - self._wanted.keys())

    def _impossible(self, condition: BuildCondition) -> str:
        for term in sorted(condition):
            if not term.on and self._options.on(term.option):
                return f"that needs a kernel without {term.option}"
            if term.on and self._options.plan(term.option) is None:
                return self._refused(term.option)
        return "that cannot be configured"

    def _refused(self, option: str) -> str:
        if not self._options.known(option):
            return f"{self._release()} has no option {option}"
        if self._options.module_only(option):
            return f"{option} can only be a module, which would have to be loaded before"
        needed = self._options.dependencies(option)
        if len(needed) > _LONGEST_EXPRESSION:
            needed = f"{needed[:_LONGEST_EXPRESSION]}..."
        return f"{option} cannot be built in here; it depends on {needed}"

    def _not_exported(self, export: Export) -> str:
        if export.defined_in:
            return f"not exported by this kernel: {export.defined_in} has it for the kernel alone"
        return f"{self._release()} has no such symbol"

    def _release(self) -> str:
        return f"Linux {self._kernel.release() or 'as it is here'}"
