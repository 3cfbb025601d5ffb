# SPDX-License-Identifier: Apache-2.0
"""The guest's root file system: the executor as ``/init``, and busybox for a shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from fuzzer.cache import build_once, content_key, file_stamp
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.source import compiler_version
from fuzzer.paths import project_root
from fuzzer.tools import find_tool, tool_error

# Commands for a shell, and for what tests and benchmarks run in a guest.
APPLETS = (
    *("awk", "base64", "basename", "cat", "chmod", "cp", "cut", "dd", "df", "dmesg", "echo", "env"),
    *("false", "find", "free", "grep", "head", "hexdump", "id", "insmod", "kill", "ln", "ls"),
    *("lsmod", "md5sum", "mkdir", "mknod", "mount", "mv", "od", "poweroff", "printf", "ps", "rm"),
    *("rmdir", "rmmod", "sed", "seq", "sh", "sleep", "sort", "stat", "strings", "sync", "sysctl"),
    *("tail", "tar", "taskset", "test", "time", "timeout", "top", "touch", "tr", "true"),
    *("umount", "uname", "uniq", "usleep", "wc", "xargs", "xxd", "yes"),
)
CFLAGS = ("-static", "-pthread", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")


def executor_sources() -> list[Path]:
    """Return the executor's C files and headers."""
    directory = project_root() / "vm"
    return [directory / "channel.h", *sorted((directory / "executor").glob("*.[ch]"))]


def ensure_initrd() -> tuple[Path, str]:
    """Return the guest's initial file system (a cpio archive) and its key.

    Raises:
        InfrastructureError: the executor does not compile, or a tool is missing.
    """
    busybox = find_tool("busybox", "building the guest's file system").resolve()
    sources = executor_sources()
    key = content_key(
        *(source.read_bytes() for source in sources),
        " ".join((*CFLAGS, *APPLETS)),
        compiler_version(),
        file_stamp(busybox),
    )

    def build(directory: Path) -> None:
        root = directory / "root"
        (root / "bin").mkdir(parents=True)
        shutil.copy(busybox, root / "bin" / "busybox")
        for applet in APPLETS:
            (root / "bin" / applet).symlink_to("busybox")
        code = [str(source) for source in sources if source.suffix == ".c"]
        _run(["gcc", *CFLAGS, *code, "-o", str(root / "init")], None)
        names = "\n".join(str(path.relative_to(root)) for path in [root, *sorted(root.rglob("*"))])
        archive = _run(
            ["cpio", "-o", "-H", "newc", "-R", "0:0", "--quiet", "--reproducible"],
            names.encode(),
            root,
        )
        (directory / "initrd").write_bytes(archive)

    directory = build_once("initrd", key, build, keep=3)
    return directory / "initrd", key


def _run(command: list[str], stdin: bytes | None, cwd: Path | None = None) -> bytes:
    try:
        done = subprocess.run(
            command, input=stdin, cwd=cwd, capture_output=True, timeout=120, check=False
        )
    except OSError as error:
        raise tool_error(command[0], "building the guest's file system", error) from error
    if done.returncode:
        text = done.stderr.decode(errors="replace").strip()
        raise InfrastructureError(f"building the guest's file system: {command[0]}: {text}")
    return done.stdout
