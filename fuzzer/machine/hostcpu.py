# SPDX-License-Identifier: Apache-2.0
"""The processor that ``-cpu host`` gives a guest, as this host's KVM offers it.

A frozen guest goes on with what it found at its boot. On a host whose KVM offers something
else it would hang, so it is another guest there.
"""

from __future__ import annotations

import fcntl
import functools
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from fuzzer.cache import content_key

# linux/kvm.h: _IOWR(KVMIO, 0x05, struct kvm_cpuid2).
_GET_SUPPORTED_CPUID = 0xC008AE05
_MOST_ENTRIES = 256
_HEAD = struct.Struct("<II")
# struct kvm_cpuid_entry2: function, index, flags, eax, ebx, ecx, edx, padding.
_ENTRY = struct.Struct("<7I12x")
# Leaves, and registers of others, that differ by the processor core that is asked.
_OF_CORE = frozenset((0xB, 0x1F, 0x8000001E))
_EBX_OF_CORE = frozenset((0x1, 0xD))
_CPUINFO = Path("/proc/cpuinfo")
_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "flags")


@functools.cache
def host_cpu(device: Path = Path("/dev/kvm")) -> str:
    """Return a key of the processor that KVM offers; of the host's own if KVM does not tell."""
    try:
        return content_key("kvm", *_offered(device))
    except OSError:
        return content_key("host", *_described())


def _offered(device: Path) -> Iterator[bytes]:
    """Yield what KVM offers, by leaves of CPUID.

    Raises:
        OSError: KVM cannot be asked.
    """
    data = bytearray(_HEAD.size + _MOST_ENTRIES * _ENTRY.size)
    _HEAD.pack_into(data, 0, _MOST_ENTRIES, 0)
    fd = os.open(device, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.ioctl(fd, _GET_SUPPORTED_CPUID, data)
    finally:
        os.close(fd)
    number, _ = _HEAD.unpack_from(data)
    for at in range(number):
        leaf, index, flags, eax, ebx, ecx, edx = _ENTRY.unpack_from(
            data, _HEAD.size + at * _ENTRY.size
        )
        if leaf not in _OF_CORE:
            known = 0 if leaf in _EBX_OF_CORE else ebx
            yield struct.pack("<7I", leaf, index, flags, eax, known, ecx, edx)


def _described() -> Iterator[str]:
    """Yield what the kernel says of the first processor."""
    try:
        first = _CPUINFO.read_text().split("\n\n")[0]
    except OSError:
        return
    for line in first.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in _FIELDS:
            yield f"{name.strip()} {' '.join(sorted(value.split()))}"
