# SPDX-License-Identifier: Apache-2.0
"""Object files that look like kernel modules, made with the compiler alone."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

VERMAGIC = "6.12.0 SMP mod_unload "
SIZE = 1088


def make_module(
    path: Path,
    entries: Sequence[str] = (f"vermagic={VERMAGIC}", "name=toy", "license=GPL"),
    *,
    size: int = SIZE,
    calls: Sequence[str] = ("__sanitizer_cov_trace_pc", "__asan_report_load8_noabort"),
) -> Path:
    """Write a module whose .modinfo has the entries, and that calls functions; return its path."""
    info = "".join(
        f'static const char i{number}[] __attribute__((used, section(".modinfo"), aligned(1))) = '
        f'"{entry}";\n'
        for number, entry in enumerate(entries)
    )
    this = (
        f"char __this_module[{size}]"
        ' __attribute__((section(".gnu.linkonce.this_module"))) = {1};\n'
        if size
        else ""
    )
    declared = "".join(f"void {call}(void);\n" for call in calls)
    body = "".join(f"{call}();" for call in calls)
    source = f"{info}{this}{declared}void toy(void) {{ {body} }}\n"
    command = ["gcc", "-c", "-x", "c", "-", "-o", str(path)]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return path
