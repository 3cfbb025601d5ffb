# SPDX-License-Identifier: Apache-2.0
"""The files that a driver makes, from what a guest listed before and after loading it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from fuzzer.machine.nodes import (
    Listing,
    MajorNumber,
    new_devices,
    numbers_without_node,
    parse_listing,
)
from fuzzer.target.device import Device, DeviceKind

FILES = """\
character special file|1|3|666|/dev/null
character special file|4|40|600|/dev/ttyS0
regular empty file|0|0|444|/proc/uptime
regular file|0|0|644|/sys/kernel/profiling
"""
NUMBERS = """\
Character devices:
  1 mem
  4 ttyS
 10 misc

Block devices:
259 blkext
"""


@pytest.fixture
def before() -> Listing:
    return parse_listing(FILES, NUMBERS)


def after(files: str = "", characters: str = "", blocks: str = "") -> Listing:
    """Return the listing with more lines in it."""
    return parse_listing(FILES + files, NUMBERS.replace("\nBlock", characters + "\nBlock") + blocks)


def found(before: Listing, later: Listing, minors: Sequence[int] = (0,)) -> list[Device]:
    return list(new_devices(before, later, lambda number: minors))


def attributes(directory: str, names: str) -> str:
    return "".join(f"regular file|0|0|644|{directory}/{name}\n" for name in names.split())


def test_lines_that_cannot_be_are_left_out() -> None:
    # Of two lines the middle is gone, in a guest whose memory a driver has damaged.
    listing = parse_listing(
        "character special fregular file|0|0|444|/proc/a\n"
        "character special file|4|5|444|/proc/b\nregular file|0|0|644|/dev/c\n",
        "",
    )
    assert not listing.files


def test_nothing_is_new_where_nothing_came(before: Listing) -> None:
    assert found(before, after()) == []


def test_nodes_come_first_then_proc_then_debugfs_then_sysfs(before: Listing) -> None:
    files = """\
regular file|0|0|200|/sys/kernel/drv/level
regular file|0|0|600|/sys/kernel/debug/drv/state
regular empty file|0|0|444|/proc/driver/drv
block special file|fe|0|600|/dev/drvblk
character special file|f0|0|600|/dev/drv
"""
    later = after(files, "240 drv\n", "254 drvblk\n")
    assert found(before, later) == [
        Device("/dev/drv"),
        Device("/dev/drvblk", block=True),
        Device("/proc/driver/drv"),
        Device("/sys/kernel/debug/drv/state"),
        Device("/sys/kernel/drv/level"),
    ]
    assert [device.kind for device in found(before, later)] == list(DeviceKind)


def test_a_number_without_a_node_gets_nodes(before: Listing) -> None:
    later = after("", "240 my drv/x\n")
    assert numbers_without_node(before, later) == {MajorNumber("my drv/x", 240, False): 1}
    assert found(before, later) == [Device("/dev/my_drv_x", "my drv/x")]
    assert found(before, later, (0, 2)) == [
        Device("/dev/my_drv_x0", "my drv/x", 0),
        Device("/dev/my_drv_x2", "my drv/x", 2),
    ]
    assert found(before, later, ()) == []


def test_a_number_taken_several_times_is_one(before: Listing) -> None:
    later = after("", "240 drv\n240 drvp\n")
    assert numbers_without_node(before, later) == {MajorNumber("drv", 240, False): 2}


def test_a_node_of_another_kind_does_not_stand_for_a_number(before: Listing) -> None:
    later = after("character special file|f0|0|600|/dev/a\n", "240 a\n", "240 a\n")
    assert found(before, later) == [Device("/dev/a"), Device("/dev/a_", "a", 0, block=True)]


def test_a_name_that_two_numbers_have_is_told_by_the_number(before: Listing) -> None:
    later = after("", "240 drv\n241 drv\n")
    assert found(before, later) == [Device("/dev/drv", 240), Device("/dev/drv_", 241)]


def test_a_name_that_is_taken_is_not_taken_again(before: Listing) -> None:
    assert found(before, after("", "240 null\n")) == [Device("/dev/null_", "null")]


def test_a_node_with_another_number_than_before_is_new(before: Listing) -> None:
    later = parse_listing(FILES.replace("4|40|", "4|41|"), NUMBERS)
    assert found(before, later) == [Device("/dev/ttyS0")]


def test_what_the_drivers_core_makes_is_left_out(before: Listing) -> None:
    device = "/sys/devices/virtual/drv/drv0"
    files = attributes(device, "uevent dev speed power/control")
    files += attributes("/sys/devices/pci0000:00/0000:00:04.0", "vendor class config speed")
    files += attributes("/sys/devices/virtual/block/drv0", "size queue/nr_requests disksize")
    files += attributes("/sys/module/drv", "refcnt coresize parameters/size knob")
    files += attributes("/sys/bus/platform/drivers/drv", "bind unbind knob")
    files += attributes("/sys/class/net/drv0", "mtu address")
    files += attributes("/sys/devices/i2c-0/0-0010", "name modalias limit")
    assert {device.path for device in found(before, after(files))} == {
        f"{device}/speed",
        "/sys/devices/pci0000:00/0000:00:04.0/speed",
        "/sys/devices/virtual/block/drv0/disksize",
        "/sys/module/drv/knob",
        "/sys/bus/platform/drivers/drv/knob",
        "/sys/devices/i2c-0/0-0010/limit",
    }


def test_a_file_that_nobody_can_read_or_write_is_left_out(before: Listing) -> None:
    assert found(before, after("regular file|0|0|0|/proc/drv\n")) == []


@pytest.mark.parametrize(
    "line",
    [
        "regular file|0|0|644|/proc/a b",
        "regular file|0|0|644|/proc/a\tb",
        "regular file|0|0|644|/proc/é",
        "regular file|0|0|644|/proc/../etc/x",
        "regular file|0|0|644|/proc/" + "a" * 200,
        "regular file|0|0|644|/dev/file",
        "regular file|0|0|644|/etc/passwd",
        "regular file|x|0|644|/proc/a",
        "stat: cannot stat '/proc/a'",
    ],
)
def test_lines_that_are_no_files_to_open_are_left_out(before: Listing, line: str) -> None:
    assert after(line + "\n") == before


def test_lines_of_proc_devices_that_are_no_numbers_are_left_out(before: Listing) -> None:
    assert after("", "240\n 5000 drv\nx drv\n") == before


def test_of_many_files_all_nodes_and_a_few_others_are_taken_in_order(before: Listing) -> None:
    nodes = "".join(f"character special file|f0|{n:x}|600|/dev/drv{n}\n" for n in range(100))
    files = "".join(
        f"regular file|0|0|600|/sys/kernel/debug/{'ab'[n % 2]}/{n}\n" for n in range(999)
    )
    names = "".join(f"regular file|0|0|600|/proc/{'x' * n}\n" for n in range(1, 99))
    devices = found(before, after(nodes + files + names))
    paths = [device.path for device in devices]
    assert paths[:4] == ["/dev/drv0", "/dev/drv1", "/dev/drv2", "/dev/drv3"]
    assert sum(path.startswith("/dev/") for path in paths) == 32
    assert sum(path.startswith("/proc/") for path in paths) == 16
    assert sum(path.startswith("/sys/kernel/debug/a/") for path in paths) == 4
    assert len(paths) == 32 + 16 + 8
