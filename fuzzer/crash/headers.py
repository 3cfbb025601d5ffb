# SPDX-License-Identifier: Apache-2.0
"""The headers that a stored crash's program in C needs, as they are stored beside it.

They are the headers of the description and those that these include. Like a compiler, this
looks for them beside the including file, then in the directories of the headers and of
``include``. All are stored in one directory, whatever their paths were: an include with a
path, or in angle brackets, is rewritten.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.target.target import Target
from fuzzer.untrusted import CODE_SUFFIXES, open_regular

_INCLUDE = re.compile(
    rb'^(?P<start>[ \t]*#[ \t]*include[ \t]*)(?:"(?P<quoted>[^"\n]+)"|<(?P<angled>[^>\n]+)>)',
    re.MULTILINE,
)
_MOST_FILES, _MOST_BYTES = 256, 4 << 20


@dataclass(frozen=True, slots=True)
class StoredHeader:
    """A header, its name in the store, and its text with the includes rewritten to such names."""

    path: Path
    name: str
    text: bytes


def stored_headers(target: Target, taken: Container[str] = ()) -> tuple[StoredHeader, ...]:
    """Return a target's headers and the files that they include, as far as they can be read.

    ``taken`` are names of other files in the same directory.
    """
    found = _reachable(target)
    names = _names([*found], target.path.resolve().parent, taken)
    return tuple(
        StoredHeader(path, names[path], _rewritten(text, included, names))
        for path, (text, included) in found.items()
    )


def _reachable(target: Target) -> dict[Path, tuple[bytes, Mapping[bytes, Path]]]:
    """Return the text of each header, and the file of each of its includes."""
    headers = [*target.headers]
    directories = list(dict.fromkeys([*(path.parent for path in headers), *target.include]))
    found: dict[Path, tuple[bytes, Mapping[bytes, Path]]] = {}
    waiting = headers
    while waiting and len(found) < _MOST_FILES:
        path = waiting.pop(0)
        if path in found:
            continue
        try:
            with open_regular(path) as file:
                text = file.read(_MOST_BYTES)
        except OSError:
            # The file may have been removed since it was read: a crash is stored all the same.
            continue
        included = {}
        for match in _INCLUDE.finditer(text):
            places = [path.parent, *directories] if match["quoted"] else directories
            other = _find(match["quoted"] or match["angled"], places)
            if other is not None:
                included[match[0]] = other
                waiting.append(other)
        found[path] = (text, included)
    return found


def _find(name: bytes, places: Sequence[Path]) -> Path | None:
    """Return the first file of a name in some directories, if it is a file of code."""
    text = name.decode(errors="surrogateescape")
    for place in places:
        path = place / text
        try:
            if path.is_file():
                path = path.resolve()
                # A stranger's header may include any file of the host.
                return path if path.suffix in CODE_SUFFIXES else None
        except (OSError, ValueError, RuntimeError):
            continue
    return None


def _names(paths: Sequence[Path], home: Path, taken: Container[str]) -> dict[Path, str]:
    """Return a distinct name for each file; files in the directory ``home`` keep their names."""
    names: dict[Path, str] = {}
    used: set[str] = set()
    for path in sorted(paths, key=lambda path: path.parent != home):
        name, number = path.name, 1
        while name in used or name in taken:
            number += 1
            name = f"{path.stem}-{number}{path.suffix}"
        names[path] = name
        used.add(name)
    return names


def _rewritten(text: bytes, included: Mapping[bytes, Path], names: Mapping[Path, str]) -> bytes:
    def replace(match: re.Match[bytes]) -> bytes:
        path = included.get(match[0])
        if path is None or path not in names:
            return match[0]
        return match["start"] + b'"' + names[path].encode(errors="surrogateescape") + b'"'

    return _INCLUDE.sub(replace, text)
