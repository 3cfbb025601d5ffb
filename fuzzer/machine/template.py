# SPDX-License-Identifier: Apache-2.0
"""Templates: frozen VMs, a memory file and the state of the devices.

Guest memory is a file that the machine which makes the template maps shared.
Freezing it is then a matter of stopping the machine and saving its devices
(QEMU's ``x-ignore-shared`` leaves memory out), and a restored machine maps the
same file private: it starts at once and pays only for pages it writes.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzzer.atomic import write_whole
from fuzzer.checked import read_json
from fuzzer.errors import InfrastructureError
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.qemu import Hardware, Qemu
from fuzzer.tools import run_tool

_RAM, _STATE, _HEADER, _META = "ram", "state", "header", "template.json"


@dataclass(frozen=True, slots=True)
class Template:
    """A frozen VM in a directory.

    ``sections`` are the load addresses of the driver's ELF sections (empty
    for a base template), ``load_pcs`` the driver PCs that ran while it was
    loaded, ``load_log`` what the kernel printed then (raw kmsg records).
    """

    directory: Path
    hardware: Hardware
    accel: Accel
    sections: dict[str, int] = field(default_factory=dict)
    load_pcs: tuple[int, ...] = ()
    load_log: str = ""

    @property
    def ram(self) -> Path:
        """The file with the guest's memory."""
        return self.directory / _RAM

    @property
    def state(self) -> Path:
        """The file with the devices' state."""
        return self.directory / _STATE

    def header(self) -> bytes:
        """Return the channel's header page at the moment of the freeze."""
        return (self.directory / _HEADER).read_bytes()

    @classmethod
    def open(cls, directory: Path) -> Template | None:
        """Return the template in a directory; None if there is no complete one."""
        try:
            meta = read_json(directory / _META, dict[str, Any])
            return cls(
                directory,
                Hardware(**meta["hardware"]),
                Accel(meta["accel"]),
                dict(meta["sections"]),
                tuple(meta["load_pcs"]),
                meta["load_log"],
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _migrate_through(qemu: Qemu, command: str, path: Path, flags: int) -> None:
    fd = os.open(path, flags, 0o600)
    try:
        # Announcing itself to a network would take a timer of the host's, by which the
        # host's clock would influence when a vCPU's turn ends.
        qemu.execute("migrate-set-parameters", announce_rounds=0)
        qemu.execute(
            "migrate-set-capabilities",
            capabilities=[{"capability": "x-ignore-shared", "state": True}],
        )
        qemu.pass_fd("template", fd)
        qemu.execute(command, uri="fd:template")
        qemu.wait_migration()
    finally:
        os.close(fd)


def freeze(qemu: Qemu, channel: Channel, template: Template) -> None:
    """Stop a machine and write the template around its memory file.

    The metadata is written last, so a directory without it is no template.

    Raises:
        InfrastructureError: QEMU failed, or the disk is full.
    """
    try:
        qemu.execute("stop")
        flags = os.O_CREAT | os.O_WRONLY | os.O_TRUNC
        _migrate_through(qemu, "migrate", template.state, flags)
        (template.directory / _HEADER).write_bytes(channel.save_header())
        meta = {
            "hardware": {
                "ram_mib": template.hardware.ram_mib,
                "cpus": template.hardware.cpus,
                "icount": template.hardware.icount,
            },
            "accel": template.accel.value,
            "sections": template.sections,
            "load_pcs": list(template.load_pcs),
            "load_log": template.load_log,
        }
        write_whole(template.directory / _META, json.dumps(meta))
    except OSError as error:
        raise InfrastructureError(
            f"writing the template {template.directory}: {error.strerror}"
        ) from error


def thaw(qemu: Qemu, template: Template, *, paused: bool = False) -> None:
    """Load a template's device state into a QEMU started with ``-incoming defer``.

    With ``paused``, it does not begin to run yet.
    """
    try:
        _migrate_through(qemu, "migrate-incoming", template.state, os.O_RDONLY)
        # The state says that the machine was stopped; so it still is.
        if not paused:
            qemu.execute("cont")
    except OSError as error:
        raise InfrastructureError(
            f"reading the template {template.directory}: {error.strerror}"
        ) from error


def copy_memory(source: Path, target: Path) -> None:
    """Copy a guest memory file, leaving holes where it has them."""
    command = ["cp", "--sparse=always", "--reflink=auto", "--", str(source), str(target)]
    done = run_tool(command, "copying guest memory", timeout=120)
    if done.returncode:
        raise InfrastructureError(f"copying guest memory: {done.stderr.strip()}")


def create_memory(path: Path, ram_mib: int) -> None:
    """Make an empty sparse memory file."""
    try:
        with path.open("wb") as file:
            file.truncate(ram_mib << 20)
    except OSError as error:
        raise InfrastructureError(f"creating {path}: {error.strerror}") from error


def check_space(directory: Path, need_mib: int) -> None:
    """Raise InfrastructureError when a file system has less than ``need_mib`` free."""
    free = shutil.disk_usage(directory).free >> 20
    if free < need_mib:
        raise InfrastructureError(
            f"{directory} has {free} MiB free, {need_mib} MiB are needed. "
            "Free some space, or set PKVFUZZ_CACHE to a directory on another disk."
        )
