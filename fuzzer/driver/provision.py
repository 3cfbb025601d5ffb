# SPDX-License-Identifier: Apache-2.0
"""From a kernel and a driver to machines that are ready to fuzz.

Two layers of templates: the base (kernel and executor, booted and idle) is
made once for a kernel; the driver's is a restored base with the module loaded,
which takes a fraction of a second.
"""

from __future__ import annotations

import array
import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer.cache import build_once, content_key, keep_entry
from fuzzer.driver.blocks import LINKED, Block, blocks_at, make_table
from fuzzer.driver.deferred_module import with_deferred_module
from fuzzer.driver.driver import Driver
from fuzzer.driver.known_builds import note_build
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine import channel_layout as layout
from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import CLOCK, REBOOT, boot
from fuzzer.machine.channel import Channel
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.hostcpu import host_cpu
from fuzzer.machine.machine import BY_PROGRAMS, DriverImage, LostMachineError, Machine
from fuzzer.machine.qemu import Hardware, command_line, qemu_version
from fuzzer.machine.rearm import equip_variables, rearm_reports
from fuzzer.machine.template import Template, check_space
from fuzzer.program.ops import Op
from fuzzer.program.program import N_THREADS, Call
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.progress import say
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import ResetKind, Target

_KEEP = 12
# The estimate of a boot's time that the user is told.
_BOOT_SECONDS = {Accel.KVM: 3, Accel.TCG: 15}
_RESTORE_TRIES = 3
# Changes when a template of the same files is made in another way.
_FORMAT = "told variables"
_TEXT = ".text"
# Beginnings of reports.
_REPORT = re.compile(r"\b(?:BUG|WARNING|KASAN|KCSAN|UBSAN|INFO):|cut here")
# Where a wait takes no time, calls may wait longer: so many times the limit, and for so long
# before the program goes on without them, so that a call which waits for a timer gets there.
# The first is below the limit of a kernel that reports hung tasks.
_VIRTUAL_TIMES, _VIRTUAL_WAIT_MS = 4, 2000
_ON_EACH_THREAD = tuple(Call(Op.WAIT, thread=thread + 1) for thread in range(N_THREADS))


