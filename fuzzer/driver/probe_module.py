# SPDX-License-Identifier: Apache-2.0
"""Small modules of ours that are built for a kernel to learn something of it."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from fuzzer import lifetime
from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kbuild import BuiltKernel, toolchain_of
from fuzzer.tools import tool_error

# Seconds; it takes two.
_TIMEOUT = 300.0


def build_probe(
    kernel: BuiltKernel, directory: Path, source: str, product: str, kbuild: str = ""
) -> None:
    """Build a module of one C file in an empty directory, up to ``NAME.ko`` or ``NAME.o``.

    ``kbuild`` are its build rules, where they have to say more than what it is made of.

    Raises:
        InfrastructureError: it does not build.
    """
    name, _, suffix = product.rpartition(".")
    (directory / f"{name}.c").write_text(source)
    (directory / "Kbuild").write_text(kbuild or f"obj-m := {name}.o\n")
    target = "modules" if suffix == "ko" else product
    toolchain = toolchain_of(kernel.options())
    try:
        done = lifetime.run(
            ["make", "-C", str(kernel.directory), f"M={directory}", *toolchain, target],
            signal.SIGTERM,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
        )
    except OSError as error:
        raise tool_error("make", f"building {product}", error) from error
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(
            f"building {product} for the {kernel.name} kernel did not end in {_TIMEOUT:.0f} s. "
            f"Is {kernel.directory} on a slow disk?"
        ) from error
    if done.returncode or not (directory / product).is_file():
        last = " / ".join(done.stdout.splitlines()[-3:]) or "make said nothing"
        raise InfrastructureError(
            f"building {product} for the {kernel.name} kernel in {kernel.directory} failed: "
            f"{last}. Run make modules_prepare in it, if it is a build of your own"
        )
