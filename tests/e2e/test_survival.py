# SPDX-License-Identifier: Apache-2.0
"""Killed, interrupted, out of disk: nothing found is lost and nothing is left running."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.pkvfuzz_process import (
    COMMAND,
    ROOT,
    environment,
    family,
    pkvfuzz,
    start,
    wait_fuzzing,
    wait_gone,
    wait_until,
)


@pytest.fixture(autouse=True, scope="module")
def _warm_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Builds and templates are made here, so that what is killed below is the fuzzing.
    cwd = tmp_path_factory.mktemp("warm")
    pkvfuzz("run", "--bug", "stale-last", "--programs", 100, cwd=cwd)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_at_once_and_keeps_what_was_found(
    tmp_path: Path, number: signal.Signals
) -> None:
    # Of its own: other tests may be running.
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    process = start("run", "--seed", 1, cwd=tmp_path, TMPDIR=str(temporary))
    wait_fuzzing(process, tmp_path)
    processes = family(process)
    assert any("qemu" in each.name() for each in processes)
    os.killpg(process.pid, number) if number is signal.SIGINT else process.send_signal(number)
    code = process.wait(timeout=20)
    wait_gone(processes)
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output
    assert "of fuzzing" in output
    # It may be over before the judge has begun.
    judged = "no crash" in output
    assert code == (0 if judged else 4)
    assert judged or "was not ready before the end" in output
    assert len(list((tmp_path / "work" / "pkv" / "corpus").iterdir())) >= 10
    assert not list(temporary.iterdir())


def victims(process: subprocess.Popen[str], kind: str) -> list[psutil.Process]:
    found = []
    for each in family(process)[1:]:
        try:
            line = " ".join(each.cmdline())
        except psutil.NoSuchProcess:
            continue
        if kind in line:
            found.append(each)
    return found


def test_killed_machines_workers_and_judges_are_replaced(tmp_path: Path) -> None:
    process = start("run", "--bug", "stale-last", "--seed", 5, cwd=tmp_path)
    wait_fuzzing(process, tmp_path)
    chance = random.Random(1)
    for kind in ("qemu", "fuzzer.engine.worker", "qemu", "fuzzer.campaign.judging", "qemu"):
        time.sleep(2.0)
        found = victims(process, kind)
        if found:
            try:
                chance.choice(found).kill()
            except psutil.NoSuchProcess:
                continue
    time.sleep(3.0)
    corpus = tmp_path / "work" / "pkv-stale-last" / "corpus"
    kept = {path.name for path in corpus.iterdir()}
    assert process.poll() is None, (tmp_path / "output").read_text()
    processes = family(process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 1
    wait_gone(processes)
    output = (tmp_path / "output").read_text()
    assert "Traceback" not in output
    assert "slab-use-after-free" in output
    assert kept


def test_a_killed_process_group_leaves_nothing_running_and_goes_on_later(tmp_path: Path) -> None:
    process = start("run", "--bug", "stale-last", "--seed", 6, cwd=tmp_path)
    wait_fuzzing(process, tmp_path)
    time.sleep(3.0)
    processes = family(process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=10)
    wait_gone(processes)
    workdir = tmp_path / "work" / "pkv-stale-last"
    kept = {path.name for path in (workdir / "corpus").iterdir()}
    done = pkvfuzz("run", "--bug", "stale-last", "--programs", 8_000, cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert len(kept) >= 10
    assert not list((workdir / "pending").iterdir())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[list[str]]:
    """Mount a file system of 64 MiB on tmp_path; returns what a command must be prefixed with.

    Root mounts it; others do so in a user namespace of the command's own.
    """
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "small", str(tmp_path)]
    if os.getuid() == 0:
        subprocess.run(mount, check=True, timeout=10)
        yield []
        # A machine that was killed gives its memory back first, which takes a busy host a while.
        unmount = ["umount", str(tmp_path)]
        wait_until(lambda: subprocess.run(unmount, check=False, timeout=10).returncode == 0)
    else:
        script = f'{" ".join(mount)} && cd {tmp_path} && exec "$@"'
        yield ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh"]


def on_small_disk(
    small_disk: list[str], script: str, directory: Path
) -> subprocess.CompletedProcess[str]:
    """Run a script in the directory that has the small file system."""
    return subprocess.run(
        [*small_disk, "sh", "-c", script],
        cwd=directory,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_a_full_disk_stops_with_3_and_keeps_what_is_stored(
    tmp_path: Path, small_disk: list[str]
) -> None:
    run = " ".join([*COMMAND, "run", "--bug", "stale-last", "--seed", "1", "--time", "120s"])
    script = (
        "(sleep 6; dd if=/dev/zero of=fill bs=64k 2>/dev/null) & "
        f"{run}; code=$?; wait; ls work/pkv-stale-last/corpus | wc -l; exit $code"
    )
    done = on_small_disk(small_disk, script, tmp_path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Free some space" in done.stderr
    assert int(done.stdout.split()[-1]) >= 10
    for record in tmp_path.glob("work/*/crashes/*/crash.json"):
        json.loads(record.read_text())


def test_a_full_disk_ends_minimize_with_3_and_keeps_what_is_stored(
    tmp_path: Path, small_disk: list[str]
) -> None:
    stored = ROOT / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"
    command = " ".join(COMMAND)
    # The crash's directory has another name: it is written in place all the same.
    script = (
        f"cp -r {stored} mine; echo kept > out.prog; dd if=/dev/zero of=fill bs=64k 2>/dev/null; "
        f"{command} minimize mine; echo code $?; "
        f"{command} minimize mine -o out.prog; echo code $?; "
        f"{command} triage mine/report.txt > told; echo code $?; cat out.prog; "
        f"rm fill; diff -r {stored} mine && echo untouched; "
        f"{command} minimize mine; echo code $?; cat mine/crash.json; ls -A mine ."
    )
    done = on_small_disk(small_disk, script, tmp_path)
    told = done.stdout + done.stderr
    codes = [line for line in done.stdout.splitlines() if line.startswith("code ")]
    # What was found is told by the code, whatever becomes of the text.
    assert codes == ["code 3", "code 3", "code 1", "code 1"], told
    assert done.stderr.count("the disk is full. What was stored before is intact.") == 2, told
    assert "mine: the disk is full" in done.stderr
    assert "Traceback" not in told
    assert {"kept", "untouched"} <= set(done.stdout.splitlines())
    assert '"signature": "memory: pkv_store_last' in done.stdout
    assert ".partial" not in done.stdout
