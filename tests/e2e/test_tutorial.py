# SPDX-License-Identifier: Apache-2.0
"""The tutorial, word for word: its commands work, and print what it says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.pkvfuzz_process import ROOT, environment

pytestmark = pytest.mark.e2e

_TUTORIAL = ROOT / "docs" / "tutorial.md"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TIMEOUT = 600


@dataclass(frozen=True, slots=True)
class Step:
    """Commands to type, and their output by the tutorial, empty if it has none."""

    commands: str
    output: str


def read_steps(text: str) -> list[Step]:
    """Return a tutorial's steps: each block of shell commands, and the output told after it."""
    steps: list[Step] = []
    for kind, content in _BLOCK.findall(text):
        if kind == "sh":
            steps.append(Step(content, ""))
        else:
            assert kind == "text"
            steps[-1] = Step(steps[-1].commands, content)
    return steps


def pattern_of(output: str) -> re.Pattern[str]:
    """Return a pattern for what is printed: ``...`` is anything, whole lines of it any lines."""
    pattern = ""
    for line in output.splitlines():
        if line == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*".join(re.escape(part) for part in line.split("..."))
            # A call may be found in another form: split, or with a fault.
            pattern += r"(?: .*)?\n" if line.endswith("...)") else r"\n"
    return re.compile(rf"^{pattern}", re.MULTILINE)


def test_the_tutorial_works_word_for_word(tmp_path: Path) -> None:
    steps = read_steps(_TUTORIAL.read_text())
    assert len(steps) >= 8
    # As in a checkout, without leaving anything in this one.
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    launcher = tmp_path / "pkvfuzz"
    launcher.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m fuzzer "$@"\n')
    launcher.chmod(0o755)
    for step in steps:
        done = subprocess.run(
            ["bash", "-c", step.commands],
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        said = f"{step.commands}\n{done.stdout}\n{done.stderr}"
        # 1: a crash was found, or reproduced.
        assert done.returncode in {0, 1}, said
        assert "Traceback" not in done.stderr, said
        if step.output:
            assert pattern_of(step.output).search(done.stdout), f"{said}\nexpected\n{step.output}"
    assert sorted(path.name for path in (tmp_path / "work" / "jot-driver").iterdir()) == [
        "Makefile",
        "jot.c",
        "jot.h",
    ]


def test_what_is_left_out_of_an_output_may_be_anything_and_the_rest_may_not() -> None:
    pattern = pattern_of("a ... b\n...\nlast\n")
    assert pattern.search("first\na 17 b\nlast\n")
    assert pattern.search("a x b\nmore\nand more\nlast\n")
    assert not pattern.search("a x c\nlast\n")
    assert not pattern.search("a x b\nlater\n")
