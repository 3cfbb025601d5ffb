# SPDX-License-Identifier: Apache-2.0
"""Guests for tests, and programs given as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from fuzzer.driver.provision import Guest
from fuzzer.kernel.kernel import Flavour
from fuzzer.machine.channel import CallResult
from fuzzer.machine.machine import Machine, Run
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines
from fuzzer.splat.splat import Splat
from fuzzer.target.target import Target


class GuestFactory(Protocol):
    """Makes guests, each once in a session: by default of the shipped driver."""

    def __call__(
        self,
        flavour: Flavour,
        bug: str | None = None,
        *,
        target: Target | None = None,
        cpus: int = 1,
        icount: bool = False,
        arguments: str = "",
    ) -> Guest:
        """Return the guest of a flavour, with a planted bug if one is named.

        With ``icount`` it counts instructions, and waiting takes no time.
        ``arguments`` are added to the kernel's command line.
        """


def wire(text: str, target: Target) -> bytes:
    """Return the wire form of a program given as text."""
    return encode(parse_program(text, target, "test"))


def run(machine: Machine, guest: Guest, text: str, timeout: float = 30.0) -> Run:
    """Run a program given as text."""
    return machine.run(wire(text, guest.target), timeout)


def returned(result: Run | Sequence[CallResult]) -> list[tuple[int, int]]:
    """Return each call's return value and errno."""
    calls = result.results if isinstance(result, Run) else result
    return [(call.ret, call.error) for call in calls]


def splat(log: bytes) -> Splat | None:
    """Return the splat in raw kmsg records."""
    return find_splat(console_lines(log))


def blocks_of_function(guest: Guest, function: str) -> set[int]:
    """Return the numbers of a function's blocks, from the module's symbols."""
    with guest.driver.object.open("rb") as file:
        elf = ELFFile(file)
        table = elf.get_section_by_name(".symtab")
        assert isinstance(table, SymbolTableSection)
        (symbol,) = [
            symbol for symbol in table.iter_symbols() if symbol.name.split(".")[0] == function
        ]
        section = elf.get_section(symbol["st_shndx"]).name
        start, end = symbol["st_value"], symbol["st_value"] + symbol["st_size"]
    return {
        number
        for number, block in enumerate(guest.blocks)
        if block.section == section and start < block.offset <= end
    }
