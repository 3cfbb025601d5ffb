# SPDX-License-Identifier: Apache-2.0
"""Faults, cut buffers, threads, pauses, reloads, and other programs in the guest."""

from __future__ import annotations

import errno
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_base, ensure_guest
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import STANDARD, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import FLAG_WAITS, OUTPUT_SIZE, Command, Status
from fuzzer.machine.machine import LostMachineError, Machine
from fuzzer.machine.qemu import Hardware
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.splat.kmsg import console_lines
from fuzzer.target.device import Device
from fuzzer.target.target import Target
from fuzzer.testing.driver_machine import DriverMachine
from tests.vm.guests import returned, run, splat

ON_TESTDRV = pytest.mark.pkvfuzz(
    driver="tests/data/testdrv/testdrv.yaml", kernels=[flavour.value for flavour in STANDARD]
)
RELOAD = "close(f0)\nunload()\n"
PARAMETER = "/sys/module/testdrv/parameters/start"


def shell(machine: Machine, command: str, timeout: float = 60.0) -> str:
    """Return what a command prints; it must succeed."""
    done = machine.execute(["/bin/sh", "-c", command], timeout=timeout)
    assert done.status == 0
    return done.output.decode()


def patient(guest: Guest) -> Guest:
    """Return the guest with a limit on calls that no busy host makes them pass."""
    return replace(guest, target=replace(guest.target, call_timeout_ms=20_000))


