# SPDX-License-Identifier: Apache-2.0
"""The reading of a driver's translation units with libclang, as Kbuild had them compiled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from fuzzer.driver.source.entries import read
from fuzzer.driver.source.interface import Interface, Unread
from fuzzer.driver.source.kernel_calls import INCLUDED
from fuzzer.driver.source.program import NUMBER, SourceProgram
from fuzzer.driver.source.tree import SourceUnit, parse
from fuzzer.driver.unit_commands import Unit

_VIDEO = "linux/videodev2.h"
_VIDEO_MACRO = re.compile(r"^#define\s+(VIDIOC_\w+)\s+_IO", re.MULTILINE)
# One takes half a second and some 40 MB.
_MOST_UNITS = 32
_NEAR = re.compile(rb"ioctl|_user\b|_operations\b|proc_ops\b")
_MOST_ERRORS = 4
# libclang runs beside Python.
_THREADS = 2
_OPTIONS = ("-Wno-everything", "--target=x86_64-linux-gnu", "-ferror-limit=0", "-x", "c")


def read_interface(units: Sequence[Unit], own: Sequence[Path]) -> Interface:
    """Return the interface of a driver; ``own`` are the directories and files that are its.

    Raises:
        ValueError: libclang reads nothing of it.
    """
    sources: list[SourceUnit] = []
    unread: list[Unread] = []
    # In their order, as the first of several functions of a name is taken.
    chosen = set(sorted(units, key=_is_far)[:_MOST_UNITS])
    unread += [
        Unread(str(unit.source), 1, f"only {_MOST_UNITS} files are read, and this is none of them")
        for unit in units
        if unit not in chosen
    ]
    units = [unit for unit in units if unit in chosen]
    with ThreadPoolExecutor(_THREADS) as threads:
        parsed = threads.map(lambda each: _parsed(each[1], own, each[0]), enumerate(units))
        sources += parsed
    for source in sources:
        unread += [Unread(*each) for each in source.errors[:_MOST_ERRORS]]
    found = read(SourceProgram(sources))
    return replace(found, unread=(*unread, *found.unread))


def _is_far(unit: Unit) -> bool:
    """Return True if a file seems to have nothing to do with the driver's callers."""
    return not _NEAR.search(unit.source.read_bytes())


def _parsed(unit: Unit, own: Sequence[Path], number: int) -> SourceUnit:
    source = unit.source.absolute()
    # Beside it, so that what it includes is found where the compiler found it.
    path = source.with_name(f"pkvfuzz-{source.name}")
    text = f'{INCLUDED}#include "{source}"\n{_video_numbers(unit)}'
    arguments = [*unit.command[1:], f"-working-directory={unit.directory.absolute()}", *_OPTIONS]
    resolved = [each.resolve() for each in own]
    return parse(str(path), text, arguments, resolved, number)


def _video_numbers(unit: Unit) -> str:
    """Return C text with the numbers of V4L2's ioctls, which its drivers do not name."""
    if b"v4l2_ioctl_ops" not in unit.source.read_bytes():
        return ""
    directories = [word[2:] for word in unit.command if word.startswith("-I")]
    headers = (unit.directory / each / _VIDEO for each in directories)
    texts = (each.read_text(errors="replace") for each in headers if each.is_file())
    names = dict.fromkeys(name for text in texts for name in _VIDEO_MACRO.findall(text))
    return "".join(f"static const unsigned int {NUMBER}{name} = {name};\n" for name in names)
