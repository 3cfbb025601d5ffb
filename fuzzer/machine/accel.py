# SPDX-License-Identifier: Apache-2.0
"""Which accelerator to use, decided by running something on it."""

from __future__ import annotations

import enum


class Accel(enum.StrEnum):
    """QEMU accelerators that pkvfuzz uses."""

    KVM = "kvm"
    TCG = "tcg"
