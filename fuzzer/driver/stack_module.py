# SPDX-License-Identifier: Apache-2.0
"""The module that fills the kernel's free stack, before a driver of which leaks are looked for."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.cache import build_once, content_key
from fuzzer.driver.driver import Driver, Needed
from fuzzer.driver.probe_module import build_probe
from fuzzer.kernel.kernel import Kernel
from fuzzer.paths import project_root

STACK_MODULE = "pkvfuzz_stack"


def with_stack_module(driver: Driver, kernel: Kernel) -> Driver:
    """Return a driver before which the module is loaded, built for a kernel.

    Raises:
        InfrastructureError: it does not build.
    """
    directory = project_root() / "module" / "stack"
    source = (directory / f"{STACK_MODULE}.c").read_text()
    kbuild = (directory / "Kbuild").read_text()
    key = content_key(kernel.key, source, kbuild)
    built = build_once(
        "stack",
        key,
        lambda place: build_probe(kernel, place, source, f"{STACK_MODULE}.ko", kbuild),
        keep=8,
    )
    needed = Needed(built / f"{STACK_MODULE}.ko")
    return replace(driver, key=content_key(driver.key, key), needs=(needed, *driver.needs))
