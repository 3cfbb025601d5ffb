# SPDX-License-Identifier: Apache-2.0
"""The files of a driver that its programs open."""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_DEVICES = 64
"""Files that a description can name (CH_MAX_DEVICES)."""

MAX_MAJOR, MAX_MINOR = 4095, (1 << 20) - 1
"""The kernel has 12 bits for a major number and 20 for a minor one."""

# struct ch_device of vm/channel.h has 192 and 48 bytes for these, with a NUL.
PATH = re.compile(r"(?!.*/\.{0,2}(?:/|\Z))/(?:dev|proc|sys)/[\x21-\x7e]{1,180}\Z")
PATH_ALLOWED = "/dev/..., /proc/... or /sys/... below 186 characters, without blanks and '..',"
MAJOR_NAME = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,45}[\x21-\x7e])?\Z")
MAJOR_NAME_ALLOWED = "a driver's name as /proc/devices has it, below 48 characters,"


class DeviceKind(enum.StrEnum):
    """Kinds of files that a driver makes."""

    CHAR = "char"
    BLOCK = "block"
    PROC = "proc"
    DEBUGFS = "debugfs"
    SYSFS = "sysfs"


@dataclass(frozen=True, slots=True)
class Device:
    """A file that programs open.

    With ``major``, which is a name in /proc/devices or a number, the node is made
    after each load of the module; without, the driver makes it. ``block`` tells
    that it is a block device.
    """

    path: str
    major: str | int | None = None
    minor: int = 0
    block: bool = False

    @property
    def kind(self) -> DeviceKind:
        """The kind of file it is."""
        for start, kind in (
            ("/proc/", DeviceKind.PROC),
            ("/sys/kernel/debug/", DeviceKind.DEBUGFS),
            ("/sys/", DeviceKind.SYSFS),
        ):
            if self.path.startswith(start):
                return kind
        return DeviceKind.BLOCK if self.block else DeviceKind.CHAR

    @property
    def family(self) -> tuple[DeviceKind, str]:
        """The kind, and the path without its numbers, which devices of one family share."""
        return self.kind, re.sub(r"\d+", "0", self.path)


def families(devices: Sequence[Device]) -> tuple[tuple[int, ...], ...]:
    """Return the numbers of devices, those of one family together."""
    found: dict[tuple[DeviceKind, str], list[int]] = {}
    for number, device in enumerate(devices):
        found.setdefault(device.family, []).append(number)
    return tuple(map(tuple, found.values()))


def description_of(devices: Sequence[Device]) -> str:
    """Return the lines of a description that name its devices."""
    if len(devices) == 1 and devices[0].major is None:
        return f"device: {_quoted(devices[0].path)}\n"
    return "devices:\n" + "".join(f"  - {_entry(device)}\n" for device in devices)


def _entry(device: Device) -> str:
    if device.major is None:
        return _quoted(device.path)
    major = device.major if isinstance(device.major, int) else _quoted(device.major)
    block = ", block: true" if device.block else ""
    return f"{{path: {_quoted(device.path)}, major: {major}, minor: {device.minor}{block}}}"


def _quoted(text: str) -> str:
    """Return a string as YAML: in quotes unless it can be nothing else."""
    plain = re.fullmatch(r"/[A-Za-z0-9_./-]+|[a-z][A-Za-z0-9_-]{5,}", text)
    return text if plain else json.dumps(text)
