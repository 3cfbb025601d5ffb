# SPDX-License-Identifier: Apache-2.0
"""Set-up before anything else runs: Debian packages and the virtual environment.

The launcher imports this with nothing installed, so it needs the standard
library alone, and imports what only a first start needs when it needs it:
every later start pays for this module.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fuzzer.errors import InfrastructureError, PkvfuzzError
from fuzzer.paths import cache_dir, project_root

if TYPE_CHECKING:
    import subprocess

# Commands that build or run something. Any other installs no package.
MACHINE_COMMANDS = frozenset({"bench", "replay", "run", "shell", "test"})

PREFERRED_KERNEL_SOURCE = "linux-source-6.12"

_ROOT = Path("/")
_KERNEL_SOURCE_NAME = re.compile(r"linux-source-(\d+(?:\.\d+)+)")
_STEP_TIMEOUT_S = 1800.0
_TAIL_LINES = 12
_ELF_PT_INTERP = 3


class Package(NamedTuple):
    """A Debian or Ubuntu package, and what shows that it is there.

    Looking for what the package is wanted for, not asking dpkg, is fast, works
    on any distribution and accepts what a user built. A named tuple, as the
    import of :mod:`dataclasses` alone takes as long as the whole check.
    """

    name: str
    why: str
    program: str = ""  # found on PATH
    static: bool = False  # and linked statically
    files: tuple[str, ...] = ()  # any of them; glob patterns below /


_LIBC = ("usr/lib/x86_64-linux-gnu/libc.a", "usr/lib64/libc.a", "usr/lib/libc.a")

PACKAGES = (
    Package("gcc", "compiles kernel, driver and executor", program="gcc"),
    Package("libc6-dev", "static C library for the executor", files=_LIBC),
    Package("make", "builds the kernel", program="make"),
    Package("flex", "builds the kernel's Kconfig", program="flex"),
    Package("bison", "builds the kernel's Kconfig", program="bison"),
    Package("bc", "makes the kernel's time constants", program="bc"),
    Package("perl", "runs the kernel's scripts", program="perl"),
    Package("libelf-dev", "builds the kernel's objtool", files=("usr/include/libelf.h",)),
    Package("libssl-dev", "builds the kernel's tools", files=("usr/include/openssl/evp.h",)),
    Package("xz-utils", "unpacks the kernel source", program="xz"),
    Package("patch", "applies kernel patches and planted bugs", program="patch"),
    Package("cpio", "packs the guest's file system", program="cpio"),
    Package("util-linux", "ends child processes with their parent", program="setpriv"),
    Package("busybox-static", "the guest's shell", program="busybox", static=True),
    Package("qemu-system-x86", "runs the virtual machines", program="qemu-system-x86_64"),
)
TEST_PACKAGES = (Package("sparse", "checks the driver's address spaces", program="sparse"),)


def command_of(argv: Sequence[str]) -> str:
    """Return the command that needs packages in ``argv``, or "" if it needs none."""
    before = argv[: argv.index("--")] if "--" in argv else argv
    if {"-h", "--help", "--version"} & set(before):
        return ""
    words = [word for word in before if not word.startswith("-")]
    return words[0] if words and words[0] in MACHINE_COMMANDS else ""


def brings_kernel(argv: Sequence[str]) -> bool:
    """Tell whether ``argv`` names a kernel source or build of the user's own."""
    names = {word.partition("=")[0] for word in argv}
    return bool(names & {"--kernel-source", "--kernel-build"})


def required_packages(
    command: str, *, kernel_source: bool = True, root: Path = _ROOT
) -> tuple[Package, ...]:
    """Return the packages ``command`` needs, none for one not in MACHINE_COMMANDS.

    With ``kernel_source``, the distribution's kernel source is among them;
    ``root`` is where to look for one that is installed.
    """
    if command not in MACHINE_COMMANDS:
        return ()
    packages = PACKAGES + (TEST_PACKAGES if command == "test" else ())
    return (*packages, kernel_source_package(root)) if kernel_source else packages


def venv_packages() -> tuple[Package, ...]:
    """Return the package a virtual environment needs with Debian's own Python."""
    if sys.base_prefix != "/usr":
        return ()
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    ensurepip = f"usr/lib/{name}/ensurepip/__init__.py"
    return (Package(f"{name}-venv", "makes the virtual environment", files=(ensurepip,)),)


def missing_packages(packages: Sequence[Package], root: Path = _ROOT) -> tuple[Package, ...]:
    """Return those of ``packages`` that are not on PATH or below ``root``."""
    return tuple(package for package in packages if not _is_present(package, root))


