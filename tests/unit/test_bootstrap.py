# SPDX-License-Identifier: Apache-2.0
"""Set-up: which packages are needed and missing, and when an environment is trusted."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fuzzer import bootstrap, packages
from fuzzer.errors import InfrastructureError
from fuzzer.packages import Package
from fuzzer.paths import project_root

GCC = Package("gcc", "compiles", program="gcc")


def elf(*segment_types: int) -> bytes:
    """Return the start of a 64-bit ELF file with these program headers."""
    header = b"\x7fELF\x02".ljust(32, b"\0") + struct.pack("<Q", 64)
    header = header.ljust(54, b"\0") + struct.pack("<HH", 56, len(segment_types))
    return header.ljust(64, b"\0") + b"".join(
        struct.pack("<I", kind).ljust(56, b"\0") for kind in segment_types
    )


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache, and from installing anything."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("PKVFUZZ_CACHE", str(directory))
    monkeypatch.delenv("PKVFUZZ_NO_INSTALL", raising=False)
    return directory


@pytest.fixture
def add_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, bytes], Path]:
    """Return a function that adds a program to a PATH that is empty at first."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", str(directory))

    def add(name: str, content: bytes = b"#!/bin/sh\n") -> Path:
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o755)
        return directory / name

    return add


def add_kernel_source(root: Path, name: str) -> None:
    path = root / "usr/src" / f"{name}.tar.xz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


@pytest.mark.parametrize(
    ("argv", "needs"),
    [
        (["run", "--bug", "stale-last"], True),
        (["--verbose", "replay", "crash"], True),
        (["run", "--help"], False),
        (["--version"], False),
        (["doctor"], False),
        (["no-such-command", "run"], False),
        (["test", "--", "--help"], True),
        (["shell", "--", "ls", "--help"], True),
        (["corpus", "work"], False),
        (["corpus", "work", "--functions"], True),
        (["corpus", "show", "work", "--functions"], True),
        (["corpus", "merge", "work", "other"], True),
        (["corpus", "export", "work", "other"], False),
        ([], False),
    ],
)
def test_only_a_command_that_uses_a_machine_needs_packages(
    argv: Sequence[str], needs: bool
) -> None:
    assert bool(packages.required_packages(argv)) == needs


def test_what_only_the_tests_use_is_needed_for_them_alone() -> None:
    def names(command: str) -> set[str]:
        return {package.name for package in packages.required_packages([command])}

    found = names("test") - names("run") - {"chromium"}
    assert found == {"clang", "gdb", "lz4", "openssl", "sparse", "zstd"}


@pytest.mark.parametrize(
    ("release", "needed"), [("ID=debian\n", True), ("ID=ubuntu\nID_LIKE=debian\n", False)]
)
def test_the_tests_need_a_browser_where_it_is_a_package(
    tmp_path: Path, release: str, needed: bool
) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "os-release").write_text(release)
    names = {
        command: {package.name for package in packages.required_packages([command], tmp_path)}
        for command in ("test", "report")
    }
    assert ("chromium" in names["test"]) == needed
    assert not names["report"]


@pytest.mark.parametrize(
    ("argv", "needs"),
    [
        (["replay", "crash"], set()),
        (["run", "--kernel", "kmsan"], {"clang"}),
        (["run", "--kernel=kmsan"], {"clang"}),
        (["replay", "crash", "--gdb-server"], set()),
        (["replay", "--gdb", "crash"], {"gdb"}),
    ],
)
def test_gdb_and_clang_are_needed_where_they_are_used(argv: Sequence[str], needs: set[str]) -> None:
    required = {package.name for package in packages.required_packages(argv)}
    assert required - {package.name for package in packages.required_packages(["run"])} == needs


@pytest.mark.parametrize("option", [["--kernel-source", "d"], ["--kernel-build=d"]])
def test_a_kernel_of_the_users_own_needs_no_source_package(option: list[str]) -> None:
    required = packages.required_packages(["run", *option])
    assert set(required) == set(packages.PACKAGES)


