# SPDX-License-Identifier: Apache-2.0
"""The choice of an accelerator, decided by running something on it.

That ``/dev/kvm`` opens says little: on some hosts (nested virtualisation
above all) a guest starts, and then each of its instructions is emulated and a
kernel never finishes booting. So a tiny firmware image counts down a loop,
with a deadline, before KVM is trusted.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import platform
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from fuzzer import lifetime
from fuzzer.atomic import write_whole
from fuzzer.cache import build_once, content_key
from fuzzer.checked import read_json
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.paths import cache_dir, project_root
from fuzzer.tools import run_tool, tool_error

PROBE_LOOPS = 20_000_000
# Native: some 10 ms. Even a starved host with a working KVM is far below.
PROBE_DEADLINE = 2.0
# Seconds for which it is believed that KVM is unusable.
_RETRY_SECONDS = 600.0
_EXIT_STATUS = 0x10 << 1 | 1


class Accel(enum.StrEnum):
    """QEMU accelerators that pkvfuzz uses."""

    KVM = "kvm"
    TCG = "tcg"


@dataclass(frozen=True, slots=True)
class AccelChoice:
    """The accelerator to use, and why, in words for the user."""

    accel: Accel
    reason: str
    degraded: bool = False


def _probe_image() -> Path:
    source = project_root() / "vm" / "probe.S"
    key = content_key(source.read_bytes(), str(PROBE_LOOPS))

    def build(directory: Path) -> None:
        for command in (
            ["gcc", "-m32", "-c", f"-DPROBE_LOOPS={PROBE_LOOPS}", str(source), "-o", "probe.o"],
            ["objcopy", "-O", "binary", "-j", ".text", "probe.o", "probe.bin"],
        ):
            done = run_tool(command, f"assembling {source.name}", timeout=60, cwd=directory)
            if done.returncode:
                raise InfrastructureError(f"assembling {source.name}: {done.stderr.strip()}")

    return build_once("probe", key, build) / "probe.bin"


def _time_probe(accel: Accel, deadline: float) -> tuple[float | None, str]:
    """Return the seconds the loop took (None: it failed) and what went wrong."""
    command = [
        "qemu-system-x86_64",
        *("-machine", "pc", "-accel", accel.value, "-m", "16", "-nodefaults", "-display", "none"),
        *("-bios", str(_probe_image()), "-no-reboot"),
        *("-device", "isa-debug-exit,iobase=0xf4,iosize=1"),
    ]
    start = time.monotonic()
    try:
        done = lifetime.run(
            command,
            signal.SIGKILL,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=deadline,
        )
    except subprocess.TimeoutExpired:
        return None, f"{PROBE_LOOPS // 1_000_000} M loops did not end in {deadline:.0f} s"
    except OSError as error:
        raise tool_error(command[0], "trying the accelerator", error) from error
    if done.returncode != _EXIT_STATUS:
        lines = done.stderr.strip().splitlines()
        return None, lines[-1] if lines else f"QEMU ended with status {done.returncode}"
    return time.monotonic() - start, ""


def probe_kvm(device: Path = Path("/dev/kvm"), *, deadline: float = PROBE_DEADLINE) -> AccelChoice:
    """Try KVM on this host, now, for so many seconds at most."""
    cost = "Fuzzing works, several times slower than with a working KVM."
    if not device.exists():
        return AccelChoice(Accel.TCG, f"{device} does not exist. {cost}")
    if not os.access(device, os.R_OK | os.W_OK):
        return AccelChoice(
            Accel.TCG,
            f"{device} cannot be opened by this user: usermod -aG kvm $USER. {cost}",
            degraded=True,
        )
    took, problem = _time_probe(Accel.KVM, deadline)
    if took is None:
        return AccelChoice(
            Accel.TCG, f"{device} exists, but KVM is unusable: {problem}. {cost}", degraded=True
        )
    return AccelChoice(Accel.KVM, f"KVM ran the probe in {took * 1000:.0f} ms.")


def choose_accel(wanted: str = "auto") -> AccelChoice:
    """Return the accelerator for this host.

    The answer of the probe is kept until the host is booted again or its KVM
    device changes; one that KVM is unusable is kept for some minutes. ``wanted``
    is ``auto``, ``kvm`` or ``tcg``; a named one is not probed.

    Raises:
        BadInputError: ``wanted`` is none of the three.
    """
    if wanted in {accel.value for accel in Accel}:
        return AccelChoice(Accel(wanted), f"--accel {wanted} was given.")
    if wanted != "auto":
        raise BadInputError(f"--accel {wanted}: allowed are auto, kvm and tcg")
    device = Path(os.environ.get("PKVFUZZ_KVM_DEVICE", "/dev/kvm"))
    try:
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot_id = platform.release()
    usable = os.access(device, os.R_OK | os.W_OK)
    key = content_key(boot_id, str(device), str(device.exists()), str(usable), str(os.getuid()))
    stored = cache_dir() / f"accel-{key}.json"
    try:
        known = read_json(stored, AccelChoice)
        # A host that was busy for a moment is not one without KVM.
        if not known.degraded or 0 <= time.time() - stored.stat().st_mtime < _RETRY_SECONDS:
            return known
    except (OSError, ValueError):
        pass
    choice = probe_kvm(device)
    # The answer alone is wanted; that it cannot be kept costs the next start a probe.
    with contextlib.suppress(OSError):
        _store(stored, choice)
    return choice


def _store(stored: Path, choice: AccelChoice) -> None:
    stored.parent.mkdir(parents=True, exist_ok=True)
    answer = {"accel": choice.accel, "reason": choice.reason, "degraded": choice.degraded}
    write_whole(stored, json.dumps(answer))
    for old in stored.parent.glob("accel-*.json"):
        if old != stored:
            old.unlink(missing_ok=True)
