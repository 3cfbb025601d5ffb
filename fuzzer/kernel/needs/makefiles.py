# SPDX-License-Identifier: Apache-2.0
"""Kbuild's Makefiles, and the conditions under which an object of the kernel is built."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fuzzer.kernel.needs.conditions import (
    ALWAYS,
    NEVER,
    Alternatives,
    both,
    either,
    only,
)

# Variables whose objects and directories are built; others are parts of an object.
_BUILT = frozenset({"obj", "lib", "core", "libs", "drivers", "net", "virt", "init"})
_ASSIGNMENT = re.compile(
    r"\s*((?:\$\((?:[^()]|\([^()]*\))*\)|[^\s:=+?#$])+)\s*(?:\+|:|::|\?)?=\s*(.*)"
)
_SUFFIXED = re.compile(r"(.+?)-(y|m|objs|\$\(.*CONFIG_\w+.*\))(?:-y)?$")
_CONDITIONAL = re.compile(r"\s*(ifdef|ifndef|ifeq|ifneq|else|endif)\b(.*)")
_VARIABLE = re.compile(r"\$[({]([\w.-]+?)(?:-(?:y|m|objs))?[)}]")
_DEEPEST = 12


@dataclass(frozen=True, slots=True)
class MakeAssignment:
    """Words that are added to a variable: objects, directories, other variables.

    ``stem`` is the variable without ``-y``, ``-objs`` or ``-$(CONFIG_X)``.
    ``directory`` is what the words are relative to.
    """

    directory: str
    stem: str
    condition: Alternatives
    words: tuple[str, ...]


@dataclass(slots=True)
class Makefiles:
    """The Makefiles of a kernel's tree, for one architecture, read as they are asked for."""

    tree: Path
    arch: str = "x86"
    _read: dict[str, tuple[MakeAssignment, ...]] = field(default_factory=dict)

    def rules(self, directory: str) -> tuple[MakeAssignment, ...]:
        """Return the rules of a directory, which is relative to the tree ("": its top)."""
        if directory not in self._read:
            found: list[MakeAssignment] = []
            for name in ("Kbuild", "Makefile"):
                path = self.tree / directory / name
                if path.is_file():
                    text = path.read_text(errors="replace")
                    text = text.replace("$(SRCARCH)", self.arch).replace("$(BITS)", "64")
                    # An architecture's own Makefile is a part of the one at the top.
                    top = directory == f"arch/{self.arch}" and name == "Makefile"
                    found.extend(_parse(text, "" if top else directory))
            self._read[directory] = tuple(found)
        return self._read[directory]

    def conditions(self, source: str) -> Alternatives:
        """Return the condition that builds a source file (relative to the tree), else NEVER."""
        return self._built(str(PurePosixPath(source).with_suffix(".o")), frozenset())

    def _built(self, path: str, seen: frozenset[str]) -> Alternatives:
        """Return what builds an object, or goes into a directory (whose name ends in ``/``)."""
        if path in seen or len(seen) > _DEEPEST:
            return NEVER
        found = NEVER
        for rule in self._rules_above(path):
            if path[len(rule.directory) :].lstrip("/") in rule.words:
                found = either(found, both(rule.condition, self._used(rule, seen | {path})))
        return found

    def _used(self, rule: MakeAssignment, seen: frozenset[str]) -> Alternatives:
        """Return when what a rule adds is built."""
        if rule.stem in _BUILT:
            return self._entered(rule.directory, seen)
        prefix = f"{rule.directory}/" if rule.directory else ""
        found = self._built(f"{prefix}{rule.stem}.o", seen)
        if f"${prefix}{rule.stem}" in seen:
            return found
        for other in self.rules(rule.directory):
            if any(rule.stem in _VARIABLE.findall(word) for word in other.words):
                used = self._used(other, seen | {f"${prefix}{rule.stem}"})
                found = either(found, both(other.condition, used))
        return found

    def _entered(self, directory: str, seen: frozenset[str]) -> Alternatives:
        return self._built(f"{directory}/", seen) if directory else ALWAYS

    def _rules_above(self, path: str) -> Iterator[MakeAssignment]:
        """Yield the rules of all directories that a path lies below, the nearest first."""
        for parent in PurePosixPath(path).parents:
            name = "" if str(parent) == "." else str(parent)
            for rule in self.rules(name):
                if not rule.directory or path.startswith(f"{rule.directory}/"):
                    yield rule

    def objects(self, config: Mapping[str, str]) -> frozenset[str]:
        """Return the objects that a kernel of that ``.config`` consists of, about."""
        found: set[str] = set()
        self._collect("", config, found, set())
        return frozenset(found)

    def _collect(
        self, directory: str, config: Mapping[str, str], found: set[str], entered: set[str]
    ) -> None:
        entered.add(directory)
        rules = [rule for rule in self.rules(directory) if holds(rule.condition, config)]
        if not directory:
            top = self.rules(f"arch/{self.arch}")
            rules += [each for each in top if not each.directory and holds(each.condition, config)]
        members: dict[str, list[str]] = {}
        for rule in rules:
            if rule.stem not in _BUILT:
                members.setdefault(rule.stem, []).extend(rule.words)
        prefix = f"{directory}/" if directory else ""

        def add(word: str, depth: int) -> None:
            if word.endswith("/"):
                path = f"{prefix}{word}".rstrip("/")
                if path not in entered and (self.tree / path).is_dir():
                    self._collect(path, config, found, entered)
                return
            variable = _VARIABLE.fullmatch(word)
            stem = variable[1] if variable else word.removesuffix(".o")
            if stem in members and depth < _DEEPEST:
                for member in members[stem]:
                    add(member, depth + 1)
            elif not variable and word.endswith(".o"):
                found.add(f"{prefix}{word}")

        for rule in rules:
            if rule.stem in _BUILT and rule.directory == directory:
                for word in rule.words:
                    add(word, 0)


