# SPDX-License-Identifier: Apache-2.0
"""The documents against the project: their commands parse, and what they name is there."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from fuzzer.cli.commands import BY_NAME, COMMANDS
from fuzzer.cli.parser import PROGRAM, build_parser, join_command
from fuzzer.cli.reference import ENVIRONMENT
from fuzzer.driver.driver import find_bug
from fuzzer.errors import PkvfuzzError
from fuzzer.paths import project_root
from fuzzer.target.target import load_target

ROOT = project_root()
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "module").glob("*.md"),
        ROOT / "crashes" / "README.md",
        ROOT / "fuzzer" / "splat" / "README.md",
    ]
)
# The others are parts of the checkout; what a reader makes in it is not looked for.
_TOP = ("fuzzer", "vm", "module", "seeds", "crashes", "tests", "docs")
# Words that stand for something: NAME, ..., <slug>, path/to/driver.
_ILLUSTRATIVE = re.compile(r"[A-Z]{2,}|\.\.\.|[<{*$]")
_FENCE = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# As it is typed: behind a prompt, a pipe or a variable, or at the start.
_TYPED = re.compile(rf"(?:^|[$|] |\w=\S* )(?:\./)?{PROGRAM} (?P<words>[a-z].*)")
_OPTION = re.compile(r"--[a-z][a-z-]*")
# The openings of a docstring that asks instead of saying what something is or does.
_QUESTION = re.compile(r"\s*(What|Which|Whose|Who|How|Where|When|Why|Whether)\b")
# Options of other programs that the documents name.
_FOREIGN = frozenset({"--strict"})


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command line of a document: where it is, and its words behind the program's name."""

    line: int
    words: tuple[str, ...]


