# SPDX-License-Identifier: Apache-2.0
"""The command line. The one place that turns errors into exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Sequence

from fuzzer.cli.commands import BY_NAME, INTERRUPTED
from fuzzer.cli.parser import build_parser, join_command
from fuzzer.errors import DEFECT, ExitCode, PkvfuzzError, describe_os_error
from fuzzer.progress import say_error


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit code. No traceback reaches the user."""
    try:
        _open_standard_files()
        words = join_command(arguments)
        # Only the one that is used is imported: starting must be quick.
        options = build_parser(words[:1]).parse_args(words)
        code = BY_NAME[options.command].run(options)
        sys.stdout.flush()
        return code
    except PkvfuzzError as error:
        say_error(str(error))
        return int(error.exit_code)
    except KeyboardInterrupt:
        say_error("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (``| head``): end quietly.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.NOTHING_FOUND)
    except OSError as error:
        say_error(describe_os_error(error))
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            say_error("pkvfuzz doctor may tell what is wrong with this host")
        return int(ExitCode.INFRASTRUCTURE)
    except Exception as error:
        say_error(f"{DEFECT}: {type(error).__name__}: {error}")
        say_error("please report it with the output of: PKVFUZZ_DEBUG=1 pkvfuzz ...")
        if os.environ.get("PKVFUZZ_DEBUG"):
            raise
        return int(ExitCode.INFRASTRUCTURE)


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
