# SPDX-License-Identifier: Apache-2.0
"""The driver as a whole, in a VM: strategies, 32-bit callers, parameters, loading and unloading."""

from __future__ import annotations

import contextlib
import errno
import random
import subprocess
from pathlib import Path

import pytest

from fuzzer.crash.leaks import ARGUMENTS, find_leak, forget_leaks
from fuzzer.driver.provision import Guest, driver_image
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.machine import Machine, Run
from fuzzer.paths import project_root
from fuzzer.program.generate import Generator
from fuzzer.program.wire import encode
from fuzzer.target.target import Target, with_params
from fuzzer.testing.driver_machine import DriverMachine
from tests.vm.guests import GuestFactory, returned, run, splat

pytestmark = pytest.mark.pkvfuzz(kernels=["full"])

STRATEGIES = ("mutex", "rwsem", "rwlock", "rcu")
COMPAT32 = Path(__file__).parent.parent / "data" / "compat32" / "compat32.c"
# No C library for 32 bits is needed, and no stack protector that wants one.
CFLAGS_32 = (
    *("-m32", "-O1", "-Wall", "-Wextra", "-Werror", "-static", "-nostdlib", "-ffreestanding"),
    *("-fno-pie", "-no-pie", "-fno-stack-protector", "-mpreferred-stack-boundary=2"),
)

# Loading and unloading wait for RCU, and nothing but that takes long.
HURRY = "rcupdate.rcu_expedited=1"

STRESS = """\
close(f0)
[1] unload()
[1] load("{params}")
[1] unload()
[1] load("{params}")
[2] open(f1)
[2] write(f1, "a=1\\nb=2\\n")
[2] read(f1, 64)
[2] close(f1)
[3] open(f2)
[3] write(f2, "a=3\\n")
[3] ioctl(f2, PKV_IOC_CLEAR)
[3] close(f2)
"""


def quiet(result: Run) -> Run:
    """Return the result of a program that the kernel had nothing to say about."""
    found = splat(result.log)
    assert found is None, found
    return result


def test_strategies_answer_alike(guest: GuestFactory, pkv_target: Target) -> None:
    generator = Generator(pkv_target, random.Random(7))
    programs = [encode(generator.program(1 + n % 30)) for n in range(200)]
    answers = []
    for strategy in STRATEGIES:
        target = with_params(pkv_target, f"lock={strategy}")
        with guest(Flavour.FAST, target=target).restore() as machine:
            results = [quiet(machine.run(program)).results for program in programs]
        # The entries of LIST are in no particular order, but for one history in one.
        answers.append([[(c.ret, c.error, c.output) for c in calls] for calls in results])
    assert all(each == answers[0] for each in answers)


def test_a_32_bit_process_can_do_all_of_it(machine: DriverMachine, tmp_path: Path) -> None:
    binary = tmp_path / "compat32"
    uapi = project_root() / "module"
    include = subprocess.run(
        ["gcc", "-print-multiarch"], capture_output=True, text=True, check=True, timeout=20
    ).stdout.strip()
    subprocess.run(
        ["gcc", *CFLAGS_32, f"-I{uapi}", f"-I/usr/include/{include}", COMPAT32, "-o", binary],
        check=True,
        timeout=60,
    )
    done = machine.execute(["compat32"], binary.read_bytes())
    assert done.status == 0, f"check {done.status} of {COMPAT32.name} failed"


def test_parameters_have_the_right_modes(machine: DriverMachine) -> None:
    listing = machine.shell("cd /sys/module/pkv/parameters; stat -c '%a %n' *; cat *")
    assert listing.split() == ["444", "lock", "644", "ttl_ms", "mutex", "0"]


def test_only_root_may_use_and_watch_it(machine: DriverMachine) -> None:
    listing = machine.shell("stat -c '%a %u %g %n' /dev/pkv /proc/pkv")
    assert listing.splitlines()[:2] == ["600 0 0 /dev/pkv", "400 0 0 /proc/pkv"]


def test_an_unknown_strategy_is_refused(machine: DriverMachine) -> None:
    guest = machine.guest
    image = driver_image(with_params(guest.target, "lock=spin"), guest.driver)
    machine.shell("rmmod pkv")
    with pytest.raises(BadInputError, match=r"Invalid argument.*lock=spin: not one of"):
        machine.vm.load(image)


