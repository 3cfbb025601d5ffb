# SPDX-License-Identifier: Apache-2.0
"""Rust: functions named as their source has them, and panics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.splat.analyse import all_splats
from fuzzer.splat.rust_names import is_rust_core, rust_name

OPEN = "_RNvMs_NtCs5pXQk_3drv6deviceNtB4_6Device4open"


@pytest.mark.parametrize(
    ("mangled", "name"),
    [
        ("_RNvCs1_3drv5probe", "drv::probe"),
        ("_RNvNtCs1_3drv6device5probe", "drv::device::probe"),
        (OPEN, "drv::device::Device::open"),
        # A trait's function is named by the type.
        (
            "_RNvXs1_Cs5_3drvNtB5_6DeviceNtNtCs7_6kernel10miscdevice10MiscDevice4mmap",
            "drv::Device::mmap",
        ),
        # Arguments of generic functions are left out: types, lifetimes, numbers.
        ("_RINvCs1_3drv4readmLKj4_NtB2_6DeviceE", "drv::read"),
        ("_RNvYNtCs1_3drv6DeviceNtCs7_6kernel4Drop4drop", "drv::Device::drop"),
        ("_RNvXCs1_3drvRShNtB2_4Copy4copy", "copy"),
        # A name that begins with a digit or an underscore.
        ("_RNvCs1_3drv7___probe", "drv::__probe"),
        # A closure has no name.
        ("_RNCNvCs1_3drv5probe0", "drv::probe"),
        # None of Rust's.
        ("drv_probe", "drv_probe"),
        ("_Raw", "_Raw"),
        ("_RNvCs1_99drv", "_RNvCs1_99drv"),
        ("_RB_", "_RB_"),
    ],
)
def test_a_name_is_the_sources(mangled: str, name: str) -> None:
    assert rust_name(mangled) == name


@given(st.text("RNvCMXYIBLKEs_0123456789abzpmA", max_size=60))
def test_any_text_is_a_name(text: str) -> None:
    assert rust_name("_R" + text)


def test_what_the_kernels_crates_define_is_not_to_blame() -> None:
    assert is_rust_core("core::panicking::panic_fmt")
    assert is_rust_core("kernel::sync::Arc::drop")
    assert is_rust_core("rust_helper_BUG")
    assert not is_rust_core("drv::device::Device::open")


def test_a_panic_names_its_function_and_says_why() -> None:
    frames = ["_RNvCs9_7___rustc17rust_begin_unwind", "_RNvNtCs9_4core9panicking9panic_fmt"]
    lines = [
        "rust_kernel: panicked at drivers/drv/device.rs:877:13:",
        "attempt to subtract with overflow",
        "------------[ cut here ]------------",
        "kernel BUG at rust/helpers/bug.c:7!",
        "Oops: invalid opcode: 0000 [#1] PREEMPT SMP KASAN PTI",
        "RIP: 0010:rust_helper_BUG+0x8/0x10",
        "Call Trace:",
        *(f" {name}+0x15b/0x160" for name in frames),
        f" {OPEN}+0x17e5/0x1860 [drv]",
        " __x64_sys_openat+0x10/0x20",
        " entry_SYSCALL_64_after_hwframe+0x4b/0x53",
        "---[ end trace 0000000000000000 ]---",
    ]
    (record,) = all_splats([f"[    1.000000] {line}" for line in lines])
    assert record.title == "Rust panic in drv::device::Device::open"
    assert record.message == "attempt to subtract with overflow"
    assert record.source == "drivers/drv/device.rs:877"
    assert record.module
    assert record.module.name == "drv"


def test_a_panic_of_older_compilers_says_why_in_its_first_line() -> None:
    first = "rust_kernel: panicked at 'no room', drivers/drv.rs:12:3"
    lines = [first, "kernel BUG at rust/helpers.c:7!", "Call Trace:", " drv_x+0x1/0x2 [drv]", ""]
    (record,) = all_splats([f"[    1.000000] {line}" for line in lines])
    assert (record.message, record.source) == ("no room", "drivers/drv.rs:12")
