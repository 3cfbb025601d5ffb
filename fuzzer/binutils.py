# SPDX-License-Identifier: Apache-2.0
"""The programs of binutils that read object files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fuzzer.errors import InfrastructureError
from fuzzer.tools import run_tool


def output_of(command: Sequence[str], path: Path | str, timeout: float) -> str:
    """Return what a command prints of an object file, within ``timeout`` seconds.

    Raises:
        InfrastructureError: it is missing, fails, or takes longer.
    """
    done = run_tool(command, f"reading {path}", timeout=timeout)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
        raise InfrastructureError(f"reading {path}: {command[0]}: {said[0]}")
    return done.stdout