@pytest.fixture(scope="module")
def two_cpus(testdrv: Target, full_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with two CPUs."""
    driver = build_driver(testdrv, full_kernel)
    return ensure_guest(testdrv, full_kernel, driver, accel, Hardware(cpus=2))


@pytest.fixture(scope="module")
def with_parameter(testdrv: Target, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest whose module has a parameter of its own."""
    target = replace(testdrv, module=replace(testdrv.module, params="start=5"))
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def test_the_nth_allocation_fails_and_is_told(full_misbehaving: Guest) -> None:
    with full_misbehaving.restore() as machine:
        for nth in range(1, 6):
            program = f"ioctl(f0, TD_ALLOC, 3) fail={nth}\nioctl(f0, TD_GET)\n"
            done = run(machine, full_misbehaving, program)
            first, kept = done.results
            if nth <= 3:
                assert (first.ret, first.error, first.faulted) == (-1, errno.ENOMEM, True)
                assert kept.ret == nth - 1
            else:
                assert (first.ret, first.faulted, kept.ret) == (0, False, 3)
            assert not kept.faulted
            assert done.log == b""


@pytest.mark.parametrize("nth", [1, 2, 3])
@ON_TESTDRV
def test_a_user_copy_fails(machine: DriverMachine, nth: int) -> None:
    (call,) = machine.run(f"ioctl(f0, TD_FILL, {{buf: &[8], len: 0}}) fail={nth}")
    assert (call.ret, call.faulted) == ((-1, True) if nth == 1 else (0, False))


def test_a_fault_is_one_calls_alone(full_misbehaving: Guest) -> None:
    program = "ioctl(f0, TD_ALLOC, 1) fail={}\nioctl(f0, TD_ALLOC, 9)\n"
    with full_misbehaving.restore() as machine:
        for nth in (1, 2, 3, 4, 65535):
            first, second = run(machine, full_misbehaving, program.format(nth)).results
            assert first.faulted == (nth == 1)
            assert (second.ret, second.faulted) == (0, False)


def test_each_thread_has_its_own_fault(full_misbehaving: Guest) -> None:
    program = (
        "[1] ioctl(f0, TD_ALLOC, 2) fail=1\n"
        "[2] ioctl(f0, TD_ALLOC, 2)\n"
        "[3] ioctl(f0, TD_ALLOC, 2) fail=3\n"
        "ioctl(f0, TD_ALLOC, 2)\n"
    )
    with patient(full_misbehaving).restore() as machine:
        done = run(machine, full_misbehaving, program)
    assert [call.faulted for call in done.results] == [True, False, False, False]
    assert [call.ret for call in done.results] == [-1, 0, 0, 0]


@ON_TESTDRV
def test_each_kernel_injects_faults(machine: DriverMachine) -> None:
    program = "ioctl(f0, TD_ALLOC, 3) fail=1\nioctl(f0, TD_ALLOC, 3) fail=4"
    first, second = machine.run(program)
    assert (first.ret, first.faulted) == (-1, True)
    assert (second.ret, second.faulted) == (0, False)


@ON_TESTDRV
def test_a_cut_buffer_faults_after_what_is_left_of_it(machine: DriverMachine) -> None:
    program = "\n".join(
        f'write(f0, "{"x" * 16}") cut={cut}\nioctl(f0, TD_GET)' for cut in (1, 5, 16, 17, 65535)
    )
    done = machine.run(program)
    assert returned(done)[::2] == [(-1, errno.EFAULT)] * 5
    assert [call.ret for call in done[1::2]] == [15, 11, 0, 0, 0]


@ON_TESTDRV
def test_the_part_that_is_mapped_is_handed_back(machine: DriverMachine) -> None:
    program = (
        "ioctl(f0, TD_FILL, {buf: &[16], len: 16}) cut=4\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 12}) cut=4\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 12}) cut=20\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 12}) cut=40\n"
    )
    done = machine.run(program)
    fault = (-1, errno.EFAULT)
    assert returned(done) == [fault, (12, 0), fault, fault]
    assert [len(call.output) for call in done] == [28, 28, 12, 0]
    assert done[0].output[16:] == bytes(range(12))
    # The length is in what is left of the struct, its reserved member is not.
    assert done[2].output[8:] == (12).to_bytes(4, "little")


@pytest.mark.parametrize(("count", "cut", "room"), [(64, 4, 60), (64, 64, 0), (40, 80, 0)])
@ON_TESTDRV
def test_a_read_into_a_cut_buffer_faults(
    machine: DriverMachine, count: int, cut: int, room: int
) -> None:
    program = f"read(f0, {count}) cut={cut}\nread(f0, {room})\npread(f0, {count}, 0) cut={cut}"
    done = machine.run(program)
    assert returned(done) == [(-1, errno.EFAULT), (room, 0), (-1, errno.EFAULT)]
    assert [len(call.output) for call in done] == [0, room, 0]


def test_threads_really_run_at_the_same_time_on_their_cpus(two_cpus: Guest) -> None:
    program = "[1] ioctl(f0, TD_MEET_CPU, 100)\n[2] ioctl(f0, TD_MEET_CPU, 100)\n"
    with patient(two_cpus).restore() as machine:
        # A busy host may not run both CPUs for so long.
        for _ in range(20):
            done = run(machine, two_cpus, program)
            assert done.status is Status.OK
            if [call.ret for call in done.results] == [0, 1]:
                break
        assert [call.ret for call in done.results] == [0, 1]


def test_parallel_parts_are_made_again_and_again(two_cpus: Guest) -> None:
    part = "[1] ioctl(f0, TD_MEET, 10000)\n[2] ioctl(f0, TD_MEET, 10000)\nioctl(f0, TD_SET, 3)\n"
    with patient(two_cpus).restore() as machine:
        for _ in range(10):
            done = run(machine, two_cpus, part * 20)
            assert done.status is Status.OK
            assert set(returned(done)) == {(0, 0)}
            assert len(done.results) == 60


def test_on_one_cpu_threads_take_turns(fast_misbehaving: Guest) -> None:
    with patient(fast_misbehaving).restore() as machine:
        program = "[1] ioctl(f0, TD_MEET, 10000)\n[2] ioctl(f0, TD_MEET, 10000)\n"
        assert returned(run(machine, fast_misbehaving, program)) == [(0, 0), (0, 0)]
        machine.channel.header.flags &= ~FLAG_WAITS
        alone = "ioctl(f0, TD_MEET, 20)\nioctl(f0, TD_MEET, 20)\n"
        # The second of the two finds that the first was there.
        assert returned(run(machine, fast_misbehaving, alone)) == [(-1, errno.ETIME), (0, 0)]
        program = "[1] ioctl(f0, TD_MEET_CPU, 100)\n[2] ioctl(f0, TD_GET)\n"
        assert returned(run(machine, fast_misbehaving, program)) == [(-1, errno.ETIME), (0, 0)]


def test_results_are_in_the_order_of_the_calls(misbehaving: Guest) -> None:
    program = (
        "ioctl(f0, TD_SET, 1)\n"
        "[3] read(f0, 3)\n"
        "[1] read(f0, 1)\n"
        "[3] ioctl(f0, TD_MEET, 10000)\n"
        "[2] read(f0, 2)\n"
        "[1] ioctl(f0, TD_MEET, 10000)\n"
        "[1] read(f0, 11)\n"
        "ioctl(f0, TD_GET)\n"
        "[2] open(f1)\n"
        "read(f1, 4)\n"
        "[1] close(f1)\n"
    )
    with patient(misbehaving).restore() as machine:
        for _ in range(3):
            done = run(machine, misbehaving, program)
            assert done.status is Status.OK
            assert [call.ret for call in done.results] == [0, 3, 1, 0, 2, 0, 11, 1, 0, 4, 0]
            lengths = [len(call.output) for call in done.results]
            assert lengths == [0, 3, 1, 0, 2, 0, 11, 0, 0, 4, 0]


def test_a_threads_calls_are_in_order_and_the_next_serial_call_waits(misbehaving: Guest) -> None:
    first = "".join(f"[1] ioctl(f0, TD_SET, {n})\n[1] ioctl(f0, TD_GET)\n" for n in range(20))
    program = f"{first}[2] sleep(100)\nioctl(f0, TD_GET)\nioctl(f0, TD_SET, 50)\n"
    with patient(misbehaving).restore() as machine:
        done = run(machine, misbehaving, program)
    assert [call.ret for call in done.results[1:40:2]] == list(range(20))
    assert returned(done)[40:] == [(0, 0), (19, 0), (0, 0)]


@pytest.mark.parametrize("blocked", [1, 3])
def test_a_thread_that_blocks_is_interrupted(misbehaving: Guest, blocked: int) -> None:
    program = (
        "ioctl(f0, TD_SET, 5)\n"
        "[2] ioctl(f0, TD_GET)\n"
        f"[{blocked}] ioctl(f0, TD_SLEEP)\n"
        f"[{blocked}] ioctl(f0, TD_GET)\n"
        "[2] ioctl(f0, TD_GET)\n"
        "ioctl(f0, TD_GET)\n"
    )
    with misbehaving.restore() as machine:
        for _ in range(2):
            done = run(machine, misbehaving, program)
            assert done.status is Status.TIMEOUT
            assert done.stopped_call == 2
            kept = (5, 0)
            assert returned(done) == [(0, 0), kept, (-1, errno.EINTR), kept, kept, kept]
            assert splat(done.log) is None
        assert run(machine, misbehaving, "ioctl(f0, TD_GET)").status is Status.OK


def test_all_threads_that_block_are_interrupted(misbehaving: Guest) -> None:
    program = "".join(f"[{n}] ioctl(f0, TD_SLEEP)\n" for n in (1, 2, 3)) + "ioctl(f0, TD_GET)"
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, program)
    assert done.status is Status.TIMEOUT
    assert returned(done) == [(-1, errno.EINTR)] * 3 + [(0, 0)]


