# SPDX-License-Identifier: Apache-2.0
"""Booting a machine: the kernel's command line, and waiting for the executor."""

from __future__ import annotations

from pathlib import Path

from pexpect import EOF, TIMEOUT
from pexpect.socket_pexpect import SocketSpawn

from fuzzer.errors import InfrastructureError
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import Command
from fuzzer.machine.hostclock import counter_khz
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Hardware, Qemu, command_line
from fuzzer.machine.template import create_memory

BOOT_TIMEOUT = {Accel.KVM: 20.0, Accel.TCG: 120.0}
# Counting instructions makes waiting loops slow, and a kernel that boots is full of them.
_COUNTING_BOOT_TIMEOUT = 600.0
_READY = "pkvfuzz: executor ready"
_PANIC = "Kernel panic - not syncing: "
# A guest's way to reboot: at once, and so that QEMU ends. Others are tried for seconds before.
REBOOT = "reboot=t"
# Options of a guest whose counter is the host's: it need not be measured, nor watched.
CLOCK = "tsc=reliable tsc_early_khz={khz}"


def boot(
    kernel: Path,
    initrd: Path,
    hardware: Hardware,
    accel: Accel,
    ram: Path | None,
    *,
    console_level: int = 1,
    arguments: str = "",
) -> Machine:
    """Boot a kernel and wait for the executor.

    ``ram`` is the memory file to create for a template, or None. Kernel
    messages below ``console_level`` (1: panics, 5: warnings and worse)
    are printed on the console as well; that takes time for each byte.
    ``arguments`` are added to the kernel's command line.

    Raises:
        InfrastructureError: it did not come up; the message has the last
            line of the console.
    """
    channel = Channel()
    try:
        if ram is not None:
            create_memory(ram, hardware.ram_mib)
        kernel_arguments = (
            f"console=ttyS0 panic=-1 rdinit=/init mitigations=off nokaslr "
            f"memmap={channel.map.size() >> 20}M${hardware.channel_address:#x} "
            f"pkvfuzz_channel={hardware.channel_address:#x} pkvfuzz_console={console_level} "
            f"pkvfuzz_exact={int(hardware.is_exact)} {_clock(hardware, accel)} "
            f"{REBOOT} {arguments}"
        )
        command = [
            *command_line(hardware, accel, ram=ram, ram_shared=True, channel_fd=channel.fd),
            *("-kernel", str(kernel), "-initrd", str(initrd), "-append", kernel_arguments),
        ]
        machine = Machine(Qemu(command, channel, interactive=True), channel, hardware, accel)
    except BaseException:
        channel.close()
        raise
    try:
        _await_boot(machine)
        machine.command(Command.PING)
    except BaseException:
        machine.close()
        raise
    return machine


def _await_boot(machine: Machine) -> None:
    timeout = _COUNTING_BOOT_TIMEOUT if machine.hardware.icount else BOOT_TIMEOUT[machine.accel]
    console = SocketSpawn(machine.qemu.console, timeout=timeout)
    try:
        if console.expect_exact([_READY, _PANIC]):
            console.expect_exact("\n")
            raise InfrastructureError(
                f"the guest's kernel gave up booting: {_PANIC}{_text(console.before).strip()}"
            )
    except EOF as error:
        raise machine.qemu.lost(
            f"the guest ended while it booted ({_last(console.before)})"
        ) from error
    except TIMEOUT as error:
        raise InfrastructureError(
            f"the guest did not boot within {timeout:.0f} s on {machine.accel}; "
            f"its last words: {_last(console.before)}"
        ) from error
    # The end of the greeting, which is still in the socket, is lost: no harm.
    machine.qemu.record_console()


def _last(output: str | bytes | None) -> str:
    lines = [line for line in _text(output).splitlines() if line.strip()]
    return lines[-1] if lines else "nothing was printed"


def _text(output: str | bytes | None) -> str:
    return output.decode(errors="replace") if isinstance(output, bytes) else output or ""


def _clock(hardware: Hardware, accel: Accel) -> str:
    """Return the options by which a guest's kernel is told of its time stamp counter.

    Under KVM it has a better clock, and where instructions are counted the
    counter is theirs: both are as exact as can be without a word.
    """
    khz = counter_khz() if accel is Accel.TCG and not hardware.icount else None
    return CLOCK.format(khz=khz) if khz else ""
