# SPDX-License-Identifier: Apache-2.0
"""The checks a kernel reviewer runs on a driver: W=1, sparse, checkpatch, and its bug patches."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.headers import Headers
from fuzzer.kernel.kbuild import kconfig_symbols
from fuzzer.tools import find_tool

_TIMEOUT_S = 300
_JOBS = os.cpu_count() or 1
_TOOLS = ("make", "sparse", "perl", "patch")
_CHECKED = ("*.c", "*.h", "Kbuild", "Kconfig", "Makefile")


def check_module(
    source_dir: Path, kernel_source: Path, kernel_build: Path, headers: Sequence[Headers] = ()
) -> list[str]:
    """Return the problems of a module's source, one a line; empty when it is clean.

    ``source_dir`` holds a Kbuild file and may hold a Kconfig file and
    ``bugs/*.patch``; it is not written to. A directory in it with a Kbuild file of its
    own is another module, and not looked at. Copies of it are built with W=1
    and sparse, once as it is and once with every bool option of its Kconfig;
    with W=1 against each of ``headers``; and with W=1 with each patch, which
    must apply. Its files go through checkpatch --strict. ``kernel_source`` is
    a kernel tree, ``kernel_build`` its output directory, ready for modules to
    be built.

    Raises InfrastructureError when a tool is missing or does not end, and
    BadInputError when a directory is not what it should be.
    """
    for tool in _TOOLS:
        find_tool(tool, "checking a module")
    checkpatch = kernel_source / "scripts" / "checkpatch.pl"
    for path, what in (
        (source_dir / "Kbuild", "a module's source"),
        (checkpatch, "a kernel tree"),
        (kernel_build / "Module.symvers", "a kernel build that is ready for modules"),
    ):
        if not path.is_file():
            raise BadInputError(f"{path.parent} is not {what}: it has no {path.name}")
    kconfig = source_dir / "Kconfig"
    symbols = kconfig_symbols(kconfig) if kconfig.is_file() else {}
    options = [f"CONFIG_{symbol}=y" for symbol, kind in symbols.items() if kind == "bool"]
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-check-") as scratch:
        plain = _copy(source_dir, Path(scratch) / "plain")
        problems = _checkpatch(plain, checkpatch)
        built = _build(plain, kernel_build, "C=2")
        problems += built
        if options:
            copy = _copy(source_dir, Path(scratch) / "options")
            found = _build(copy, kernel_build, "C=2", *options)
            problems += [f"{' '.join(options)}: {line}" for line in found if line not in built]
        for each in headers:
            copy = _copy(source_dir, Path(scratch) / each.version)
            found = _build(copy, each.directory)
            problems += [f"Linux {each.version}: {line}" for line in found]
        patches = sorted((source_dir / "bugs").glob("*.patch"))
        if patches and built:
            problems.append("bugs/: not checked, as the driver itself does not build clean")
        else:
            problems += _check_all_patches(patches, source_dir, Path(scratch), kernel_build)
    return problems


def _check_all_patches(
    patches: Sequence[Path], source_dir: Path, scratch: Path, kernel_build: Path
) -> list[str]:
    def check_share(number: int) -> list[str]:
        share, copy = patches[number::_JOBS], scratch / f"patched{number}"
        return _check_patches(share, source_dir, copy, kernel_build) if share else []

    with ThreadPoolExecutor(_JOBS) as pool:
        problems = [line for found in pool.map(check_share, range(_JOBS)) for line in found]
    return sorted(problems, key=lambda line: line.partition(": ")[0])


def _check_patches(
    patches: Sequence[Path], source_dir: Path, copy: Path, kernel_build: Path
) -> list[str]:
    """Return the problems of patches, each of which starts from a module that is built.

    So make compiles only what the patch changes. All are in the same
    directory, one after the other: make has its path in what it remembers of
    a build, and compiles everything again in another.
    """
    _build(_copy(source_dir, copy), kernel_build)
    built = copy.rename(copy.with_name(f"{copy.name}-built"))
    problems = []
    for patch in patches:
        shutil.copytree(built, copy)
        # Fuzz 0: a patch that only nearly applies may plant another bug than it says.
        command = ["patch", "-p1", "--batch", "--fuzz=0", "--input", str(patch.absolute())]
        result = _run(command, copy)
        if result.returncode:
            found = [f"does not apply: {line}" for line in result.stdout.splitlines()]
        else:
            found = _build(copy, kernel_build)
        problems += [f"{patch.name}: {line}" for line in found]
        shutil.rmtree(copy)
    return problems


def _copy(source_dir: Path, copy: Path) -> Path:
    made = shutil.ignore_patterns(
        "bugs", "*.o", "*.ko", "*.mod", "*.mod.c", ".*", "Module.*", "modules.order"
    )

    def ignore(directory: str, names: list[str]) -> set[str]:
        # Directories with a Kbuild file of their own are other modules.
        others = {name for name in names if Path(directory, name, "Kbuild").is_file()}
        return {*made(directory, names), *others}

    shutil.copytree(source_dir, copy, ignore=ignore)
    return copy


def _checkpatch(copy: Path, checkpatch: Path) -> list[str]:
    files = sorted(str(path.relative_to(copy)) for name in _CHECKED for path in copy.rglob(name))
    command = [
        "perl",
        str(checkpatch.absolute()),
        "--strict",
        "--no-tree",
        # Names that its headers have are not ours to choose.
        f"--root={checkpatch.absolute().parent.parent}",
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


def _build(copy: Path, kernel_build: Path, *variables: str) -> list[str]:
    """Build the module in ``copy``; return what compiler, modpost and sparse say about it.

    Sparse 0.6.4, as Debian 12 has it, also complains about headers of newer
    kernels, and W=1 may too. Only lines that name the module's own files count.
    """
    copy = copy.resolve()
    own = [path for path in copy.rglob("*.[ch]") if not path.name.endswith(".mod.c")]
    names = "|".join(re.escape(path.name) for path in own)
    own_diagnostic = re.compile(rf"(?:^|/)(?:{names}):.*\b(?:warning|error): ")
    command = ["make", f"-j{_JOBS}", "-C", str(kernel_build.absolute()), f"M={copy}", "W=1"]
    result = _run([*command, *variables, "modules"], copy)
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
