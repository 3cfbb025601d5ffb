# SPDX-License-Identifier: Apache-2.0
"""Set-up before anything else runs: Debian packages and the virtual environment.

The launcher imports this with nothing installed, so it needs the standard
library alone, and imports what only a first start needs when it needs it:
every later start pays for this module.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fuzzer.errors import InfrastructureError, PkvfuzzError
from fuzzer.packages import (
    Package,
    install_command,
    missing_packages,
    required_packages,
    venv_packages,
)
from fuzzer.paths import cache_dir, project_root

if TYPE_CHECKING:
    import subprocess

_STEP_TIMEOUT_S = 1800.0
_TAIL_LINES = 12


def ensure_packages(argv: Sequence[str], extra: Sequence[Package] = ()) -> None:
    """Install the packages that ``argv`` (and ``extra``) needs and that are missing.

    Raises InfrastructureError, with the command to run, where they cannot be
    installed or ``PKVFUZZ_NO_INSTALL`` is set.
    """

    def look() -> tuple[Package, ...]:
        return missing_packages((*extra, *required_packages(argv)))

    ensure_installed(look)


def ensure_installed(look: Callable[[], Sequence[Package]]) -> None:
    """Install the packages that ``look`` finds missing; it is asked again after each step.

    Raises InfrastructureError as ``ensure_packages`` does.
    """
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
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
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
    # Ctrl-C waits until the command can tell of it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    # -P: a user's own fuzzer/ in the current directory is not ours.
    os.execve(python, [python, "-P", "-m", "fuzzer", *argv], environment)


def _listed(packages: Sequence[Package]) -> str:
    return "\n".join(f"    {package.name}: {package.why}" for package in packages)


def _root_prefix() -> list[str] | None:
    """Return the prefix by which root runs a command, None if there is none."""
    environment = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() == 0:
        return environment
    if shutil.which("sudo") is None:
        return None
    import subprocess

    try:
        subprocess.run(["sudo", "-n", "true"], capture_output=True, check=True, timeout=60)
    except subprocess.SubprocessError:
        return None
    return ["sudo", "-n", *environment]


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
    import math
    import subprocess

    from fuzzer.progress import LiveLine

    # In a log the start and the end are enough.
    line = LiveLine(log_every=math.inf)
    began = time.monotonic()
    if not sys.stderr.isatty():
        line.say(f"pkvfuzz: {label} ...")
    while (passed := time.monotonic() - began) < _STEP_TIMEOUT_S:
        if line.is_due():
            line.show(f"pkvfuzz: {label}: {passed:.0f} s")
        try:
            code = process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            continue
        how = "done" if code == 0 else f"failed with exit code {code}"
        line.say(f"pkvfuzz: {label}: {how} in {time.monotonic() - began:.0f} s")
        return code
    raise InfrastructureError(
        f"{label} took over {_STEP_TIMEOUT_S / 60:.0f} minutes and was stopped; it ran\n"
        f"    {process.args!r}\nSee what it waits for by running that by hand"
    )
