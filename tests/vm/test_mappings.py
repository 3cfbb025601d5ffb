# SPDX-License-Identifier: Apache-2.0
"""Mappings that stay, buffers in them, processes that share them, and waiters that stay."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver, find_bug
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.program.csource.source import MAPPED_PAGE, c_source
from fuzzer.program.text import load_program, parse_program
from fuzzer.target.target import Target, load_target
from tests.vm.guests import GuestFactory, returned, run, wire
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


ALBUM = Path(__file__).parent.parent / "drivers" / "album"
BUGS = sorted(path.stem for path in ALBUM.glob("bugs/*.patch"))
FREED = "index-renewed"


@pytest.fixture(scope="module")
def album() -> Target:
    """Return the description of a driver of pages that are mapped."""
    return load_target(ALBUM / "album.yaml")


@pytest.fixture(scope="module")
def good(guest: GuestFactory, album: Target) -> Guest:
    """Return a guest with that driver as it should be."""
    return guest(Flavour.FAST, target=album)


def test_a_buffer_lies_in_a_mapping_and_is_brought_in_by_the_call(good: Guest) -> None:
    visits = "ioctl(f0, ALBUM_IOC_VISITS, {{page: {}}}) in=f0\n"
    text = (
        # The call itself brings in page 1, of which it is then told.
        "map(f0, 8192, 1)\nioctl(f0, ALBUM_IOC_VISITS, {}) in=f0\nread(f0, 64) in=f0\n"
        f"{visits.format(1)}read(f0, 4112) split=4096 in=f0\nunmap(f0, 4096, 0)\n"
        "read(f0, 64) in=f0\nread(f0, 64) in=f7\nread(f0, 64)\n"
    )
    made = values(good, text)
    assert made == [
        (0, 0), (0, 0), (16, 0), (0, 0), (16, 0), (0, 0),
        (-1, errno.EFAULT), (-1, errno.EFAULT), (16, 0),
    ]  # fmt: skip


def test_bytes_are_stored_where_the_buffer_lies_before_the_call(good: Guest) -> None:
    # The page stays the album's, so another mapping of it has what was stored.
    text = (
        "map(f0, 4096, 0)\nmap(f1, 4096, 0)\nstore(f0, 0x100000001, 0)\n"
        "ioctl(f0, ALBUM_IOC_VISITS, {page: 0, visits: 7}) in=f0\n"
        "protect(f0, 4096, 0, PROT_READ)\n"
        "ioctl(f0, ALBUM_IOC_VISITS, {page: 1, visits: 7}) in=f0\n"
        "advise(f0, 4096, 0, MADV_DONTNEED)\nioctl(f0, ALBUM_IOC_VISITS, {}) in=f0\n"
    )
    assert values(good, text) == [
        (0, 0), (-1, errno.EBADF), (0, 0), (0, 0), (0, 0), (-1, errno.EFAULT), (0, 0),
        (-1, errno.EFAULT),
    ]  # fmt: skip


def test_what_a_buffer_points_to_lies_in_a_mapping(good: Guest) -> None:
    text = (
        "map(f0, 4096, 2)\nstore(f0, 0, 0) readonly\nadvise(f0, 4096, 0, MADV_DONTNEED)\n"
        "ioctl(f0, ALBUM_IOC_READ, {data: &[64], size: 64}) points=f0\nread(f0, 64)\n"
        "unmap(f0, 4096, 0)\nioctl(f0, ALBUM_IOC_READ, {data: &[64], size: 64}) points=f0\n"
        "ioctl(f0, ALBUM_IOC_READ, {data: &[64], size: 64})\n"
    )
    # Copying the first entry brought the page in once more.
    assert values(good, text) == [
        (0, 0), (0, 0), (0, 0), (16, 0), (32, 0), (0, 0), (-1, errno.EFAULT), (32, 0),
    ]  # fmt: skip


def test_a_store_that_faults_is_a_result(good: Guest) -> None:
    text = (
        "map(f0, 8192, 0, PROT_READ)\nstore(f0, 7, 0)\nstore(f0, 0, 0) readonly\n"
        "protect(f0, 4096, 0, PROT_READ|PROT_WRITE)\nstore(f0, 7, 0)\nstore(f0, 7, 1)\n"
        "protect(f0, 8192, 0, PROT_NONE)\nstore(f0, 0, 0) readonly\n"
        "map(f0, 4096, 0, PROT_READ|PROT_WRITE|MAP_PRIVATE)\nstore(f0, 7, 0)\n"
        "protect(f0, 4096, 3, PROT_READ)\n"
    )
    fault = (-1, errno.EFAULT)
    assert values(good, text) == [
        (0, 0), fault, (0, 0), (0, 0), (0, 0), fault, (0, 0), fault, (0, 0), (0, 0),
        (-1, errno.ENOMEM),
    ]  # fmt: skip


def test_a_store_that_faults_may_be_one_with_an_allocation_that_fails(good: Guest) -> None:
    # What fails is to be the driver's, not what the kernel writes where a signal is handled.
    with good.restore() as machine:
        for nth in (1, 2, 3) * 3:
            text = f"map(f0, 8192, 0, PROT_READ)\nstore(f0, 1, 1) fail={nth}\n"
            result = run(machine, good, text)
            assert result.status is Status.OK
            assert returned(result) == [(0, 0), (-1, errno.EFAULT)]


def test_pages_are_remapped_in_place_and_elsewhere(window: Guest) -> None:
    text = (
        f"map(f0, 8192, 0)\nremap(f0, 16384, 0)\nstore(f0, 7, 3)\n{COUNT}\n"
        f"remap(f0, 4096, 1)\nstore(f0, 7, 2)\nstore(f0, 7, 1)\n{COUNT}\n"
        f"remap(f0, 8192, 1, REMAP_MOVE)\nstore(f0, 7, 0)\nstore(f0, 7, 2)\n{COUNT}\n"
        f"remap(f0, 0, 0)\nremap(f1, 4096, 0)\nadvise(f0, 4096, 1, MADV_DONTNEED)\n"
        f"unmap(f0, 32768, 0)\n{COUNT}\n"
    )
    fault = (-1, errno.EFAULT)
    assert values(window, text) == [
        (0, 0), (0, 0), (0, 0), (1, 0), (0, 0), fault, (0, 0), (1, 0), (0, 0), fault, (0, 0),
        (1, 0), (-1, errno.EINVAL), (-1, errno.EINVAL), (0, 0), (0, 0), (0, 0),
    ]  # fmt: skip


def test_threads_that_remap_lose_no_mapping(window: Guest) -> None:
    lines = [
        "[1] remap(f0, 8192, 0, REMAP_MOVE)", "[2] map(f0, 8192, 0)",
        "[3] remap(f0, 4096, 1, REMAP_MOVE)", "[3] unmap(f0, 4096, 0)",
    ]  # fmt: skip
    with window.restore() as machine:
        for _ in range(10):
            text = "\n".join(["map(f0, 8192, 0)", *lines * 4])
            assert run(machine, window, text).status is Status.OK
        assert returned(run(machine, window, COUNT)) == [(0, 0)]
        assert run(machine, window, "close(f0)\nunload()").status is Status.OK


def test_pages_that_stay_the_drivers_are_not_taken_for_freed(good: Guest) -> None:
    lines = [
        "[1] map(f0, 32768, 0)", "[1] read(f0, 1024) in=f0", "[2] unmap(f0, 16384, 2)",
        "[2] advise(f0, 32768, 0, MADV_DONTNEED)", "[3] map(f0, 4096, 16, PROT_READ)",
        "[3] ioctl(f0, ALBUM_IOC_RENEW)",
    ]  # fmt: skip
    with good.restore() as machine:
        for _ in range(20):
            assert not run(machine, good, "\n".join(lines * 4)).log


@pytest.mark.parametrize("name", [name for name in BUGS if name != FREED])
def test_a_bug_of_mappings_shows_without_the_executor(
    name: str, guest: GuestFactory, album: Target, tmp_path: Path
) -> None:
    bug = find_bug(album, name)
    program = load_program(bug.path.with_suffix(".prog"), album)
    for header in album.headers:
        shutil.copy(header, tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, album, bug.expect))
    assert title_of(guest(Flavour.FULL, name, target=album), compiled(tmp_path)) == bug.expect


def test_a_page_that_was_freed_while_mapped_is_somebody_elses_in_c(
    guest: GuestFactory, album: Target, tmp_path: Path
) -> None:
    bug = find_bug(album, FREED)
    assert bug.expect.endswith(MAPPED_PAGE)
    program = load_program(bug.path.with_suffix(".prog"), album)
    for header in album.headers:
        shutil.copy(header, tmp_path)
    (tmp_path / "repro.c").write_text(c_source(program, album, bug.expect))
    binary = compiled(tmp_path)
    shown = b"page 0 of a mapping is a pipe's by now\n"
    with guest(Flavour.FAST, FREED, target=album).restore() as machine:
        assert shown in machine.execute(["repro"], binary).output
    with guest(Flavour.FAST, target=album).restore() as machine:
        assert machine.execute(["repro"], binary).output == b""
