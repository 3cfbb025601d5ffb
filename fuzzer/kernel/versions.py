# SPDX-License-Identifier: Apache-2.0
"""The versions of the kernel that the distribution has the source of: ``linux-source-X.Y``.

A version is named by its first two numbers, as ``6.1``. Ubuntu's packages have a
third, which counts the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from fuzzer.bootstrap import ensure_installed
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.packages import (
    KERNEL_VERSION,
    PREFERRED_KERNEL_SOURCE,
    Package,
    apt_kernel_sources,
    install_command,
    kernel_package,
)

SOURCES = Path("/usr/src")
"""The directory into which packages put the source's tarballs."""

PREFERRED = PREFERRED_KERNEL_SOURCE.removeprefix("linux-source-")
"""The version that pkvfuzz is developed on; the newest other one is next best."""

_TARBALL = re.compile(r"linux-source-(\d+(?:\.\d+)*)\.tar\.(?:xz|bz2|zst)")
_RELEASE = re.compile(r"\d+\.\d+")


@dataclass(frozen=True, slots=True, order=True)
class Tarball:
    """A kernel's source as a package installs it; in order of ``numbers``, its version."""

    numbers: tuple[int, ...]
    path: Path

    @property
    def version(self) -> str:
        """Its first two numbers, as ``6.1``."""
        return _name(self.numbers)


def tarballs(directory: Path | None = None) -> list[Tarball]:
    """Return the sources that are installed (in ``SOURCES``), the newest first."""
    directory = directory or SOURCES
    # Ubuntu keeps the tarball in a directory of the same name.
    name = "linux-source-*.tar.*"
    found = {
        Tarball(_numbers(match[1]), path.resolve())
        for path in [*directory.glob(name), *directory.glob(f"*/{name}")]
        if (match := _TARBALL.fullmatch(path.name))
    }
    return sorted(found, reverse=True)


def find_tarball(directory: Path | None = None, version: str = "") -> Path:
    """Return the distribution's kernel source of a version.

    Without one it is 6.12 where it exists, else the newest.

    Raises:
        BadInputError: that is no version.
        InfrastructureError: there is none.
    """
    found = tarballs(directory)
    if version:
        wanted = _numbers(checked_version(version))
        for tarball in found:
            if tarball.numbers[: len(wanted)] == wanted:
                return tarball.path
        raise InfrastructureError(
            f"no source of kernel {version} in {directory or SOURCES}. Install it: "
            f"{install_command([_package(version)])}"
        )
    for tarball in found:
        if tarball.version == PREFERRED:
            return tarball.path
    if not found:
        raise InfrastructureError(
            f"no kernel source in {directory or SOURCES}. Install it: apt-get install "
            f"linux-source-{PREFERRED} (or linux-source), or give --kernel-source DIR"
        )
    return found[0].path


def is_preferred(tarball: Path) -> bool:
    """Tell whether a tarball has the source of the preferred version."""
    match = _TARBALL.fullmatch(tarball.name)
    return match is not None and _name(_numbers(match[1])) == PREFERRED


def checked_version(text: str, what: str = "kernel version") -> str:
    """Return a version if it is one; ``what`` is where it stands, for the message.

    Raises:
        BadInputError: it is not.
    """
    if not KERNEL_VERSION.match(text):
        raise BadInputError(f"{what} {text!r}: X.Y is expected, such as 6.1")
    return text


def version_of(release: str) -> str:
    """Return the version of a release as ``uname -r`` prints it; empty if it has none."""
    match = _RELEASE.match(release)
    return match[0] if match else ""


def default_version() -> str:
    """Return the version of the kernel that is used where none is asked for; empty if none is."""
    found = [tarball.version for tarball in tarballs()]
    return PREFERRED if PREFERRED in found else next(iter(found), "")


def installed_versions() -> tuple[str, ...]:
    """Return the versions whose source is installed, the newest first."""
    return tuple(dict.fromkeys(tarball.version for tarball in tarballs()))


def available_versions() -> tuple[str, ...]:
    """Return the versions whose source is installed or offered by apt, the newest first."""
    offered = {_numbers(name.removeprefix("linux-source-"))[:2] for name in apt_kernel_sources()}
    installed = {tarball.numbers[:2] for tarball in tarballs()}
    return tuple(map(_name, sorted(offered | installed, reverse=True)))


def older_versions(current: str = "") -> tuple[str, ...]:
    """Return the available versions before one, the newest first.

    These can be tried for a driver that does not compile against ``current``: a
    version, or a release that begins with one; empty for the default.
    """
    version = version_of(current) if current else default_version()
    if not version:
        return ()
    return tuple(older for older in available_versions() if _numbers(older) < _numbers(version))


def ensure_source_package(version: str) -> None:
    """Install the source of a version, if it is not installed.

    Raises:
        BadInputError: that is no version, or the distribution has no such source.
        InfrastructureError: it cannot be installed; the message has the command to run.
    """
    if _is_installed(checked_version(version)):
        return
    offered = available_versions()
    if apt_kernel_sources() and _name(_numbers(version)) not in offered:
        raise BadInputError(
            f"there is no source of kernel {version} in this distribution, which has "
            f"{', '.join(offered)}. Choose one of these, or give a tree of your own: "
            "--kernel-source DIR"
        )
    ensure_installed(lambda: () if _is_installed(version) else (_package(version),))


def _is_installed(version: str) -> bool:
    wanted = _numbers(version)
    return any(tarball.numbers[: len(wanted)] == wanted for tarball in tarballs())


def _package(version: str) -> Package:
    """Return the package of a version's source: of several that fit, the newest."""
    wanted = _numbers(version)
    offered = {name: _numbers(name.removeprefix("linux-source-")) for name in apt_kernel_sources()}
    fitting = [name for name, numbers in offered.items() if numbers[: len(wanted)] == wanted]
    return kernel_package(max(fitting, key=offered.__getitem__, default=f"linux-source-{version}"))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


def _name(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers[:2]))