def holds(alternatives: Alternatives, config: Mapping[str, str]) -> bool:
    """Tell whether a configuration fulfils one of the alternatives."""
    return any(
        all((config.get(f"CONFIG_{term.option}", "n") != "n") == term.on for term in condition)
        for condition in alternatives
    )


def _parse(text: str, directory: str) -> Iterator[MakeAssignment]:
    # One list for each conditional that is open: its branches, the present one last.
    stack: list[list[tuple[Alternatives, Alternatives]]] = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        if line.startswith("\t") and not _ASSIGNMENT.match(line):
            continue
        bare = line.split("#", 1)[0]
        if match := _CONDITIONAL.match(bare):
            _branch(stack, match[1], match[2])
        elif match := _ASSIGNMENT.match(bare):
            name, words = match[1], tuple(match[2].split())
            suffixed = _SUFFIXED.match(name)
            stem = suffixed[1] if suffixed else name
            option = re.search(r"CONFIG_(\w+)", suffixed[2]) if suffixed else None
            condition = both(only(option[1]) if option else ALWAYS, *map(_present, stack))
            if condition and words:
                yield MakeAssignment(directory, stem, condition, words)


def _present(branches: list[tuple[Alternatives, Alternatives]]) -> Alternatives:
    return both(*(fails for _, fails in branches[:-1]), branches[-1][0])


def _branch(
    stack: list[list[tuple[Alternatives, Alternatives]]], kind: str, arguments: str
) -> None:
    if kind == "endif":
        if stack:
            stack.pop()
    elif kind == "else":
        inner = _CONDITIONAL.match(arguments)
        if stack:
            stack[-1].append(_tested(inner[1], inner[2]) if inner else (ALWAYS, NEVER))
    else:
        stack.append([_tested(kind, arguments)])


def _tested(kind: str, arguments: str) -> tuple[Alternatives, Alternatives]:
    """Return when a make conditional holds, and when it fails."""
    options = re.findall(r"CONFIG_(\w+)", arguments)
    if not options:
        return ALWAYS, ALWAYS
    if kind in ("ifdef", "ifndef"):
        on = kind == "ifdef"
    else:
        values = re.search(r",\s*\"?(\w*)\"?\s*\)|[\"'](\w*)[\"']\s*$", arguments)
        value = (values[1] or values[2] or "") if values else ""
        on = (value in ("y", "m")) == (kind == "ifeq")
        if value not in ("y", "m", "n", ""):
            return ALWAYS, ALWAYS
    several = [only(option, on=on) for option in options]
    opposite = [only(option, on=not on) for option in options]
    # $(CONFIG_A)$(CONFIG_B) is one or the other.
    return (either(*several), both(*opposite)) if on else (both(*several), either(*opposite))
