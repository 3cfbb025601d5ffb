# SPDX-License-Identifier: Apache-2.0
"""Duplicates, vectors, odd addresses and the 32-bit entry, each in a real driver."""

from __future__ import annotations

import errno

import pytest

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import STANDARD, Flavour
from fuzzer.machine.channel import CallResult
from fuzzer.machine.channel_layout import Status
from fuzzer.machine.machine import Run
from tests.vm.guests import GuestFactory, returned, run, splat

pytestmark = pytest.mark.vm

FAULT = (-1, errno.EFAULT)
LIST = "ioctl(f0, PKV_IOC_LIST, {buf: &[48], room: 1})"


@pytest.fixture(scope="module", params=list(STANDARD))
def pkv(request: pytest.FixtureRequest, guest: GuestFactory) -> Guest:
    """Return a guest with the shipped driver, of each flavour in turn."""
    return guest(request.param)


def done(guest: Guest, program: str) -> Run:
    """Return the result of a program on a fresh machine, that the kernel takes well."""
    with guest.restore() as machine:
        result = run(machine, guest, program)
    assert result.status is Status.OK
    assert splat(result.log) is None
    return result


def test_a_duplicate_shares_the_file_offset(pkv: Guest) -> None:
    program = (
        'write(f0, "a=hello\\n")\n'
        "read(f0, 1)\n"
        "dup(f1, f0)\n"
        "read(f1, 1)\n"
        "open(f2)\n"
        "read(f2, 1)\n"
        "close(f0)\n"
        "read(f1, 64)\n"
    )
    result = done(pkv, program)
    assert all(error == 0 for _, error in returned(result))
    assert [call.output for call in result.results if call.output] == [b"h", b"e", b"h", b"llo"]


def test_a_duplicate_takes_the_place_of_an_open_file(misbehaving: Guest) -> None:
    program = (
        "dup(f1, f5)\n"
        "dup(f0, f5)\n"
        "read(f0, 1)\n"
        "open(f1)\n"
        "dup(f1, f0) !cmd=0x8\n"
        "dup(f0, f0)\n"
        "close(f0)\n"
        "unload()\n"
        "read(f1, 1)\n"
        "close(f1)\n"
        "unload()\n"
    )
    bad = (-1, errno.EBADF)
    held = [(-1, errno.EWOULDBLOCK), (1, 0), (0, 0), (0, 0)]
    assert returned(done(misbehaving, program)) == [bad, bad, (1, 0), *[(0, 0)] * 4, *held]


@pytest.mark.parametrize(
    ("size", "length", "last"), [(0, 40, 40), (16, 40, 8), (20, 40, 20), (1, 40, 25), (8, 0, 0)]
)
def test_a_write_is_split(misbehaving: Guest, size: int, length: int, last: int) -> None:
    program = f'write(f0, "{"x" * length}") split={size}\nioctl(f0, TD_GET)'
    assert returned(done(misbehaving, program)) == [(length, 0), (last, 0)]


def test_parts_are_one_write_and_one_read(pkv: Guest) -> None:
    program = (
        'write(f0, "a=1\\nb=2\\n") split=4\n'
        'write(f0, "a=1\\nb=2") split=4\n'
        'write(f0, "a=1\\nb=2")\n'
        'write(f0, "a=1\\n") split=2\n'
        'write(f0, "a=hello\\n") split=0\n'
        "read(f0, 4) split=3\n"
        "read(f0, 64) split=1\n"
        f"{LIST}\n"
    )
    result = done(pkv, program)
    invalid = (-1, errno.EINVAL)
    assert returned(result) == [(8, 0), invalid, invalid, (4, 0), (8, 0), (4, 0), (1, 0), (0, 0)]
    assert [call.output for call in result.results[5:7]] == [b"hell", b"o"]
    assert count(result.results[7]) == 2


def test_a_split_buffer_is_unmapped_where_it_is_cut(misbehaving: Guest) -> None:
    program = "".join(
        f'write(f0, "{"x" * 16}") split=4 cut={cut}\nioctl(f0, TD_GET)\n' for cut in (6, 8, 12, 16)
    )
    program += "read(f0, 12) split=4 cut=4\nread(f0, 0x7fffffff) split=0x10000000 cut=65535"
    result = done(misbehaving, program)
    kept = [call.ret for call in result.results[1:8:2]]
    assert returned(result)[:8:2] == [(8, 0), (8, 0), (4, 0), FAULT]
    assert kept == [2, 0, 0, 0]
    assert [(call.ret, call.output) for call in result.results[8:]] == [(8, b"r" * 8), (-1, b"")]


