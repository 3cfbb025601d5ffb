# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz convert``: a program's text to wire form, or back, or either to C."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fuzzer.atomic import write_output
from fuzzer.cli.options import add_target
from fuzzer.cli.setting import target_of
from fuzzer.errors import BadInputError
from fuzzer.program.csource.source import c_source
from fuzzer.program.text import format_program, load_program
from fuzzer.program.wire import decode, encode
from fuzzer.progress import show_bytes
from fuzzer.untrusted import read_bytes


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``convert`` takes."""
    parser.add_argument("file", type=Path, help="a .prog file, or a program in wire form")
    parser.add_argument("--c", action="store_true", help="to a C file that needs no pkvfuzz")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="[standard output]")
    add_target(parser)


def command(options: argparse.Namespace) -> int:
    """Convert by the file's name: ``.prog`` is text, anything else wire form."""
    path: Path = options.file
    target = target_of(options)
    if options.c:
        output = c_source(load_program(path, target), target).encode()
    elif path.suffix == ".prog":
        output = encode(load_program(path, target))
        if options.output is None and os.isatty(sys.stdout.fileno()):
            raise BadInputError("wire form is binary: give a file with -o, or redirect the output")
    else:
        try:
            data = read_bytes(path)
        except OSError as error:
            raise BadInputError(f"{path}: {error.strerror}") from error
        output = format_program(decode(data), target).encode()
    if options.output is None:
        show_bytes(output)
    else:
        write_output(options.output, output)
    return 0
