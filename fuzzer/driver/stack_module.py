# SPDX-License-Identifier: Apache-2.0
"""The module that fills the kernel's free stack, before a driver of which leaks are looked for."""

from __future__ import annotations

from fuzzer.driver.driver import Driver
from fuzzer.driver.own_module import with_own_module
from fuzzer.kernel.kernel import Kernel

STACK_MODULE = "pkvfuzz_stack"


def with_stack_module(driver: Driver, kernel: Kernel) -> Driver:
    """Return a driver before which the module is loaded, built for a kernel.

    Raises:
        InfrastructureError: it does not build.
    """
    return with_own_module(driver, kernel, STACK_MODULE)