def test_null_is_a_bad_address(pkv: Guest) -> None:
    program = (
        'write(f0, "a=1\\n")\n'
        "read(f0, 1) null\n"
        "read(f0, 64) split=8 null\n"
        "pread(f0, 1, 0) null\n"
        'write(f0, "b=1\\n") null\n'
        'write(f0, "b=1\\n") split=2 null\n'
        'pwrite(f0, "b=1\\n", 0) null\n'
        f"{LIST} null\n"
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) null\n'
        "read(f0, 0) null\n"
        "read(f0, 2)\n"
    )
    result = done(pkv, program)
    assert returned(result) == [(4, 0), *[FAULT] * 8, (0, 0), (1, 0)]
    assert [call.output for call in result.results] == [b""] * 10 + [b"1"]


def test_a_readonly_buffer_can_be_read_only(pkv: Guest) -> None:
    program = (
        'write(f0, "a=1\\n") readonly\n'
        'pwrite(f0, "b=2\\n", 0) readonly\n'
        'write(f0, "c=3\\nd=4\\n") split=4 readonly\n'
        "read(f0, 64) readonly\n"
        "pread(f0, 64, 0) readonly\n"
        "read(f0, 64) split=1 readonly\n"
        f"{LIST} readonly\n"
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) readonly\n'
        f"{LIST}\n"
        "read(f0, 64)\n"
    )
    result = done(pkv, program)
    assert returned(result) == [(4, 0), (4, 0), (8, 0), *[FAULT] * 4, (0, 0), (0, 0), (1, 0)]
    assert count(result.results[6]) == 0
    assert count(result.results[8]) == 3
    assert result.results[9].output == b"4"


def test_a_readonly_buffer_is_cut_and_points_into_itself(misbehaving: Guest) -> None:
    program = (
        f'write(f0, "{"x" * 16}") readonly cut=5\n'
        "ioctl(f0, TD_GET)\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 0}) readonly\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 4}) readonly\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 4})\n"
    )
    result = done(misbehaving, program)
    assert returned(result) == [FAULT, (11, 0), (0, 0), FAULT, (4, 0)]
    outputs = [call.output[16:20] for call in result.results[3:]]
    assert outputs == [bytes(4), bytes(range(4))]


def test_a_32_bit_ioctl_does_what_the_other_does(pkv: Guest) -> None:
    program = (
        'write(f0, "a=1\\nb=2\\n")\n'
        f"{LIST} compat\n"
        f"{LIST}\n"
        f"[1] {LIST} compat\n"
        f"[2] {LIST} compat\n"
        'ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) readonly compat\n'
        f"{LIST} readonly compat\n"
        f"{LIST} null compat\n"
        f"{LIST} cut=1 compat\n"
        f"{LIST}\n"
        "ioctl(f0, PKV_IOC_CLEAR) compat\n"
        "ioctl(f0, 0x1) compat\n"
        "ioctl(f7, PKV_IOC_CLEAR) compat\n"
        f"{LIST} compat\n"
    )
    result = done(pkv, program)
    fine, calls = (0, 0), result.results
    assert returned(result)[:10] == [(8, 0), *[fine] * 5, FAULT, FAULT, FAULT, fine]
    assert returned(result)[10:] == [fine, (-1, errno.ENOTTY), (-1, errno.EBADF), fine]
    # All but the address in it.
    assert {call.output[8:] for call in calls[1:5]} == {calls[1].output[8:]}
    assert calls[1].output[32:].count(b"a") + calls[1].output[32:].count(b"b") == 1
    assert [count(calls[i]) for i in (1, 9, 13)] == [2, 1, 0]


def test_a_driver_that_takes_no_32_bit_programs_says_so(fast_misbehaving: Guest) -> None:
    program = (
        "ioctl(f0, TD_SET, 7)\n"
        "ioctl(f0, TD_SET, 8) compat\n"
        "ioctl(f0, TD_FILL, {buf: &[16], len: 4}) compat\n"
        "ioctl(f0, TD_GET)\n"
    )
    unknown = (-1, errno.ENOTTY)
    assert returned(done(fast_misbehaving, program)) == [(0, 0), unknown, unknown, (7, 0)]


def test_a_kernel_that_runs_no_32_bit_programs_is_no_accident(guest: GuestFactory) -> None:
    without = guest(Flavour.FAST, arguments="ia32_emulation=off")
    program = f'write(f0, "a=1\\n")\nioctl(f0, PKV_IOC_CLEAR) compat\n{LIST} compat\n{LIST}'
    result = done(without, program)
    missing = (-1, errno.ENOSYS)
    assert returned(result) == [(4, 0), missing, missing, (0, 0)]
    assert count(result.results[3]) == 1


def count(call: CallResult) -> int:
    """Return the count of keys in a PKV_IOC_LIST's answer."""
    return int.from_bytes(call.output[12:16], "little")
