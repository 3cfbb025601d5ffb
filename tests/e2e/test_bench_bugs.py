# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bench bugs``: a planted bug is found, timed, told and drawn."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from tests.e2e.pkvfuzz_process import pkvfuzz

OVERFLOW = "KASAN: slab-out-of-bounds Write in pkv_store_write"


def test_an_easy_bug_is_found_and_ends_its_run(tmp_path: Path) -> None:
    options = ["--bug", "key-overflow", "--runs", 1, "--time", "60s", "--workdir", "kept"]
    done = pkvfuzz("bench", "bugs", *options, "--json", "x.json", "--plot", "x.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "key-overflow, seed 1: found after" in done.stderr
    assert "found 1 of 1 bugs, 1 in every run (1 of 1 runs)" in done.stdout
    data = json.loads((tmp_path / "x.json").read_text())
    (bug,) = data["bugs"]
    (run,) = bug["runs"]
    (found,) = [title for title in run["titles"] if title["title"] == OVERFLOW]
    assert found["judged_on"] == "full"
    assert found["reproduced"] >= 1
    assert found["minimized"]
    assert 1 == found["calls"] <= found["original"]
    assert found["minimize_seconds"] > 0
    assert 0 <= run["seconds"] <= run["verified_seconds"]
    # It was not fuzzed to the end of its time.
    assert run["spent"]["seconds"] < 60
    assert ElementTree.parse(tmp_path / "x.svg").getroot().tag.endswith("svg")  # noqa: S314
    crashes = tmp_path / "kept" / "key-overflow-1" / "work" / "crashes"
    assert list(crashes.glob("*/crash.json"))
