# SPDX-License-Identifier: Apache-2.0
"""Files that are written whole, or stay as they were."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, data: bytes | str, *, through: Path | None = None) -> None:
    """Write a file with one rename; on a full disk what was there stays.

    Until then it is a hidden file in the directory ``through``, the file's own if None, which
    must be on the same file system.

    Raises:
        OSError: it cannot be written; the error names ``path``.
    """
    content = data.encode() if isinstance(data, str) else data
    if path.exists() and not path.is_file():
        path.write_bytes(content)  # a device, or a pipe
        return
    # Two processes may write the same file.
    partial = (through or path.parent) / f".{path.name}.{os.getpid()}.partial"
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
