# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz replay --gdb`` and ``--gdb-server``: a crash in the debugger."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzzer import lifetime
from fuzzer.crash.debugging import DebugSession, debugged
from fuzzer.crash.dedup import Wanted
from fuzzer.crash.testbeds import Place
from fuzzer.lifetime import unwinding_on_signals
from fuzzer.progress import say, show
from fuzzer.tools import find_tool

_LOOK_SECONDS = 0.1


def check_gdb() -> None:
    """Raise InfrastructureError if there is no gdb."""
    find_tool("gdb", "--gdb (--gdb-server lets a gdb elsewhere do it)")


def debug(
    place: Place,
    history: Sequence[bytes],
    program: bytes,
    function: str | None,
    wanted: Wanted | None,
    *,
    serve: bool,
) -> None:
    """Start gdb, stopped in a function that a program calls; return when gdb is done.

    With ``serve``, gdb is not started: say how to, and wait until it is done or
    for Ctrl-C. However long that takes, the guest is not ended before.
    """
    with (
        unwinding_on_signals(),
        tempfile.TemporaryDirectory(prefix="pkvfuzz-gdb-") as directory,
        debugged(place, history, program, function, Path(directory), wanted=wanted) as session,
    ):
        _announce(session, function)
        command = ["gdb", "-q", "-x", str(session.script)]
        if serve:
            _serve(session, command)
        else:
            _run(command)
    say("the guest is ended")


def _announce(session: DebugSession, wanted: str | None) -> None:
    if session.function:
        text = f"gdb stops at {session.function}, right before what the report tells of"
        again = "; the program is run until the kernel complains" if session.repeats else ""
        say(f"{text}{again}. 'detach' or 'quit' ends the guest")
        return
    why = f"there is no symbol {wanted}" if wanted else "no report names a function"
    say(
        f"gdb stops right before the program, because {why}: set a breakpoint and 'continue'. "
        "'detach' or 'quit' ends the guest"
    )


def _run(command: Sequence[str]) -> None:
    # Its script says where symbols are; to ask a server for more would take a while.
    environment = {name: text for name, text in os.environ.items() if name != "DEBUGINFOD_URLS"}
    with _interrupts_for_others():
        lifetime.run(command, signal.SIGTERM, env=environment)


def _serve(session: DebugSession, command: Sequence[str]) -> None:
    say("the guest stands still. In another terminal, run")
    show(shlex.join(command), flush=True)
    say("it is ended when gdb has detached, or by Ctrl-C here")
    attached = False
    with contextlib.suppress(KeyboardInterrupt):
        while session.machine.qemu.is_running():
            # One that was killed leaves the guest as it was.
            now = session.stub.is_attached()
            if (attached and not now) or session.stub.was_left():
                break
            attached = now
            time.sleep(_LOOK_SECONDS)


@contextlib.contextmanager
def _interrupts_for_others() -> Iterator[None]:
    """Let Ctrl-C pass: the terminal sends it to gdb as well, which stops the guest.

    A handler, not SIG_IGN, which gdb would inherit.
    """
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
