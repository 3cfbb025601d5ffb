# SPDX-License-Identifier: Apache-2.0
"""A corpus on disk: a working directory's, or any directory of programs in wire form."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fuzzer.atomic import sync_files, write_whole
from fuzzer.campaign.workdir import Workdir, program_name
from fuzzer.checked import read_json
from fuzzer.engine.import_queue import import_directory, queued_names, tried_file
from fuzzer.engine.statistics import read_statistics
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.channel_layout import PROGRAM_SIZE
from fuzzer.program.ops import OPERATIONS
from fuzzer.program.text import load_program
from fuzzer.program.wire import decode, encode, split
from fuzzer.target.target import Target
from fuzzer.untrusted import read_bytes, regular_names

# Bytes of the longest program of a campaign.
MAX_SIZE = PROGRAM_SIZE // 8
# Suffixes of the directories beside a corpus while it is replaced, and after that.
_BESIDE = ("new", "old")
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2


@dataclass(frozen=True, slots=True)
class Coverage:
    """The measured coverage of a corpus: ``covered`` of ``blocks`` blocks."""

    covered: int
    blocks: int


@dataclass(frozen=True, slots=True)
class _Noted:
    """A measured coverage as it is stored, with a hash of the programs' names."""

    programs: str
    covered: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Corpus:
    """The programs in a directory; ``workdir`` is that of the campaign they belong to, if any."""

    directory: Path
    workdir: Workdir | None = None

    def names(self) -> set[str]:
        """Return the names of all programs, those in the import queue as well."""
        found = set(regular_names(self.directory))
        return found | queued_names(self.workdir.root) if self.workdir else found

    def queued(self) -> int:
        """Return how many programs are in the import queue only."""
        if self.workdir is None:
            return 0
        return len(queued_names(self.workdir.root) - set(os.listdir(self.directory)))  # noqa: PTH208

    def read(self, name: str) -> bytes | None:
        """Return a program, or None if it has just gone."""
        places = [self.directory]
        if self.workdir:
            places.append(import_directory(self.workdir.root))
        for place in places:
            with contextlib.suppress(FileNotFoundError):
                return read_bytes(place / name, within=place, limit=PROGRAM_SIZE)
        return None

    def programs(self) -> dict[str, bytes]:
        """Return all programs by name, in the order of their names."""
        found = ((name, self.read(name)) for name in sorted(self.names()))
        return {name: program for name, program in found if program}

    def find(self, name: str) -> bytes:
        """Return the program whose name begins with ``name``.

        Raises:
            BadInputError: there is none, or more than one.
        """
        matches = sorted(each for each in self.names() if each.startswith(name))
        program = self.read(matches[0]) if len(matches) == 1 else None
        if program is None:
            number = f"{len(matches)} programs begin" if matches else "no program begins"
            raise BadInputError(f"{self.directory}: {number} with {name!r}")
        return program

    def add(self, program: bytes) -> bool:
        """Add a program under the name that libFuzzer would give it; tell whether it is new."""
        name = program_name(program)
        path = self.directory / name
        if path.exists() or (
            self.workdir and (import_directory(self.workdir.root) / name).exists()
        ):
            return False
        write_whole(path, program)
        return True

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep campaigns from using the corpus meanwhile.

        Raises:
            BadInputError: one is running.
        """
        with self.workdir.locked() if self.workdir else contextlib.nullcontext():
            yield

    def check_target(self, target: Target) -> None:
        """Refuse a corpus that belongs to another target.

        Raises:
            BadInputError: it does.
        """
        found = self._identity().get("target", target.name)
        if found != target.name:
            raise BadInputError(
                f"{self.directory} belongs to a campaign against {found}, not {target.name}. "
                "Give its description with --target"
            )

    @property
    def bug(self) -> str | None:
        """The planted bug of the campaign."""
        return self._identity().get("bug")

    def _identity(self) -> dict[str, str | None]:
        if self.workdir is None:
            return {}
        try:
            return read_json(self.workdir.root / "campaign.json", dict[str, Any])
        except (OSError, ValueError):
            return {}

    def replace(self, programs: Iterable[bytes]) -> Path:
        """Replace all programs by these; return the directory with the old ones.

        The last step swaps the directories; a failure before that leaves the old corpus
        as it was.
        """
        new, old = (self.directory.with_name(f"{self.directory.name}.{end}") for end in _BESIDE)
        shutil.rmtree(new, ignore_errors=True)
        try:
            new.mkdir()
            for program in programs:
                (new / program_name(program)).write_bytes(program)
            sync_files(new)
            if self.workdir:
                # Queued programs are part of the corpus that becomes the old one.
                self._empty_queue()
            shutil.rmtree(old, ignore_errors=True)
            # The new directory takes the old one's later name, so that the swap is the last step.
            new.rename(old)
            _exchange(self.directory, old)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return old

    def _empty_queue(self) -> None:
        assert self.workdir
        queue = import_directory(self.workdir.root)
        for name in queued_names(self.workdir.root):
            (queue / name).rename(self.directory / name)
        if queue.exists():
            queue.rmdir()
        tried_file(self.workdir.root).unlink(missing_ok=True)

    def note(self, coverage: Coverage) -> None:
        """Store the measured coverage of the present programs."""
        if self.workdir:
            record = {"programs": self._digest(), **asdict(coverage)}
            write_whole(self.workdir.root / "corpus.json", json.dumps(record) + "\n")

    def coverage(self) -> Coverage | None:
        """Return the measured coverage of the present programs, None if it is not known."""
        if self.workdir is None:
            return None
        with contextlib.suppress(OSError, ValueError):
            record = read_json(self.workdir.root / "corpus.json", _Noted)
            if record.programs == self._digest():
                return Coverage(record.covered, record.blocks)
        return None

    def covered_now(self) -> int | None:
        """Return the number of blocks that a running campaign has covered, None if none runs."""
        covered: set[int] = set()
        for path in self.workdir.root.glob("worker-*.stats") if self.workdir else ():
            with contextlib.suppress(OSError):
                covered |= read_statistics(path)[1]
        return len(covered) or None

    def _digest(self) -> str:
        return hashlib.sha256("".join(sorted(self.names())).encode()).hexdigest()


def open_corpus(path: Path) -> Corpus:
    """Return the corpus of a working directory, or of a directory of programs.

    Raises:
        BadInputError: it is neither.
    """
    if not path.is_dir():
        raise BadInputError(f"{path}: no such directory")
    if (path / "corpus").is_dir():
        return Corpus(path / "corpus", Workdir(path))
    root = path.absolute().parent
    if path.name == "corpus" and (root / "campaign.json").is_file():
        return Corpus(path, Workdir(root))
    if any(path.glob("*.prog")):
        raise BadInputError(
            f"{path}: holds programs as text. Put them into a corpus with: corpus import"
        )
    return Corpus(path)


def read_program(path: Path, target: Target) -> bytes:
    """Return the wire form of a program from a file, text if it is named ``.prog``.

    Raises:
        BadInputError: it is not a program, or too long for a campaign.
    """
    program = encode(load_program(path, target))
    if path.suffix != ".prog":
        data = read_bytes(path)
        if program != data:
            raise BadInputError(f"{path}: not a program in wire form (text must be named .prog)")
    if not program:
        raise BadInputError(f"{path}: no calls")
    if len(program) > MAX_SIZE:
        raise BadInputError(f"{path}: {len(program)} bytes in wire form, at most {MAX_SIZE} fit")
    return program


def operations(program: bytes) -> list[str]:
    """Return the names of a program's operations, each once, in the order of their first use."""
    return list(dict.fromkeys(OPERATIONS[call.op].name for call in decode(program)))


def n_calls(program: bytes) -> int:
    """Return the number of calls of a program."""
    return len(split(program))


def _exchange(one: Path, other: Path) -> None:
    """Swap two directories at once, where the file system can; otherwise in two steps."""
    renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    paths = (os.fsencode(one), os.fsencode(other))
    if renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], _RENAME_EXCHANGE) == 0:
        return
    aside = one.with_name(f"{one.name}.swap")
    try:
        one.rename(aside)
        other.rename(one)
        aside.rename(other)
    except OSError as error:
        raise InfrastructureError(
            f"swapping {one} and {other}: {error.strerror}. The old programs are in one of "
            f"them, or in {aside}"
        ) from error
