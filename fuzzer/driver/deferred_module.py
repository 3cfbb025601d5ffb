# SPDX-License-Identifier: Apache-2.0
"""The module that records what a driver runs outside of calls: its deferred work."""

from __future__ import annotations

from dataclasses import replace

from fuzzer.driver.blocks import TRACE_PC
from fuzzer.driver.driver import Driver
from fuzzer.driver.own_module import with_own_module
from fuzzer.driver.renaming import renamed
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kernel import Kernel
from fuzzer.machine.channel_layout import BULK_SIZE
from fuzzer.progress import say

DEFERRED_MODULE = "pkvfuzz_deferred"
_TRACE_PC = "pkvfuzz_trace_pc"


def with_deferred_module(driver: Driver, kernel: Kernel) -> Driver:
    """Return a driver whose blocks call the module's function in place of KCOV's.

    The driver itself if that cannot be: it is a part of the kernel, the kernel takes it only as
    it is, or the module does not build.
    """
    image = driver.image()
    changed = renamed(image, TRACE_PC, _TRACE_PC)
    if changed is image or len(changed) > BULK_SIZE:
        return driver
    try:
        loaded = with_own_module(driver, kernel, DEFERRED_MODULE)
    except InfrastructureError as error:
        say(f"coverage is that of calls alone, not of what {driver.name} does later: {error}")
        return driver
    return replace(loaded, trace_pc=_TRACE_PC)
