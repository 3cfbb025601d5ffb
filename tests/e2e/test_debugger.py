# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz replay --gdb`` and ``--gdb-server``, with the real gdb."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from fuzzer.paths import project_root
from tests.e2e.pkvfuzz_process import (
    COMMAND,
    environment,
    family,
    pkvfuzz,
    start,
    wait_gone,
    wait_until,
)

CRASHES = project_root() / "crashes"
STALE_LAST = CRASHES / "kasan-slab-use-after-free-read-in-pkv-store-last"
TIMEOUT = 120


@pytest.fixture
def gdb(tmp_path: Path) -> Iterator[pexpect.spawn[str]]:
    """Return ``replay --gdb`` of a stored crash, on a terminal of its own."""
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "replay", str(STALE_LAST), "--gdb"],
        cwd=str(tmp_path),
        env={**environment(TERM="dumb", HOME=str(tmp_path), **_cache()), "DEBUGINFOD_URLS": "x"},
        encoding="utf-8",
        timeout=TIMEOUT,
        # What gdb says of where the guest stands does not fit.
        dimensions=(4, 80),
    )
    yield child
    child.close(force=True)


def _cache() -> dict[str, str]:
    # gdb shall not read the user's ~/.gdbinit, but the cache is in the home directory.
    return {"PKVFUZZ_CACHE": os.environ.get("PKVFUZZ_CACHE", str(Path.home() / ".cache/pkvfuzz"))}


def _ask(gdb: pexpect.spawn[str], command: str) -> str:
    gdb.sendline(command)
    gdb.expect_exact("(gdb) ")
    return str(gdb.before)


def test_gdb_stops_in_the_guilty_function_and_ctrl_c_is_for_it(gdb: pexpect.spawn[str]) -> None:
    gdb.expect_exact("Breakpoint 1, pkv_store_last (")
    gdb.expect(r"pkv_store\.c:\d+")
    gdb.expect_exact("(gdb) ")
    # From here on the screen is the user's.
    _ask(gdb, "set pagination off")
    assert "ssize_t pkv_store_last(" in _ask(gdb, "list")
    _ask(gdb, "set confirm off")
    trace = _ask(gdb, "backtrace")
    for function in ("pkv_do_read", "pkv_read", "vfs_read", "do_syscall_64"):
        assert f"{function} (" in trace
    assert "No symbol" not in _ask(gdb, "print *store")
    _ask(gdb, "delete")
    _ask(gdb, "hbreak kasan_report")
    # What KASAN complains of is right behind the breakpoint, in that function.
    assert "kasan_report (" in _ask(gdb, "continue")
    assert "pkv_store_last (" in _ask(gdb, "backtrace")
    _ask(gdb, "delete")
    gdb.sendline("continue")
    gdb.expect_exact("Continuing.")
    parent = psutil.Process(gdb.pid)
    started = parent.children(recursive=True)
    assert any("qemu" in process.name() for process in started)
    gdb.sendintr()
    gdb.expect_exact("SIGINT")
    gdb.expect_exact("(gdb) ")
    gdb.sendline("detach")
    gdb.expect_exact("detached")
    gdb.sendline("quit")
    gdb.expect_exact("the guest is ended")
    gdb.expect(pexpect.EOF)
    assert gdb.wait() == 0
    wait_gone(started)


def test_a_gdb_that_the_user_starts_finds_source_and_line(tmp_path: Path) -> None:
    process = start("replay", CRASHES / STALE_LAST.name, "--gdb-server", cwd=tmp_path)
    output = tmp_path / "output"

    def line() -> str:
        assert process.poll() is None, output.read_text()
        return next((each for each in output.read_text().splitlines() if each[:4] == "gdb "), "")

    wait_until(lambda: bool(line()))
    processes = family(process)
    command = shlex.split(line())
    done = subprocess.run(
        [*command, "-nx", "-batch", "-ex", "info line", "-ex", "backtrace 1"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert "Breakpoint 1, pkv_store_last (" in done.stdout, done.stdout + done.stderr
    assert 'pkv_store.c" starts at address' in done.stdout.replace("\n  ", "")
    assert process.wait(TIMEOUT) == 0
    assert "Traceback" not in output.read_text()
    assert not Path(command[-1]).parent.exists()
    wait_gone(processes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_server_that_nobody_came_to(tmp_path: Path, number: signal.Signals) -> None:
    process = start("replay", STALE_LAST, "--gdb-server", cwd=tmp_path)
    output = tmp_path / "output"
    wait_until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None)
    processes = family(process)
    process.send_signal(number)
    assert process.wait(TIMEOUT) == (0 if number == signal.SIGINT else 128 + number)
    text = output.read_text()
    assert "Traceback" not in text
    (script,) = (line.split()[-1] for line in text.splitlines() if line.startswith("gdb "))
    assert not Path(script).parent.exists()
    wait_gone(processes)


def test_a_program_that_nothing_is_known_of_is_stopped_before_it(tmp_path: Path) -> None:
    program = tmp_path / "quiet.prog"
    program.write_text('write(f0, "a=1\\n")\n')
    process = start("replay", program, "--gdb-server", cwd=tmp_path)
    output = tmp_path / "output"
    wait_until(lambda: "Ctrl-C" in output.read_text() or process.poll() is not None)
    text = output.read_text()
    assert "right before the program, because no report names a function" in text
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT) == 0


def test_without_gdb_it_says_what_installs_it(tmp_path: Path) -> None:
    done = pkvfuzz("replay", STALE_LAST, "--gdb", cwd=tmp_path, PATH=str(tmp_path))
    assert done.returncode == 3
    assert "gdb is not on PATH" in done.stderr
    assert "apt-get install" in done.stderr
    assert "--gdb-server" in done.stderr


@pytest.mark.parametrize(
    "options", [("--gdb", "--trace"), ("--gdb", "--gdb-server"), ("--gdb-server", "--times", "2")]
)
def test_options_that_exclude_gdb_are_told(tmp_path: Path, options: tuple[str, ...]) -> None:
    done = pkvfuzz("replay", STALE_LAST, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert "excludes" in done.stderr
