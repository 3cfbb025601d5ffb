# SPDX-License-Identifier: Apache-2.0
"""Functions that only fail, as the kernel was built without their subsystem.

Headers have such stubs of many subsystems (``register_kprobe`` without KPROBES), so a
driver that calls them compiles, and then does not load.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from elftools.elf.elffile import ELFFile

from fuzzer.kernel.kernel import Kernel, parse_config
from fuzzer.kernel.needs.conditions import guarded_lines
from fuzzer.target.dwarf import inlined_functions

_HEADERS = ("include/linux/", "include/")
# Lines of a stub.
_LONGEST = 12
_FAILS = re.compile(r"-E[A-Z]{2,}\b")


def failing_stubs(module: Path, kernel: Kernel) -> dict[str, str]:
    """Return the functions that a module calls which only fail, each with the option it takes.

    The module must have debug information.
    """
    config = parse_config((kernel.directory / ".config").read_text())
    with module.open("rb") as file:
        called = sorted(set(inlined_functions(ELFFile(file))))
    found = {}
    for name, header in called:
        if header.is_relative_to(kernel.source / "include"):
            options = list(_options(header.read_text(errors="replace"), name))
            if len(options) == 1 and config.get(f"CONFIG_{options[0]}", "n") == "n":
                found[name] = options[0]
    return found


def _options(header: str, name: str) -> Iterator[str]:
    """Yield the options without which a function of a header only fails."""
    lines = list(guarded_lines(header))
    begins = re.compile(rf"^[^\s#/*;][^;]*\b{name}\s*\(|^{name}\s*\(")
    for number, (line, condition) in enumerate(lines):
        if not begins.match(line) or line.rstrip().endswith(";"):
            continue
        body = []
        for more, _ in lines[number : number + _LONGEST]:
            body.append(more)
            if "}" in more:
                break
        terms = [term for alternative in condition() for term in alternative]
        if len(terms) == 1 and not terms[0].on and _FAILS.search("\n".join(body)):
            yield terms[0].option
