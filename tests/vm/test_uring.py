# SPDX-License-Identifier: Apache-2.0
"""Requests in a ring of io_uring: what they return, who makes them, and what is left of them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import COUNTER_DEFERRED, Status
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import parse_program
from fuzzer.target.target import load_target
from tests.vm.guests import blocks_of_function, returned, run, wire
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

COURIER = Path(__file__).parent.parent / "drivers" / "strangers" / "courier"
AWAIT = "ioctl(f0, COURIER_AWAIT, {kind: 49}) uring=LEAVE"


@pytest.fixture(scope="module")
def courier(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return the guest of a driver that is used through rings."""
    path = tmp_path_factory.mktemp("courier") / "courier.yaml"
    path.write_text(
        "version: 1\nname: courier\ndevice: /dev/courier\n"
        f"module: {{source: {COURIER}, name: courier}}\nheader: {COURIER}/courier.h\n"
        "calls:\n  - uring_cmd: COURIER_AWAIT\n    struct: courier_await\n"
        "  - uring_cmd: COURIER_COUNT\n  - read: [1]\n"
    )
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def test_requests_return_what_their_completions_say(courier: Guest) -> None:
    text = (
        'write(f0, "abc") uring\nread(f0, 64) uring\npwrite(f0, "ab", 8) uring=ASYNC\n'
        "ioctl(f0, COURIER_COUNT) uring\nread(f0, 8) uring=ASYNC\npoll(f0, POLLOUT) uring\n"
        f"ioctl(f0, 0x7, 1) uring\nread(f7, 8) uring\n{AWAIT}\n"
        "ioctl(f0, COURIER_AWAIT, {}) uring\n"
        "uring_close()\nioctl(f0, COURIER_COUNT) uring\nread(f0, 8) uring=LEAVE\n"
        f"child()\n{AWAIT}\nioctl(f0, COURIER_COUNT) uring\nexit()\nuring_close()\nuring_close()\n"
    )
    with courier.restore() as machine:
        runs = [run(machine, courier, text) for _ in range(3)]
    assert {each.status for each in runs} == {Status.OK}
    # On a busy host a thread of the kernel's may take longer than a request is waited for.
    assert [
        (3, 0), (3, 0), (2, 0), (1, 0), (2, 0), (4, 0),
        (-1, errno.ENOTTY), (-1, errno.EBADF), (-1, errno.EINPROGRESS),
        (-1, errno.EINVAL), (0, 0), (0, 0), (0, 0), (0, 0), (-1, errno.EINPROGRESS),
        (0, 0), (0, 0), (0, 0), (0, 0),
    ] in map(returned, runs)  # fmt: skip
    assert [b"abc", b"ab"] in [[each.results[at].output for at in (1, 4)] for each in runs]


def test_what_a_thread_of_the_kernel_makes_is_the_programs_coverage(courier: Guest) -> None:
    blocks = blocks_of_function(courier, "courier_read_iter")
    counted = []
    with courier.restore() as machine:
        machine.channel.set_settling(settles=True)
        for way in ("uring", "uring=ASYNC"):
            machine.channel.clear_counters(len(courier.blocks))
            run(machine, courier, f"read(f0, 8) {way}\n")
            counters = machine.channel.counters(len(courier.blocks))
            counted.append({counters[number] for number in blocks})
    assert counted == [{0, 1}, {0, COUNTER_DEFERRED}]


def test_threads_share_the_ring(courier: Guest) -> None:
    text = (
        '[1] write(f0, "abc") uring fail=1\n[2] write(f0, "ab") uring=ASYNC\n[3] uring_close()\n'
        f"[1] read(f0, 8) uring=ASYNC\n[2] {AWAIT}\n[2] uring_close()\n[3] read(f0, 8) uring\n"
        "[1] uring_close()\n[2] poll(f0, POLLIN) uring=LEAVE\n[3] uring_close()\n"
    )
    with courier.restore() as machine:
        for _ in range(8):
            assert run(machine, courier, text).status is Status.OK


def test_a_file_with_requests_in_flight_goes_before_the_module_does(courier: Guest) -> None:
    text = f'close(f0)\nunload()\nload("")\nopen(f0)\n{AWAIT}\n'
    with courier.restore() as machine:
        for _ in range(2):
            assert run(machine, courier, text).status is Status.OK


@pytest.mark.parametrize(
    ("text", "title", "task"),
    [
        (
            f'{AWAIT}\nuring_close()\nwrite(f0, "1")\n',
            "KASAN: slab-use-after-free Read in courier_deliver",
            "init",
        ),
        (
            f'child()\n{AWAIT}\nexit()\nwrite(f0, "1")\n',
            "KASAN: slab-use-after-free Read in courier_deliver",
            "init",
        ),
        (
            'write(f0, "abc")\nread(f0, 1) uring\n',
            "KASAN: slab-use-after-free Read in courier_read_iter",
            "iou-wrk-",
        ),
    ],
    ids=["closed", "exited", "retried"],
)
def test_what_takes_requests_crashes_by_its_program_and_in_c(
    courier: Guest, text: str, title: str, task: str, tmp_path: Path
) -> None:
    with courier.restore() as machine:
        shown = run_program(machine, wire(text, courier.target)).splat
        assert shown is not None
    assert shown.title == title
    assert (shown.task.name or "").startswith(task)
    for header in courier.target.headers:
        shutil.copy(header, tmp_path)
    program = parse_program(text, courier.target, "test")
    (tmp_path / "repro.c").write_text(c_source(program, courier.target, title))
    binary = compiled(tmp_path)
    # A worker of the kernel's and the process that ends meet, mostly.
    assert title in (title_of(courier, binary) for _ in range(3))
