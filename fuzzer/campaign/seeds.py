# SPDX-License-Identifier: Apache-2.0
"""The programs that a campaign's corpus starts from."""

from __future__ import annotations

import random
from pathlib import Path

from fuzzer.campaign.workdir import Workdir
from fuzzer.errors import BadInputError
from fuzzer.paths import project_root
from fuzzer.program.generate import Generator
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.text import load_program
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

# For a target without seeds: so many generated programs of so many calls.
_GENERATED = 16
_GENERATED_CALLS = 6
# One more program unloads the module while its file is open, and makes so many calls after that.
_UNLOADED_CALLS = 2


def seed_directory(target: Target) -> Path | None:
    """Return the directory of a target's seeds: beside its description, or the project's own."""
    for directory in (
        target.path.parent / "seeds",
        project_root() / "seeds" / target.name,
    ):
        if directory.is_dir():
            return directory
    return None


def load_seeds(target: Target, directory: Path | None, seed: int) -> list[bytes]:
    """Return the wire form of a target's seeds, or generated programs if it has none.

    Raises:
        BadInputError: a seed cannot be parsed, or ``directory`` does not exist.
    """
    if directory is not None and not directory.is_dir():
        raise BadInputError(f"--seeds {directory}: not a directory")
    directory = directory or seed_directory(target)
    paths = sorted(directory.glob("*.prog")) if directory else []
    if paths:
        return [encode(load_program(path, target)) for path in paths]
    generator = Generator(target, random.Random(seed))
    programs = [generator.program(_GENERATED_CALLS) for _ in range(_GENERATED)]
    if not target.module.builtin:
        # Many drivers name no owner in their operations, so that they can be unloaded while in use.
        used = generator.program(_UNLOADED_CALLS)
        programs.append((Call(Op.UNLOAD), *used, Call(Op.CLOSE)))
    return [encode(program) for program in programs]


def plant_seeds(workdir: Workdir, programs: list[bytes]) -> None:
    """Put the seeds into the corpus."""
    for program in programs:
        workdir.add_program(program)
