# SPDX-License-Identifier: Apache-2.0
"""Functions that a reproducer in C may need, each with what it needs itself.

They do what the executor in vm/executor does, in as few lines.
"""

from __future__ import annotations

from collections.abc import Iterable

from fuzzer.program.csource.condition_helpers import CONDITION_HELPERS
from fuzzer.program.csource.file_helpers import FILE_HELPERS
from fuzzer.program.csource.module_helpers import MODULE_HELPERS
from fuzzer.program.csource.splice_helpers import SPLICE_HELPERS
from fuzzer.program.csource.thread_helpers import THREAD_HELPERS
from fuzzer.program.csource.uring_helpers import URING_HELPERS

HELPERS = {**FILE_HELPERS, **SPLICE_HELPERS, **CONDITION_HELPERS, **MODULE_HELPERS}
HELPERS |= {**THREAD_HELPERS, **URING_HELPERS}
"""All of them by name; one comes after those that it needs."""


def closure(names: Iterable[str]) -> list[str]:
    """Return these helpers and all that they need, in the order of ``HELPERS``."""
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += HELPERS[name].needs
    return [name for name in HELPERS if name in wanted]
