# SPDX-License-Identifier: Apache-2.0
"""Files of the host that are put into a guest.

Their bytes travel behind those of a shell that the executor is given to run: it
copies the end of its own file to where it is wanted.
"""

from __future__ import annotations

import functools
import posixpath
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.channel_layout import BULK_SIZE
from fuzzer.machine.machine import Execution, Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.tools import find_tool

GUEST_TMP = "/tmp"  # noqa: S108
"""The directory for files in a guest, which nothing else uses."""

_MIB = 1 << 20
# Bytes of memory that a guest needs to go on.
_SPARE = 16 * _MIB
_TIMEOUT = 60.0
# This is not the shell's last command, for which the shell and its file would be replaced.
_CARRIER = 'tail -c "$1" /proc/$$/exe {arrow} "$2" || exit'
_ROOM = f"grep MemAvailable /proc/meminfo && df -kP {GUEST_TMP}"


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file of the host, where it is to be in a guest, and its permissions there."""

    local: Path
    remote: str
    mode: int
    size: int


def parse_file(text: str) -> HostFile:
    """Return the file that ``LOCAL[:REMOTE]`` names; without REMOTE it is to be in ``/tmp``.

    REMOTE that ends in ``/`` is a directory.

    Raises:
        BadInputError: there is no such file, it cannot be read or is too large, or REMOTE is
            no absolute path.
    """
    given, remote = text, ""
    if not Path(text).exists() and ":" in text:
        given, _, remote = text.rpartition(":")
    local = Path(given)
    try:
        found = local.stat()
        if stat.S_ISDIR(found.st_mode):
            raise BadInputError(
                f"--put {given}: is a directory. Put its files one by one, or as an archive: "
                "tar -cf FILE -C DIRECTORY ."
            )
        if not stat.S_ISREG(found.st_mode):
            raise BadInputError(f"--put {given}: is not a regular file")
        with local.open("rb"):
            pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInputError(f"--put {given}: {reason}") from error
    if remote.endswith("/") or not remote:
        remote = f"{remote or GUEST_TMP}/{local.name}"
    if not remote.startswith("/") or "\0" in remote:
        raise BadInputError(f"--put {text}: {remote!r} is no absolute path in the guest")
    most = Hardware().ram_mib * _MIB // 2
    if found.st_size > most:
        raise _too_large(given, found.st_size, most)
    return HostFile(local, posixpath.normpath(remote), found.st_mode & 0o777, found.st_size)


def _too_large(what: str, size: int, room: int) -> BadInputError:
    return BadInputError(
        f"--put {what}: {size / _MIB:,.1f} MiB are too much for the guest, whose /tmp has room "
        f"for {max(room, 0) / _MIB:,.1f} MiB"
    )


def put_files(machine: Machine, files: Sequence[HostFile]) -> None:
    """Put files into a guest, if there is room for all of them.

    Raises:
        BadInputError: they do not fit, or the guest has no such place.
    """
    total = sum(file.size for file in files)
    room = _room(machine)
    if total > room:
        names = ", ".join(str(file.local) for file in files)
        raise _too_large(names, total, room)
    for file in files:
        with file.local.open("rb") as opened:
            first = True
            while (part := opened.read(part_size())) or first:
                _put(machine, file.remote, part, file.mode, appended=not first)
                first = False


def put_bytes(machine: Machine, remote: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file with this content into a guest.

    Raises:
        BadInputError: the guest has no such place, or no room for it.
    """
    for start in range(0, max(len(content), 1), part_size()):
        part = content[start : start + part_size()]
        _put(machine, remote, part, mode, appended=start > 0)


def _put(machine: Machine, remote: str, part: bytes, mode: int, *, appended: bool) -> None:
    script = carrier(appended=appended)
    if not appended:
        script = f'mkdir -p "${{2%/*}}/" && {script}'
    words = ["sh", "-c", f'{script}; chmod {mode:o} "$2"', "sh", str(len(part)), remote]
    done = machine.execute(words, carried(part), timeout=_TIMEOUT)
    if done.status:
        raise BadInputError(f"putting {remote} into the guest: {_reason(done)}")


def _reason(done: Execution) -> str:
    lines = done.output.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {done.status}"


def _room(machine: Machine) -> int:
    """Return how many bytes fit into a guest's ``/tmp``."""
    done = machine.execute(["/bin/sh", "-c", _ROOM])
    text = done.output.decode(errors="replace")
    memory = re.search(r"MemAvailable:\s*(\d+) kB", text)
    disk = re.search(r"(\d+)\s+\d+%\s+/tmp$", text, re.MULTILINE)
    if done.status or not memory or not disk:
        raise InfrastructureError(f"the guest does not tell what fits into it: {_reason(done)}")
    return min(int(memory[1]) * 1024 - _SPARE, int(disk[1]) * 1024)


def carrier(*, appended: bool) -> str:
    """Return the shell's script: it takes a number of bytes, and the path to copy them to."""
    return _CARRIER.format(arrow=">>" if appended else ">")


def carried(part: bytes) -> bytes:
    """Return an executable shell with some bytes behind it; an executor runs it as ``sh``."""
    return _shell() + part


def part_size() -> int:
    """Return how many bytes a shell can carry."""
    return BULK_SIZE - len(_shell())


@functools.cache
def _shell() -> bytes:
    return find_tool("busybox", "putting a file into the guest").read_bytes()
