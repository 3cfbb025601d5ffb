# SPDX-License-Identifier: Apache-2.0
"""The command line of ``pkvfuzz corpus``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

_TEXT = {
    "corpus": "look at a corpus, or take care of it with one of the commands below",
    "show": "say what is in a corpus, or print one of its programs",
    "export": "write a corpus as text, a .prog file for each program",
    "import": "put programs into a corpus: .prog files, or files in wire form",
    "merge": "add the programs of other corpora that cover something new",
    "minimize": "reduce a corpus to few and short programs that cover the same",
}
NAMES = tuple("corpus" if verb == "corpus" else f"corpus {verb}" for verb in _TEXT)
"""The commands; ``corpus`` alone is ``corpus show``."""


def add_commands(
    command: Callable[[str, str], argparse.ArgumentParser],
    add_target_options: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the commands; ``command`` makes the parser of one."""
    for name in NAMES:
        verb = name.split()[-1]
        parser = command(name, _TEXT[verb])
        parser.add_argument(
            "corpus", type=Path, metavar="CORPUS", help="a working directory, or one of programs"
        )
        if verb in {"corpus", "show"}:
            parser.add_argument("name", nargs="?", metavar="NAME", help="print this program")
            parser.add_argument("--programs", action="store_true", help="a line for each program")
        elif verb == "export":
            parser.add_argument("directory", type=Path, metavar="DIR", help="where to write them")
        elif verb == "import":
            parser.add_argument(
                "paths", type=Path, nargs="+", metavar="PATH", help="a file, or a directory of them"
            )
        elif verb == "merge":
            parser.add_argument(
                "others", type=Path, nargs="+", metavar="OTHER", help="as CORPUS; left as it is"
            )
        if verb in {"merge", "minimize"}:
            add_target_options(parser)
        else:
            parser.add_argument("--target", type=Path, metavar="YAML", help="[the pkv driver's]")
