# SPDX-License-Identifier: Apache-2.0
"""Machines: booted, frozen, restored, lost and closed."""

from __future__ import annotations

import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, driver_image, ensure_base
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import STANDARD, Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import boot
from fuzzer.machine.channel import Channel
from fuzzer.machine.channel_layout import Command, Status
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.machine import DriverImage, LostMachineError, Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.machine.template import Template
from fuzzer.paths import project_root
from fuzzer.target.device import Device
from fuzzer.target.target import Target
from fuzzer.testing.driver_machine import DriverMachine
from tests.vm.guests import GuestFactory, returned, run, splat


def _wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def base(fast_kernel: Kernel, accel: Accel) -> Template:
    """Return the base template of the ``fast`` kernel."""
    return ensure_base(fast_kernel, accel, Hardware())[0]


def test_a_machine_that_does_not_answer_is_replaced_before_it_is_used(
    fast_misbehaving: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Machine] = []
    command = Machine.command

    silent = 2

    def answers_in_the_end(machine: Machine, *arguments: Any) -> Status:
        asked.append(machine)
        if len(asked) <= silent:
            raise LostMachineError("silent")
        return command(machine, *arguments)

    monkeypatch.setattr(Machine, "command", answers_in_the_end)
    channel = Channel()
    with fast_misbehaving.restore_awake(channel) as machine:
        assert machine is asked[-1]
        assert [each.qemu.is_running() for each in asked] == [False, False, True]
    asked.clear()
    silent = 3
    with pytest.raises(LostMachineError, match="silent"):
        fast_misbehaving.restore_awake(channel)
    assert [each.qemu.is_running() for each in asked] == [False, False, False]
    channel.close()


def test_boots_freezes_and_restores(fast_kernel: Kernel, accel: Accel, tmp_path: Path) -> None:
    initrd, _ = ensure_initrd()
    ram = tmp_path / "ram"
    with boot(fast_kernel.image, initrd, Hardware(), accel, ram) as booted:
        assert booted.command(Command.PING) is Status.OK
        assert booted.console_text().isascii()
        template = booted.freeze(tmp_path)
    assert Template.open(tmp_path) == template
    for _ in range(2):
        with Machine.restore(template) as machine:
            assert machine.command(Command.PING) is Status.OK


def test_a_panic_while_booting_is_an_error_with_its_words(
    fast_kernel: Kernel, accel: Accel, tmp_path: Path
) -> None:
    empty = tmp_path / "initrd"
    empty.write_bytes(b"")
    with pytest.raises(InfrastructureError, match=r"Kernel panic - not syncing: .*init"):
        boot(fast_kernel.image, empty, Hardware(), accel, None)


