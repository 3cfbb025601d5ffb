# SPDX-License-Identifier: Apache-2.0
"""Programs of the host: found and run, and how to install one that is missing."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from fuzzer.errors import InfrastructureError
from fuzzer.packages import CLANG_PACKAGES, DEBUG_PACKAGES, PACKAGES, TEST_PACKAGES

_BINUTILS = ("addr2line", "nm", "objcopy", "objdump", "strip")
_PACKAGES = (*PACKAGES, *TEST_PACKAGES, *DEBUG_PACKAGES, *CLANG_PACKAGES)
# By the program; one that is not here is in a package of its own name.
_PACKAGE_OF = {
    **dict.fromkeys(_BINUTILS, "binutils"),
    "gcov": "gcc",
    **{package.program: package.name for package in _PACKAGES if package.program},
}


def missing_tool(name: str, purpose: str) -> InfrastructureError:
    """Return the error for a program that is not there; ``purpose`` says what it was wanted for."""
    package = _PACKAGE_OF.get(name, name)
    return InfrastructureError(
        f"{purpose}: {name} is not on PATH. Install it: apt-get install {package}"
    )


def find_tool(name: str, purpose: str) -> Path:
    """Return where a program is.

    Raises:
        InfrastructureError: it is missing; the message says how to install it.
    """
    found = shutil.which(name)
    if found is None:
        raise missing_tool(name, purpose)
    return Path(found)


def tool_error(name: str, purpose: str, error: OSError) -> InfrastructureError:
    """Return the error for a program that could not be started."""
    if isinstance(error, FileNotFoundError) and error.filename in (None, name):
        return missing_tool(name, purpose)
    return InfrastructureError(f"{purpose}: running {name}: {error.strerror}")


def run_tool(
    command: Sequence[str],
    purpose: str,
    *,
    timeout: float,
    cwd: Path | None = None,
    text: str = "",
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it printed; ``text`` is its standard input.

    Its status is the caller's to look at.

    Raises:
        InfrastructureError: it is missing, cannot be started, or runs for more than
            ``timeout`` seconds.
    """
    try:
        return subprocess.run(
            command,
            input=text,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as error:
        raise tool_error(command[0], purpose, error) from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(
            f"{purpose}: {command[0]} did not end in {timeout:.0f} s"
        ) from error
