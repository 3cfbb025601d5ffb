# SPDX-License-Identifier: Apache-2.0
"""The sources of a driver: which files a build of it takes, and a private copy of them.

Drivers include headers of directories beside their own (``-I$(PWD)/../include``),
so a copy holds what the driver's files refer to as well, in the same places
relative to each other.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.untrusted import read_bytes, read_text

_ARTEFACTS = re.compile(
    r".*\.(?:ko|mod|mod\.[co]|o\.cmd|ko\.cmd|o\.d|order|symvers)\Z|\..*\.cmd\Z|Module\.symvers\Z"
)
# Files that no build reads: editing one must not make another build.
_NOT_SOURCES = frozenset(
    {".md", ".rst", ".yaml", ".yml", ".prog", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".pdf"}
)
_MAKEFILES = re.compile(r"(?:GNU)?[Mm]akefile.*|Kbuild.*|dkms\.conf|.*\.(?:mk|in)\Z")
_CODE = frozenset({".c", ".h", ".S", ".inc"})
# Files that a build reads in directories beside the driver's own.
_OUTSIDE = _CODE | {
    ".asm",
    ".s",
    ".o_shipped",
    ".mk",
    ".in",
    ".sh",
    ".py",
    ".pl",
    ".awk",
    ".conf",
    "",
}
_UPWARD = re.compile(r"(?:(?<![\w.])|(?<=-I))(?:\.\./)*\.\.(?:/[\w.+-]+)*/?(?![\w.])")
# What a Makefile names below a directory that it found by going up: -I$(TOP)/include.
_BELOW = re.compile(r"(?<=[)}])/(\w[\w+-]*(?:/\w[\w+-]*)*)(?![\w.$])")
_DEFINITION_LIMIT = 1 << 20
# Without a repository around it, a driver is not expected to refer further up than this.
_MOST_LEVELS = 3
_MOST_FILES, _MOST_BYTES, _LARGEST = 20_000, 512 << 20, 32 << 20


@dataclass(frozen=True, slots=True)
class DriverTree:
    """The files of a driver: ``files`` below ``root``, of which ``directory`` is its own.

    Paths are absolute. ``root`` is ``directory`` itself, or a directory above it.
    """

    root: Path
    directory: Path
    files: tuple[Path, ...]

    def content(self) -> Iterator[bytes]:
        """Yield what identifies the tree: where the driver is in it, names and bytes of files.

        Raises:
            BadInputError: a file cannot be read.
        """
        yield os.fsencode(self.directory.relative_to(self.root))
        for file in self.files:
            yield os.fsencode(file.relative_to(self.root))
            with _telling(file):
                yield read_bytes(file)

    def copy(self, to: Path) -> Path:
        """Copy the files to an empty directory; return the driver's own directory in the copy.

        Raises:
            BadInputError: a file cannot be read.
        """
        for file in self.files:
            copy = to / file.relative_to(self.root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with _telling(file):
                content, mode = read_bytes(file), file.stat().st_mode
            copy.write_bytes(content)
            copy.chmod(0o755 if mode & 0o111 else 0o644)
        place = to / self.directory.relative_to(self.root)
        place.mkdir(parents=True, exist_ok=True)
        return place


@contextlib.contextmanager
def _telling(file: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInputError(f"{file}: {error.strerror}") from error


def read_tree(directory: Path, *, whole: bool = False) -> DriverTree:
    """Return a driver's files and those they refer to; with ``whole``, all of its repository.

    Links that lead out of the tree, and what an earlier build left, are no part of it.

    Raises:
        BadInputError: the directory cannot be read, or holds too much to be a driver's.
    """
    directory = directory.resolve()
    refuse_home(directory)
    top = _top(directory)
    own = _files_below(top if whole else directory, top)
    files = dict.fromkeys(own)
    if not whole:
        _add_referred(files, directory, top)
    root = directory
    while not all(file.is_relative_to(root) for file in files):
        root = root.parent
    _check_size(directory, list(files))
    return DriverTree(root, directory, tuple(sorted(files)))


def refuse_home(directory: Path) -> None:
    """Refuse a directory with a home directory in it as that of a driver.

    None of a user's other files may come near a stranger's Makefile.

    Raises:
        BadInputError: it has one in it, or is one.
    """
    if _is_above_home(directory.resolve()):
        raise BadInputError(
            f"{directory} is a home directory, or has one in it. Give the driver's own directory"
        )


def repository_of(directory: Path) -> Path | None:
    """Return the nearest directory, of this one and those above, that is a git repository.

    A home directory is none, even if its owner keeps it in one.
    """
    for place in (directory.resolve(), *directory.resolve().parents):
        if _is_above_home(place):
            return None
        if (place / ".git").exists():
            return place
    return None


def _is_above_home(directory: Path) -> bool:
    return Path.home().resolve().is_relative_to(directory)


def _top(directory: Path) -> Path:
    """Return the highest directory that a driver may refer to."""
    repository = repository_of(directory)
    if repository is not None:
        return repository
    top = directory
    for parent in list(directory.parents)[:_MOST_LEVELS]:
        if parent == parent.parent or _is_above_home(parent):
            break
        top = parent
    return top


def _files_below(
    directory: Path, top: Path, *, recursive: bool = True, linked: bool = True
) -> list[Path]:
    found: list[Path] = []
    pending = [directory]
    try:
        while pending:
            for entry in sorted(pending.pop().iterdir()):
                if entry.is_dir() and not entry.is_symlink():
                    if recursive and not entry.name.startswith("."):
                        pending.append(entry)
                elif entry.is_dir():
                    if recursive and linked:
                        found += _linked_files(entry, top)
                elif _is_source(entry, top):
                    found.append(entry)
                if len(found) > _MOST_FILES:
                    raise _too_large(directory)
    except OSError as error:
        raise BadInputError(f"{directory}: {error.strerror}") from error
    return found


def _linked_files(link: Path, top: Path) -> list[Path]:
    """Return what a build reads of a directory that is linked to, by paths through the link.

    Links in it are not followed, nor is one to a directory around it or to too much.
    """
    target = link.resolve()
    if not target.is_relative_to(top) or link.parent.resolve().is_relative_to(target):
        return []
    with contextlib.suppress(BadInputError):
        return [file for file in _files_below(link, top, linked=False) if file.suffix in _OUTSIDE]
    return []


def _is_source(path: Path, top: Path) -> bool:
    if _ARTEFACTS.match(path.name) or path.suffix in _NOT_SOURCES or not path.is_file():
        return False
    if path.is_symlink() and not path.resolve().is_relative_to(top):
        return False
    if path.suffix == ".o":
        # An object that somebody ships is a source, one that was made here is not.
        return not any(path.with_suffix(suffix).exists() for suffix in (".c", ".S"))
    return True


def _add_referred(files: dict[Path, None], directory: Path, top: Path) -> None:
    """Add the files outside of ``directory`` that files refer to, and those that these do."""
    pending = list(files)
    while pending:
        file = pending.pop()
        for path in _referred_by(file, directory, top):
            if path not in files and len(files) < _MOST_FILES:
                files[path] = None
                pending.append(path)


def _referred_by(file: Path, directory: Path, top: Path) -> Iterator[Path]:
    if not (_MAKEFILES.match(file.name) or file.suffix in _CODE):
        return
    try:
        if file.stat().st_size > _DEFINITION_LIMIT:
            return
        text = read_text(file, errors="replace")
    except OSError:
        return
    below = {match[1] for match in _BELOW.finditer(text)} if _MAKEFILES.match(file.name) else set()
    for reference in sorted({match[0] for match in _UPWARD.finditer(text)}):
        for base in dict.fromkeys((file.parent, directory)):
            path = Path(base, reference).resolve()
            if path.is_relative_to(top) and not path.is_relative_to(directory):
                yield from _outside_files(path, directory, top)
                places = (path / name for name in sorted(below) if directory.is_relative_to(path))
                for place in filter(Path.is_dir, places):
                    if place.resolve() == place and not directory.is_relative_to(place):
                        yield from _outside_files(place, directory, top)


def _outside_files(path: Path, directory: Path, top: Path) -> Iterator[Path]:
    if path.is_dir():
        if directory.is_relative_to(path):
            # Below a directory above the driver there may be anything.
            for file in _files_below(path, top, recursive=False):
                if file.suffix in _CODE or _MAKEFILES.match(file.name):
                    yield file
            return
        yield from (file for file in _files_below(path, top) if file.suffix in _OUTSIDE)
    elif path.is_file() and _is_source(path, top):
        yield path


def _check_size(directory: Path, files: list[Path]) -> None:
    sizes = [file.stat().st_size for file in files]
    if len(files) > _MOST_FILES or sum(sizes) > _MOST_BYTES or max(sizes, default=0) > _LARGEST:
        raise _too_large(directory)


def _too_large(directory: Path) -> BadInputError:
    return BadInputError(
        f"{directory} holds more than a driver's sources ({_MOST_FILES:,} files, "
        f"{_MOST_BYTES >> 20} MiB, {_LARGEST >> 20} MiB in one file at most). "
        "Give the driver's own directory"
    )