def _blocks(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a document that are shown as they are, with their numbers."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield number, line.strip()


def command_lines(text: str) -> list[CommandLine]:
    """Return the command lines that a document shows, without what is not the command's."""
    found = []
    for number, line in _blocks(text):
        if match := _TYPED.search(line):
            words = shlex.split(re.split(r" [|<>&]|<<", match["words"])[0], comments=True)
            found.append(CommandLine(number, tuple(words)))
    return found


def spans(text: str) -> list[str]:
    """Return what stands between backquotes, outside of blocks."""
    return _SPAN.findall(_FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """Return the names by which a document's headings are linked to."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(text))
    return {heading.strip().replace(" ", "-") for heading in plain}


def is_missing(word: str) -> bool:
    """Return whether a word names a file of the checkout that is not there."""
    path = word.rstrip("/,.").removeprefix("./")
    if path.split("/")[0] not in _TOP or _ILLUSTRATIVE.search(path) or "/" not in path:
        return False
    return not (ROOT / path).exists()


@cache
def options_of(name: str) -> frozenset[str]:
    """Return the options of a command."""
    parser = argparse.ArgumentParser()
    BY_NAME[name].add_options(parser)
    return frozenset(o for action in parser._actions for o in action.option_strings)


@cache
def all_options() -> frozenset[str]:
    """Return the options of all commands."""
    return frozenset().union(*(options_of(command.name) for command in COMMANDS), {"--version"})


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.fixture(params=DOCUMENTS, ids=_name)
def document(request: pytest.FixtureRequest) -> Path:
    """Return each document in turn."""
    path: Path = request.param
    return path


def test_a_command_line_parses(document: Path) -> None:
    target = load_target(ROOT / "module" / "pkv.yaml")
    for command in command_lines(document.read_text()):
        where = f"{_name(document)}:{command.line}: {' '.join(command.words)}"
        words = join_command(command.words)
        try:
            options = build_parser(words[:1]).parse_args(words)
            bugs = getattr(options, "bug", None) or []
            for bug in [bugs] if isinstance(bugs, str) else bugs:
                if not _ILLUSTRATIVE.search(bug):
                    find_bug(target, bug)
        except PkvfuzzError as error:
            pytest.fail(f"{where}: {error}")
        assert not [word for word in words if is_missing(word)], where


def test_an_option_that_is_named_exists(document: Path) -> None:
    for span in spans(document.read_text()):
        words = span.removeprefix("./").removeprefix(f"{PROGRAM} ").split()
        name = join_command(words)[0] if words else ""
        known = options_of(name) | {"--help"} if name in BY_NAME else all_options()
        named = set(_OPTION.findall(span)) - _FOREIGN
        if name in BY_NAME or span.startswith("--"):
            assert named <= known, f"{_name(document)}: `{span}`: {named - known}"


def test_a_link_leads_somewhere(document: Path) -> None:
    for link in _LINK.findall(document.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (document.parent / path).resolve() if path else document
        assert there.exists(), f"{_name(document)}: {link}"
        if anchor:
            assert anchor in anchors(there.read_text()), f"{_name(document)}: {link}"


def test_a_file_that_is_named_exists(document: Path) -> None:
    named = [word for span in spans(document.read_text()) for word in span.split()]
    assert not [word for word in named if is_missing(word)], _name(document)


def test_each_document_of_docs_is_linked_from_the_readme() -> None:
    linked = {
        ROOT / link.partition("#")[0] for link in _LINK.findall((ROOT / "README.md").read_text())
    }
    assert {path for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")} <= linked


def test_each_command_is_in_the_reference() -> None:
    rows = re.findall(r"^\| `([^`]+)`", (ROOT / "docs" / "reference.md").read_text(), re.MULTILINE)
    listed = {join_command(row.split())[0] for row in rows}
    # Those of two words that a row of the first one tells of.
    told = {"corpus show", "corpus merge", "corpus minimize", "corpus export", "corpus import"}
    assert set(BY_NAME) <= listed | told


def test_the_reference_has_each_exit_code_and_each_variable() -> None:
    text = (ROOT / "docs" / "reference.md").read_text()
    codes = {code for command in COMMANDS for code in command.exit_codes}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)} == codes
    assert set(re.findall(r"^\| `(PKVFUZZ_\w+)`", text, re.MULTILINE)) == set(ENVIRONMENT)


def test_a_message_that_names_a_document_names_one_that_exists() -> None:
    for path in (ROOT / "fuzzer").rglob("*.py"):
        for name in re.findall(r"docs/[\w/-]+\.(?:md|1)\b", path.read_text()):
            assert (ROOT / name).is_file(), f"{_name(path)}: {name}"


def test_the_architecture_has_each_file_of_the_executor() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text[text.index("## The executor") :].split("\n## ")[0]
    there = {path.name for path in (ROOT / "vm" / "executor").glob("*.c")}
    assert set(re.findall(r"`(\w+\.c)`", section)) == there


def _packages() -> list[str]:
    """Return the packages in the order in which the architecture lists them."""
    text = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| `fuzzer/(\w+)` \|", text, re.MULTILINE)


def test_the_architecture_has_each_package() -> None:
    there = {path.parent.name for path in (ROOT / "fuzzer").glob("*/__init__.py")}
    assert sorted(_packages()) == sorted(there)


def _imported(path: Path) -> Iterator[str]:
    """Yield the packages that a module imports from, also within functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("fuzzer."))


def test_imports_run_downwards_in_the_list_of_the_architecture() -> None:
    order = _packages()
    for at, package in enumerate(order):
        for path in (ROOT / "fuzzer" / package).rglob("*.py"):
            upwards = set(_imported(path)) & set(order[:at])
            assert not upwards, f"{_name(path)} imports {upwards}"


def test_command_lines_are_found_in_blocks_behind_a_prompt_and_with_a_comment() -> None:
    text = (
        "    $ ./pkvfuzz bugs  # those\n"
        "    pkvfuzz: a message\n"
        "```sh\n./pkvfuzz man | man -l -\n```\n"
        "    A=1 ./pkvfuzz test\n"
        "no ./pkvfuzz bugs here\n"
    )
    assert [found.words for found in command_lines(text)] == [("bugs",), ("man",), ("test",)]


@pytest.mark.parametrize(
    ("word", "missing"),
    [
        ("fuzzer/paths.py", False),
        ("./fuzzer/nowhere.py", True),
        ("fuzzer/nowhere/", True),
        ("module/bugs/NAME.prog", False),
        ("work/mydrv", False),
        ("tests", False),
    ],
)
def test_a_missing_file_is_one_of_the_checkout(word: str, missing: bool) -> None:
    assert is_missing(word) is missing


def test_a_heading_has_the_anchor_that_github_gives_it() -> None:
    text = "# One\n## The loop: `fuzzer/engine`\n### What `run` prints\n"
    assert anchors(text) == {"one", "the-loop-fuzzerengine", "what-run-prints"}


def _types(path: Path) -> Iterator[str]:
    """Yield the names of a module's public classes and of the types that it names."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name) and re.match(r"[A-Z]\w*[a-z]", target.id):
                    yield target.id


def test_a_name_of_a_class_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted((ROOT / "fuzzer").rglob("*.py")):
        for name in _types(path):
            places.setdefault(name, []).append(_name(path))
    assert not {name: where for name, where in places.items() if len(where) > 1}


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines and texts of a module's docstrings, those of its constants as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            for statement in node.body:
                value = statement.value if isinstance(statement, ast.Expr) else None
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield statement.lineno, value.value


def test_a_module_has_a_docstring() -> None:
    for path in (ROOT / "fuzzer").rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), _name(path)


@pytest.mark.parametrize("directory", ["fuzzer", "tests"])
def test_no_docstring_opens_with_an_embedded_question(directory: str) -> None:
    found = [
        f"{_name(path)}:{line}: {text.splitlines()[0]}"
        for path in (ROOT / directory).rglob("*.py")
        for line, text in _docstrings(path)
        if _QUESTION.match(text)
    ]
    assert not found