def test_what_does_not_boot_in_time_is_an_error(
    fast_kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzzer.machine.boot.BOOT_TIMEOUT", {Accel.TCG: 0.01})
    initrd, _ = ensure_initrd()
    with pytest.raises(InfrastructureError, match="did not boot within 0 s on tcg"):
        boot(fast_kernel.image, initrd, Hardware(), Accel.TCG, None)


def test_machines_of_one_template_share_nothing(fast_misbehaving: Guest) -> None:
    for _ in range(2):
        with fast_misbehaving.restore() as machine:
            machine.channel.header.reset_length = 0
            assert returned(run(machine, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(0, 0)]
            run(machine, fast_misbehaving, "ioctl(f0, TD_SET, 7)")
            assert returned(run(machine, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(7, 0)]


def test_two_machines_run_side_by_side(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as one, fast_misbehaving.restore() as two:
        for machine in (one, two):
            machine.channel.header.reset_length = 0
        run(one, fast_misbehaving, "ioctl(f0, TD_SET, 1)")
        run(two, fast_misbehaving, "ioctl(f0, TD_SET, 2)")
        assert returned(run(one, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(1, 0)]
        assert returned(run(two, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(2, 0)]


def test_one_channel_serves_one_machine_after_the_other(fast_misbehaving: Guest) -> None:
    channel = Channel()
    for _ in range(2):
        with fast_misbehaving.restore(channel) as machine:
            machine.channel.header.reset_length = 0
            run(machine, fast_misbehaving, "ioctl(f0, TD_SET, 7)")
            assert returned(run(machine, fast_misbehaving, "ioctl(f0, TD_GET)")) == [(7, 0)]
    channel.close()


@pytest.mark.pkvfuzz(kernels=list(STANDARD))
def test_calls_return_values_errnos_and_bytes(machine: DriverMachine) -> None:
    program = (
        'write(f0, "a=hello\\n")\n'
        "read(f0, 64)\n"
        "read(f0, 64)\n"
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "z"})\n'
        "ioctl(f0, PKV_IOC_LIST, {buf: &[48], room: 1})\n"
        "read(f3, 1)\n"
        "close(f0)\n"
        "read(f0, 1)\n"
    )
    calls = machine.run(program)
    assert [call.ret for call in calls] == [8, 5, 0, -1, 0, -1, 0, -1]
    assert [call.error for call in calls[3:4] + calls[5:6] + calls[7:]] == [
        errno.ENOENT,
        errno.EBADF,
        errno.EBADF,
    ]
    assert calls[1].output == b"hello"
    assert calls[2].output == b""
    listed = calls[4].output
    assert int.from_bytes(listed[12:16], "little") == 1  # struct pkv_list.count
    assert listed[-32:] == b"a".ljust(32, b"\0")  # struct pkv_entry.key


@pytest.mark.parametrize(
    ("bug", "program", "flavours"),
    [
        (
            "stale-last",
            'write(f0, "a=1\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\nread(f0, 9)',
            (Flavour.FAST, Flavour.FULL),
        ),
        ("key-overflow", f'write(f0, "{"k" * 60}=1\\n")', (Flavour.FAST, Flavour.FULL)),
        ("lock-order", 'write(f0, "a=1\\n")\nlseek(f0, 0, SEEK_END)', (Flavour.FULL,)),
    ],
)
def test_a_planted_bug_splats_as_its_patch_says(
    guest: GuestFactory,
    pkv_target: Target,
    bug: str,
    program: str,
    flavours: tuple[Flavour, ...],
) -> None:
    patch = (pkv_target.path.parent / "bugs" / f"{bug}.patch").read_text()
    for flavour in flavours:
        clean, buggy = guest(flavour), guest(flavour, bug)
        with clean.restore() as machine:
            assert splat(run(machine, clean, program).log) is None
        with buggy.restore() as machine:
            found = splat(run(machine, buggy, program).log)
        assert found is not None
        assert f"Expect: {found.title}\n" in patch


def test_the_console_is_silent_until_the_kernel_has_something_to_say(
    fast_misbehaving: Guest,
) -> None:
    with fast_misbehaving.restore() as machine:
        run(machine, fast_misbehaving, "ioctl(f0, TD_NOISE)")
        assert machine.console_text() == ""
        run(machine, fast_misbehaving, "ioctl(f0, TD_BUG)")
        text = machine.console_text()
    assert "Oops: invalid opcode" in text
    assert text.isascii()
    assert text.replace("\r", "").replace("\n", "").replace("\t", "").isprintable()


def test_a_shell_answers_on_the_console(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        machine.command(Command.SHELL)
        console = machine.qemu.console
        console.settimeout(20.0)
        console.sendall(b"echo six$((3 * 3))\r")
        seen = b""
        while b"six9" not in seen:
            seen += console.recv(4096)
        machine.qemu.record_console()
        assert machine.command(Command.PING) is Status.OK


def test_a_panic_is_on_the_console(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        with pytest.raises(LostMachineError, match=r"rebooted .* last line on its console"):
            run(machine, fast_misbehaving, "ioctl(f0, TD_PANIC)", timeout=2.0)
        assert "Kernel panic - not syncing: testdrv" in machine.console_text()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_qemu_is_noticed_while_a_command_runs(
    fast_misbehaving: Guest, number: signal.Signals
) -> None:
    with fast_misbehaving.restore() as machine:
        machine.channel.header.call_timeout_ms = 0
        killer = threading.Timer(0.3, machine.qemu.process.send_signal, [number])
        killer.start()
        start = time.monotonic()
        with pytest.raises(LostMachineError, match="QEMU ended"):
            run(machine, fast_misbehaving, "ioctl(f0, TD_STUCK)", timeout=120.0)
        assert time.monotonic() - start < 60.0
        killer.join()


def test_a_machine_killed_while_it_is_restored_is_restored_again(
    fast_misbehaving: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def thaw(qemu: object, template: object, *, paused: bool) -> None:
        tries.append(1)
        if len(tries) == 1:
            monkeypatch.undo()
            qemu.process.kill()  # type: ignore[attr-defined]
        from fuzzer.machine.template import thaw as real

        real(qemu, template, paused=paused)  # type: ignore[arg-type]

    monkeypatch.setattr("fuzzer.machine.machine.thaw", thaw)
    with fast_misbehaving.restore() as machine:
        assert machine.command(Command.PING) is Status.OK
    assert tries == [1]


_CHILD = """
import sys, time
from pathlib import Path
from fuzzer.machine.machine import Machine
from fuzzer.machine.template import Template

machine = Machine.restore(Template.open(Path(sys.argv[1])))
print(machine.qemu.process.pid, flush=True)
if sys.argv[2] == "raise":
    raise RuntimeError("on purpose")
time.sleep(600)
"""


def _child(base: Template, what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", _CHILD, str(base.directory), what],
        cwd=project_root(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_qemu_dies_with_its_parent(base: Template, sent: signal.Signals) -> None:
    with _child(base, "sleep") as child:
        assert child.stdout is not None
        pid = int(child.stdout.readline())
        assert not _has_ended(pid)
        child.send_signal(sent)
        child.communicate()
    assert _wait_until(lambda: _has_ended(pid))


def test_a_machine_left_open_by_an_exception_ends_without_noise(base: Template) -> None:
    with _child(base, "raise") as child:
        out, errors = child.communicate(timeout=60)
    assert _wait_until(lambda: _has_ended(int(out)))
    assert errors.rstrip().splitlines()[-1] == "RuntimeError: on purpose"
    for noise in ("Task was destroyed", "never awaited", "ResourceWarning", "closed", "ignored"):
        assert noise not in errors


def test_a_machine_nobody_holds_ends(base: Template) -> None:
    machine = Machine.restore(base)
    pid = machine.qemu.process.pid
    machine.channel.close()
    del machine
    gc.collect()
    assert _has_ended(pid)


def test_closing_twice_leaves_nothing_behind(base: Template) -> None:
    this = psutil.Process()
    gc.collect()
    files, children = this.num_fds(), this.children()
    in_template = sorted(base.directory.iterdir())
    for _ in range(3):
        machine = Machine.restore(base)
        machine.command(Command.PING)
        machine.close()
        machine.close()
        assert not machine.qemu.is_running()
        del machine
    gc.collect()
    assert this.num_fds() == files
    assert this.children() == children
    assert sorted(base.directory.iterdir()) == in_template


def test_a_failed_restore_leaves_nothing_behind(base: Template, tmp_path: Path) -> None:
    for name in ("ram", "header"):
        (tmp_path / name).symlink_to(base.directory / name)
    (tmp_path / "state").write_bytes(b"no device state")
    damaged = Template(tmp_path, base.hardware, base.accel)
    this = psutil.Process()
    gc.collect()
    files, children = this.num_fds(), this.children()
    with pytest.raises(InfrastructureError):
        Machine.restore(damaged)
    gc.collect()
    assert this.num_fds() == files
    assert this.children() == children


def test_a_kernel_that_refuses_a_module_says_why(base: Template) -> None:
    image = DriverImage(b"no module, " * 400, "garbage", (Device("/dev/garbage"),))
    with Machine.restore(base) as machine:
        with pytest.raises(BadInputError, match=r"Exec format error.*The kernel said: .*ELF"):
            machine.load(image)
        assert machine.command(Command.PING) is Status.OK


@pytest.mark.parametrize("flavour", list(STANDARD))
def test_a_module_of_the_other_flavour_is_refused(
    request: pytest.FixtureRequest, accel: Accel, testdrv: Target, flavour: Flavour
) -> None:
    kernels: dict[Flavour, Kernel] = {
        each: request.getfixturevalue(f"{each}_kernel") for each in STANDARD
    }
    (other,) = set(STANDARD) - {flavour}
    driver = build_driver(testdrv, kernels[other])
    base = ensure_base(kernels[flavour], accel, Hardware())[0]
    with Machine.restore(base) as machine, pytest.raises(BadInputError, match="The kernel said"):
        machine.load(driver_image(testdrv, driver))


def test_a_device_that_does_not_appear_is_an_error(
    base: Template, testdrv: Target, fast_kernel: Kernel
) -> None:
    image = driver_image(testdrv, build_driver(testdrv, fast_kernel))
    wrong = DriverImage(image.image, image.name, (Device("/dev/elsewhere"),))
    with (
        Machine.restore(base) as machine,
        pytest.raises(BadInputError, match="/dev/elsewhere did not appear"),
    ):
        machine.load(wrong)


def test_time_in_which_the_host_runs_others_does_not_count(base: Template) -> None:
    (cpu, *_) = sorted(os.sched_getaffinity(0))
    spin = [sys.executable, "-c", "while True: pass"]
    with Machine.restore(base) as machine:
        for thread in psutil.Process(machine.qemu.process.pid).threads():
            os.sched_setaffinity(thread.id, {cpu})
        others = [subprocess.Popen(spin) for _ in range(5)]
        try:
            for other in others:
                os.sched_setaffinity(other.pid, {cpu})
            wall, own = time.monotonic(), machine.qemu.clock()
            # It takes the time of a CPU that it shares with five.
            sum_up = "i=0; while [ $i -lt 6000 ]; do i=$((i + 1)); done"
            machine.execute(["/bin/busybox", "sh", "-c", sum_up], timeout=300.0)
            wall, own = time.monotonic() - wall, machine.qemu.clock() - own
        finally:
            for other in others:
                other.kill()
                other.wait()
        assert own < 0.6 * wall
        assert machine.qemu.starved_seconds() >= wall - own
