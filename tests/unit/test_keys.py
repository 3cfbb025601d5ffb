# SPDX-License-Identifier: Apache-2.0
"""Tests of keys on the screen, on a pseudo-terminal, and of what they put back."""

from __future__ import annotations

import io
import os
import pty
import signal
import termios
import time
from pathlib import Path

from fuzzer.campaign.snapshot import Snapshot
from fuzzer.crash.store import CrashStore
from fuzzer.engine.aside import PutBack, SetAside, read_put_back
from fuzzer.report.display import LogDisplay
from fuzzer.report.keys import KeyReader
from fuzzer.report.status import StatusView


def in_terminal(child_sends: bytes) -> bytes:
    """Return what keys are read from a terminal of our own, and whether it is left as it was."""
    # In a session of its own, a child has the terminal's foreground.
    child, terminal = pty.fork()
    if child == 0:
        before = termios.tcgetattr(0)
        stream = os.fdopen(0)
        keys = KeyReader(stream)
        os.write(1, b"first:" + keys.pressed().encode() + b";")
        found = ""
        deadline = time.monotonic() + 30
        while len(found) < len(child_sends) and time.monotonic() < deadline:
            found += keys.pressed()
        keys.close()
        same = termios.tcgetattr(0) == before
        os.write(1, f"found:{found};same:{same};reads:{keys.are_read};".encode())
        os._exit(0)
    output = b""
    try:
        while b"first:" not in output:
            output += os.read(terminal, 100)
        os.write(terminal, child_sends)
        while b"reads:" not in output or not output.endswith(b";"):
            output += os.read(terminal, 100)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    return output


def test_keys_are_read_without_enter_and_without_waiting() -> None:
    output = in_terminal(b"xb")
    # Nothing is echoed.
    assert output == b"first:;found:xb;same:True;reads:True;"


def test_no_key_is_read_from_a_file() -> None:
    keys = KeyReader(io.StringIO("b"))
    assert not keys.are_read
    assert keys.pressed() == ""
    keys.close()


def test_no_key_is_read_in_the_background() -> None:
    master, slave = pty.openpty()
    with os.fdopen(master, "wb"), os.fdopen(slave) as terminal:
        # It is not the terminal of this process.
        keys = KeyReader(terminal)
        assert not keys.are_read
        assert keys.pressed() == ""
        keys.close()


class Pressed(LogDisplay):
    """A log on which a key is pressed."""

    def pressed(self) -> str:
        """Return the key."""
        return "b"


def test_a_key_puts_back_what_is_set_aside_once(tmp_path: Path) -> None:
    out = io.StringIO()
    view = StatusView(CrashStore(tmp_path / "crashes"), Pressed(out))
    view.show(Snapshot())
    assert read_put_back(tmp_path) == PutBack()
    snapshot = Snapshot(aside=SetAside({"BUG in f": 30}))
    view.show(snapshot)
    view.show(snapshot)
    assert read_put_back(tmp_path) == PutBack(("BUG in f",))
    assert out.getvalue().count("put back: BUG in f; what leads there is tried as often") == 1
    view.show(Snapshot(aside=SetAside({"BUG in g": 30})))
    assert read_put_back(tmp_path).titles == ("BUG in f", "BUG in g")
