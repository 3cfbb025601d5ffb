# SPDX-License-Identifier: Apache-2.0
"""QEMU's gdb stub: it is opened on a machine that stands still, at a Unix socket.

Guest time stands still as well while gdb has stopped the guest, so that no time
limit in the guest passes meanwhile.
"""

from __future__ import annotations

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile

from fuzzer.driver.provision import Guest
from fuzzer.errors import InfrastructureError
from fuzzer.machine.machine import Machine
from fuzzer.target.target import module_name

_LABEL = "gdb"
_CLOSED = "disconnected:"
# Sections that a debugger needs. Those of initialisation are gone by then.
_SHOWN = (".text", ".exit.text", ".data", ".rodata", ".bss")


class Stub:
    """The gdb stub of a machine, which it stops. It ends with the machine.

    Raises:
        InfrastructureError: QEMU does not open it.
    """

    def __init__(self, machine: Machine, socket: Path) -> None:
        self._qemu = machine.qemu
        self._qemu.execute("stop")
        said = self._qemu.execute(
            "human-monitor-command", command_line=f"gdbserver unix:{socket},server=on,wait=off"
        )
        if self._filename() is None:
            raise InfrastructureError(
                f"QEMU opens no gdb stub at {socket}: {str(said).strip()}. "
                "Set TMPDIR to a directory with a shorter name"
            )

    def _filename(self) -> str | None:
        for device in self._qemu.execute("query-chardev"):
            if device["label"] == _LABEL:
                return str(device["filename"])
        return None

    def is_attached(self) -> bool:
        """Tell whether a debugger is connected."""
        filename = self._filename()
        return filename is not None and not filename.startswith(_CLOSED)

    def was_left(self) -> bool:
        """Tell whether a debugger has detached, however short its visit was.

        Nothing but a debugger has the guest run, and one that detaches leaves it running.
        """
        running = bool(self._qemu.execute("query-status")["running"])
        return running and not self.is_attached()


def gdb_symbols(guest: Guest, machine: Machine) -> list[str]:
    """Return the commands that have gdb read the symbols of a machine's kernel and driver."""
    commands = [f'file "{guest.kernel.directory / "vmlinux"}"']
    if guest.driver.parts:
        return commands
    sections = _sections(guest, machine)
    shown = [
        f"-s {name} {sections[name]:#x}"
        for name in _allocated(guest.driver.object)
        if name in sections and name.startswith(_SHOWN)
    ]
    return [*commands, f'add-symbol-file "{guest.driver.object}" {" ".join(shown)}']


def _sections(guest: Guest, machine: Machine) -> dict[str, int]:
    """Return where the driver's sections are now: a program may have loaded it again."""
    known = guest.template.sections
    if machine.channel.header.text_start in {0, known.get(".text")}:
        return known
    script = f"cd /sys/module/{module_name(guest.driver.name)}/sections && grep . .[a-z]* *"
    done = machine.execute(["/bin/busybox", "sh", "-c", script])
    found = dict(line.split(":") for line in done.output.decode().splitlines() if ":" in line)
    return {name: int(address, 16) for name, address in found.items()}


def _allocated(module: Path) -> list[str]:
    """Return the sections of a module that are in memory, code first."""
    try:
        with module.open("rb") as file:
            sections = [
                (not section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR, index, section.name)
                for index, section in enumerate(ELFFile(file).iter_sections())
                if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]
            ]
    except (OSError, ELFError) as error:
        raise InfrastructureError(f"reading {module}: {error}") from error
    return [name for _, _, name in sorted(sections)]
