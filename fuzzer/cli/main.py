# SPDX-License-Identifier: Apache-2.0
"""The command line. The one place that turns errors into exit codes."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from fuzzer.cli.commands import BY_NAME, INTERRUPTED
from fuzzer.cli.parser import build_parser, join_command
from fuzzer.errors import DEFECT, ExitCode, PkvfuzzError, describe_os_error
from fuzzer.lifetime import ignoring_interrupts, unwinding_on_signals
from fuzzer.progress import lost_output, say_error
from fuzzer.wording import shortened

# Characters of a line of a message.
_MOST_MESSAGE = 2000
# Errors that tell of what was named rather than of the host.
_OF_NAMES = {
    errno.EACCES,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EPERM,
}


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. No traceback reaches the user.

    The code tells what happened, whatever becomes of what is printed; output that was lost
    makes a success a failure, unless its reader went away.
    """
    try:
        _open_standard_files()
        with unwinding_on_signals():
            return _told(_run(arguments))
    except KeyboardInterrupt:
        with ignoring_interrupts():
            say_error("interrupted")
            return INTERRUPTED
    finally:
        # Python's own end would write what is left, and fail.
        lost_output()


def _told(code: int) -> int:
    lost = lost_output()
    if not lost:
        return code
    say_error(f"standard output: {lost}. Not all of it was written; write it elsewhere")
    return code or int(ExitCode.INFRASTRUCTURE)


def _run(arguments: Sequence[str]) -> int:
    try:
        words = join_command(arguments)
        # Only the one that is used is imported: starting must be quick.
        try:
            options = build_parser(words[:1]).parse_args(words)
        except SystemExit as ended:
            # --help and --version have been printed.
            return int(ended.code or 0)
        return BY_NAME[options.command].run(options)
    except PkvfuzzError as error:
        # It may have a line of the input in it.
        lines = (shortened(line, _MOST_MESSAGE) for line in str(error).split("\n"))
        say_error("\n".join(lines))
        return int(error.exit_code)
    except OSError as error:
        say_error(describe_os_error(error))
        if error.errno in _OF_NAMES and _is_given(error, arguments):
            return int(ExitCode.BAD_INPUT)
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            say_error("pkvfuzz doctor may tell what is wrong with this host")
        return int(ExitCode.INFRASTRUCTURE)
    except Exception as error:
        say_error(f"{DEFECT}: {type(error).__name__}: {error}")
        say_error("please report it with the output of: PKVFUZZ_DEBUG=1 pkvfuzz ...")
        if os.environ.get("PKVFUZZ_DEBUG"):
            raise
        return int(ExitCode.INFRASTRUCTURE)


def _is_given(error: OSError, arguments: Sequence[str]) -> bool:
    """Tell whether an error is of a file that the user named, or of one in it."""
    if not isinstance(error.filename, str | bytes | os.PathLike):
        return False
    place = Path(os.path.realpath(os.fsdecode(error.filename)))
    given = (each.partition("=")[2] if each.startswith("--") else each for each in arguments)
    return any(each and place.is_relative_to(os.path.realpath(each)) for each in given)


def _open_standard_files() -> None:
    """Open what was closed of standard input, output and error, or QEMU's files get their numbers.

    Some who start commands at night close all three.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115
        stream = getattr(sys, name)
        if number and isinstance(stream, io.TextIOWrapper):
            # A terminal of another encoding gets what it cannot show escaped.
            stream.reconfigure(errors="backslashreplace")


def console() -> int:
    """Entry point of the installed ``pkvfuzz`` command: packages first, then the command."""
    from fuzzer.bootstrap import ensure_packages

    try:
        ensure_packages(sys.argv[1:])
    except PkvfuzzError as error:
        say_error(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    return main(sys.argv[1:])
