# SPDX-License-Identifier: Apache-2.0
"""The sandbox of builds: what a stranger's program sees there, and what it can do."""

from __future__ import annotations

import os
import socket
import stat
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from fuzzer.errors import InfrastructureError
from fuzzer.sandbox import Finished, KernelView, Sandbox, ensure_sandbox

RELEASE = "6.99.0-other"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a directory to build in."""
    path = tmp_path / "place"
    path.mkdir()
    return path


@pytest.fixture
def sandbox(tmp_path: Path, place: Path) -> Sandbox:
    """Return a sandbox with a kernel."""
    for name in ("build", "source"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Makefile").write_text(f"{name}:\n")
    view = KernelView(RELEASE, tmp_path / "build", tmp_path / "source")
    return Sandbox(place, kernel=view)


def shell(sandbox: Sandbox, script: str, timeout: float = 30.0) -> Finished:
    return sandbox.run(["sh", "-c", script], sandbox.writable, timeout)


def said(sandbox: Sandbox, script: str) -> str:
    done = shell(sandbox, script)
    assert done.status == 0, done.output
    return done.output.strip()


def test_there_is_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port}"
        done = sandbox.run(["bash", "-c", script], sandbox.writable, 30)
        assert done.status != 0
        assert "Connection refused" in done.output or "unreachable" in done.output
    assert said(sandbox, "tail -n +3 /proc/net/dev | cut -d: -f1").split() == ["lo"]


def test_a_program_is_nobody_and_can_do_nothing(sandbox: Sandbox) -> None:
    assert said(sandbox, "id -u; id -g") == "65534\n65534"
    capabilities = said(sandbox, "grep ^Cap /proc/self/status").splitlines()
    assert {line.split()[1] for line in capabilities} == {"0" * 16}
    assert shell(sandbox, "mount -t tmpfs none /tmp").status != 0
    # Other processes are not seen, so none can be killed.
    numbers = said(sandbox, "ls -d /proc/[0-9]*").split()
    assert len(numbers) < 6


def test_neither_home_directories_nor_other_files_are_seen(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("secret")
    monkeypatch.setenv("PKVFUZZ_SECRET", "secret")
    assert said(sandbox, "echo $HOME") == "/tmp"
    assert said(sandbox, "env | grep PKVFUZZ_SECRET || true") == ""
    assert said(sandbox, "grep -l PKVFUZZ_SECRET /proc/[0-9]*/environ || true") == ""
    home = Path.home()
    for path in (home, tmp_path / "secret", Path("/etc/passwd"), Path("/home"), Path("/var")):
        assert shell(sandbox, f"test -e {path}").status == 1, path
    # What is seen besides is what leads to the writable directory, and nothing else in it.
    assert said(sandbox, f"ls {tmp_path}").split() == ["build", "place", "source"]


def test_only_the_copy_can_be_written_to(sandbox: Sandbox, place: Path, tmp_path: Path) -> None:
    temporary = Path("/tmp") / f"pkvfuzz-{uuid.uuid4().hex}"
    said(sandbox, f"echo made > made; mkdir below; echo x > {temporary}; cat {temporary}")
    assert (place / "made").read_text() == "made\n"
    assert not temporary.exists()
    kernel = sandbox.kernel
    assert kernel
    for path in (Path("/x"), Path("/usr/x"), Path("/etc/x"), Path("/home/x"), kernel.build / "x"):
        assert shell(sandbox, f"echo x > {path}").status != 0, path
        assert not path.exists()
    # It has a /tmp of its own.
    said(sandbox, f"echo x > {tmp_path}/x")
    assert not (tmp_path / "x").exists()


def test_files_that_are_made_belong_to_the_user(sandbox: Sandbox, place: Path) -> None:
    said(sandbox, "echo made > made")
    assert (place / "made").stat().st_uid == os.getuid()


def test_a_readable_directory_is_seen_and_not_written_to(place: Path, tmp_path: Path) -> None:
    (tmp_path / "shown").mkdir()
    (tmp_path / "shown" / "file").write_text("seen")
    sandbox = Sandbox(place, readable=(tmp_path / "shown",))
    assert said(sandbox, f"cat {tmp_path}/shown/file") == "seen"
    assert shell(sandbox, f"rm {tmp_path}/shown/file").status != 0


def test_the_kernel_is_the_one_that_runs(sandbox: Sandbox) -> None:
    assert said(sandbox, "uname -r") == RELEASE
    assert said(sandbox, "uname --kernel-release") == RELEASE
    everything = said(sandbox, "uname -a").split()
    assert everything[:3] == ["Linux", "pkvfuzz", RELEASE]
    assert said(sandbox, "uname -s; uname -m").split() == ["Linux", os.uname().machine]
    assert said(sandbox, "ls /lib/modules") == RELEASE
    assert said(sandbox, "cat /lib/modules/$(uname -r)/build/Makefile") == "build:"
    assert said(sandbox, "cat /lib/modules/$(uname -r)/source/Makefile") == "source:"
    assert said(sandbox, "cat /usr/src/linux-headers-$(uname -r)/Makefile") == "build:"
    assert said(sandbox, "cat /usr/src/linux/Makefile") == "build:"


def test_without_a_kernel_there_is_none(place: Path) -> None:
    assert said(Sandbox(place), "ls -d /lib/modules /lib/modules/* 2>/dev/null || true") == ""


def test_variables_reach_the_program(place: Path) -> None:
    sandbox = Sandbox(place, environment={"MAKEFLAGS": "k -- A=b\\ c"})
    assert said(sandbox, 'echo "$MAKEFLAGS"') == "k -- A=b\\ c"


def children(place: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter():
        try:
            if str(place) in process.cmdline():
                yield process
        except psutil.Error:
            continue


def test_after_its_time_all_is_killed(sandbox: Sandbox, place: Path) -> None:
    # In a session of its own, deaf to signals, holding the output open.
    loop = 'trap "" TERM HUP INT; while :; do sleep 1; done'
    begun = time.monotonic()
    done = shell(sandbox, f"setsid sh -c '{loop}' {place} & echo first; wait", 1.0)
    assert done.timed_out
    assert done.output == "first\n"
    assert time.monotonic() - begun < 10
    deadline = time.monotonic() + 5
    while list(children(place)):
        assert time.monotonic() < deadline, "left running"
        time.sleep(0.05)


def test_what_is_left_in_the_background_ends_with_the_command(
    sandbox: Sandbox, place: Path
) -> None:
    begun = time.monotonic()
    done = shell(sandbox, f"setsid sh -c 'sleep 77; :' {place} & echo done")
    assert (done.status, done.output) == (0, "done\n")
    assert time.monotonic() - begun < 10
    assert not list(children(place))


def test_of_a_long_output_the_end_is_kept(sandbox: Sandbox) -> None:
    done = shell(sandbox, "seq 1 1000000; echo end >&2")
    assert len(done.output) == 4 << 20
    assert done.output.endswith("999999\n1000000\nend\n")


def test_output_that_is_no_text_and_a_failure_are_returned(sandbox: Sandbox) -> None:
    done = shell(sandbox, r"printf 'a\377b'; exit 3")
    assert done == Finished(3, "a�b")


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Return a directory that alone is on PATH, with the host looked at anew."""
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    ensure_sandbox.cache_clear()
    yield tools
    ensure_sandbox.cache_clear()