def test_a_time_that_the_kernel_takes_for_ever_is_refused(machine: DriverMachine) -> None:
    parameter = "/sys/module/pkv/parameters/ttl_ms"
    written = machine.shell(
        f"echo 2147483647 > {parameter}; echo 2147483648 > {parameter} || cat {parameter}"
    )
    assert written.splitlines()[-1] == "2147483647"
    loaded = machine.run('close(f0)\nunload()\nload("ttl_ms=2147483648")\nload("")')
    assert [error for _, error in returned(loaded[2:])] == [errno.EINVAL, 0]


def test_keys_expire_when_the_parameter_is_set_at_run_time(machine: DriverMachine) -> None:
    script = """
        echo 20 > /sys/module/pkv/parameters/ttl_ms
        printf 'a=1\\nb=2\\n' > /dev/pkv
        for i in 1 2 3 4 5 6 7 8 9 10; do
            busybox grep -q 'expired: 2' /proc/pkv && break; busybox sleep 0.2
        done
        busybox grep -E '^(ttl_ms|keys|expired):' /proc/pkv
        cat /dev/pkv 2>&1 || true
    """
    printed = machine.shell(script)
    assert printed.splitlines()[:3] == ["ttl_ms: 20", "keys: 0 of 100", "expired: 2"]
    assert "No data available" in printed


def test_proc_counts_operations(machine: DriverMachine) -> None:
    before = machine.shell("cat /proc/pkv").splitlines()
    machine.shell("printf 'a=1\\n' > /dev/pkv; cat /dev/pkv; printf 'a' > /dev/pkv || true")
    after = machine.shell("cat /proc/pkv").splitlines()
    assert {"lock: mutex", "keys: 1 of 100", "value_bytes: 1"} <= set(after)
    calls = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in after[7:]}
    earlier = {line.split()[0]: [int(n) for n in line.split()[1:]] for line in before[7:]}
    assert [a - b for a, b in zip(calls["write"], earlier["write"], strict=True)] == [2, 1]
    assert [a - b for a, b in zip(calls["open"], earlier["open"], strict=True)] == [3, 0]


def test_debug_messages_are_under_dynamic_debug(machine: DriverMachine) -> None:
    machine.shell("cat /dev/pkv || true")
    assert b"opened by" not in machine.log
    machine.shell("echo 'module pkv +p' > /sys/kernel/debug/dynamic_debug/control")
    machine.shell("cat /dev/pkv || true")
    assert b"opened by cat" in machine.log
    assert b"closed by cat" in machine.log


def test_a_write_is_one_whatever_its_segments(machine: DriverMachine) -> None:
    text = (
        'write(f0, "a=1\\nb=22\\n") split=3\nread(f0, 64) split=1\nwrite(f0, "a=2\\nb") split=4\n'
    )
    text += "read(f0, 64)\n"
    assert returned(machine.run(text)) == [(9, 0), (2, 0), (-1, errno.EINVAL), (0, 0)]


@pytest.mark.parametrize("way", ["SPLICE", "SENDFILE"])
def test_values_are_spliced(machine: DriverMachine, way: str) -> None:
    results = machine.run(f'splice_write(f0, "a=1\\nb=22\\n", {way})\nsplice_read(f0, 64, {way})')
    assert returned(results) == [(9, 0), (2, 0)]