@dataclass(frozen=True, slots=True)
class Guest:
    """A driver's template with what each machine restored from it is given."""

    template: Template
    target: Target
    kernel: Kernel
    driver: Driver
    blocks: tuple[Block, ...]
    load_blocks: frozenset[int]
    table_base: int
    table: bytes
    reset: bytes
    contexts: tuple[int, ...]

    def restore(self, channel: Channel | None = None) -> Machine:
        """Return a fresh machine in the template's state, ready for programs.

        Raises:
            InfrastructureError: it cannot be restored.
        """
        return self._restore(channel, self._equip)

    def restore_awake(self, channel: Channel) -> Machine:
        """Return a fresh machine that has answered.

        Its template may have to come from a slow disk first: how long a program
        keeps silent is the driver's doing from then on.

        Raises:
            InfrastructureError: it cannot be restored, or none of some answers.
        """

        def restore() -> Machine:
            machine = self.restore(channel)
            try:
                machine.command(layout.Command.PING)
            except BaseException:
                machine.close()
                raise
            return machine

        return _tried_again(restore)

    def start(self, post: Callable[[Channel], None], *, paused: bool = False) -> Machine:
        """Return a fresh machine that has its first command when it begins to run.

        ``post`` is given the channel and posts it. Where instructions are
        counted, all that the machine does follows from the template and that.
        With ``paused``, it begins to run when QEMU is told to.

        Raises:
            InfrastructureError: it cannot be restored.
        """

        def prepare(channel: Channel) -> None:
            self._equip(channel)
            post(channel)

        return self._restore(None, prepare, paused=paused)

    def _restore(
        self,
        channel: Channel | None,
        prepare: Callable[[Channel], None],
        *,
        paused: bool = False,
    ) -> Machine:
        keep_entry(self.template.directory)

        def restore() -> Machine:
            return Machine.restore(self.template, channel=channel, prepare=prepare, paused=paused)

        return _tried_again(restore)

    def equip(self, machine: Machine) -> None:
        """Write the block table, the reset and the limits into a machine's channel."""
        self._equip(machine.channel)

    def _equip(self, channel: Channel) -> None:
        header = channel.header
        channel.memory[layout.TABLE : layout.TABLE + len(self.table)] = self.table
        channel.memory[layout.RESET : layout.RESET + len(self.reset)] = self.reset
        header.table_base = self.table_base & 0xFFFFFFFFFFFFFFFF
        header.table_length = len(self.table) // 4
        header.n_counters = len(self.blocks)
        equip_contexts(channel, self.contexts)
        header.reset_length = len(self.reset)
        header.reset_reload = self.target.reset.kind is ResetKind.RELOAD
        header.call_timeout_ms = self.target.call_timeout_ms
        if self.template.hardware.is_virtual:
            header.call_timeout_ms *= _VIRTUAL_TIMES
            header.wait_ms = min(_VIRTUAL_WAIT_MS, header.call_timeout_ms // 2)
        header.flags |= layout.FLAG_WAITS


def _tried_again(restore: Callable[[], Machine]) -> Machine:
    for _ in range(_RESTORE_TRIES - 1):
        # A QEMU may be killed from outside at any moment, also while it starts.
        with contextlib.suppress(LostMachineError):
            return restore()
    return restore()


def equip_contexts(channel: Channel, numbers: Sequence[int], *, outcomes: bool = False) -> None:
    """Let the executor count coverage by ioctl as well, for these numbers.

    With ``outcomes``, those of calls are coverage, too.
    """
    header = channel.header
    header.flags = header.flags & ~layout.FLAG_OUTCOMES | (layout.FLAG_OUTCOMES if outcomes else 0)
    numbers = numbers[: layout.MAX_CONTEXTS]
    header.contexts[: len(numbers)] = numbers
    header.n_contexts = len(numbers)


def _environment_key(hardware: Hardware, accel: Accel) -> str:
    # A template fits one QEMU version and command line, and no other.
    line = command_line(hardware, accel, ram=Path("ram"), ram_shared=False, channel_fd=0)
    parts = [qemu_version(), " ".join(line), str(layout.VERSION), CLOCK, REBOOT]
    if accel is Accel.KVM:
        parts.append(host_cpu())
    return content_key(*parts)


def _fit(hardware: Hardware, kernel: Kernel) -> Hardware:
    return replace(hardware, ram_mib=kernel.flavour.spec.ram_mib)


def ensure_base(
    kernel: Kernel, accel: Accel, hardware: Hardware, *, arguments: str = ""
) -> tuple[Template, str]:
    """Return the base template of a kernel, and its key; boots once to make it.

    ``arguments`` are added to the kernel's command line.
    """
    flavour, hardware = kernel.flavour.spec, _fit(hardware, kernel)
    initrd, initrd_key = ensure_initrd()
    key = content_key(kernel.key, initrd_key, _environment_key(hardware, accel), arguments)

    def build(directory: Path) -> None:
        say(
            f"booting the {kernel.name} kernel, once for all machines: some "
            f"{_BOOT_SECONDS[accel]} seconds"
        )
        check_space(directory, 2 * hardware.ram_mib)
        ram = directory / "ram"
        with boot(
            kernel.image,
            initrd,
            hardware,
            accel,
            ram,
            console_level=flavour.console_level,
            arguments=arguments,
        ) as machine:
            machine.freeze(directory)

    return _open(build_once("base", key, build, keep=_KEEP)), key


def _open(directory: Path) -> Template:
    template = Template.open(directory)
    if template is None:
        raise InfrastructureError(
            f"the template {directory} is damaged. Remove it: rm -r {directory}"
        )
    return template


def reset_program(target: Target) -> bytes:
    """Return the wire form of a target's reset calls (empty: none)."""
    if target.reset.kind is not ResetKind.CALLS:
        return b""
    return encode(parse_program("\n".join(target.reset.lines), target, f"{target.path}: reset"))


def describe(template: Template, target: Target, kernel: Kernel, driver: Driver) -> Guest:
    """Return the guest for a machine that has the driver loaded."""
    blocks = driver.blocks()
    sections = {LINKED: 0} if driver.parts else template.sections
    if target.module.fails:
        # Where it will be is found out when a program loads it.
        sections = {_TEXT: 0}
    room = layout.COUNTERS_SIZE - layout.PATH_COUNTERS
    if len(blocks) > room:
        raise InfrastructureError(
            f"{driver.object.name} has {len(blocks)} blocks, at most {room} fit"
        )
    table = make_table(blocks, sections, layout.TABLE_SIZE // 4)
    return Guest(
        template,
        target,
        kernel,
        driver,
        blocks,
        blocks_at(blocks, sections, template.load_pcs),
        table.base,
        array.array("I", table.entries).tobytes(),
        reset_program(target),
        tuple(dict.fromkeys(s.number for s in target.calls if isinstance(s, IoctlSpec))),
    )


def driver_image(target: Target, driver: Driver) -> DriverImage:
    """Return the image by which the executor loads a driver."""
    return DriverImage(
        driver.image(),
        driver.name,
        target.devices,
        target.module.params,
        driver.needed_images(),
    )


def _image_key(image: DriverImage) -> tuple[str | bytes, ...]:
    needs = [part for needed in image.needs for part in needed]
    return (image.name, repr(image.devices), image.params, *needs)


def _rearm(machine: Machine, memory: Path, kernel: Kernel, name: str) -> None:
    if not rearm_reports(machine, memory, kernel.directory):
        say(
            f"the kernel complained while {name} was loaded, and cannot be made to report anew: "
            f"KASAN, lockdep and WARN_ONCE may be silent from now on. With System.map beside the "
            f"image in {kernel.directory} it could, if the kernel is loaded where that says"
        )


def ensure_guest(
    target: Target,
    kernel: Kernel,
    driver: Driver,
    accel: Accel,
    hardware: Hardware | None = None,
    *,
    arguments: str = "",
    deferred: bool = True,
) -> Guest:
    """Return the guest for a driver on a kernel; makes the templates that are missing.

    ``arguments`` are added to the kernel's command line. With ``deferred``, coverage is also
    of what the driver does outside of calls, if the kernel takes the module that records it.

    Raises:
        BadInputError: the kernel refuses the module.
        InfrastructureError: the guest does not boot, or the disk is full.
    """
    hardware = _fit(hardware or Hardware(), kernel)
    note_build(driver)
    loaded = with_deferred_module(driver, kernel) if deferred else driver
    image = driver_image(target, loaded)
    base, base_key = ensure_base(kernel, accel, hardware, arguments=arguments)
    # Making threads takes longer than most programs that have some.
    first = encode(_ON_EACH_THREAD) if hardware.is_exact else b""
    fails = str(target.module.fails)
    key = content_key(base_key, loaded.key, *_image_key(image), first, fails, _FORMAT)

    def build(directory: Path) -> None:
        check_space(directory, 2 * hardware.ram_mib)
        with Machine.restore(base, memory=directory / "ram") as machine:
            try:
                known = machine.keep(image) if target.module.fails else machine.load(image)
            except LostMachineError as error:
                if not machine.qemu.is_running():
                    raise
                raise BadInputError(
                    f"loading {driver.name}: its init function hangs, or takes very long: "
                    f"{error}.{BY_PROGRAMS}"
                ) from error
            if _REPORT.search(known.load_log):
                _rearm(machine, directory / "ram", kernel, driver.name)
            equip_variables(machine, kernel.directory)
            if first:
                machine.run(first)
            machine.freeze(directory, known)

    template = _open(build_once("template", key, build, keep=_KEEP))
    return describe(template, target, kernel, driver)
