# SPDX-License-Identifier: Apache-2.0
"""Modules of ours that are loaded before a driver, built for its kernel."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.cache import build_once, content_key
from fuzzer.driver.driver import Driver, Needed
from fuzzer.driver.probe_module import build_probe
from fuzzer.kernel.kernel import Kernel
from fuzzer.paths import project_root


def with_own_module(driver: Driver, kernel: Kernel, name: str) -> Driver:
    """Return a driver before which the module of a ``name`` is loaded.

    ``pkvfuzz_NAME`` is in ``module/NAME``, and has one C file.

    Raises:
        InfrastructureError: it does not build.
    """
    directory = name.removeprefix("pkvfuzz_")
    place = project_root() / "module" / directory
    source = (place / f"{name}.c").read_text()
    kbuild = (place / "Kbuild").read_text()
    key = content_key(kernel.key, source, kbuild)
    built = build_once(
        directory,
        key,
        lambda made: build_probe(kernel, made, source, f"{name}.ko", kbuild),
        keep=8,
    )
    needed = Needed(built / f"{name}.ko")
    return replace(driver, key=content_key(driver.key, key), needs=(needed, *driver.needs))