@pytest.mark.parametrize(
    ("known", "chosen"),
    [
        (["linux-source-6.1", "linux-source-6.12"], "linux-source-6.12"),
        (["linux-source-6.12", "linux-source-7.0"], "linux-source-6.12"),
        (["linux-source-6.8.0", "linux-source-6.11.0", "linux-source"], "linux-source-6.11.0"),
        ([], "linux-source-6.12"),
    ],
)
def test_the_kernel_source_is_6_12_or_else_the_newest(known: list[str], chosen: str) -> None:
    assert packages.choose_kernel_source(known) == chosen


@pytest.mark.usefixtures("add_program")
def test_an_installed_kernel_source_is_taken_when_apt_knows_none(tmp_path: Path) -> None:
    add_kernel_source(tmp_path, "linux-source-6.8.0")
    assert packages.kernel_source_package(tmp_path).name == "linux-source-6.8.0"


def test_apt_is_asked_for_a_kernel_source_once(
    tmp_path: Path, add_program: Callable[[str, bytes], Path]
) -> None:
    add_kernel_source(tmp_path, "linux-source-6.8.0")
    apt_cache = add_program("apt-cache", b"#!/bin/sh\necho linux-source-6.8.0 - the source\n")
    assert packages.kernel_source_package(tmp_path).name == "linux-source-6.8.0"
    apt_cache.write_text("#!/bin/sh\necho linux-source-6.9.0 - asked again\n")
    assert packages.kernel_source_package(tmp_path).name == "linux-source-6.8.0"
    (tmp_path / "usr/src/linux-source-6.8.0.tar.xz").unlink()
    chosen = packages.kernel_source_package(tmp_path)
    assert chosen.name == "linux-source-6.9.0"
    assert packages.missing_packages([chosen], tmp_path) == (chosen,)


def test_a_program_not_on_path_is_missing(add_program: Callable[..., Path]) -> None:
    assert packages.missing_packages([GCC]) == (GCC,)
    add_program("gcc")
    assert packages.missing_packages([GCC]) == ()


def test_a_package_of_files_is_there_with_any_of_them(tmp_path: Path) -> None:
    libc = Package("libc6-dev", "links", files=("usr/lib64/libc.a", "usr/lib/libc.a"))
    assert packages.missing_packages([libc], tmp_path) == (libc,)
    (tmp_path / "usr/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/libc.a").touch()
    assert packages.missing_packages([libc], tmp_path) == ()


@pytest.mark.parametrize(
    ("content", "is_missing"),
    [(elf(1, 1), False), (elf(6, 3, 1), True), (b"#!/bin/sh\n", True)],
    ids=["static", "dynamic", "script"],
)
def test_busybox_must_be_static(
    add_program: Callable[[str, bytes], Path], content: bytes, is_missing: bool
) -> None:
    busybox = Package("busybox-static", "shell", program="busybox", static=True)
    add_program("busybox", content)
    assert bool(packages.missing_packages([busybox])) == is_missing


def test_the_install_command_names_each_package_and_asks_for_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    missing = [GCC, Package("bc", "counts", program="bc")]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert packages.install_command(missing) == (
        "sudo apt-get update && sudo apt-get install --no-install-recommends gcc bc"
    )
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "sudo" not in packages.install_command(missing)