def install_command(missing: Sequence[Package]) -> str:
    """Return the one shell command that installs ``missing``."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    names = " ".join(package.name for package in missing)
    install = "apt-get install --no-install-recommends"
    return f"{sudo}apt-get update && {sudo}{install} {names}"


def kernel_source_package(root: Path = _ROOT) -> Package:
    """Return the kernel source to use: 6.12 where apt knows it, else the newest.

    Asking apt takes half a second, so an answer whose source is installed is
    kept in the cache.
    """
    preferred = _kernel_package(PREFERRED_KERNEL_SOURCE)
    if _is_present(preferred, root):
        return preferred
    kept = cache_dir() / "kernel-source-package"
    if kept.is_file():
        chosen = _kernel_package(kept.read_text().strip())
        if _is_present(chosen, root):
            return chosen
    installed = [
        found[0]
        for path in (root / "usr/src").glob("linux-source-*.tar.*")
        if (found := _KERNEL_SOURCE_NAME.match(path.name))
    ]
    chosen = _kernel_package(choose_kernel_source([*installed, *_apt_kernel_sources()]))
    if _is_present(chosen, root):
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(chosen.name + "\n")
    return chosen


def choose_kernel_source(names: Sequence[str]) -> str:
    """Return the preferred of the package ``names``, else the newest version."""
    versions = {
        name: tuple(int(part) for part in found[1].split("."))
        for name in names
        if (found := _KERNEL_SOURCE_NAME.fullmatch(name))
    }
    if PREFERRED_KERNEL_SOURCE in versions or not versions:
        return PREFERRED_KERNEL_SOURCE
    return max(versions, key=lambda name: versions[name])


def ensure_packages(argv: Sequence[str], extra: Sequence[Package] = ()) -> None:
    """Install the packages that ``argv`` (and ``extra``) needs and that are missing.

    Raises InfrastructureError, with the command to run, where they cannot be
    installed or ``PKVFUZZ_NO_INSTALL`` is set.
    """

    def look() -> tuple[Package, ...]:
        needed = required_packages(command_of(argv), kernel_source=not brings_kernel(argv))
        return missing_packages((*extra, *needed))

    if not (missing := look()):
        return
    if shutil.which("apt-get") is None:
        raise InfrastructureError(
            f"missing on this host:\n{_listed(missing)}\nIt has no apt-get, so install them with "
            "its own package manager (names are Debian's), then try again"
        )
    by_hand = f"{_listed(missing)}\nInstall them and try again:\n    {install_command(missing)}"
    if os.environ.get("PKVFUZZ_NO_INSTALL"):
        raise InfrastructureError(f"packages are missing (PKVFUZZ_NO_INSTALL is set):\n{by_hand}")
    prefix = _root_prefix()
    if prefix is None:
        raise InfrastructureError(f"packages are missing, and installing needs root:\n{by_hand}")
    with _locked() as lock:
        if not look():
            return  # another start installed them meanwhile
        apt_get = [*prefix, "apt-get", "-o", "DPkg::Lock::Timeout=300"]
        updated, update_log = _run([*apt_get, "update"], "updating apt's package lists", lock)
        missing = look()  # apt may know a better kernel source now
        names = [package.name for package in missing]
        install = [*apt_get, "install", "-y", "--no-install-recommends", *names]
        installed, log = _run(install, f"installing {' '.join(names)}", lock)
    if not installed or (missing := look()):
        log = log if updated else f"{update_log}\n{log}"
        raise InfrastructureError(
            f"apt-get did not install {' '.join(package.name for package in missing)}; it said:\n"
            f"{log}\nPut that right (network, disk space, /etc/apt/sources.list), then\n"
            f"    {install_command(missing)}"
        )


def venv_dir(lock_text: bytes, python_version: str) -> Path:
    """Return where the environment of these locked requirements belongs."""
    digest = hashlib.sha256(lock_text + python_version.encode()).hexdigest()
    return cache_dir() / f"venv-{digest[:16]}"


def is_complete(venv: Path) -> bool:
    """Tell whether ``venv`` was made to the end and its Python still works."""
    return (venv / ".complete").exists() and os.access(venv / "bin/python", os.X_OK)


def ensure_venv(venv: Path, requirements: Path) -> None:
    """Make the environment ``venv`` of ``requirements``, unless it is complete.

    Scripts in an environment hold its absolute path, so it is made in place,
    and marked complete last. Raises InfrastructureError.
    """
    if is_complete(venv):
        return
    with _locked() as lock:
        if is_complete(venv):
            return
        if venv.exists():
            shutil.rmtree(venv)
        python = str(venv / "bin/python")
        make = [sys.executable, "-I", "-m", "venv", str(venv)]
        # --no-deps: the lock names every package; wheels only: nothing is built.
        pip = [python, "-I", "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps"]
        pip += ["--only-binary=:all:", "--disable-pip-version-check", "-r", str(requirements)]
        for argv, label in (
            (make, "making the virtual environment"),
            (pip, "installing Python packages"),
        ):
            done, log = _run(argv, label, lock, {"PIP_USER": "0"})
            if not done:
                raise InfrastructureError(
                    f"{label} in {venv} failed:\n{log}\n"
                    "Check the network and disk space. Behind a proxy set HTTPS_PROXY, for a "
                    "mirror PIP_INDEX_URL; for another disk PKVFUZZ_CACHE. Then try again"
                )
        (venv / ".complete").touch()


def start(argv: Sequence[str]) -> int:
    """Make everything ready and become ``python -m fuzzer`` with ``argv``.

    Returns an exit code only where that failed, after saying why.
    """
    root = project_root()
    requirements = root / "requirements.lock"
    try:
        version = ".".join(str(part) for part in sys.version_info[:3])
        venv = venv_dir(requirements.read_bytes(), version)
        ready = is_complete(venv)
        extra = () if ready else missing_packages(venv_packages())
        if extra and "doctor" in argv:
            # doctor installs no package, but cannot start without this one.
            raise InfrastructureError(f"{_listed(extra)}\nRun\n    {install_command(extra)}")
        ensure_packages(argv, extra)
        ensure_venv(venv, requirements)
    except PkvfuzzError as error:
        print(f"pkvfuzz: {error}", file=sys.stderr)
        return int(error.exit_code)
    except OSError as error:
        print(f"pkvfuzz: set-up failed: {error}", file=sys.stderr)
        print(f"Is {cache_dir()} writable? PKVFUZZ_CACHE names another cache.", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        return 130
    environment = {**os.environ, "PYTHONPATH": str(root)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # compiled files make a start fast
    environment.pop("PYTHONHOME", None)
    python = str(venv / "bin/python")
    # -P: a user's own fuzzer/ in the current directory is not ours.
    os.execve(python, [python, "-P", "-m", "fuzzer", *argv], environment)


def _kernel_package(name: str) -> Package:
    return Package(name, "the kernel to build", files=(f"usr/src/{name}.tar.*",))


def _is_present(package: Package, root: Path) -> bool:
    if package.files:
        return any(next(root.glob(pattern), None) is not None for pattern in package.files)
    path = shutil.which(package.program)
    return path is not None and (not package.static or _is_static(Path(path)))


def _is_static(program: Path) -> bool:
    """Tell whether a 64-bit ELF ``program`` asks for no dynamic loader."""
    with program.open("rb") as stream:
        head = stream.read(4096)
    if head[:5] != b"\x7fELF\x02" or len(head) < 64:
        return False
    start, size, count = (
        int.from_bytes(head[at : at + length], "little")
        for at, length in ((32, 8), (54, 2), (56, 2))
    )
    types = (head[start + i * size :][:4] for i in range(count))
    return all(int.from_bytes(kind, "little") != _ELF_PT_INTERP for kind in types)


def _apt_kernel_sources() -> list[str]:
    if shutil.which("apt-cache") is None:
        return []
    import subprocess

    argv = ["apt-cache", "search", "--names-only", r"^linux-source-[0-9.]+$"]
    result = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
    return [line.split(" ", 1)[0] for line in result.stdout.splitlines()]


def _listed(packages: Sequence[Package]) -> str:
    return "\n".join(f"    {package.name}: {package.why}" for package in packages)


def _root_prefix() -> list[str] | None:
    """Return what to put before a command so that root runs it, None if nothing can."""
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return environment
    if shutil.which("sudo") is None:
        return None
    import subprocess

    allowed = subprocess.run(["sudo", "-n", "true"], capture_output=True, check=False, timeout=60)
    return ["sudo", "-n", *environment] if allowed.returncode == 0 else None


@contextmanager
def _locked() -> Iterator[int]:
    """Hold the set-up lock, so that one start at a time changes anything."""
    import fcntl

    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "bootstrap.lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("pkvfuzz: waiting for another start's set-up", file=sys.stderr)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()


def _run(
    argv: Sequence[str], label: str, lock: int, environment: Mapping[str, str] | None = None
) -> tuple[bool, str]:
    """Run ``argv`` with a progress line; return whether it worked, and its last lines.

    The child holds the lock as well: if this process is killed, the next start
    waits for the child it left behind.
    """
    import subprocess
    import tempfile

    with tempfile.TemporaryFile() as log:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            pass_fds=(lock,),
        ) as process:
            try:
                code = _watch(process, label)
            except BaseException:
                with suppress(PermissionError):  # sudo's child ends by the terminal's Ctrl-C
                    process.terminate()
                process.wait()
                raise
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines()
    return code == 0, "\n".join(f"    {line}" for line in lines[-_TAIL_LINES:])


def _watch(process: subprocess.Popen[bytes], label: str) -> int:
    """Wait for ``process`` with a progress line on stderr; return its exit code."""
    import subprocess

    live = sys.stderr.isatty()
    began = time.monotonic()
    if not live:
        print(f"pkvfuzz: {label} ...", file=sys.stderr, flush=True)
    while (passed := time.monotonic() - began) < _STEP_TIMEOUT_S:
        if live:
            print(f"\r\x1b[Kpkvfuzz: {label}: {passed:.0f} s", end="", file=sys.stderr, flush=True)
        try:
            code = process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
        how = "done" if code == 0 else f"failed with exit code {code}"
        start = "\r\x1b[K" if live else ""
        passed = time.monotonic() - began
        print(f"{start}pkvfuzz: {label}: {how} in {passed:.0f} s", file=sys.stderr, flush=True)
        return code
    raise InfrastructureError(
        f"{label} took over {_STEP_TIMEOUT_S / 60:.0f} minutes and was stopped; it ran\n"
        f"    {process.args!r}\nSee what it waits for by running that by hand"
    )
