# SPDX-License-Identifier: Apache-2.0
"""The host's time stamp counter."""

from __future__ import annotations

import mmap
import platform
from typing import Any

import pytest

from fuzzer.machine.hostclock import counter_khz


def test_measurements_agree() -> None:
    first, second = counter_khz(), counter_khz()
    assert first is not None
    assert second is not None
    assert first > 100_000
    assert abs(first - second) < first / 1000


def test_a_host_that_forbids_it_has_no_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: Any, **_named: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(mmap, "mmap", refuse)
    assert counter_khz() is None


def test_another_architecture_has_no_frequency(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert counter_khz() is None