def fake_bwrap(tools: Path, script: str) -> None:
    path = tools / "bwrap"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_a_host_without_bwrap_is_told_what_to_install(fresh: Path, sandbox: Sandbox) -> None:
    with pytest.raises(InfrastructureError, match="apt-get install bubblewrap"):
        shell(sandbox, "true")


def test_a_host_that_refuses_namespaces_is_told_what_to_allow(
    fresh: Path, sandbox: Sandbox
) -> None:
    fake_bwrap(fresh, "echo 'bwrap: No permissions to create new namespace' >&2; exit 1")
    with pytest.raises(
        InfrastructureError, match=r"No permissions to create new namespace\. .*unprivileged_userns"
    ):
        shell(sandbox, "true")
    fake_bwrap(fresh, "exit 1")
    with pytest.raises(InfrastructureError, match=r"it said nothing\. .*or run as root"):
        shell(sandbox, "true")


def test_a_bwrap_that_hangs_or_is_none_is_an_error(fresh: Path, sandbox: Sandbox) -> None:
    fake_bwrap(fresh, "exec /bin/sleep 60")
    with pytest.raises(InfrastructureError, match=r"running bwrap.*timed out"):
        ensure_sandbox(0.2)
    (fresh / "bwrap").write_bytes(b"\177ELF")
    with pytest.raises(InfrastructureError, match=r"running bwrap.*format"):
        shell(sandbox, "true")


def test_what_a_build_leaves_leads_us_nowhere(
    sandbox: Sandbox, place: Path, tmp_path: Path
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("untouched")
    kernel = sandbox.kernel
    assert kernel is not None
    said(
        sandbox,
        f"echo 1 > made; ln -s made inside; ln -s {kernel.build} kernel; mkdir below;"
        f" ln -s {canary} build.log; ln -s ../.. below/up; ln -s {tmp_path}/new below/new;"
        " mkfifo pipe below/pipe; ln -s /dev/zero zero; ln -s /etc/hostname name; ln -s loop loop",
    )
    left = {str(path.relative_to(place)) for path in place.rglob("*")}
    assert left == {"made", "inside", "kernel", "below", "loop"}
    assert canary.read_text() == "untouched"


def test_what_a_killed_build_leaves_leads_us_nowhere(sandbox: Sandbox, place: Path) -> None:
    assert shell(sandbox, "ln -s /etc/hostname name; mkfifo pipe; sleep 60", 1.0).timed_out
    assert list(place.iterdir()) == []
