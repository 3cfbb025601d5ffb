# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz smoke`` on the commits of a small repository."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fuzzer.crash.store import CrashStore
from tests.driver_repository import PROGRAM, TITLE, DriverRepository
from tests.e2e.pkvfuzz_process import pkvfuzz

SECONDS = 60
# Beside its time, a command starts, builds the driver and makes machines of it.
AROUND = 90


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> DriverRepository:
    """Return a repository whose last commit plants a bug that its seeds show."""
    made = DriverRepository(tmp_path_factory.mktemp("smoke") / "repository")
    (made.driver / "seeds").mkdir()
    shutil.copy(PROGRAM, made.driver / "seeds" / "load.prog")
    made.document("seeds")
    made.plant("cmdp: bound entries by their size")
    return made


@pytest.fixture(scope="module")
def failed(repository: DriverRepository) -> Path:
    """Return the directory in which the commit was found to be at fault."""
    cwd = repository.root.parent
    began = time.monotonic()
    done = pkvfuzz(
        "smoke", repository.description, "--base", "HEAD~1", "--time", f"{SECONDS}s", "--seed", 1,
        "--workdir", "w", "--format", "text", "--format", "junit=out/j.xml",
        "--format", "sarif=out/s.json", "--first", cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert time.monotonic() - began < SECONDS + AROUND
    assert "FAILED: 1 crash of this commit" in done.stdout
    assert f"{TITLE} at drivers/cmdp/cmdp.c:" in done.stdout
    assert "changed blocks reached" in done.stdout
    return cwd


def test_a_commit_that_plants_a_bug_fails_with_it_at_its_line(failed: Path) -> None:
    (suite,) = ElementTree.parse(failed / "out" / "j.xml").getroot()  # noqa: S314
    failures = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failures == [TITLE]
    (run,) = json.loads((failed / "out" / "s.json").read_text())["runs"]
    result = run["results"][0]
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "drivers/cmdp/cmdp.c"
    source = (failed / "repository" / "drivers" / "cmdp" / "cmdp.c").read_text().splitlines()
    line = place["region"]["startLine"]
    # Near the loop over the entries.
    assert "cmdp_load" in "\n".join(source[max(0, line - 60) : line])


def test_a_bug_that_the_base_has_as_well_does_not_count(
    failed: Path, repository: DriverRepository
) -> None:
    repository.note("nothing of importance")
    (stored,) = CrashStore(failed / "w" / "crashes").entries()
    done = pkvfuzz(
        "smoke", repository.description, "--base", "HEAD~1", "--time", "10s", "--seed", 2,
        "--crashes", stored[0].parent, "--workdir", "v", cwd=failed,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASSED" in done.stdout
    assert "in the base as well" in done.stdout


def test_a_commit_that_does_not_build_is_told_in_the_compilers_words(
    repository: DriverRepository,
) -> None:
    repository.break_build("cmdp: half of a change")
    done = pkvfuzz("smoke", repository.description, "--time", "5s", cwd=repository.root.parent)
    assert done.returncode == 2
    assert "nothing_of_that_name" in done.stderr
    repository.mend_build("cmdp: the other half")


def test_an_entry_that_has_ended_accepts_nothing(
    failed: Path, repository: DriverRepository
) -> None:
    (stored,) = CrashStore(failed / "w" / "crashes").entries()
    known = failed / "known.yaml"
    known.write_text(f'- {{title: "{TITLE}", reason: planted, until: 2020-01-01}}\n')
    done = pkvfuzz(
        "smoke", repository.description, "--time", "30s", "--seed", 3, "--first",
        "--accepted", known, "--crashes", stored[0].parent, "--workdir", "u", cwd=failed,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert "accepted until 2020-01-01 only: planted" in done.stdout
