# SPDX-License-Identifier: Apache-2.0
"""Measures ``pkvfuzz smoke``: commits that plant a bug, and commits that do not.

    python -m tests.support.commits --time 60s

Each is the second commit of a repository with the driver pkv, and gets one smoke test with the
first as its base. Prints a line for each, and how many were judged rightly.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzzer.driver.driver import find_bug
from fuzzer.paths import own_description, project_root
from fuzzer.target.target import load_target
from tests.driver_repository import DriverRepository

BUGS = (
    "delete-length", "stale-last", "lock-order", "value-terminator", "full-table-uaf",
    "delete-warn", "efault-double-free", "poll-uaf",
)  # fmt: skip
# A file, a piece of its text, and what a harmless commit puts before that.
HARMLESS = {
    "a comment": ("pkv_store.c", "#include", "/* Entries are found by their hash. */\n"),
    "a function": (
        "pkv_main.c",
        "static int __init",
        "static int __init __maybe_unused\nnothing(void)\n{\n\treturn 0;\n}\n\n",
    ),
    "a line in /proc": ("pkv_proc.c", '\tseq_printf(seq, "ttl_ms:', '\tseq_puts(seq, "");\n'),
    "a barrier": ("pkv_store.c", "\t\tlen = -ENODATA;", "\t\tbarrier();\n"),
}


def smoke(repository: DriverRepository, seconds: str, seed: int) -> tuple[int, str, float]:
    """Return the exit code of a smoke test, what it printed, and how long it took in seconds."""
    began = time.monotonic()
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "fuzzer", "smoke", str(repository.description)),
            *("--base", "HEAD~1", "--time", seconds, "--seed", str(seed), "--vms", "1"),
            *("--workdir", str(repository.root.parent / "work")),
        ],
        env=os.environ | {"PYTHONPATH": str(project_root())},
        cwd=repository.root.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def main() -> None:
    """Run a smoke test on each commit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--time", default="60s")
    parser.add_argument("--only", nargs="+", default=[*BUGS, *HARMLESS], metavar="NAME")
    options = parser.parse_args()
    seconds = options.time
    origin = own_description()
    target = load_target(origin)
    right = {"bug": 0, "harmless": 0}
    for number, name in enumerate(options.only):
        with tempfile.TemporaryDirectory(prefix="commits-") as place:
            planted = name in BUGS
            bug = name if planted else BUGS[0]
            repository = DriverRepository(Path(place) / "repository", origin.parent, bug)
            if planted:
                repository.plant(name)
                titles = find_bug(target, name).titles
            else:
                file, place_of, new = HARMLESS[name]
                before, found_there, after = (
                    (repository.driver / file).read_text().partition(place_of)
                )
                assert found_there, name
                (repository.driver / file).write_text(f"{before}{new}{found_there}{after}")
                repository.commit(name)
                titles = ()
            code, printed, took = smoke(repository, seconds, number + 1)
            found = [title for title in titles if title in printed]
            well = code == 1 and bool(found) if planted else code == 0
            right["bug" if planted else "harmless"] += well
            print(f"{name:20} exit {code}, {took:4.0f} s  {', '.join(found)}", flush=True)
            if not well:
                print(printed, file=sys.stderr, flush=True)
    bugs = sum(name in BUGS for name in options.only)
    harmless = len(options.only) - bugs
    print(f"{right['bug']} of {bugs} bugs caught", end=", ")
    print(f"{harmless - right['harmless']} of {harmless} harmless commits not passed")


if __name__ == "__main__":
    main()
