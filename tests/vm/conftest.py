# SPDX-License-Identifier: Apache-2.0
"""Kernels, drivers and templates for the VM tests; they come from the real cache."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import STANDARD, Flavour, Kernel, ensure_kernel
from fuzzer.machine.accel import Accel
from fuzzer.target.target import ResetKind, ResetSpec, Target, load_target
from fuzzer.testing.guests import Guests
from tests.vm.guests import GuestFactory

_TESTDRV = Path(__file__).parent.parent / "data" / "testdrv" / "testdrv.yaml"


@pytest.fixture(scope="session")
def accel(pkvfuzz_guests: Guests) -> Accel:
    """Return the accelerator that is best on this host."""
    return pkvfuzz_guests.accel


@pytest.fixture(scope="session")
def fast_kernel() -> Kernel:
    """Return the kernel that fuzzes."""
    return ensure_kernel(Flavour.FAST)


@pytest.fixture(scope="session")
def full_kernel() -> Kernel:
    """Return the kernel that judges."""
    return ensure_kernel(Flavour.FULL)


@pytest.fixture(scope="session")
def kcsan_kernel() -> Kernel:
    """Return the kernel that reports data races."""
    return ensure_kernel(Flavour.KCSAN)


@pytest.fixture(scope="session")
def kmsan_kernel() -> Kernel:
    """Return the kernel that reports memory that was never set."""
    return ensure_kernel(Flavour.KMSAN)


@pytest.fixture(scope="session")
def testdrv() -> Target:
    """Return the description of the driver that misbehaves on demand."""
    return load_target(_TESTDRV)


@pytest.fixture(scope="session")
def guest(pkvfuzz_guests: Guests, pkv_target: Target) -> GuestFactory:
    """Return a function that makes guests."""

    def make(
        flavour: Flavour, bug: str | None = None, *, target: Target | None = None, **options: Any
    ) -> Guest:
        return pkvfuzz_guests(target or pkv_target, flavour, bug, **options)

    return make


@pytest.fixture(scope="session", params=list(STANDARD))
def misbehaving(request: pytest.FixtureRequest, guest: GuestFactory, testdrv: Target) -> Guest:
    """Return a guest with testdrv, of each flavour in turn."""
    return guest(request.param, target=testdrv)


@pytest.fixture(scope="session")
def fast_misbehaving(guest: GuestFactory, testdrv: Target) -> Guest:
    """Return a ``fast`` guest with testdrv."""
    return guest(Flavour.FAST, target=testdrv)


@pytest.fixture(scope="session")
def full_misbehaving(guest: GuestFactory, testdrv: Target) -> Guest:
    """Return a ``full`` guest with testdrv."""
    return guest(Flavour.FULL, target=testdrv)


@pytest.fixture(scope="session")
def reloading(fast_misbehaving: Guest) -> Guest:
    """Return a ``fast`` guest with testdrv, loaded again between programs."""
    reset = ResetSpec(ResetKind.RELOAD)
    target = replace(fast_misbehaving.target, reset=reset)
    return replace(fast_misbehaving, target=target, reset=b"")
