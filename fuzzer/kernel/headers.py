# SPDX-License-Identifier: Apache-2.0
"""The distribution's kernel headers, to build a driver against kernels that do not run here.

Header packages are downloaded and unpacked in the cache by an ordinary user.
Nothing is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.cache import build_once, content_key
from fuzzer.errors import InfrastructureError
from fuzzer.progress import Progress

_TIMEOUT_S = 600
# Debian's kernel for PCs, and Ubuntu's; no meta-package, cloud or realtime kernel.
_NAME = re.compile(r"linux-headers-(\d+\.\d+\.\d+(?:[-+.~](?!cloud|rt)\w+)*)-(?:amd64|generic)")
_DEPENDENCY = re.compile(r"linux-(?:headers|kbuild)-\S+")
_ABSOLUTE = re.compile(r"(?<![\w.])/usr/(?=(?:src|lib)/linux-)")


@dataclass(frozen=True, slots=True)
class Headers:
    """Unpacked headers: ``directory`` is what make's ``-C`` takes for building a module.

    ``version`` is upstream's, such as ``6.1.192``.
    """

    version: str
    directory: Path


@dataclass(frozen=True, slots=True)
class AptPackage:
    """A package's newest version in apt's lists."""

    name: str
    version: str
    depends: tuple[str, ...]
    sha256: str

    @property
    def upstream(self) -> str:
        """The version without Debian's epoch and revision."""
        return self.version.split(":", 1)[-1].rsplit("-", 1)[0]


def ensure_headers(series: str) -> Headers | None:
    """Return the newest kernel headers of a series such as ``6.1``; None if apt offers none.

    Raises:
        InfrastructureError: apt has no package lists, or the download failed.
    """
    if shutil.which("apt-cache") is None:
        return None
    pattern = f"^linux-headers-{re.escape(series)}[.].*-(amd64|generic)$"
    found = _run(["apt-cache", "search", "--names-only", pattern], "asking apt for kernel headers")
    name = newest_headers([line.split(" ", 1)[0] for line in found.splitlines()], series)
    if name is None:
        # An image of a distribution may come without lists; then apt offers nothing.
        if not _run(["apt-cache", "madison", "dpkg"], "asking apt what it knows").strip():
            raise InfrastructureError(
                "apt has no package lists, so it cannot tell which kernel headers there are. "
                "Get them: apt-get update (as root)"
            )
        return None
    headers = _describe(name)
    packages = [headers, *map(_describe, headers.depends)]
    key = content_key(*(part for each in packages for part in (each.name, each.sha256)))

    def build(directory: Path) -> None:
        progress = Progress(f"downloading headers of Linux {headers.upstream}")
        wanted = [f"{package.name}={package.version}" for package in packages]
        _run(
            ["apt-get", "download", "--quiet", *wanted],
            "downloading kernel headers",
            directory,
            hint="If apt's lists are old: apt-get update (as root)",
        )
        for archive in directory.glob("*.deb"):
            _run(["dpkg-deb", "-x", archive.name, "."], f"unpacking {archive.name}", directory)
            archive.unlink()
        relocate(directory, name)
        progress.finish("done")

    directory = build_once("headers", key, build, keep=4)
    return Headers(headers.upstream, directory / "usr" / "src" / name)


def newest_headers(names: Sequence[str], series: str) -> str | None:
    """Return the newest of the header packages ``names`` that belong to a series."""
    versions = {
        name: [int(number) for number in re.findall(r"\d+", found[1])]
        for name in names
        if (found := _NAME.fullmatch(name)) and found[1].startswith(f"{series}.")
    }
    return max(versions, key=lambda name: versions[name], default=None)


def parse_package(stanza: str) -> AptPackage:
    """Return the header package in a stanza of ``apt-cache show``.

    Of its dependencies only those that hold headers, or the tools to build
    with them: not the kernel itself, nor the compiler of a certain version.

    Raises:
        InfrastructureError: it is no such stanza.
    """
    fields = dict(re.findall(r"^(\w+): *(.*)$", stanza, re.MULTILINE))
    try:
        names = [word for word in re.split(r"[,|]\s*|\s+", fields.get("Depends", "")) if word]
        depends = tuple(name for name in names if _DEPENDENCY.fullmatch(name))
        return AptPackage(fields["Package"], fields["Version"], depends, fields["SHA256"])
    except KeyError as error:
        raise InfrastructureError(
            f"apt-cache show says nothing of the {error.args[0]} of a header package: "
            f"{stanza[:200] or 'nothing at all'}"
        ) from None


def relocate(root: Path, name: str) -> None:
    """Make unpacked header packages work in ``root`` instead of in ``/``.

    ``name`` is the package that modules are built against, a directory of
    ``usr/src``. It is also told to use the compiler that everything else is
    built with, as that of its own version may not be installed.
    """
    headers = root / "usr" / "src" / name
    for path in (headers / "Makefile", headers / ".kernelvariables"):
        if path.is_file() and not path.is_symlink():
            text = _ABSOLUTE.sub(f"{root}/usr/", path.read_text())
            path.write_text(re.sub(r"\bgcc-\d+\b", "gcc", text))
    for link in (root / "usr" / "src").glob("*/*"):
        if link.is_symlink() and (target := link.readlink()).is_absolute():
            link.unlink()
            link.symlink_to(root / target.relative_to("/"))
    # Only type information for BPF is made from it, and that takes pahole.
    (headers / "vmlinux").unlink(missing_ok=True)
    if not (headers / "scripts" / "Makefile.build").is_file():
        raise InfrastructureError(
            f"the package {name} is not laid out as expected: {headers} has no "
            "scripts/Makefile.build"
        )


def _describe(name: str) -> AptPackage:
    return parse_package(
        _run(["apt-cache", "show", "--no-all-versions", name], f"asking apt for {name}")
    )


def _run(command: Sequence[str], what: str, cwd: Path | None = None, hint: str = "") -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise InfrastructureError(f"{what}: {command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise InfrastructureError(
            f"{what}: {command[0]} did not end within {_TIMEOUT_S} s. {hint}".rstrip()
        ) from None
    if done.returncode:
        said = " / ".join(done.stderr.strip().splitlines()[-3:])
        raise InfrastructureError(f"{what} failed: {said}. {hint}".rstrip())
    return done.stdout
