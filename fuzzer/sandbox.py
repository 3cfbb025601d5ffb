# SPDX-License-Identifier: Apache-2.0
"""The sandbox in which strangers' builds run: no network, no root, no home directory.

A driver's Makefile is a program of somebody else's. It runs in namespaces of
its own (bubblewrap), where it sees the host's tools, the kernel it builds for
and the private copy of its sources; only that copy can be written to.
"""

from __future__ import annotations

import functools
import os
import signal
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fuzzer import lifetime
from fuzzer.errors import InfrastructureError
from fuzzer.paths import project_root
from fuzzer.tools import find_tool

_TOOLS = Path("/pkvfuzz/bin")
_PATH = f"{_TOOLS}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
_ETC = ("alternatives", "debian_version", "ld.so.cache", "localtime", "lsb-release", "os-release")
_NOBODY = "65534"
_PROBE_SECONDS = 30
# Bytes kept of what a command prints.
_MOST_OUTPUT = 4 << 20


@dataclass(frozen=True, slots=True)
class KernelView:
    """The kernel that a build sees as the running one: its release, build and source."""

    release: str
    build: Path
    source: Path


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended: its exit status, and what it printed (the end, if that was long)."""

    status: int
    output: str
    timed_out: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A place to run strangers' commands in.

    ``writable`` and ``readable`` are directories of the host that are seen
    under their own names; of all others nothing is, but the system's tools.
    """

    writable: Path
    readable: tuple[Path, ...] = ()
    kernel: KernelView | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, argv: Sequence[str], cwd: Path) -> list[str]:
        """Return the bubblewrap command line that runs ``argv`` in directory ``cwd``."""
        line = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session"]
        line += ["--cap-drop", "ALL", "--uid", _NOBODY, "--gid", _NOBODY]
        line += ["--hostname", "pkvfuzz", "--clearenv"]
        for name, value in self._variables().items():
            line += ["--setenv", name, value]
        line += [*_system(), *self._modules(), "--proc", "/proc", "--dev", "/dev"]
        line += ["--tmpfs", "/tmp", "--tmpfs", "/run"]  # noqa: S108 - the sandbox's own
        line += ["--ro-bind", str(project_root() / "vm" / "sandbox"), str(_TOOLS)]
        for path in self._readable():
            line += ["--ro-bind", str(path), str(path)]
        line += ["--bind", str(self.writable), str(self.writable)]
        return [*line, "--remount-ro", "/", "--chdir", str(cwd), *argv]

    def capture(
        self, argv: Sequence[str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command for its output; standard output and standard error apart.

        Raises:
            InfrastructureError: the sandbox cannot be made here.
            OSError: bwrap cannot be started.
            subprocess.TimeoutExpired: it did not end in ``timeout`` seconds.
        """
        return self._ended(argv, cwd, timeout, errors=subprocess.PIPE)

    def _ended(
        self, argv: Sequence[str], cwd: Path, timeout: float, errors: int
    ) -> subprocess.CompletedProcess[bytes]:
        ensure_sandbox()
        try:
            return lifetime.run(
                self.command(argv, cwd),
                signal.SIGKILL,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                # The first process of the sandbox is bwrap, whose environment can be read there.
                env={"PATH": os.environ.get("PATH", os.defpath)},
                timeout=timeout,
            )
        finally:
            self._remove_strays()

    def _remove_strays(self) -> None:
        """Remove what the program left that would lead us elsewhere, or have us wait.

        That is links out of what it saw, sockets and pipes. Nothing of it runs any more.
        """
        seen = [self.writable, *self._readable(), Path("/usr"), Path("/lib"), Path("/bin")]
        places = [os.path.realpath(each) for each in seen]
        for directory, _, names in _walk(self.writable):
            for name in names:
                path = os.path.join(directory, name)  # noqa: PTH118 - of many files
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) or (stat.S_ISLNK(mode) and _leads_into(path, places)):
                    continue
                os.unlink(path)  # noqa: PTH108

    def run(self, argv: Sequence[str], cwd: Path, timeout: float) -> Finished:
        """Run a command and wait for its end; after ``timeout`` seconds it is killed.

        Raises:
            InfrastructureError: the sandbox cannot be made here.
        """
        try:
            done = self._ended(argv, cwd, timeout, errors=subprocess.STDOUT)
        except OSError as error:
            raise InfrastructureError(f"running bwrap: {error.strerror}") from error
        except subprocess.TimeoutExpired as error:
            return Finished(-1, _text(error.output or b""), timed_out=True)
        return Finished(done.returncode, _text(done.stdout))

    def _variables(self) -> dict[str, str]:
        variables = {"PATH": _PATH, "HOME": "/tmp", "LC_ALL": "C", "TERM": "dumb"}  # noqa: S108
        if self.kernel is not None:
            variables["PKVFUZZ_RELEASE"] = self.kernel.release
        return {**variables, **self.environment}

    def _readable(self) -> list[Path]:
        kernel = (self.kernel.build, self.kernel.source) if self.kernel else ()
        return list(dict.fromkeys((*self.readable, *kernel)))

    def _modules(self) -> list[str]:
        """Return where public Makefiles look for the running kernel's build directory."""
        if self.kernel is None:
            return []
        build, source = str(self.kernel.build), str(self.kernel.source)
        headers = Path("/usr/src") / f"linux-headers-{self.kernel.release}"
        return [
            *("--symlink", build, f"/lib/modules/{self.kernel.release}/build"),
            *("--symlink", source, f"/lib/modules/{self.kernel.release}/source"),
            *("--tmpfs", "/usr/src", "--symlink", build, str(headers)),
            *("--symlink", build, "/usr/src/linux"),
        ]


def _walk(top: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield directories with their own and their files' names, links among the files."""
    for directory, directories, names in os.walk(top):
        links = [name for name in directories if os.path.islink(f"{directory}/{name}")]  # noqa: PTH114
        yield directory, directories, [*names, *links]


def _leads_into(link: str, places: Sequence[str]) -> bool:
    target = os.path.realpath(link)
    return any(target == each or target.startswith(f"{each}/") for each in places)


def _text(output: bytes) -> str:
    return output[-_MOST_OUTPUT:].decode(errors="replace")


def _system() -> list[str]:
    """Return the arguments that show the host's tools, and ``/lib`` with modules of our own."""
    line = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib32", "lib64"):
        path = Path("/", name)
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            line += ["--ro-bind", str(path), str(path)]
    for entry in sorted(Path("/lib").iterdir()):
        if entry.name != "modules":
            line += ["--symlink", f"/usr/lib/{entry.name}", str(entry)]
    for name in _ETC:
        line += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return line


@functools.cache
def ensure_sandbox(seconds: float = _PROBE_SECONDS) -> None:
    """Find out whether commands can be run in a sandbox on this host.

    Raises:
        InfrastructureError: they cannot; the message says why, and what to do.
    """
    # A Makefile is a program of its author's.
    find_tool("bwrap", "drivers are built in a sandbox only")
    argv = ["bwrap", "--unshare-all", "--die-with-parent", "--cap-drop", "ALL"]
    argv += ["--uid", _NOBODY, "--gid", _NOBODY, *_system(), "--proc", "/proc", "--dev", "/dev"]
    try:
        done = subprocess.run(
            [*argv, "/usr/bin/true"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InfrastructureError(f"running bwrap, for the sandbox of builds: {error}") from error
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        raise InfrastructureError(
            f"this host does not let bwrap make the sandbox that drivers are built in: {said[0]}. "
            "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu "
            "sysctl kernel.apparmor_restrict_unprivileged_userns=0), or run as root"
        )
