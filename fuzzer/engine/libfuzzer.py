# SPDX-License-Identifier: Apache-2.0
"""libFuzzer, through atheris, with counters that live in a machine's channel.

The order of loading matters. ``atheris.custom_mutator`` defines
``LLVMFuzzerCustomMutator`` and ``atheris.core_with_libfuzzer`` holds libFuzzer,
which looks that symbol up when it is loaded. So the first must be in the
global symbol scope before the second, or the mutator is silently off.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.errors import InfrastructureError

# libFuzzer hashes counters into this many features; more would alias.
MAX_COUNTERS = 262_144


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Options for libFuzzer.

    ``runs`` is the number of programs to run (None: until ended); with
    ``reload`` programs that other workers add to the corpus are read. The input at which
    a defect of the worker ended it is written to the directory ``artifacts``.
    """

    corpus: Path
    artifacts: Path
    seed: int
    max_length: int
    runs: int | None = None
    reload: bool = True

    def arguments(self) -> list[str]:
        """Return libFuzzer's command line."""
        options = {
            "seed": self.seed,
            "max_len": self.max_length,
            "runs": -1 if self.runs is None else self.runs,
            "reload": int(self.reload),
            # The mutator decides about lengths.
            "len_control": 0,
            # The executor has time limits of its own, and a restore may take a while.
            "timeout": 1 << 30,
            "report_slow_units": 1 << 30,
            "rss_limit_mb": 0,
            "detect_leaks": 0,
            "handle_int": 0,
            "print_final_stats": 1,
            "artifact_prefix": f"{self.artifacts}{os.sep}",
        }
        return [
            "pkvfuzz",
            *(f"-{name}={value}" for name, value in options.items()),
            str(self.corpus),
        ]


class LibFuzzer:
    """The libFuzzer inside atheris; a process can load it once."""

    def __init__(self) -> None:
        flags = sys.getdlopenflags()
        sys.setdlopenflags(flags | os.RTLD_GLOBAL)
        try:
            self._atheris: Any = importlib.import_module("atheris")
            importlib.import_module("atheris.custom_mutator")
            core: Any = importlib.import_module("atheris.core_with_libfuzzer")
        except ImportError as error:
            raise InfrastructureError(
                f"atheris cannot be loaded: {error}. Remove the virtual environment and start again"
            ) from error
        finally:
            sys.setdlopenflags(flags)
        self._core = ctypes.CDLL(core.__file__)
        self._tables: list[object] = []
        self._operands = (ctypes.c_uint64(), ctypes.c_uint64())
        self._compared = self._core["__sanitizer_weak_hook_memcmp"]
        self._compared.restype = None
        pointers = [ctypes.c_void_p(ctypes.addressof(operand)) for operand in self._operands]
        self._pointers = (ctypes.c_void_p(), *pointers)

    def register_counters(self, address: int, count: int) -> None:
        """Register ``count`` bytes at ``address`` as libFuzzer's coverage counters.

        libFuzzer clears them before each run and reads them after it. It also wants a PC
        for each; these only have to be distinct.
        """
        pcs = (ctypes.c_uint64 * (2 * count))()
        for i in range(count):
            pcs[2 * i] = 0x1000 + 16 * i
        self._tables.append(pcs)
        start = ctypes.addressof(pcs)
        pointer = ctypes.c_void_p
        # By item: inside a class, Python would mangle a name with two underscores.
        self._core["__sanitizer_cov_8bit_counters_init"](pointer(address), pointer(address + count))
        self._core["__sanitizer_cov_pcs_init"](pointer(start), pointer(start + 16 * count))

    def note_comparison(self, a: int, b: int, size: int) -> None:
        """Tell libFuzzer's own mutators of two unequal operands of ``size`` bytes, 2 to 8.

        Where these mutators find one of them in their input, they may put the other there.
        They remember the last few dozen pairs. This has to be called while libFuzzer's
        callback runs: at other times, and for single bytes, libFuzzer ignores it.
        """
        first, second = self._operands
        first.value, second.value = a, b
        # The result of memcmp(): not zero, as the operands are unequal.
        self._compared(*self._pointers, ctypes.c_size_t(size), 1)

    def mutate_bytes(self, data: bytes, max_size: int) -> bytes:
        """Return a mutant of bytes by libFuzzer's own mutators, with its compare hints."""
        mutated: bytes = self._atheris.Mutate(data, max_size)
        return mutated

    def fuzz(
        self,
        options: EngineOptions,
        run_one: Callable[[bytes], None],
        mutate: Callable[[bytes, int, int], bytes],
    ) -> None:
        """Run libFuzzer. It ends the process; this does not return."""
        self._atheris.Setup(
            options.arguments(), run_one, custom_mutator=mutate, internal_libfuzzer=True
        )
        self._atheris.Fuzz()
