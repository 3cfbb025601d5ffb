# SPDX-License-Identifier: Apache-2.0
"""Calls beside reading and writing, files that are not the driver's, and other processes."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.crash.observe import run_program
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import Status
from fuzzer.machine.machine import Run
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import parse_program
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, wire
from tests.vm.reproducers import compiled, title_of

pytestmark = pytest.mark.vm

STRANGERS = Path(__file__).parent.parent / "drivers" / "strangers"
O_ASYNC, O_RDWR = 0o20000, 2
LIGHT, ZEROS = "ioctl(f0, 0xbe02)", r"\x00" * 8
VISIT, COUNT = "ioctl(f0, 0xee01)", "ioctl(f0, 0xee02)"

GuestOf = Callable[[str], Guest]


@pytest.fixture(scope="module")
def guest_of(
    tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel
) -> GuestOf:
    """Return what makes the guest of a driver among the strangers."""

    def make(name: str) -> Guest:
        path = tmp_path_factory.mktemp(name) / f"{name}.yaml"
        path.write_text(
            f"version: 1\nname: {name}\ndevice: /dev/{name}\n"
            f"module: {{source: {STRANGERS / name}, name: {name}}}\ncalls:\n  - open: true\n"
        )
        target = load_target(path)
        return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)

    return make


def done(guest: Guest, text: str) -> Run:
    with guest.restore() as machine:
        result = run(machine, guest, text)
    assert result.status is Status.OK
    return result


def test_flags_owners_and_locks_of_a_file_are_changed(guest_of: GuestOf) -> None:
    text = (
        "fcntl(f0, F_SETFL, O_ASYNC)\nfcntl(f0, F_GETFL, 0)\nfcntl(f0, F_SETOWN, 0)\n"
        'fcntl(f0, F_SETSIG, 1)\nwrite(f0, "1")\nfcntl(f0, F_SETFL, 0)\nfcntl(f0, F_GETFL, 0)\n'
        "open(f1)\nflock(f0, LOCK_EX)\nflock(f1, LOCK_SH)\nflock(f0, LOCK_UN)\n"
        "fcntl(f0, F_OFD_SETLK, F_WRLCK)\nfcntl(f1, F_OFD_SETLK, F_RDLCK)\nfcntl(f9, F_GETFL, 0)\n"
    ).replace("f9", "f7")
    made = returned(done(guest_of("bell"), text))
    large = 0o100000
    assert [ret & ~large for ret, _ in made[:2]] == [0, O_RDWR | O_ASYNC]
    assert made[2:6] == [(0, 0), (0, 0), (1, 0), (0, 0)]
    assert made[6][0] & ~large == O_RDWR
    assert made[7:] == [
        (0, 0), (0, 0), (-1, errno.EAGAIN), (0, 0), (0, 0), (-1, errno.EAGAIN), (-1, errno.EBADF),
    ]  # fmt: skip


def test_a_file_is_synchronised_asked_and_listed(guest_of: GuestOf) -> None:
    result = done(guest_of("slips"), "fsync(f0, 0)\nfsync(f0, 1)\ngetdents(f0, 64)\nfdinfo(f0)\n")
    assert returned(result)[:3] == [(0, 0), (0, 0), (-1, errno.ENOTDIR)]
    assert result.results[3].output.startswith(b"pos:\t0\nflags:\t")


def test_what_is_spliced_to_a_file_comes_from_a_pipe_or_a_memfd(guest_of: GuestOf) -> None:
    text = (
        'splice_write(f0, "ab", SPLICE)\nwrite(f0, "1")\nsplice_write(f0, "abc", SPLICE)\n'
        'splice_write(f0, "abcd", SENDFILE)\nsplice_read(f0, 8, SPLICE)\n'
    )
    assert returned(done(guest_of("slips"), text)) == [
        (-1, errno.ENODATA), (1, 0), (3, 0), (4, 0), (-1, errno.EINVAL),
    ]  # fmt: skip


def test_files_that_are_not_the_drivers_are_used_as_any_other(guest_of: GuestOf) -> None:
    text = (
        'create(f1, EVENTFD)\nread(f1, 8)\nwrite(f1, "\\x05\\x00\\x00\\x00\\x00\\x00\\x00\\x00")\n'
        'read(f1, 8)\ncreate(f1, PIPE)\nwrite(f1, "abc")\nsplice_read(f1, 2, SPLICE)\n'
        'splice_read(f1, 2, SPLICE_KEEP)\nsplice_write(f1, "", SPLICE)\nread(f1, 8)\n'
        'create(f2, MEMFD)\npwrite(f2, "xyz", 0)\nsplice_read(f2, 8, SENDFILE)\n'
        "create(f3, TIMERFD)\ncreate(f3, NULL_DEVICE)\nread(f3, 8)\ncreate(f3, SOCKET)\n"
        "create(f3, DMA_BUF)\n"
    )
    result = done(guest_of("beacon"), text)
    made, outputs = returned(result), [each.output for each in result.results]
    assert made[:4] == [(0, 0), (-1, errno.EAGAIN), (8, 0), (8, 0)]
    assert outputs[3] == (5).to_bytes(8, "little")
    assert made[4:10] == [(0, 0), (3, 0), (2, 0), (1, 0), (1, 0), (1, 0)]
    assert (outputs[6], outputs[9]) == (b"ab", b"c")
    assert (made[12], outputs[12]) == ((8, 0), b"xyz" + bytes(5))
    assert made[13:16] == [(0, 0), (0, 0), (0, 0)]
    # The kernel has no network, and no buffers that drivers share.
    assert made[16:] == [(-1, errno.ENOSYS), (-1, errno.ENOENT)]


def test_a_descriptor_is_the_one_that_a_program_in_c_has(guest_of: GuestOf) -> None:
    watch = r'ioctl(f0, 0x4008be01, "\x01\x00\x00\x00\x04\x00\x00\x00")'
    assert returned(done(guest_of("beacon"), f"create(f1, EVENTFD)\n{watch}\n")) == [(0, 0)] * 2


def test_a_process_makes_calls_and_its_files_are_its_own(guest_of: GuestOf) -> None:
    text = (
        f"{VISIT}\n{COUNT}\nchild()\n{VISIT}\n{COUNT}\nopen(f1)\nioctl(f1, 0xee02)\nclose(f1)\n"
        f"unload()\nclose(f0)\nexit()\n{COUNT}\nioctl(f1, 0xee02)\nchild()\n{COUNT}\nfork()\n"
    )
    guest = guest_of("tenant")
    with guest.restore() as machine:
        for _ in range(3):
            made = returned(run(machine, guest, text))
            assert made == [
                (0, 0), (0, 0), (0, 0), (0, 0), (1, 0), (0, 0), (0, 0), (0, 0),
                (0, 0), (0, 0), (0, 0), (1, 0), (-1, errno.EBADF), (0, 0), (1, 0), (0, 0),
            ]  # fmt: skip
            # What the process alone did is covered, and its results come with their bytes.
        covered = []
        for program in ("child()\n", f"child()\n{VISIT}\n"):
            run(machine, guest, program)
            covered.append(machine.channel.header.n_pcs)
        assert 0 < covered[0] < covered[1]


@pytest.mark.parametrize(
    ("name", "text", "title"),
    [
        (
            "bell",
            'open(f1)\nfcntl(f1, F_SETFL, O_ASYNC)\nclose(f1)\nwrite(f0, "1")\n',
            "KASAN: slab-use-after-free Read in bell_write",
        ),
        (
            "slips",
            f'write(f0, "1")\nsplice_write(f0, "{"a" * 100}", SPLICE)\n',
            "KASAN: slab-out-of-bounds Write in slips_take",
        ),
        (
            "slips",
            'write(f0, "1")\nfsync(f0, 1)\n',
            "KASAN: slab-use-after-free Read in slips_fsync",
        ),
        (
            "beacon",
            f'create(f1, EVENTFD)\nioctl(f0, 0x4008be01, "{ZEROS}") @4=f1\n{LIGHT}\n{LIGHT}\n',
            "KASAN: slab-use-after-free Read in beacon_ioctl",
        ),
        (
            "tenant",
            f"child()\n{VISIT}\n{VISIT}\n",
            "KASAN: slab-use-after-free Read in tenant_ioctl",
        ),
        ("tenant", "child()\nopen(f1)\nexit()\n", "general protection fault in tenant_release"),
    ],
)
def test_what_needs_them_crashes_by_its_program_and_in_c(
    guest_of: GuestOf, name: str, text: str, title: str, tmp_path: Path
) -> None:
    guest = guest_of(name)
    with guest.restore() as machine:
        shown = run_program(machine, wire(text, guest.target)).splat
    assert shown is not None
    # Freed memory that was given away since, a fault shows instead, in the same function.
    titles = {title, f"general protection fault in {title.rpartition(' in ')[2]}"}
    assert shown.title in titles
    for header in guest.target.headers:
        shutil.copy(header, tmp_path)
    program = parse_program(text, guest.target, "test")
    (tmp_path / "repro.c").write_text(c_source(program, guest.target, title))
    assert title_of(guest, compiled(tmp_path)) in titles