def test_a_thread_that_cannot_be_interrupted_is_stuck(two_cpus: Guest) -> None:
    program = "ioctl(f0, TD_GET)\n[1] ioctl(f0, TD_GET)\n[2] ioctl(f0, TD_STUCK)\n"
    with two_cpus.restore() as machine:
        done = run(machine, two_cpus, program)
        assert (done.status, done.stopped_call) == (Status.STUCK, 2)
        assert machine.command(Command.PING) is Status.STUCK
        with pytest.raises(LostMachineError, match="the executor has STUCK"):
            machine.execute(["/bin/true"])


@pytest.mark.parametrize(
    ("program", "stopped"),
    [
        ("[1] ioctl(f0, TD_GET)\n[2] ioctl(f0, TD_BUG)\n[1] ioctl(f0, TD_GET)\nread(f0, 1)", 1),
        ("[1] ioctl(f0, TD_SLEEP)\n[2] ioctl(f0, TD_GET)\n[2] ioctl(f0, TD_BUG)", 2),
        # The runner itself, after which its threads are still there.
        ("[1] ioctl(f0, TD_GET)\nioctl(f0, TD_BUG)", 1),
    ],
)
def test_a_thread_that_dies_is_named_with_the_oops(
    misbehaving: Guest, program: str, stopped: int
) -> None:
    with misbehaving.restore() as machine:
        done = run(machine, misbehaving, program)
        assert (done.status, done.stopped_call) == (Status.DIED, stopped)
        found = splat(done.log)
        assert machine.command(Command.PING) is Status.DIED
        assert machine.channel.log() == b""
    assert found is not None
    assert found.title == "kernel BUG in td_bug"


