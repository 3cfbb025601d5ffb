# SPDX-License-Identifier: Apache-2.0
"""The accelerator: chosen by running something on it, here a QEMU made of shell."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine import accel
from fuzzer.machine.accel import Accel, choose_accel, probe_kvm


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Return a device that looks as if KVM were there."""
    path = tmp_path / "kvm"
    path.touch()
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a cache that is not there yet."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("PKVFUZZ_CACHE", str(directory))
    monkeypatch.setattr(accel, "_probe_image", lambda: tmp_path / "probe.bin")
    return directory


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Return the file in which the fake QEMU counts how often it ran."""
    return tmp_path / "runs"


def _fake_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    directory = tmp_path / "bin"
    directory.mkdir(exist_ok=True)
    qemu = directory / "qemu-system-x86_64"
    qemu.write_text(f"#!/bin/sh\necho ran >> {tmp_path / 'runs'}\n{script}\n")
    qemu.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


def test_a_named_one_is_not_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _fake_qemu(tmp_path, monkeypatch, "exit 1")
    for name in Accel:
        choice = choose_accel(name)
        assert (choice.accel, choice.degraded) == (name, False)
    assert not (tmp_path / "runs").exists()


def test_another_name_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"--accel xen: allowed are auto, kvm and tcg"):
        choose_accel("xen")


def test_without_a_device_it_is_tcg(tmp_path: Path) -> None:
    choice = probe_kvm(tmp_path / "nothing")
    assert choice.accel is Accel.TCG
    assert "nothing does not exist" in choice.reason
    assert not choice.degraded


def test_a_device_that_cannot_be_opened_is_tcg_and_says_how_to_change_that(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # root can open anything, so permissions alone do not show it
    monkeypatch.setattr(os, "access", lambda *_: False)
    choice = probe_kvm(device)
    assert choice.accel is Accel.TCG
    assert choice.degraded
    assert "usermod -aG kvm" in choice.reason


def test_a_probe_that_ends_well_is_kvm(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_qemu(tmp_path, monkeypatch, f"exit {accel._EXIT_STATUS}")
    choice = probe_kvm(device)
    assert (choice.accel, choice.degraded) == (Accel.KVM, False)


def test_a_probe_that_crawls_is_ended_and_is_tcg(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fake_qemu(tmp_path, monkeypatch, "exec sleep 600")
    choice = probe_kvm(device, deadline=0.5)
    assert choice.accel is Accel.TCG
    assert choice.degraded
    assert "did not end in" in choice.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("echo first >&2; echo no such CPU >&2; exit 1", "no such CPU"),
        ("exit 0", "status 0"),
        ("kill -SEGV $$", "status -11"),
    ],
)
def test_a_probe_that_fails_is_tcg_with_qemus_words(
    device: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, reason: str
) -> None:
    _fake_qemu(tmp_path, monkeypatch, script)
    choice = probe_kvm(device)
    assert choice.accel is Accel.TCG
    assert choice.degraded
    assert reason in choice.reason


def test_without_qemu_it_is_an_error(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InfrastructureError, match="apt-get install qemu-system-x86"):
        probe_kvm(device)


def test_the_answer_is_kept_until_the_device_changes(
    device: Path, tmp_path: Path, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKVFUZZ_KVM_DEVICE", str(device))
    _fake_qemu(tmp_path, monkeypatch, f"exit {accel._EXIT_STATUS}")
    first = choose_accel()
    assert first.accel is Accel.KVM
    assert choose_accel() == first
    assert runs.read_text() == "ran\n"
    device.unlink()
    assert choose_accel().accel is Accel.TCG
    device.touch()
    assert choose_accel().accel is Accel.KVM
    assert runs.read_text() == "ran\nran\n"


def test_a_probe_that_was_slow_once_is_repeated_after_some_minutes(
    device: Path,
    tmp_path: Path,
    cache: Path,
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PKVFUZZ_KVM_DEVICE", str(device))
    _fake_qemu(tmp_path, monkeypatch, "echo starved >&2; exit 1")
    assert choose_accel().degraded
    _fake_qemu(tmp_path, monkeypatch, f"exit {accel._EXIT_STATUS}")
    assert choose_accel().degraded
    (stored,) = cache.glob("accel-*.json")
    long_ago = time.time() - accel._RETRY_SECONDS - 1
    os.utime(stored, (long_ago, long_ago))
    assert choose_accel().accel is Accel.KVM
    os.utime(stored, (long_ago, long_ago))
    assert choose_accel().accel is Accel.KVM
    assert runs.read_text() == "ran\nran\n"


def test_a_damaged_answer_is_asked_for_again(
    device: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PKVFUZZ_KVM_DEVICE", str(device))
    _fake_qemu(tmp_path, monkeypatch, f"exit {accel._EXIT_STATUS}")
    first = choose_accel()
    (stored,) = cache.glob("accel-*.json")
    for damage in ("", "{}", '{"accel": "xen", "reason": "", "degraded": false}', "[1]"):
        stored.write_text(damage)
        assert choose_accel().accel is first.accel


def test_a_cache_that_cannot_be_written_costs_only_a_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("PKVFUZZ_KVM_DEVICE", str(tmp_path / "nothing"))
    assert choose_accel().accel is Accel.TCG
