# SPDX-License-Identifier: Apache-2.0
"""The directories of headers that a description may bring to a compiler's eyes.

A description, and the headers that it names, may be a stranger's: what they include is shown in
the compiler's messages. So the compiler runs in a sandbox, where it sees the description's own
tree, the directories of other headers that it names, and the system's.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.paths import cache_dir, project_root
from fuzzer.sandbox import Sandbox
from fuzzer.target.probe import CompilerRun
from fuzzer.tools import find_tool

# What programs and users keep to themselves, or what has no end.
_SYSTEM = tuple(
    map(Path, ("/boot", "/dev", "/etc", "/proc", "/root", "/run", "/srv", "/sys", "/var"))
)
_SECONDS = 60.0


def header_places(home: Path, directories: Iterable[Path]) -> tuple[Path, ...]:
    """Return what a compiler of headers sees: the tree of ``home``, and further directories.

    ``home`` is the description's directory.

    Raises:
        BadInputError: a further directory has what is not to be shown.
    """
    places = [_tree_of(home.resolve())]
    for directory in directories:
        place = directory.resolve()
        known = (*places, project_root(), cache_dir(), Path("/usr"))
        if not any(place.is_relative_to(each) for each in known) and is_private(place):
            raise BadInputError(
                f"{directory} has files of the system or of a user's own: headers in it are not "
                f"compiled for a description in {home}. Copy the header beside the description"
            )
        places.append(place)
    return tuple(dict.fromkeys(places))


def is_private(directory: Path) -> bool:
    """Tell whether a resolved directory may have files that none but their owner is to see."""
    return (
        _is_above_home(directory)
        or any(part.startswith(".") for part in directory.parts)
        or any(directory.is_relative_to(each) for each in _SYSTEM)
    )


def _tree_of(directory: Path) -> Path:
    """Return the git repository that a directory is in, or itself."""
    for place in (directory, *directory.parents):
        if not _is_above_home(place) and (place / ".git").exists():
            return place
    return directory


def _is_above_home(directory: Path) -> bool:
    return Path.home().resolve().is_relative_to(directory)


def header_compiler(places: Sequence[Path]) -> CompilerRun:
    """Return a runner of a compiler that sees these directories and the system's."""

    def run(
        command: Sequence[str], directory: Path, *, scratch: Path
    ) -> subprocess.CompletedProcess[bytes]:
        find_tool(command[0], "reading headers")
        sandbox = Sandbox(scratch, tuple(places), environment={"TMPDIR": str(scratch)})
        return sandbox.capture(command, directory, _SECONDS)

    return run