@pytest.mark.parametrize(("asked", "least"), [(0, 0.0), (700, 0.7), (1_000_000, 2.0)])
@pytest.mark.parametrize("thread", ["", "[2] "])
def test_a_pause_is_no_timeout(
    fast_misbehaving: Guest, thread: str, asked: int, least: float
) -> None:
    assert fast_misbehaving.target.call_timeout_ms < 700
    with fast_misbehaving.restore() as machine:
        start = time.monotonic()
        done = run(machine, fast_misbehaving, f"{thread}sleep({asked})\nioctl(f0, TD_GET)")
        took = time.monotonic() - start
    assert done.status is Status.OK
    assert returned(done) == [(0, 0), (0, 0)]
    # The guest's clock may tick every 10 ms only.
    assert least - 0.05 <= took < least + 8.0


def test_a_module_is_unloaded_and_loaded_with_other_parameters(misbehaving: Guest) -> None:
    program = (
        "unload()\n"
        f"{RELOAD}"
        "unload()\n"
        "open(f0)\n"
        'load("start=x")\n'
        'load("start=7")\n'
        'load("")\n'
        "open(f0)\n"
        "ioctl(f0, TD_GET)\n"
    )
    with misbehaving.restore() as machine:
        for _ in range(3):
            done = run(machine, misbehaving, program)
            assert done.status is Status.OK
            assert returned(done) == [
                (-1, errno.EWOULDBLOCK),
                (0, 0),
                (0, 0),
                (-1, errno.ENOENT),
                (-1, errno.ENOENT),
                (-1, errno.EINVAL),
                (0, 0),
                (-1, errno.EEXIST),
                (0, 0),
                (7, 0),
            ]
            assert splat(done.log) is None
            assert shell(machine, f"cat {PARAMETER}") == "0\n"
            assert returned(run(machine, misbehaving, "ioctl(f0, TD_GET)")) == [(0, 0)]


@pytest.mark.parametrize(
    "calls", ['load("start=9")\nopen(f0)', "open(f0)", 'load("")\nload("start=3")']
)
def test_the_targets_own_parameters_come_back(with_parameter: Guest, calls: str) -> None:
    with with_parameter.restore() as machine:
        assert shell(machine, f"cat {PARAMETER}") == "5\n"
        assert run(machine, with_parameter, RELOAD + calls).status is Status.OK
        assert shell(machine, f"cat {PARAMETER}") == "5\n"


def test_a_module_that_stays_is_not_loaded_again(with_parameter: Guest) -> None:
    with with_parameter.restore() as machine:
        machine.channel.header.reset_length = 0
        run(machine, with_parameter, 'ioctl(f0, TD_SET, 77)\nunload()\nload("start=1")')
        assert returned(run(machine, with_parameter, "ioctl(f0, TD_GET)")) == [(77, 0)]
        run(machine, with_parameter, RELOAD)
        assert returned(run(machine, with_parameter, "ioctl(f0, TD_GET)")) == [(5, 0)]


