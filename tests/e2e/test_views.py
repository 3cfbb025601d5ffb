# SPDX-License-Identifier: Apache-2.0
"""A campaign that is left alone: watched from outside, told of crashes, its terminal closed."""

from __future__ import annotations

import json
import re
import signal
import socket
import urllib.error
import urllib.request
from pathlib import Path

import pexpect

from fuzzer.crash.store import CrashStore
from fuzzer.state.reader import read_state
from tests.e2e.pkvfuzz_process import (
    COMMAND,
    environment,
    pkvfuzz,
    start,
    wait_fuzzing,
    wait_until,
)

# Of these bugs the second one is stored with the project, and so a known one.
NEW, KNOWN = (("run", "--bug", bug, "--seed", 1) for bug in ("delete-length", "stale-last"))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def programs_of(port: int) -> float:
    try:
        url = f"http://127.0.0.1:{port}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
    except urllib.error.URLError:
        return 0.0
    values = [line.split()[1] for line in text.splitlines()
              if line.startswith("pkvfuzz_programs_total ")]  # fmt: skip
    return float(values[0]) if values else 0.0


def test_a_campaign_under_nohup_is_seen_from_outside(tmp_path: Path) -> None:
    port = free_port()
    tell = 'echo "$PKVFUZZ_CRASH_SEVERITY $PKVFUZZ_CRASH_PATH" >> told'
    more = ("--json", "--metrics", port, "--on-crash", tell)
    process = start(*NEW, *more, cwd=tmp_path, prefix=("nohup",))
    wait_fuzzing(process, tmp_path)
    wait_until(lambda: programs_of(port) > 0)
    process.send_signal(signal.SIGHUP)
    before = programs_of(port)
    wait_until(lambda: programs_of(port) > before)
    workdir = tmp_path / "work" / "pkv-delete-length"
    second = pkvfuzz(*NEW, cwd=tmp_path)
    assert second.returncode == 2
    assert "in use by another campaign" in second.stderr
    wait_until((tmp_path / "told").exists, timeout=300)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 1, (tmp_path / "output").read_text()
    told = (tmp_path / "told").read_text().splitlines()
    stored = {str(path) for path, _ in CrashStore(workdir / "crashes").entries()}
    assert {line.split()[1] for line in told} <= stored
    assert len(told) == len(set(told))
    lines = (tmp_path / "output").read_text().splitlines()
    objects = [json.loads(line) for line in lines if line.startswith("{")]
    # There is a note where the host is busy.
    assert {each["type"] for each in objects} - {"note"} == {"status", "crash", "end"}
    assert objects[-1]["type"] == "end"
    assert objects[-1]["crashes"][0]["reproduced"]
    state = read_state(workdir)
    assert state.runs[-1].ended_by == "the user ended it"
    assert state.last is not None
    assert state.last.programs >= before
    other = pkvfuzz("run", "--bug", "key-overflow", "--workdir", workdir, cwd=tmp_path)
    assert other.returncode == 2
    assert "against pkv with delete-length, and this one is against pkv with key-overflow" in (
        other.stderr
    )


def test_a_terminal_has_a_screen_that_is_gone_at_the_end(tmp_path: Path) -> None:
    arguments = [*COMMAND[1:], *map(str, KNOWN), "--programs", "20000"]
    child = pexpect.spawn(
        COMMAND[0],
        arguments,
        cwd=str(tmp_path),
        env=environment(TERM="xterm-256color", NO_COLOR="1"),
        timeout=300,
        dimensions=(24, 80),
        encoding="utf-8",
    )
    child.expect(pexpect.EOF)
    # Without colour there is bold.
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", child.before or "")
    assert re.search(r"coverage +\d+ of \d+ blocks", text), text
    assert re.search(r"worker-0 +(serial|races|preloaded|seeds)", text), text
    assert re.search(r"crash: KASAN: slab-use-after-free Read in pkv_store_last \(", text), text
    assert re.search(r"of fuzzing: [\d,]+ programs", text), text
    child.close()
    assert child.exitstatus == 1