def test_nothing_is_installed_against_the_users_will(
    add_program: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program("apt-get", f"#!/bin/sh\n: >{tmp_path}/ran\n".encode())
    monkeypatch.setenv("PKVFUZZ_NO_INSTALL", "1")
    with pytest.raises(InfrastructureError, match="apt-get install --no-install-recommends gcc"):
        bootstrap.ensure_packages(["doctor"], [GCC])
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("add_program")
def test_a_host_without_apt_is_told_what_is_missing() -> None:
    with pytest.raises(InfrastructureError, match="gcc: compiles\nIt has no apt-get"):
        bootstrap.ensure_packages(["doctor"], [GCC])


def test_without_root_and_sudo_the_command_is_shown(
    add_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_program("apt-get")
    add_program("sudo", b"#!/bin/sh\nexit 1\n")  # it wants a password
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InfrastructureError, match=r"needs root:(.|\n)*sudo apt-get install"):
        bootstrap.ensure_packages(["doctor"], [GCC])


def test_missing_packages_are_installed_as_root(
    add_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = shutil.which("env", path="/usr/bin:/bin")
    assert env
    directory = add_program("apt-get").parent
    # The fake apt-get puts gcc on PATH, if it was told never to ask.
    add_program(
        "apt-get",
        b'#!/bin/sh\n[ "$DEBIAN_FRONTEND" = noninteractive ] || exit 9\n'
        b'case "$*" in *"install -y --no-install-recommends gcc") ;; *) exit 0;; esac\n'
        + f"/bin/cp /bin/true {directory}/gcc\n".encode(),
    )
    (directory / "env").symlink_to(env)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    bootstrap.ensure_packages(["doctor"], [GCC])
    assert packages.missing_packages([GCC]) == ()


def test_what_apt_said_last_is_shown_when_it_fails(
    add_program: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = shutil.which("env", path="/usr/bin:/bin")
    assert env
    apt_get = add_program("apt-get", b"#!/bin/sh\necho E: no network; exit 100\n")
    (apt_get.parent / "env").symlink_to(env)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(InfrastructureError, match=r"did not install gcc(.|\n)*E: no network"):
        bootstrap.ensure_packages(["doctor"], [GCC])


def test_each_lock_and_python_has_its_own_environment(cache: Path) -> None:
    venv = bootstrap.venv_dir(b"pyyaml==6", "3.11.2")
    assert venv.parent == cache
    others = {
        bootstrap.venv_dir(b"pyyaml==7", "3.11.2"),
        bootstrap.venv_dir(b"pyyaml==6", "3.12.0"),
    }
    assert len(others - {venv}) == 2
    assert venv == bootstrap.venv_dir(b"pyyaml==6", "3.11.2")


def test_an_interrupted_environment_is_made_again(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.lock"
    requirements.touch()
    venv = bootstrap.venv_dir(b"", "3")
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").symlink_to(sys.executable)
    (venv / "left-over").touch()
    assert not bootstrap.is_complete(venv)
    bootstrap.ensure_venv(venv, requirements)
    assert bootstrap.is_complete(venv)
    assert not (venv / "left-over").exists()


def test_an_environment_whose_python_is_gone_is_not_trusted() -> None:
    venv = bootstrap.venv_dir(b"", "3")
    (venv / "bin").mkdir(parents=True)
    (venv / ".complete").touch()
    (venv / "bin/python").symlink_to(venv / "removed")
    assert not bootstrap.is_complete(venv)


def test_an_environment_that_cannot_be_filled_is_not_complete(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.lock"
    requirements.write_text("no hash here==1\n")
    venv = bootstrap.venv_dir(b"", "3")
    with pytest.raises(InfrastructureError, match=r"installing Python packages in .* failed"):
        bootstrap.ensure_venv(venv, requirements)
    assert not bootstrap.is_complete(venv)


def test_the_lock_has_hashes_and_names_no_index() -> None:
    lines = (project_root() / "requirements.lock").read_text().splitlines()
    wanted = [line for line in lines if not line.startswith((" ", "#"))]
    assert len(wanted) > 10
    assert all("==" in line and line.endswith(" \\") for line in wanted)
    assert not [line for line in lines if line.startswith("-") or "://" in line]


def test_set_up_imports_nothing_but_the_standard_library() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import fuzzer.bootstrap"
    argv = [sys.executable, "-I", "-S", "-c", code, str(project_root())]
    subprocess.run(argv, check=True, timeout=60)
