# SPDX-License-Identifier: Apache-2.0
"""Calls in a machine as a test of a driver makes them."""

from __future__ import annotations

import errno
import os

import pytest

from fuzzer.errors import BadInputError
from fuzzer.testing.driver_machine import DriverMachine

pytestmark = pytest.mark.pkvfuzz(kernels=["fast"])


def test_files_stay_open_from_call_to_call(machine: DriverMachine) -> None:
    with machine.open() as file:
        assert file.write(b"a=one\n") == 6
        assert file.read(64) == b"one"
        assert file.read(64) == b""


def test_what_the_driver_keeps_stays_in_a_test_and_no_longer(machine: DriverMachine) -> None:
    assert "keys: 0 of 100" in machine.shell("cat /proc/pkv")
    machine.open().write(b"a=1\n")
    assert [call.ret for call in machine.run('write(f0, "b=2\\n")\nread(f0, 8)')] == [4, 1]
    assert "keys: 2 of 100" in machine.shell("cat /proc/pkv")


def test_an_ioctl_takes_members_and_gives_them(machine: DriverMachine) -> None:
    file = machine.open()
    file.write(b"key=value\n")
    listed = file.ioctl("PKV_IOC_LIST", {"buf": bytes(64), "room": 2})
    assert listed.ret == 0
    assert listed["count"] == 1
    assert b"key" in listed.data
    with pytest.raises(KeyError, match=r"no member 'number'; there are: .*count"):
        listed["number"]
    file.ioctl("PKV_IOC_DELETE", {"key_len": 3, "key": "key"})
    with pytest.raises(FileNotFoundError):
        file.ioctl("PKV_IOC_DELETE", {"key_len": 3, "key": b"key"})


def test_an_error_is_raised_as_by_os(machine: DriverMachine) -> None:
    file = machine.open(flags=os.O_RDONLY)
    with pytest.raises(OSError, match=r"write of /dev/pkv") as caught:
        file.write(b"a=1\n")
    assert caught.value.errno == errno.EBADF
    file.close()
    with pytest.raises(ValueError, match="is closed"):
        file.read(1)


def test_what_is_wrong_with_a_call_is_said(machine: DriverMachine) -> None:
    file = machine.open()
    with pytest.raises(BadInputError, match=r"no ioctl PKV_IOC_LOST; .*PKV_IOC_LIST"):
        file.ioctl("PKV_IOC_LOST")
    with pytest.raises(BadInputError, match="has no member rom; did you mean room"):
        file.ioctl("PKV_IOC_LIST", {"rom": 1})
    with pytest.raises(BadInputError, match="no device /dev/other"):
        machine.open("/dev/other")
    for _ in range(7):
        machine.open()
    with pytest.raises(BadInputError, match="8 files are open"):
        machine.open()


@pytest.mark.pkvfuzz(bug="stale-last")
def test_a_report_that_is_asked_for_is_expected(machine: DriverMachine) -> None:
    file = machine.open()
    file.write(b"a=1\n")
    assert machine.report() is None
    file = machine.open()
    file.write(b"a=1\n")
    file.ioctl("PKV_IOC_DELETE", {"key_len": 1, "key": "a"})
    file.read(9)
    found = machine.report()
    assert found is not None
    assert found.title == "KASAN: slab-use-after-free Read in pkv_store_last"
