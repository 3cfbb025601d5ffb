# SPDX-License-Identifier: Apache-2.0
"""The processor that KVM offers, as it is part of a template's key."""

from __future__ import annotations

import fcntl
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.driver import provision
from fuzzer.machine import hostcpu
from fuzzer.machine.accel import Accel
from fuzzer.machine.hostcpu import host_cpu
from fuzzer.machine.qemu import Hardware

_CPUINFO = "vendor_id\t: A\nmodel\t: 1\ncpu MHz\t: {mhz}\nflags\t: {flags}\n\nvendor_id\t: B\n"


@pytest.fixture(autouse=True)
def _anew() -> None:
    host_cpu.cache_clear()


def _offer(monkeypatch: pytest.MonkeyPatch, leaves: Sequence[tuple[int, ...]]) -> None:
    def answer(_fd: int, _request: int, data: bytearray) -> int:
        hostcpu._HEAD.pack_into(data, 0, len(leaves), 0)
        for at, leaf in enumerate(leaves):
            hostcpu._ENTRY.pack_into(data, hostcpu._HEAD.size + at * hostcpu._ENTRY.size, *leaf)
        return 0

    monkeypatch.setattr(fcntl, "ioctl", answer)


def _key(device: Path) -> str:
    host_cpu.cache_clear()
    return host_cpu(device)


def test_what_kvm_offers_makes_the_key_and_not_the_core_that_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    _offer(monkeypatch, [(1, 0, 0, 1, 0x00000800, 3, 4), (0xB, 0, 0, 1, 2, 3, 0)])
    first = _key(device)
    _offer(monkeypatch, [(1, 0, 0, 1, 0x01000800, 3, 4), (0xB, 0, 0, 1, 2, 3, 1)])
    assert _key(device) == first
    _offer(monkeypatch, [(1, 0, 0, 1, 0x00000800, 3, 5), (0xB, 0, 0, 1, 2, 3, 0)])
    assert _key(device) != first


def test_where_kvm_does_not_tell_it_is_the_hosts_own_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    monkeypatch.setattr(hostcpu, "_CPUINFO", cpuinfo)
    keys = []
    for mhz, flags in (("1", "a b"), ("2", "b a"), ("1", "a b c")):
        cpuinfo.write_text(_CPUINFO.format(mhz=mhz, flags=flags))
        keys.append(_key(tmp_path / "nothing"))
    assert keys[0] == keys[1] != keys[2]


def test_a_template_of_another_processor_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def keys(processor: str) -> list[str]:
        monkeypatch.setattr(provision, "host_cpu", lambda: processor)
        return [provision._environment_key(Hardware(), accel) for accel in Accel]

    here, elsewhere = keys("one"), keys("two")
    assert [a == b for a, b in zip(here, elsewhere, strict=True)] == [False, True]
