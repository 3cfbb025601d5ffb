# SPDX-License-Identifier: Apache-2.0
"""The places of the project's own files and of its cache."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def project_root() -> Path:
    """Return the directory that holds ``vm/``, ``module/`` and ``seeds/``.

    That is the checkout when pkvfuzz runs from one, and the data directory
    inside the package after ``pip install``.
    """
    checkout = _PACKAGE.parent
    if (checkout / "vm" / "channel.h").is_file():
        return checkout
    return _PACKAGE / "_data"


def own_description() -> Path:
    """Return the description of the driver that comes with the project.

    It is fuzzed where no other is given, and the project's own tests look at it.
    """
    return project_root() / "module" / "pkv.yaml"


def import_root() -> Path:
    """Return the directory that must be on ``sys.path`` for ``import fuzzer``."""
    return _PACKAGE.parent


def cache_dir() -> Path:
    """Return the cache directory (kernels, modules, templates).

    ``$PKVFUZZ_CACHE``, else ``$XDG_CACHE_HOME/pkvfuzz``, else
    ``~/.cache/pkvfuzz``. Everything in it can be made again.
    """
    explicit = os.environ.get("PKVFUZZ_CACHE")
    if explicit:
        return Path(explicit).absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pkvfuzz"
