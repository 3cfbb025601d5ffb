# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz doctor``: what is missing or slow on this host, and what fixes it."""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from fuzzer.cache import damaged_entries, discard_entry
from fuzzer.errors import ExitCode, PkvfuzzError
from fuzzer.kernel.kernel import STANDARD, Flavour, KernelOptions, ready_kernel
from fuzzer.kernel.source import compiler_version
from fuzzer.kernel.versions import find_tarball
from fuzzer.machine.accel import Accel, probe_kvm
from fuzzer.machine.qemu import qemu_version
from fuzzer.packages import install_command, missing_packages, required_packages
from fuzzer.paths import cache_dir
from fuzzer.progress import show

_OK, _SLOW, _MISSING = "ok", "slow", "MISSING"
# A source tree, two kernels, templates: measured, rounded up.
# Source 1.7 GB, the kernels 1.5, environment 0.3, two dozen templates 2.
_CACHE_MIB = 5500
_RAM_MIB = 1500


@dataclass(frozen=True, slots=True)
class HostCheck:
    """One line of the doctor: a state, what was looked at, and the fix if one is needed."""

    state: str
    subject: str
    detail: str
    fix: str = ""


def _machine() -> HostCheck:
    if platform.machine() != "x86_64":
        return HostCheck(_MISSING, "processor", platform.machine(), "use an x86-64 host")
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        return HostCheck(
            _SLOW, "processor", "1 core: guest and fuzzer take turns", "give it 2 or more"
        )
    return HostCheck(_OK, "processor", f"{cores} cores")


def _memory() -> HostCheck:
    available = psutil.virtual_memory().available >> 20
    if available < _RAM_MIB:
        fix = f"free some: a VM and its worker take about {_RAM_MIB} MiB at most"
        return HostCheck(_SLOW, "memory", f"{available} MiB available", fix)
    return HostCheck(_OK, "memory", f"{available} MiB available")


def _packages() -> HostCheck:
    missing = missing_packages(required_packages(["test"]))
    if missing:
        names = ", ".join(f"{package.name} ({package.why})" for package in missing)
        return HostCheck(_MISSING, "packages", names, install_command(missing))
    return HostCheck(_OK, "packages", "all installed")


def _cache() -> HostCheck:
    directory = cache_dir()
    existing = directory
    while not existing.exists():
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        return HostCheck(
            _MISSING, "cache", f"{directory} is not writable", "export PKVFUZZ_CACHE=DIRECTORY"
        )
    free = shutil.disk_usage(existing).free >> 20
    if free < _CACHE_MIB:
        return HostCheck(
            _SLOW,
            "cache",
            f"{directory}: {free} MiB free, up to {_CACHE_MIB} are needed",
            "export PKVFUZZ_CACHE=DIRECTORY on a larger disk",
        )
    return HostCheck(_OK, "cache", f"{directory}, {free} MiB free")


def _entries() -> HostCheck:
    damaged = list(damaged_entries())
    for directory, _ in damaged:
        discard_entry(directory)
    if not damaged:
        return HostCheck(_OK, "cache entries", "all as they were made")
    told = "; ".join(f"{directory.name}: {problem}" for directory, problem in damaged)
    return HostCheck(_SLOW, "cache entries", f"damaged, and removed: {told}", "nothing to do")


def _accelerator() -> HostCheck:
    choice = probe_kvm(Path(os.environ.get("PKVFUZZ_KVM_DEVICE", "/dev/kvm")))
    if choice.accel is Accel.KVM:
        return HostCheck(_OK, "accelerator", choice.reason)
    fix = "nothing is broken; a host with a working KVM is faster"
    if "usermod" in choice.reason:
        fix = "sudo usermod -aG kvm $USER, then log in again"
    return HostCheck(_SLOW, "accelerator", f"tcg: {choice.reason}", fix)


def _kernel(flavour: Flavour) -> HostCheck:
    tarball = find_tarball()
    try:
        kernel = ready_kernel(flavour, KernelOptions())
    except PkvfuzzError as error:
        return HostCheck(_MISSING, f"{flavour} kernel", str(error))
    if kernel is None and flavour not in STANDARD:
        return HostCheck(_OK, f"{flavour} kernel", f"not built: run --kernel {flavour} builds it")
    if kernel is None:
        return HostCheck(
            _SLOW,
            f"{flavour} kernel",
            f"not built yet, from {tarball.name}: the next run builds it",
            "nothing to do",
        )
    return HostCheck(_OK, f"{flavour} kernel", f"built ({kernel.key})")


def _checked(subject: str, check: Callable[[], HostCheck]) -> HostCheck:
    try:
        return check()
    except PkvfuzzError as error:
        return HostCheck(_MISSING, subject, str(error))


def examine() -> list[HostCheck]:
    """Return all findings, the most important first."""
    return [
        _machine(),
        _memory(),
        HostCheck(_OK, "python", f"{platform.python_version()} ({sys.executable})"),
        _packages(),
        _checked("compiler", lambda: HostCheck(_OK, "compiler", compiler_version())),
        _checked("qemu", lambda: HostCheck(_OK, "qemu", qemu_version())),
        _cache(),
        _checked("cache entries", _entries),
        _checked("accelerator", _accelerator),
        *(
            _checked(f"{flavour} kernel", functools.partial(_kernel, flavour))
            for flavour in Flavour
        ),
    ]


def command(options: argparse.Namespace) -> int:
    """Print the findings; returns 3 when something needed is missing."""
    findings = examine()
    for finding in findings:
        show(f"{finding.state:8} {finding.subject:13} {finding.detail}")
        if finding.fix:
            show(f"{'':22} -> {finding.fix}")
    missing = [finding for finding in findings if finding.state == _MISSING]
    return int(ExitCode.INFRASTRUCTURE if missing else ExitCode.NOTHING_FOUND)
