# SPDX-License-Identifier: Apache-2.0
"""The workflow files of docs/ci, run step by step in a driver's repository."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from fuzzer.cli.parser import build_parser, join_command
from fuzzer.paths import project_root
from tests.driver_repository import PROGRAM, TITLE, DriverRepository
from tests.support.ci_runner import run_github, run_gitlab

CI = project_root() / "docs" / "ci"
# What is installed on a runner, and must not be here.
STUBS = ("sudo", "apt-get", "pip")
LOG = "commands.log"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> DriverRepository:
    """Return a repository whose last commit plants a bug that its seeds show."""
    made = DriverRepository(tmp_path_factory.mktemp("ci") / "repository")
    (made.driver / "seeds").mkdir()
    shutil.copy(PROGRAM, made.driver / "seeds" / "load.prog")
    made.document("seeds")
    made.plant("cmdp: bound entries by their size")
    return made


def _host(directory: Path, pkvfuzz: str) -> dict[str, str]:
    """Make the programs of a runner; return the environment in which they are found."""
    programs, home = directory / "bin", directory / "home"
    programs.mkdir()
    home.mkdir()
    for name in STUBS:
        (programs / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{directory / LOG}"\n')
    (programs / "pkvfuzz").write_text(f"#!/bin/sh\n{pkvfuzz}\n")
    for path in programs.iterdir():
        path.chmod(0o755)
    return {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "HOME": str(home),
        "PKVFUZZ_CACHE": os.environ.get("PKVFUZZ_CACHE", str(Path.home() / ".cache" / "pkvfuzz")),
        "DRIVER": "drivers/cmdp/cmdp.yaml",
        "NAME": "cmdp",
        "TIME": "30s",
    }


def test_on_github_a_commit_is_judged_and_the_cache_kept(
    repository: DriverRepository, tmp_path: Path
) -> None:
    command = shlex.join([sys.executable, "-P", "-m", "fuzzer"])
    env = _host(tmp_path, f'PYTHONPATH={project_root()} exec {command} "$@"')
    # What is exported has the kernels and templates that all tests have made by now.
    summary = tmp_path / "summary.md"
    job = run_github(CI / "github.yml", repository.root, env | {
        "GITHUB_STEP_SUMMARY": str(summary),
    })  # fmt: skip
    assert job.steps == [
        ("Let everybody use KVM", 0),
        ("Install", 0),
        ("Take kernels, templates and corpus from the cache", 0),
        ("Smoke test", 1),
        ("Put them into the cache", 0),
    ], job.output
    assert TITLE in summary.read_text()
    assert "::error file=drivers/cmdp/cmdp.c,line=" in job.output
    (run,) = json.loads((repository.root / "smoke.sarif").read_text())["runs"]
    assert run["results"]
    assert "hash: " in job.output
    assert (tmp_path / "home" / "pkvfuzz.cache").stat().st_size > 10 << 20


def test_on_gitlab_each_command_is_one_of_pkvfuzz(
    repository: DriverRepository, tmp_path: Path
) -> None:
    log = tmp_path / LOG
    env = _host(tmp_path, f'echo "pkvfuzz $*" >> "{log}"; mkdir -p work/cmdp/corpus')
    (repository.root / "work").mkdir(exist_ok=True)
    (repository.root / "work" / "pkvfuzz.cache").touch()
    base = repository.git("rev-parse", "HEAD~1")
    job = run_gitlab(
        CI / "gitlab.yml", repository.root, env | {"CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
    )
    assert not job.failed, job.output
    lines = [line.split() for line in log.read_text().splitlines()]
    assert [line[0] for line in lines] == ["apt-get", "apt-get", "pip", *["pkvfuzz"] * 3]
    options = [build_parser().parse_args(join_command(line[1:])) for line in lines[3:]]
    assert [each.command for each in options] == ["cache import", "smoke", "cache export"]
    assert options[1].base == base
    assert [name for name, _ in options[1].formats] == ["text", "junit", "gitlab"]