def test_a_module_that_the_host_unloads_stays_away(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        run(machine, fast_misbehaving, RELOAD)
        assert machine.command(Command.UNLOAD) is Status.OK
        for _ in range(2):
            done = run(machine, fast_misbehaving, "open(f0)\nunload()")
            assert returned(done) == [(-1, errno.ENOENT)] * 2
        with pytest.raises(InfrastructureError, match="delete_module: No such file"):
            machine.command(Command.UNLOAD)


def test_a_module_that_cannot_be_brought_back_is_held(fast_misbehaving: Guest) -> None:
    program = f'{RELOAD}load("")\nopen(f0)\nioctl(f0, TD_PIN)'
    with fast_misbehaving.restore() as machine:
        done = run(machine, fast_misbehaving, program)
        assert done.status is Status.HELD
        assert len(done.results) == 5
        message = machine.channel.header.message.decode()
    assert message == "delete_module: Resource temporarily unavailable"


def test_allocations_of_loading_fail_and_the_module_comes_back(full_misbehaving: Guest) -> None:
    errors = set()
    with patient(full_misbehaving).restore() as machine:
        for nth in (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 65535):
            program = f'{RELOAD}load("start=3") fail={nth}\nopen(f0)\nioctl(f0, TD_GET)'
            done = run(machine, full_misbehaving, program)
            assert done.status is Status.OK
            load, _, get = done.results[2:]
            errors.add(load.error)
            assert load.faulted == (nth < 65535)
            if load.ret == 0:
                assert get.ret == 3
            else:
                assert get.error == errno.EBADF
            assert shell(machine, f"cat {PARAMETER}") == "0\n"
    assert {0, errno.ENOMEM, errno.EFAULT} <= errors


def test_unloading_while_others_use_the_device(misbehaving: Guest) -> None:
    program = (
        "close(f0)\n"
        '[1] unload()\n[1] load("start=2")\n[1] unload()\n'
        "[2] open(f0)\n[2] read(f0, 1)\n[2] close(f0)\n"
        "[3] open(f1)\n[3] ioctl(f1, TD_GET)\n[3] close(f1)\n"
    )
    with patient(misbehaving).restore() as machine:
        for _ in range(10):
            done = run(machine, misbehaving, program)
            assert done.status is Status.OK
            assert splat(done.log) is None
            assert shell(machine, f"cat {PARAMETER}") == "0\n"


def test_a_driver_without_an_image_is_not_loaded(fast_kernel: Kernel, accel: Accel) -> None:
    base, _ = ensure_base(fast_kernel, accel, Hardware())
    with Machine.restore(base) as machine:
        machine.channel.header.module_name = b"kernel"
        machine.channel.set_devices([Device("/dev/null")])
        program = parse_program('close(f0)\nunload()\nload("")\nopen(f0)', None, "test")
        done = machine.run(encode(program))
    assert done.status is Status.OK
    gone = (-1, errno.ENOENT)
    assert returned(done) == [(0, 0), gone, gone, (0, 0)]


def test_a_reset_that_reloads_and_a_program_that_does(reloading: Guest) -> None:
    with reloading.restore() as machine:
        for _ in range(2):
            done = run(machine, reloading, f'{RELOAD}load("start=4")\nopen(f0)\nioctl(f0, TD_GET)')
            assert (done.status, done.results[-1].ret) == (Status.OK, 4)
            assert shell(machine, f"cat {PARAMETER}") == "0\n"


_SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <signal.h>
int main(int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		printf("<%s>", argv[i]);
	fflush(stdout);
	fprintf(stderr, "!");
	if (argc > 2)
		raise(atoi(argv[2]));
	return atoi(argv[1]);
}
"""


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return a program that prints its arguments, and ends as they say."""
    directory = tmp_path_factory.mktemp("image")
    (directory / "main.c").write_text(_SOURCE)
    command = ["gcc", "-static", "-s", "-o", "main", "main.c"]
    subprocess.run(command, cwd=directory, check=True, timeout=60)
    return (directory / "main").read_bytes()


def test_a_command_of_the_guest_runs(misbehaving: Guest) -> None:
    with misbehaving.restore() as machine:
        done = machine.execute(["/bin/busybox", "sh", "-c", "echo one; echo two >&2; exit 3"])
        assert (done.status, done.output, done.log) == (3, b"one\ntwo\n", b"")
        assert not done.truncated
        assert not done.timed_out
        assert shell(machine, "echo $PATH; cd /bin && ls find base64 insmod rmmod sleep") == (
            "/bin\nbase64\nfind\ninsmod\nrmmod\nsleep\n"
        )
        assert machine.execute(["/bin/cat"]).output == b"", "there is nothing on its input"


@pytest.mark.parametrize(
    ("arguments", "status"), [(["0"], 0), (["42", "0"], 42), (["0", str(int(signal.SIGTERM))], -15)]
)
def test_a_program_of_ours_runs(
    fast_misbehaving: Guest, image: bytes, arguments: list[str], status: int
) -> None:
    with fast_misbehaving.restore() as machine:
        done = machine.execute(["a name", *arguments], image)
    shown = "".join(f"<{argument}>" for argument in ["a name", *arguments])
    assert (done.status, done.output) == (status, f"{shown}!".encode())


def test_what_cannot_be_run_is_an_error(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        with pytest.raises(InfrastructureError, match="/bin/nothing: No such file"):
            machine.execute(["/bin/nothing"])
        with pytest.raises(InfrastructureError, match="it: Exec format error"):
            machine.execute(["it"], b"no program")
        with pytest.raises(BadInputError, match="0 arguments"):
            machine.execute([])
        assert shell(machine, "echo on") == "on\n"


def test_much_output_is_cut_and_told(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        done = machine.execute(["/bin/sh", "-c", f"yes abc | head -c {OUTPUT_SIZE}"])
        assert (done.status, len(done.output), done.truncated) == (0, OUTPUT_SIZE, False)
        done = machine.execute(["/bin/sh", "-c", f"yes abc | head -c {OUTPUT_SIZE + 1}; exit 7"])
        assert (done.status, len(done.output), done.truncated) == (7, OUTPUT_SIZE, True)
        assert done.output == b"abc\n" * (OUTPUT_SIZE // 4)
        assert shell(machine, "echo on") == "on\n"


def test_a_program_that_takes_too_long_is_killed(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        start = time.monotonic()
        done = machine.execute(["/bin/sh", "-c", "echo begun; sleep 100; true"], timeout=1.0)
        assert 1.0 <= time.monotonic() - start < 30.0
        assert (done.status, done.output, done.timed_out) == (-signal.SIGKILL, b"begun\n", True)
        assert shell(machine, "ps | grep -c '[s]leep 100' || true") == "0\n"
        assert run(machine, fast_misbehaving, "ioctl(f0, TD_GET)").status is Status.OK


def test_a_program_may_take_longer_than_a_call(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        progress = machine.channel.header.progress
        assert shell(machine, "sleep 2; echo done") == "done\n"
        assert machine.channel.header.progress > progress


def test_what_is_left_in_the_background_is_not_waited_for(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        start = time.monotonic()
        assert shell(machine, "sleep 100 & echo begun") == "begun\n"
        assert time.monotonic() - start < 30.0


def test_the_kernels_words_come_with_an_execution(fast_misbehaving: Guest) -> None:
    with fast_misbehaving.restore() as machine:
        done = machine.execute(["/bin/sh", "-c", "echo '<4>said so' > /dev/kmsg"])
    assert [line.split("] ", 1)[1] for line in console_lines(done.log)] == ["said so"]


@pytest.mark.parametrize(
    "said", ["hrtimer: interrupt took 31293579 ns", "sched: RT throttling activated"]
)
def test_what_the_kernel_says_of_a_slow_host_is_left_out(
    fast_misbehaving: Guest, said: str
) -> None:
    with fast_misbehaving.restore() as machine:
        done = machine.execute(["/bin/sh", "-c", f"echo '<4>{said}' > /dev/kmsg"])
    assert done.log == b""


def test_threads_do_not_disturb_an_execution(two_cpus: Guest) -> None:
    with two_cpus.restore() as machine:
        run(machine, two_cpus, "[1] ioctl(f0, TD_GET)\n[2] ioctl(f0, TD_GET)")
        assert shell(machine, "grep -c ^processor /proc/cpuinfo") == "2\n"


def test_kernel_arguments_make_a_guest_of_their_own(
    fast_misbehaving: Guest, fast_kernel: Kernel, accel: Accel
) -> None:
    guest = ensure_guest(
        fast_misbehaving.target,
        fast_kernel,
        fast_misbehaving.driver,
        accel,
        arguments="pkvfuzz_word=yes loglevel=3",
    )
    assert guest.template.directory != fast_misbehaving.template.directory
    with guest.restore() as machine:
        words = shell(machine, "cat /proc/cmdline").split()
        assert words[-2:] == ["pkvfuzz_word=yes", "loglevel=3"]
        assert returned(run(machine, guest, "ioctl(f0, TD_GET)")) == [(0, 0)]
