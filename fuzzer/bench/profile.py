# SPDX-License-Identifier: Apache-2.0
"""The guest's instructions by purpose: the driver, each sanitizer, the executor.

QEMU logs the address of each instruction while a program runs; the kernel's
symbols tell its function. As the guest counts instructions, the host has no
influence on the numbers.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fuzzer.bench.instructions import BenchProgram, InstructionCount
from fuzzer.driver.deferred_module import DEFERRED_MODULE
from fuzzer.driver.provision import Guest
from fuzzer.errors import InfrastructureError
from fuzzer.machine.channel_layout import FLAG_TSC
from fuzzer.machine.machine import Machine
from fuzzer.machine.qemu import Qemu

EXECUTOR, DRIVER, KERNEL = "executor, in user space", "driver", "rest of the kernel"
_BLOCKS = "KCOV, blocks"

_LOCKS = (
    r".*lockdep.*|__?lock_(acquire|release|is_held).*|mark_(lock|held_locks).*|find_held_lock"
    r"|match_held_lock|trace_hardirqs_.*|debug_check_no_locks_.*|rcu_is_watching|rcu_.*_held.*"
    r"|fs_reclaim_.*|__might_.*|do_raw_(spin|read|write)_.*"
)
_STACKS = (
    r"stack_(depot|trace)_.*|depot_.*|kasan_save_stack|filter_irq_stacks|arch_stack_walk"
    r"|_*unwind_.*|update_stack_state|_*(kernel|module)_text_address|get_stack_info.*"
    r"|in_task_stack|__module_address|mod_find.*|is_module_text_address|in_gate_area_no_mm"
    r"|__?kasan_record_aux_stack.*"
)
# Purposes of instructions by their function's name; the first that matches counts.
_PURPOSES = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        (_BLOCKS, r"__sanitizer_cov_trace_pc|check_kcov_mode|kcov_.*"),
        ("KCOV, comparisons", r"__sanitizer_cov_.*|write_comp_data"),
        ("KASAN, accesses", r"__asan_.*|kasan_check_range|__kasan_check_(read|write|byte)"),
        ("KASAN, stacks of allocations", _STACKS),
        ("KASAN, allocations and frees", r".*kasan_.*|check_slab_allocation|qlist_.*"),
        ("UBSAN", r"__ubsan_.*"),
        ("lockdep and lock debugging", _LOCKS),
        ("fault injection", r"_*should_fail.*|fail_dump|setup_fault_attr"),
        ("other debugging", r"debug_.*|lookup_object.*|kmemleak_.*|_*check_(heap_)?object.*"),
        ("slab allocator", r"_*(kmem_cache|kmalloc|kfree|slab)_?.*|memset_orig|__memset"),
    )
)
PURPOSES = (EXECUTOR, DRIVER, *(name for name, _ in _PURPOSES), KERNEL)
"""All purposes, in the order to show them."""

_KERNEL_START, _MODULES_START = 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_A000_0000
_CODE = frozenset("tTwW")
_ADDRESS = re.compile(rb"^Trace \d+: 0x[0-9a-f]+ \[[0-9a-f]+/([0-9a-f]+)/", re.MULTILINE)
# One instruction for each line of the log, in the words of older and newer QEMU.
_SINGLE = ("one-insn-per-tb on", "singlestep on")
_WARM_UP = 4
_PAGE = 4096
# Work in the background falls into some runs: one that is so near the count is without.
_NEAR, _TRIES = 1.02, 8


class SymbolMap:
    """The functions of a kernel, by address; ``System.map`` has them, a line each.

    Raises:
        InfrastructureError: the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            lines = [line.split() for line in path.read_text().splitlines()]
        except OSError as error:
            raise InfrastructureError(f"reading {path}: {error.strerror}") from error
        functions = sorted((int(line[0], 16), line[2]) for line in lines if line[1] in _CODE)
        self._starts = [start for start, _ in functions]
        self._names = [name for _, name in functions]

    def name(self, address: int) -> str:
        """Return the function that an address is in, "" before the first one."""
        index = bisect_right(self._starts, address) - 1
        return self._names[index] if index >= 0 else ""


