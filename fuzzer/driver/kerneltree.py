# SPDX-License-Identifier: Apache-2.0
"""A directory to build modules in, by hand: a kernel's, with instrumentation turned on."""

from __future__ import annotations

from pathlib import Path

from fuzzer.cache import build_once, content_key
from fuzzer.driver.source_build import instrumentation
from fuzzer.kernel.kernel import Kernel

_MAKEFILE = "Makefile"


def build_tree(kernel: Kernel) -> Path:
    """Return a directory for ``make -C DIR M=$PWD modules``.

    It is the kernel's build directory with another Makefile, which exports the variables
    that instrument a module as a driver given as source is.
    """
    flags = [flag.partition("=")[::2] for flag in instrumentation(kernel)]
    exports = "".join(f"export {name} := {value}\n" for name, value in flags)
    makefile = f"{exports}include {kernel.directory / _MAKEFILE}\n"

    def build(directory: Path) -> None:
        for entry in kernel.directory.iterdir():
            if entry.name not in {_MAKEFILE, ".complete"}:
                (directory / entry.name).symlink_to(entry)
        (directory / _MAKEFILE).write_text(makefile)

    return build_once(f"tree-{kernel.flavour}", content_key(kernel.key, makefile), build, keep=3)
