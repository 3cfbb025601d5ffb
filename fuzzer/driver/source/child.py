# SPDX-License-Identifier: Apache-2.0
"""The reading of a driver's source in a process of its own: libclang may crash, or never end."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from subprocess import TimeoutExpired

from fuzzer.child import Child, receive_task
from fuzzer.driver.source.interface import Interface, from_json, to_json
from fuzzer.driver.unit_commands import Unit
from fuzzer.errors import BadInputError

_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Task:
    parent: int
    units: tuple[Unit, ...]
    own: tuple[Path, ...]
    output: Path


def read_apart(units: tuple[Unit, ...], own: tuple[Path, ...]) -> Interface:
    """Return the interface of a driver; ``own`` are the directories and files that are its.

    Raises:
        BadInputError: it could not be read, and why.
    """
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-source-") as name:
        log, output = Path(name, "log"), Path(name, "interface.json")
        task = _Task(os.getpid(), units, own, output)
        child = Child(__name__, task, log)
        try:
            status = child.wait(_SECONDS)
        except TimeoutExpired:
            raise BadInputError(f"reading it took longer than {_SECONDS:.0f} s") from None
        finally:
            child.finish()
        if status or not output.is_file():
            why = child.last_words() or f"its process ended with {status}"
            raise BadInputError(why)
        return from_json(json.loads(output.read_text()))


def main() -> None:
    """Read what the parent says."""
    task = receive_task()
    try:
        from fuzzer.driver.source.reading import read_interface

        found = read_interface(task.units, task.own)
    except (ImportError, OSError, ValueError) as error:
        sys.exit(str(error))
    task.output.write_text(json.dumps(to_json(found)))


if __name__ == "__main__":
    main()
