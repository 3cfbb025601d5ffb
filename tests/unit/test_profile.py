# SPDX-License-Identifier: Apache-2.0
"""Functions and purposes of instructions."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.bench.profile import DRIVER, EXECUTOR, KERNEL, SymbolMap, purpose_of, sum_up
from fuzzer.errors import InfrastructureError

_MAP = """\
ffffffff81000000 T _stext
ffffffff81000100 T vfs_write
ffffffff81000200 t kasan_check_range
ffffffff81000300 D some_data
ffffffff81000400 t __lock_acquire
"""


@pytest.fixture
def symbols(tmp_path: Path) -> SymbolMap:
    path = tmp_path / "System.map"
    path.write_text(_MAP)
    return SymbolMap(path)


def test_an_address_belongs_to_the_function_before_it(symbols: SymbolMap) -> None:
    assert symbols.name(0xFFFFFFFF81000100) == "vfs_write"
    assert symbols.name(0xFFFFFFFF810001FF) == "vfs_write"
    assert symbols.name(0xFFFFFFFF81000350) == "kasan_check_range"
    assert symbols.name(0xFFFFFFFF80000000) == ""


def test_every_instruction_is_counted_once(symbols: SymbolMap) -> None:
    addresses = [0x401000, 0x401000, 0xFFFFFFFFA0000010, 0xFFFFFFFF81000110, 0xFFFFFFFF81000404]
    counts = sum_up(addresses, symbols)
    assert sum(counts.values()) == len(addresses)
    assert counts[EXECUTOR] == 2
    assert counts[DRIVER] == 1
    assert counts[KERNEL] == 1
    assert counts["lockdep and lock debugging"] == 1


def test_the_module_that_records_blocks_is_not_the_driver(symbols: SymbolMap) -> None:
    page = range(0xFFFFFFFFA0001000, 0xFFFFFFFFA0002000)
    counts = sum_up([0xFFFFFFFFA0000010, 0xFFFFFFFFA0001010], symbols, page)
    assert (counts[DRIVER], counts["KCOV, blocks"]) == (1, 1)


@pytest.mark.parametrize(
    ("function", "purpose"),
    [
        ("__sanitizer_cov_trace_pc", "KCOV, blocks"),
        ("__sanitizer_cov_trace_const_cmp4", "KCOV, comparisons"),
        ("kasan_check_range", "KASAN, accesses"),
        ("__asan_load8", "KASAN, accesses"),
        ("stack_depot_save_flags", "KASAN, stacks of allocations"),
        ("kasan_save_stack", "KASAN, stacks of allocations"),
        ("unwind_next_frame", "KASAN, stacks of allocations"),
        ("__kasan_slab_alloc", "KASAN, allocations and frees"),
        ("__ubsan_handle_out_of_bounds", "UBSAN"),
        ("lockdep_hardirqs_on", "lockdep and lock debugging"),
        ("should_fail_ex", "fault injection"),
        ("kmem_cache_alloc_noprof", "slab allocator"),
        ("path_openat", KERNEL),
        ("__mutex_lock", KERNEL),
    ],
)
def test_functions_have_a_purpose(function: str, purpose: str) -> None:
    assert purpose_of(function) == purpose


def test_a_kernel_without_a_map_is_told(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"System\.map"):
        SymbolMap(tmp_path / "System.map")
