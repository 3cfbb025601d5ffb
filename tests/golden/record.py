# SPDX-License-Identifier: Apache-2.0
"""Records golden logs: ``python -m tests.golden.record [NAME...]``.

Each recipe of the index is run on a fresh machine of our kernels, and the
log stored beside the index: those that are named, or those that have none.
What a new log shows is then read and written to the index by hand.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from pathlib import Path

from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Flavour, ensure_kernel
from fuzzer.machine.accel import choose_accel
from fuzzer.machine.qemu import Hardware
from fuzzer.target.target import load_target
from tests.golden.index import Golden, load_index
from tests.golden.provoke import TARGET, provoke


@functools.cache
def make_guest(flavour: Flavour, *, cpus: int = 1, arguments: str = "") -> Guest:
    """Return a guest that has the module; its kernel and templates come from the cache."""
    target, kernel = load_target(TARGET), ensure_kernel(flavour)
    driver = build_driver(target, kernel)
    accel = choose_accel().accel
    return ensure_guest(target, kernel, driver, accel, Hardware(cpus=cpus), arguments=arguments)


def _record(golden: Golden) -> None:
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        lines = provoke(golden.recipe, make_guest, Path(scratch))
    golden.path.write_text("".join(f"{line}\n" for line in lines))
    print(f"{golden.name}: {len(lines)} lines in {time.monotonic() - start:.1f} s", flush=True)


def main() -> int:
    """Record the logs that are named on the command line, or those that are missing."""
    logs = load_index().logs
    parser = argparse.ArgumentParser(description="Record golden logs on the project's kernels.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a log of the index")
    names = parser.parse_args().names
    unknown = [name for name in names if name not in logs]
    if unknown:
        parser.error(f"not in the index: {', '.join(unknown)}")
    for golden in logs.values():
        if golden.name in names or not (names or golden.path.exists()):
            _record(golden)
    return 0


if __name__ == "__main__":
    sys.exit(main())
