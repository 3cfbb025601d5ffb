# SPDX-License-Identifier: Apache-2.0
"""A module's file as the kernel is handed it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fuzzer.errors import BadInputError
from fuzzer.machine.channel_layout import BULK_SIZE
from fuzzer.tools import run_tool

_TIMEOUT_S = 120


def loadable(path: Path) -> bytes:
    """Return a module's bytes, without debug information if they would not fit the channel.

    Raises:
        BadInputError: there is no such file, or it is no object file.
        InfrastructureError: objcopy is missing or does not end.
    """
    try:
        image = path.read_bytes()
    except OSError as error:
        raise BadInputError(f"{path}: cannot read it: {error.strerror}") from None
    return image if len(image) <= BULK_SIZE else _stripped(path)


def _stripped(path: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-strip-") as directory:
        small = Path(directory) / path.name
        command = ["objcopy", "--strip-debug", str(path.absolute()), str(small)]
        done = run_tool(command, f"stripping {path}", timeout=_TIMEOUT_S)
        if done.returncode:
            raise BadInputError(
                f"{path} has {path.stat().st_size} bytes, at most {BULK_SIZE} fit, and its debug "
                f"information cannot be taken out: {done.stderr.strip()}"
            )
        return small.read_bytes()
