# SPDX-License-Identifier: Apache-2.0
"""Headers that a driver leaves out, as others included them in the kernel that it is for.

Between versions the kernel's headers include each other less and less, so that a
driver that compiled once is without ``<linux/fs.h>`` now. What its compiler
complains of leads to the header, which it is then given.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.complaints import read_complaints
from fuzzer.kernel.needs.headers import SourceHeaders
from fuzzer.kernel.source import whole_source

_TIMEOUT_S = 30.0
_BEFORE, _DIRECTORY = "-include", "-idirafter"
# More than these are no oversight: the driver is for something else.
_MOST = 12


def missing_includes(output: str, kernel: Kernel) -> tuple[str, ...]:
    """Return flags for gcc by which a driver that did not compile gets the headers it leaves out.

    ``output`` is all that make and gcc printed, in the C locale. Empty if no header of the kernel
    would help, as far as can be told: only compiling shows whether one does.

    Raises:
        InfrastructureError: the kernel's source cannot be searched.
    """
    complaints = read_complaints(output)
    headers = SourceHeaders(whole_source(kernel.source))
    flags = []
    # The kernel's build takes away the compiler's own directory, which had these once.
    own = compiler_headers()
    if any((own / name).is_file() and not headers.has(name) for name in complaints.headers):
        flags.append(f"{_DIRECTORY} {own}")
    declaring = headers.declaring(complaints.names, complaints.tags)
    found = dict.fromkeys(declaring.values())
    if len(found) <= _MOST:
        flags += [f"{_BEFORE} {name}" for name in found]
    return tuple(flags)


def included(flags: Sequence[str]) -> str:
    """Return what flags of ``missing_includes`` include, for a reader."""
    told = (flag.split(" ", 1) for flag in flags)
    return ", ".join(
        f"<{value}>" if kind == _BEFORE else "the compiler's own headers" for kind, value in told
    )


def compiler_headers() -> Path:
    """Return the directory of gcc's own headers, such as ``stdbool.h``."""
    try:
        done = subprocess.run(
            ["gcc", "-print-file-name=include"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return Path("include")
    return Path(done.stdout.strip() or "include")
