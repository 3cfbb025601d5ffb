# SPDX-License-Identifier: Apache-2.0
"""Every stored log gives the records that the golden file beside it has."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.unit.splats import LOGS, golden_of


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.stem)
def test_a_log_gives_what_its_golden_file_says(path: Path) -> None:
    golden = path.with_suffix(".json")
    found = json.loads(json.dumps(golden_of(path)))
    if os.environ.get("PKVFUZZ_GOLDEN"):
        golden.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(golden.read_text())