def purpose_of(function: str) -> str:
    """Return the purpose of a kernel function's instructions."""
    return next((name for name, pattern in _PURPOSES if pattern.fullmatch(function)), KERNEL)


def sum_up(
    addresses: Iterable[int], symbols: SymbolMap, recorder: range = range(0)
) -> dict[str, int]:
    """Return how many instructions there are for each of PURPOSES.

    ``recorder`` is where the module is that records blocks in place of KCOV.
    """
    counts: Counter[str] = Counter()
    for address, count in Counter(addresses).items():
        if address < _KERNEL_START:
            counts[EXECUTOR] += count
        elif address in recorder:
            counts[_BLOCKS] += count
        elif address >= _MODULES_START:
            counts[DRIVER] += count
        else:
            counts[purpose_of(symbols.name(address))] += count
    return {name: counts[name] for name in PURPOSES}


def profile(
    guest: Guest, programs: Iterable[BenchProgram], counts: Iterable[InstructionCount]
) -> dict[str, int]:
    """Return the purposes of programs' instructions; ``counts`` are how many each takes.

    Raises:
        InfrastructureError: this QEMU cannot log single instructions.
    """
    symbols = SymbolMap(guest.kernel.directory / "System.map")
    totals: Counter[str] = Counter()
    with guest.restore() as machine:
        machine.channel.header.flags = FLAG_TSC
        recorder = _recorder(machine)
        _log_single_instructions(machine.qemu)
        for program, count in zip(programs, counts, strict=True):
            tsc, found = _logged(machine, program, count.program)
            addresses = (int(address, 16) for address in found)
            totals.update(sum_up(addresses, symbols, recorder))
            # The rest is the executor's looking out for the host, before and after.
            totals[EXECUTOR] -= len(found) - tsc
    return {name: totals[name] for name in PURPOSES}


def _recorder(machine: Machine) -> range:
    """Return the page of the module that records blocks, if it is loaded."""
    path = f"/sys/module/{DEFERRED_MODULE}/sections/.text"
    done = machine.execute(["/bin/busybox", "cat", path])
    start = int(done.output, 16) if done.status == 0 else 0
    return range(start, start + _PAGE if start else 0)


def _logged(machine: Machine, program: BenchProgram, expected: int) -> tuple[int, list[bytes]]:
    """Return how many instructions a program took, and the addresses that were logged.

    The guest stands still whenever the host is not ready: for a while after a
    program the executor looks out for the next without a system call.
    """
    qemu = machine.qemu
    for _ in range(_WARM_UP):
        machine.run(program.wire)
    qemu.execute("stop")
    best: tuple[int, list[bytes]] | None = None
    for _ in range(_TRIES):
        before = qemu.output_size()
        _monitor(qemu, "log exec,nochain")
        machine.channel.post_program(program.wire)
        qemu.execute("cont")
        run = machine.finish()
        qemu.execute("stop")
        _monitor(qemu, "log none")
        found = _ADDRESS.findall(qemu.output(before))
        if len(found) < run.tsc:
            raise InfrastructureError(
                f"QEMU logged {len(found)} of {run.tsc} instructions; is it built with its log?"
            )
        if best is None or run.tsc < best[0]:
            best = run.tsc, found
        if best[0] <= _NEAR * expected:
            break
    qemu.execute("cont")
    assert best is not None
    return best


def _log_single_instructions(qemu: Qemu) -> None:
    answers = [_monitor(qemu, command) for command in _SINGLE]
    if all(answers):
        raise InfrastructureError(f"QEMU cannot run single instructions: {answers[0]}")


def _monitor(qemu: Qemu, command: str) -> str:
    return str(qemu.execute("human-monitor-command", command_line=command)).strip()
