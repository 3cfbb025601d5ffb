# SPDX-License-Identifier: Apache-2.0
"""A directory as Kbuild leaves one, of a driver that needs no kernel."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path


def build(directory: Path, kernel: Path, module: str = "toy", flags: str = "") -> None:
    """Compile the C files in a directory, and write down how, as Kbuild does.

    ``flags`` are quoted for a shell; paths in them are relative to the kernel's directory.
    """
    kernel.mkdir(exist_ok=True)
    for source in sorted(directory.glob("*.c")):
        built = source.with_suffix(".o")
        command = (
            f"gcc -Wp,-MMD,{directory}/.{built.name}.d -g -gdwarf-5 -Wall -Werror=date-time "
            f"{flags} -DMODULE -DKBUILD_BASENAME='\"{source.stem}\"' "
            f"-DKBUILD_MODNAME='\"{module}\"' -c -o {built} {source}"
        )
        subprocess.run(shlex.split(command), cwd=kernel, check=True, timeout=60)
        note(built, command)


def note(built: Path, command: str) -> None:
    """Write down the command that made an object."""
    text = command.replace("$", "$$").replace("#", "$(pound)")
    (built.parent / f".{built.name}.cmd").write_text(
        f"savedcmd_{built} := {text}  ; ./tools/objtool/objtool {built}\n\n"
        f"source_{built} := {built.with_suffix('.c')}\n"
    )
