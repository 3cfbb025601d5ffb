# SPDX-License-Identifier: Apache-2.0
"""Mappings that stay, processes that share them, and waiters that stay in a wait queue."""

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
from fuzzer.machine.channel_layout import Status
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import parse_program
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, wire
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "window"
# How many mappings there are; what is left of one in two parts counts as two.
COUNT = "ioctl(f0, 0x5701)"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with a driver that counts what is mapped, and forgets who waits."""
    path = tmp_path_factory.mktemp("window") / "window.yaml"
    path.write_text(
        f"version: 1\nname: window\ndevice: /dev/window\n"
        f"module: {{source: {SOURCE}, name: window}}\ncalls:\n  - mmap: true\n  - poll: true\n"
    )
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


def values(guest: Guest, text: str) -> list[tuple[int, int]]:
    with guest.restore() as machine:
        result = run(machine, guest, text)
    assert result.status is Status.OK
    return returned(result)


def test_a_mapping_stays_until_it_is_unmapped_or_replaced(window: Guest) -> None:
    text = (
        f"map(f0, 12288, 0)\n{COUNT}\nmmap(f0, 4096, 0)\n{COUNT}\n"
        f"map(f0, 12288, 0)\n{COUNT}\nunmap(f0, 4096, 1)\n{COUNT}\nunmap(f0, 4096, 1)\n"
        f"unmap(f0, 4096, 9)\nstore(f0, 7, 0)\nstore(f0, 7, 1)\nstore(f1, 7, 0)\n"
        f"unmap(f0, 12288, 0)\n{COUNT}"
    )
    assert values(window, text) == [
        (0, 0), (1, 0), (0, 0), (1, 0), (0, 0), (1, 0), (0, 0), (2, 0), (-1, errno.EINVAL),
        (-1, errno.EINVAL), (0, 0), (-1, errno.EFAULT), (-1, errno.EFAULT), (0, 0), (0, 0),
    ]  # fmt: skip


def test_a_mapping_outlives_its_file_and_ends_with_the_program(window: Guest) -> None:
    text = f"open(f1)\nmap(f1, 8192, 0)\nclose(f1)\n{COUNT}\nstore(f1, 1, 1)\nunload()"
    with window.restore() as machine:
        for _ in range(2):
            made = returned(run(machine, window, text))
            assert made[3:5] == [(1, 0), (0, 0)]
            assert made[5][0] == -1
        assert returned(run(machine, window, COUNT)) == [(0, 0)]


def test_a_process_shares_mappings_for_a_moment(window: Guest) -> None:
    assert values(window, f"map(f0, 4096, 0)\nfork()\n{COUNT}\nread(f0, 1)\n") == [
        (0, 0),
        (0, 0),
        (1, 0),
        # So many were mapped at a time.
        (2, 0),
    ]


def test_threads_that_map_and_unmap_lose_no_mapping(window: Guest) -> None:
    lines = ["[1] map(f0, 8192, 0)", "[2] map(f0, 8192, 0)", "[3] unmap(f0, 4096, 0)"]
    with window.restore() as machine:
        for _ in range(10):
            assert run(machine, window, "\n".join(lines * 4)).status is Status.OK
        assert returned(run(machine, window, COUNT)) == [(0, 0)]
        assert run(machine, window, "close(f0)\nunload()").status is Status.OK


def test_a_waiter_stays_where_it_is_until_it_is_removed(window: Guest) -> None:
    events = (
        "epoll(f0, EPOLL_WAIT, 0x1)\nepoll(f0, EPOLL_ADD, 0x1)\nepoll(f0, EPOLL_ADD, 0x1)\n"
        "epoll(f0, EPOLL_WAIT, 0x1)\nepoll(f0, EPOLL_MODIFY, 0x4)\nepoll(f0, EPOLL_WAIT, 0x1)\n"
        "epoll(f0, EPOLL_DELETE, 0x1)\nepoll(f0, EPOLL_DELETE, 0x1)\n"
    )
    assert values(window, events) == [
        (0, 0), (0, 0), (-1, errno.EEXIST), (1, 0), (0, 0), (0, 0), (0, 0), (-1, errno.ENOENT),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "map(f0, 8192, 0)\nioctl(f0, 0x5703)\nunmap(f0, 4096, 0)\nunmap(f0, 4096, 1)\n",
        "epoll(f0, EPOLL_ADD, 0x1)\nioctl(f0, 0x5702)\nepoll(f0, EPOLL_DELETE, 0x1)\n",
    ],
    ids=["mapping", "waiter"],
)
def test_what_needs_them_crashes_by_its_program_and_in_c(
    window: Guest, text: str, tmp_path: Path
) -> None:
    program = parse_program(text, window.target, "test")
    with window.restore() as machine:
        shown = run_program(machine, wire(text, window.target)).splat
    assert shown is not None
    assert "KASAN" in shown.title
    for header in window.target.headers:
        shutil.copy(header, tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, window.target, shown.title))
    assert title_of(window, compiled(tmp_path)) == shown.title
