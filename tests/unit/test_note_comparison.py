# SPDX-License-Identifier: Apache-2.0
"""libFuzzer's own mutators put what was compared into what they mutate, and only then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fuzzer.paths import project_root

# A process of its own: libFuzzer does not return, and cannot be had twice.
_SCRIPT = """
import ctypes, os, pathlib, sys
from fuzzer.engine.libfuzzer import EngineOptions, LibFuzzer

corpus, noted = pathlib.Path(sys.argv[1]), sys.argv[2]
MAGIC = 0x8A1B5FE2D3C4967A
fuzzer = LibFuzzer()
counters = (ctypes.c_uint8 * 8)()
fuzzer.register_counters(ctypes.addressof(counters), 8)

def compare(data):
    return int.from_bytes(data[4:12], "little")

def run(data):
    counters[0] = 1
    if compare(data) == MAGIC:
        os._exit(42)
    if noted == "running":
        fuzzer.note_comparison(compare(data), MAGIC, 8)

def mutate(data, max_size, seed):
    if noted == "mutating":
        fuzzer.note_comparison(compare(data), MAGIC, 8)
    return fuzzer.mutate_bytes(data, max_size)

corpus.joinpath("seed").write_bytes(bytes(range(16)))
fuzzer.fuzz(EngineOptions(corpus, corpus, 1, 32, runs=100_000, reload=False), run, mutate)
"""


@pytest.mark.parametrize(
    ("noted", "found"), [("running", True), ("mutating", False), ("never", False)]
)
def test_a_magic_number_is_found_if_its_comparison_is_noted_in_time(
    tmp_path: Path, noted: str, found: bool
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), noted],
        cwd=project_root(),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"found LLVMFuzzerCustomMutator" in done.stderr
    assert done.returncode == (42 if found else 0), done.stderr[-500:]


def test_the_input_of_a_worker_that_a_defect_ended_is_left_where_it_is_asked_for(
    tmp_path: Path,
) -> None:
    here, corpus, artifacts = (tmp_path / name for name in ("here", "corpus", "artifacts"))
    for directory in (here, corpus, artifacts):
        directory.mkdir()
    script = """
import ctypes, pathlib, sys
from fuzzer.engine.libfuzzer import EngineOptions, LibFuzzer

corpus, artifacts = map(pathlib.Path, sys.argv[1:])
fuzzer = LibFuzzer()
counters = (ctypes.c_uint8 * 8)()
fuzzer.register_counters(ctypes.addressof(counters), 8)
fuzzer.fuzz(
    EngineOptions(corpus, artifacts, 1, 32, reload=False),
    lambda data: 1 / 0,
    lambda data, max_size, seed: fuzzer.mutate_bytes(data, max_size),
)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(corpus), str(artifacts)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(project_root())},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"ZeroDivisionError" in done.stderr + done.stdout
    assert [path.name[:6] for path in artifacts.iterdir()] == ["crash-"]
    assert not list(here.iterdir())
