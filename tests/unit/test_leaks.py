# SPDX-License-Identifier: Apache-2.0
"""kmemleak's list: the driver's objects, not those of others."""

from __future__ import annotations

from fuzzer.crash.leaks import parse_leaks

OTHERS = """\
unreferenced object 0xffff888004608b00 (size 96):
  comm "init", pid 1, jiffies 4294937504
  backtrace (crc cff2b7bf):
    kmemleak_alloc+0x50/0x80
    __kmalloc_noprof+0x272/0x420
    do_something+0x14c/0x11b0
"""
OURS = """\
unreferenced object 0xffff888004608c00 (size 96):
  comm "init", pid 27, jiffies 4294937504
  hex dump (first 32 bytes):
    00 00 00 00 00 00 00 00 c0 7c 3b 00 00 c9 ff ff  .........|;.....
  backtrace (crc cff2b7bf):
    kmemleak_alloc+0x50/0x80
    __kmalloc_noprof+0x272/0x420
    drv_open+0x14c/0x11b0 [drv]
    chrdev_open+0xa3/0x150
"""


def test_an_object_of_the_driver_is_a_leak_with_a_title() -> None:
    found = parse_leaks(OTHERS + OURS + OTHERS, [" [drv]"])
    assert found
    assert (found.title, found.kind) == ("memory leak in drv_open", "leak")
    assert "(size 96)" in found.text
    assert "do_something" not in found.text


def test_objects_of_others_and_an_empty_list_are_none() -> None:
    assert parse_leaks(OTHERS, [" [drv]"]) is None
    assert parse_leaks(OURS, [" [other]"]) is None
    assert parse_leaks("", [" [drv]"]) is None
