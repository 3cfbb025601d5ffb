# SPDX-License-Identifier: Apache-2.0
"""The checks a kernel reviewer runs on a driver: W=1, sparse, checkpatch, and its bug patches."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzzer.errors import BadInputError, InfrastructureError

_TIMEOUT_S = 300
_PACKAGES = {"make": "make", "sparse": "sparse", "perl": "perl", "patch": "patch"}


def check_module(source_dir: Path, kernel_source: Path, kernel_build: Path) -> list[str]:
    """Return the problems of a module's source, one a line; empty when it is clean.

    ``source_dir`` holds a Kbuild file and may hold ``bugs/*.patch``; it is
    not written to. It is built with W=1 and sparse in a copy, its ``*.c`` and
    ``*.h`` go through checkpatch --strict, and each patch must apply to a
    copy of its own and build with W=1. ``kernel_source`` is a kernel tree,
    ``kernel_build`` its output directory, ready for modules to be built.

    Raises InfrastructureError when a tool is missing or does not end, and
    BadInputError when a directory is not what it should be.
    """
    for tool, package in _PACKAGES.items():
        if shutil.which(tool) is None:
            raise InfrastructureError(
                f"checking a module needs {tool}; install the Debian package {package}"
            )
    checkpatch = kernel_source / "scripts" / "checkpatch.pl"
    for path, what in (
        (source_dir / "Kbuild", "a module's source"),
        (checkpatch, "a kernel tree"),
        (kernel_build / "Module.symvers", "a kernel build that is ready for modules"),
    ):
        if not path.is_file():
            raise BadInputError(f"{path.parent} is not {what}: it has no {path.name}")
    patches = sorted((source_dir / "bugs").glob("*.patch"))
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-check-") as scratch:
        copy = _copy(source_dir, Path(scratch) / "module")
        problems = _checkpatch(copy, checkpatch)
        problems += _build(copy, kernel_build, sparse=True)
        for patch in patches:
            problems += _check_patch(patch, source_dir, Path(scratch) / patch.stem, kernel_build)
    return problems


def _check_patch(patch: Path, source_dir: Path, copy: Path, kernel_build: Path) -> list[str]:
    _copy(source_dir, copy)
    # Fuzz 0: a patch that only nearly applies may plant another bug than it says.
    command = ["patch", "-p1", "--batch", "--fuzz=0", "--input", str(patch.absolute())]
    result = _run(command, copy)
    if result.returncode:
        found = [f"does not apply: {line}" for line in result.stdout.splitlines()]
    else:
        found = _build(copy, kernel_build, sparse=False)
    return [f"{patch.name}: {line}" for line in found]


def _copy(source_dir: Path, copy: Path) -> Path:
    ignore = shutil.ignore_patterns(
        "bugs", "*.o", "*.ko", "*.mod", "*.mod.c", ".*", "Module.*", "modules.order"
    )
    shutil.copytree(source_dir, copy, ignore=ignore)
    return copy


def _checkpatch(copy: Path, checkpatch: Path) -> list[str]:
    files = sorted(path.name for path in copy.glob("*.[ch]"))
    command = [
        "perl",
        str(checkpatch.absolute()),
        "--strict",
        "--no-tree",
        "--terse",
        "--no-summary",
        "--color=never",
        "-f",
        *files,
    ]
    result = _run(command, copy)
    problems = [f"checkpatch: {line}" for line in result.stdout.splitlines() if line.strip()]
    if result.returncode and not problems:
        problems.append(f"checkpatch: exit status {result.returncode}")
    return problems


def _build(copy: Path, kernel_build: Path, *, sparse: bool) -> list[str]:
    """Build the module in ``copy``; return what compiler, modpost and sparse say about it.

    Sparse 0.6.4, as Debian 12 has it, also complains about headers of newer
    kernels, and W=1 may too. Only lines that name the module's own files count.
    """
    copy = copy.resolve()
    names = [re.escape(path.name) for path in copy.rglob("*.[ch]")]
    own_diagnostic = re.compile(rf"(?:^|/)(?:{'|'.join(names)}):.*\b(?:warning|error): ")
    command = ["make", "-C", str(kernel_build.absolute()), f"M={copy}", "W=1", "modules"]
    if sparse:
        command.append("C=2")
    result = _run(command, copy)
    lines = [line.replace(f"{copy}/", "") for line in result.stdout.splitlines()]
    problems = [
        line
        for line in lines
        if own_diagnostic.search(line) or line.startswith(("ERROR: modpost", "WARNING: modpost"))
    ]
    if result.returncode and not problems:
        problems = [f"make W=1: {line}" for line in lines[-10:]]
    return problems


def _run(command: Sequence[str], directory: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise InfrastructureError(
            f"{command[0]} did not end within {_TIMEOUT_S} s: {' '.join(command)}"
        ) from None
    except OSError as error:
        raise InfrastructureError(f"cannot run {command[0]}: {error.strerror}") from None
