# SPDX-License-Identifier: Apache-2.0
"""The programs of binutils that read object files."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fuzzer.errors import InfrastructureError


def output_of(command: Sequence[str], path: Path | str, timeout: float) -> str:
    """Return what a command prints of an object file, within ``timeout`` seconds.

    Raises:
        InfrastructureError: it is missing, fails, or takes longer.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=timeout, check=True
        )
    except FileNotFoundError as error:
        raise InfrastructureError(f"{command[0]} is missing: apt-get install binutils") from error
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"{command[0]} failed on {path}: {error}") from error
    return done.stdout
