# SPDX-License-Identifier: Apache-2.0
"""Sightings of bugs that show while a driver is loaded, before there is a program."""

from __future__ import annotations

from fuzzer.crash.sighting import Sighting
from fuzzer.driver.provision import Guest
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.splat.find import find_splat
from fuzzer.splat.kmsg import console_lines

ORIGIN = "load"
"""The origin of such a sighting."""


def load_sighting(guest: Guest) -> Sighting | None:
    """Return a sighting of what the kernel reported while a guest's driver was loaded, or None.

    Its program unloads the driver and loads it again.
    """
    log = guest.template.load_log.encode()
    splat = find_splat(console_lines(log))
    if splat is None:
        return None
    params = guest.target.module.params.encode()
    calls = (Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD, data=params))
    return Sighting(splat.title, splat.kind, encode(calls), (), log, ORIGIN)
