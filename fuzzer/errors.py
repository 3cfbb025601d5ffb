# SPDX-License-Identifier: Apache-2.0
"""Errors a user can act on, and the exit code each one ends in.

Every message says what was tried, what happened and what to do next. Only
:mod:`fuzzer.cli` catches these and turns them into exit codes.
"""

from __future__ import annotations

import enum
import errno

DEFECT = "a defect in pkvfuzz"
"""The beginning of what is said of an error that is nobody's but ours."""


class ExitCode(enum.IntEnum):
    """Exit codes of ``pkvfuzz run`` and ``pkvfuzz replay``; others use 0, 2 and 3.

    4 is of ``run`` alone: nothing was found, but the kernel that judges never ran.
    """

    NOTHING_FOUND = 0
    FOUND = 1
    BAD_INPUT = 2
    INFRASTRUCTURE = 3
    UNJUDGED = 4


class PkvfuzzError(Exception):
    """Base of all errors with a message for the user."""

    exit_code = ExitCode.INFRASTRUCTURE


class BadInputError(PkvfuzzError):
    """The user's input cannot be used: an option, a file, a description."""

    exit_code = ExitCode.BAD_INPUT


class InfrastructureError(PkvfuzzError):
    """The kernel build, QEMU, the disk or the host failed."""

    exit_code = ExitCode.INFRASTRUCTURE


def describe_os_error(error: OSError, where: object = "") -> str:
    """Return an error of the operating system in words; ``where`` is used if it names no file."""
    place = error.filename or where
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return (
            f"{place or 'the output'}: the disk is full. What was stored before is intact. "
            "Free some space and run the same command again"
        )
    return f"{place}: {error.strerror or error}" if place else f"{error.strerror or error}"
