# SPDX-License-Identifier: Apache-2.0
"""The devices of a description, from YAML nodes."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from fuzzer.target.device import (
    MAJOR_NAME,
    MAJOR_NAME_ALLOWED,
    MAX_DEVICES,
    MAX_MAJOR,
    MAX_MINOR,
    PATH,
    PATH_ALLOWED,
    Device,
)
from fuzzer.target.document import Document

DEVICE_KEYS = ("path", "major", "minor", "block")


def read_devices(document: Document, root: Mapping[str, yaml.Node]) -> tuple[Device, ...]:
    """Return the devices of a description whose keys are those of ``root``.

    Raises BadInputError located at the node of a mistake.
    """
    if ("device" in root) == ("devices" in root):
        given = "both 'device' and 'devices'" if "device" in root else "no 'device'"
        raise document.error(
            root.get("devices", document.root),
            f"a target description has {given}; exactly one of 'device' (a path) and "
            "'devices' (a list) is needed",
        )
    if "device" in root:
        return (Device(document.matching(root["device"], "device", PATH, PATH_ALLOWED)),)
    items = document.sequence(root["devices"], "devices")
    document.in_range(root["devices"], "the number of devices", len(items), 1, MAX_DEVICES)
    devices: list[Device] = []
    for item in items:
        device = _read_device(document, item)
        if device.path in [other.path for other in devices]:
            raise document.error(item, f"{device.path} is named twice; once is allowed")
        devices.append(device)
    return tuple(devices)


def _read_device(document: Document, node: yaml.Node) -> Device:
    what = "an entry of devices"
    if not isinstance(node, yaml.MappingNode):
        return Device(document.matching(node, what, PATH, PATH_ALLOWED))
    entries = document.mapping(node, what, allowed=DEVICE_KEYS, required=("path", "major"))
    path = document.matching(entries["path"], "path", PATH, PATH_ALLOWED)
    if not path.startswith("/dev/"):
        raise document.error(
            entries["path"], f"path is {path!r}; a node with a major can be made below /dev"
        )
    major: str | int
    if document.is_integer(entries["major"]):
        major = document.integer(entries["major"], "major", 0, MAX_MAJOR)
    else:
        major = document.matching(entries["major"], "major", MAJOR_NAME, MAJOR_NAME_ALLOWED)
    minor = 0
    if "minor" in entries:
        minor = document.integer(entries["minor"], "minor", 0, MAX_MINOR)
    if "block" in entries:
        document.true(entries["block"], "block")
    return Device(path, major, minor, "block" in entries)
