# SPDX-License-Identifier: Apache-2.0
"""A command that runs in a guest, with input and output of any length.

Its output goes to the guest's console, where the kernel's messages are as well. Its
input comes through a named pipe, into which the executor puts one part after the other:
a console would lose what is not read at once.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Sequence

from fuzzer.errors import InfrastructureError
from fuzzer.machine.files import GUEST_TMP, carried, carrier, part_size, put_bytes
from fuzzer.machine.machine import LostMachineError, Machine

_DIRECTORY = "/.pkvfuzz"
_CONSOLE = "/dev/ttyS0"
# A command may take its time before it reads.
_PATIENCE = 1e6
# This process holds the pipe open between two parts, or the command would read its end.
_SCRIPT = """\
dmesg -n 7
cd {directory} && mknod input p || exit
sleep 2147483647 > input &
echo $! > holder
cd {tmp}
{{ {command} < {input} > {console} 2>&1; echo "{mark}$?" > {console}; }} > /dev/null 2>&1 &
"""
_END_INPUT = f"kill $(cat {_DIRECTORY}/holder)"
# More than a part would only take memory.
_MOST_WAITING = 4 << 20


class Session:
    """A command that was started in a guest; without words it is a shell that reads commands.

    ``feed()`` and ``end_input()`` give it input, ``push()`` passes that on to the guest.
    ``output()`` takes bytes read from the console and returns those to be shown;
    ``status`` is the command's exit status once that was seen. ``log`` is what the kernel
    printed, as raw kmsg records.
    """

    def __init__(self, machine: Machine, words: Sequence[str], *, has_input: bool) -> None:
        self._machine = machine
        self._mark = f"\x1e{secrets.token_hex(8)} "
        self._end = re.compile(rf"{self._mark}(\d+)\r?\n".encode())
        self._waiting = bytearray()
        self._ends = False
        self._busy = False
        self._open = has_input
        self._held = b""
        self.status: int | None = None
        self.log = b""
        script = _SCRIPT.format(
            directory=_DIRECTORY,
            tmp=GUEST_TMP,
            command=shlex.join(words or ["sh"]),
            input=f"{_DIRECTORY}/input" if has_input else "/dev/null",
            console=_CONSOLE,
            mark=self._mark,
        )
        put_bytes(machine, f"{_DIRECTORY}/run", script.encode())
        done = machine.execute(["/bin/sh", f"{_DIRECTORY}/run"])
        self.log += done.log
        if done.status:
            said = done.output.decode(errors="replace").strip()
            raise InfrastructureError(f"the guest cannot start a command: {said}")

    @property
    def has_room(self) -> bool:
        """True if more input is wanted."""
        return self._open and not self._ends and len(self._waiting) < _MOST_WAITING

    def feed(self, data: bytes) -> None:
        """Add to the command's input."""
        self._waiting += data

    def end_input(self) -> None:
        """End the command's input after what it was given."""
        self._ends = True

    def push(self) -> bool:
        """Give the guest the next part if it has taken the last one; tell whether it has one."""
        if self._busy and self._machine.channel.finished():
            self._busy = False
            try:
                self.log += self._machine.executed("the input").log
            except LostMachineError:
                # Its last words are on the console.
                self._open = False
        if self._busy or not self._open:
            return self._busy
        if self._waiting:
            part = bytes(self._waiting[: part_size()])
            del self._waiting[: len(part)]
            script, size = carrier(appended=False), str(len(part))
            self._post(["sh", "-c", script, "sh", size, f"{_DIRECTORY}/input"], carried(part))
        elif self._ends:
            self._post(["/bin/sh", "-c", _END_INPUT], b"")
            self._open = False
        return self._busy

    def _post(self, words: Sequence[str], image: bytes) -> None:
        self._machine.channel.post_execution(words, image, _PATIENCE)
        self._busy = True

    def output(self, data: bytes) -> bytes:
        """Return the console's bytes that are to be shown, with the host's line ends."""
        self._held += data
        if match := self._end.search(self._held):
            self.status = int(match[1])
            self._held = self._held[: match.start()] + self._held[match.end() :]
        # The mark may come in parts, and so may the end of a line.
        keep = len(self._held)
        at = self._held.rfind(b"\x1e")
        if self.status is None and at >= 0 and keep - at < len(self._mark) + 8:
            keep = at
        elif self._held.endswith(b"\r"):
            keep -= 1
        shown, self._held = self._held[:keep], self._held[keep:]
        return shown.replace(b"\r\n", b"\n")

    def rest(self) -> bytes:
        """Return the bytes that were held back, when nothing more comes."""
        rest, self._held = self._held, b""
        return rest

    def ended_log(self) -> bytes:
        """Return what the kernel printed until now, as raw kmsg records; needs an idle executor."""
        if not self._busy:
            self.log += self._machine.execute(["/bin/true"], timeout=5.0).log
        return self.log