def test_it_cannot_be_unloaded_while_a_file_is_open(machine: DriverMachine) -> None:
    result = machine.run("unload()\nclose(f0)\nunload()\nopen(f0)")
    assert returned(result) == [(-1, errno.EAGAIN), (0, 0), (0, 0), (-1, errno.ENOENT)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_unloads_with_expiry_queued(machine: DriverMachine, strategy: str) -> None:
    text = f"""
        close(f0)
        unload()
        load("lock={strategy} ttl_ms=30")
        open(f0)
        write(f0, "a=1\\nb=2\\nc=3\\n")
        close(f0)
        unload()
        sleep(200)
    """
    for _ in range(3):
        result = machine.run(text)
        assert all(error == 0 for _, error in returned(result)), returned(result)


def test_every_allocation_of_loading_may_fail(guest: GuestFactory) -> None:
    needed = 0
    leaky = guest(Flavour.FULL, arguments=f"{ARGUMENTS} {HURRY}")
    with leaky.restore() as machine:
        forget_leaks(machine)
        for first in range(1, 2000, 20):
            numbers = range(first, first + 20)
            text = "close(f0)\nunload()\n"
            text += "".join(f'load("") fail={nth}\nunload()\n' for nth in numbers)
            result = run(machine, leaky, text)
            found = splat(result.log)
            assert found is None, found
            loads, unloads = result.results[2::2], result.results[3::2]
            for nth, loaded, unloaded in zip(numbers, loads, unloads, strict=True):
                assert loaded.faulted or loaded.ret == 0, nth
                assert unloaded.error == (errno.ENOENT if loaded.ret else 0), nth
            needed += sum(loaded.ret != 0 for loaded in loads)
            if not loads[-1].faulted:
                break
        assert not loads[-1].faulted
        # Device numbers, class, cdev, /proc and device alone make five.
        assert needed > 5
        assert find_leak(machine, leaky.driver.frame_marks()) is None


def test_no_file_is_open_of_a_device_whose_loading_fails(guest: GuestFactory) -> None:
    # A node of the device's number that stays, and one who opens it all the time.
    opener = """
        number=$(busybox awk '$2 == "pkv" { print $1 }' /proc/devices)
        busybox mknod /tmp/live c $number 0
        # There is no program to look for a driver with: it would only take time.
        echo > /proc/sys/kernel/modprobe || true
        (while :; do true < /tmp/live; done) > /dev/null 2>&1 &
    """
    raced = guest(Flavour.FULL, cpus=2, arguments=HURRY)
    with contextlib.closing(DriverMachine(raced)) as machine:
        machine.shell(opener)
        assert failed_loads(machine) > 5
        assert opens(machine) > 0
        found = splat(machine.log)
        assert found is None, found


def failed_loads(machine: DriverMachine) -> int:
    """Load with each allocation failing in turn; return how many of the loads failed."""
    failed, first, faulted = 0, 1, True
    while faulted:
        numbers = range(first, first + 10)
        # Somebody else has the device open now and then.
        text = "close(f0)\n" + "unload()\n" * 30
        text += "".join(f'load("") fail={nth}\nunload()\n' for nth in numbers)
        loads = machine.run(text)[31::2]
        if loads[0].error != errno.EEXIST:
            failed += sum(load.ret != 0 for load in loads)
            first, faulted = numbers.stop, loads[-1].faulted
    return failed


def opens(machine: DriverMachine) -> int:
    """Return how often somebody opened the device since it was loaded."""
    table = machine.shell("cat /proc/pkv").splitlines()
    return next(int(line.split()[1]) for line in table if line.startswith("open "))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_it_loads_and_unloads_under_concurrent_use(guest: GuestFactory, strategy: str) -> None:
    busy = guest(Flavour.FULL, cpus=2, arguments=HURRY)
    with busy.restore() as machine:
        assert cycles(machine, busy, f"lock={strategy} ttl_ms=1", at_least=20) >= 20


def test_it_loads_and_unloads_a_thousand_times_under_concurrent_use(guest: GuestFactory) -> None:
    busy = guest(Flavour.FAST, cpus=2, arguments=HURRY)
    with busy.restore() as machine:
        assert cycles(machine, busy, "lock=rcu ttl_ms=1", at_least=1000) >= 1000


def cycles(machine: Machine, guest: Guest, params: str, *, at_least: int) -> int:
    """Load and unload beside two users of the device; return how often both succeeded."""
    done = 0
    for _ in range(at_least):
        results = quiet(run(machine, guest, STRESS.format(params=params))).results
        done += sum(results[index].ret == 0 for index in (2, 4))
        if done >= at_least:
            break
    return done


def test_it_loads_and_unloads_while_memory_is_short(machine: DriverMachine) -> None:
    # All but 6 MiB: with less, the kernel ends the executor to get more.
    fill = """
        busybox mount -t tmpfs -o size=100% fill /tmp
        megabytes=$(busybox awk '/MemAvailable/ { print int($2 / 1024) - 6 }' /proc/meminfo)
        busybox dd if=/dev/zero of=/tmp/fill bs=1M count=$megabytes 2> /dev/null
    """
    text = 'close(f0)\nunload()\nload("ttl_ms=5")\nopen(f0)\nwrite(f0, "a=1\\n")'
    machine.shell(fill)
    for _ in range(20):
        loaded = machine.run(text)[2]
        assert loaded.error in (0, errno.ENOMEM)
