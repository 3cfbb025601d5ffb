# SPDX-License-Identifier: Apache-2.0
"""A QEMU that somebody killed: told as such, and its process is replaced."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from fuzzer.engine.worker import error_file, give_up
from fuzzer.errors import InfrastructureError
from fuzzer.machine import boot
from fuzzer.machine.accel import Accel
from fuzzer.machine.qemu import Hardware, QemuKilledError


class _Qemu:
    """A QEMU whose console is at its end."""

    def __init__(self) -> None:
        self.console, theirs = socket.socketpair()
        theirs.send(b"first\r\nlast words\r\n")
        theirs.close()

    def lost(self, what: str) -> InfrastructureError:
        return QemuKilledError(f"{what}: QEMU was killed by signal 9")


class _Machine:
    def __init__(self) -> None:
        self.qemu, self.hardware, self.accel = _Qemu(), Hardware(), Accel.TCG


def test_a_qemu_killed_while_the_guest_boots_is_no_time_that_passed() -> None:
    machine: Any = _Machine()
    with (
        machine.qemu.console,
        pytest.raises(QemuKilledError, match=r"while it booted \(last words\): QEMU was killed"),
    ):
        boot._await_boot(machine)


@pytest.mark.parametrize(
    ("error", "is_told"),
    [(QemuKilledError("killed by signal 9"), False), (InfrastructureError("no QEMU"), True)],
)
def test_a_process_whose_qemu_was_killed_leaves_no_error_that_ends_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, *, is_told: bool
) -> None:
    def leave(code: int) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(SystemExit) as ended:
        give_up(tmp_path, "judge", error)
    assert ended.value.code == 3
    assert error_file(tmp_path, "judge").exists() == is_told
