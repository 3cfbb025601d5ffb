# SPDX-License-Identifier: Apache-2.0
"""Reasons for which a kernel does not load a module, in words, with something to try."""

from __future__ import annotations

import errno
import os
import re

_INIT = "init_module: "
_PROBE_LATER = 517
_NO_HARDWARE = (
    "as a rule, hardware is not there that it looks for. A parameter may do without; for what can "
    "stand in for it see 'platform' in docs/descriptions.md"
)
_TRY = {
    errno.ENODEV: _NO_HARDWARE,
    errno.ENXIO: _NO_HARDWARE,
    errno.EIO: _NO_HARDWARE,
    errno.EINVAL: "a parameter may be missing or wrong: --params 'NAME=VALUE ...'",
    errno.EBUSY: "a number, a name or a region that it asks for is taken: see whether a parameter "
    "gives it another one",
    errno.EEXIST: "something of its name is there already, perhaps a part of the kernel",
    errno.ENOMEM: "it asks for more memory than there is, or for it in one piece: see whether a "
    "parameter makes it less",
    errno.ENOENT: "something that it asks for by name is not there: another module (needs in "
    "docs/descriptions.md), a file or firmware",
    errno.ENOEXEC: "it was built for another kernel: 'pkvfuzz kernel' tells what it must have",
    _PROBE_LATER: "it waits for another driver: see needs in docs/descriptions.md",
}
_SYMBOL = re.compile(r"Unknown symbol (\w+)")


def error_name(number: int) -> str:
    """Return an errno by its name, with number and words."""
    if number == _PROBE_LATER:
        return f"EPROBE_DEFER ({number})"
    name = errno.errorcode.get(number)
    return f"{name} ({number}, {os.strerror(number)})" if name else f"error {number}"


def refusal(message: str, number: int, said: str) -> str:
    """Return the message on a module that was not loaded.

    ``message`` is the executor's, ``number`` the errno, ``said`` what the kernel said.
    """
    if _INIT not in message:
        return f"{message}.{said}"
    symbols = sorted(set(_SYMBOL.findall(said)))
    if symbols:
        listed = ", ".join(symbols)
        what = f"nothing has the symbols that it needs: {listed}. Load what exports them before it"
        hint = f"{what} (needs in docs/descriptions.md), or take a kernel with them (config)"
    else:
        hint = _TRY.get(number, "look in its init function for where it returns that")
    return f"init_module fails with {error_name(number)}: {hint}.{said}"
