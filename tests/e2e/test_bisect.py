# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bisect`` over small repositories: the commit that planted a bug is found."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from fuzzer.crash.store import CrashStore, read_crash
from fuzzer.paths import project_root
from fuzzer.program.wire import split
from fuzzer.target.target import load_target
from tests.driver_repository import CMDP, PROGRAM, TITLE, DriverRepository
from tests.e2e.pkvfuzz_process import family, pkvfuzz, start, wait_gone, wait_until

STALE_LAST = "kasan-slab-use-after-free-read-in-pkv-store-last"


@pytest.fixture
def repository(tmp_path: Path) -> DriverRepository:
    """Return a repository with the good driver."""
    return DriverRepository(tmp_path / "repository")


def options(repository: DriverRepository, good: str, bad: str = "HEAD") -> tuple[object, ...]:
    return ("--target", repository.description, "--good", good, "--bad", bad)


def leftovers(directory: Path) -> list[str]:
    return [path.name for path in directory.glob("pkvfuzz-bisect-*")]


def has_machine(process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(child.name().startswith("qemu") for child in family(process))
    return False


def test_the_commit_that_planted_a_bug_is_found(
    repository: DriverRepository, tmp_path: Path
) -> None:
    repository.note("a comment")
    repository.document("first notes")
    repository.break_build("cmdp: half of a change")
    repository.mend_build("cmdp: the other half")
    planted = repository.plant("cmdp: bound entries by their size")
    repository.note("another comment")
    repository.document("more notes")
    # What a user is working on meanwhile.
    (repository.driver / "cmdp.c").write_text("not C at all\n")
    (repository.driver / "untracked.h").write_text("#error\n")
    before = repository.state()
    done = pkvfuzz(
        *("bisect", PROGRAM, *options(repository, repository.first)),
        cwd=tmp_path,
        TMPDIR=str(tmp_path),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[:3] == [
        f"first bad commit: {planted}",
        "subject: cmdp: bound entries by their size",
        "author: A. Tester <tester@example.org>",
    ]
    assert done.stdout.endswith("files:\n  M drivers/cmdp/cmdp.c\n")
    assert "bisecting: " in done.stderr
    assert "half of a change: skipped: " in done.stderr
    assert "nothing_of_that_name" in done.stderr
    assert "with an error below 1 %" in done.stderr
    assert str(tmp_path / "pkvfuzz-bisect-") not in done.stderr
    assert repository.state() == before
    assert not leftovers(tmp_path)


def test_commits_that_do_not_build_leave_candidates(
    repository: DriverRepository, tmp_path: Path
) -> None:
    broken = repository.break_build("cmdp: half of a change")
    planted = repository.plant("cmdp: the bug, where nothing builds")
    mended = repository.mend_build("cmdp: the other half")
    done = pkvfuzz(
        *("bisect", PROGRAM, "--times", 2, "--json", *options(repository, repository.first)),
        cwd=tmp_path,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["first_bad"] is None
    assert {each["hash"] for each in found["candidates"]} == {broken, planted, mended}
    tried = {each["hash"]: each for each in found["tried"]}
    assert tried[mended]["shown"] == TITLE
    assert tried[repository.first] | {"verdict": "good", "runs": 2} == tried[repository.first]
    assert tried[broken]["verdict"] == "skip"


def test_a_merge_is_followed_to_the_side_that_brought_the_bug(
    repository: DriverRepository, tmp_path: Path
) -> None:
    repository.git("checkout", "--quiet", "-b", "side")
    planted = repository.plant("cmdp: the bug, on a side branch")
    repository.git("checkout", "--quiet", "main")
    shutil.copy(CMDP / "Kbuild", repository.driver / "Kbuild")
    with (repository.driver / "cmdp.h").open("a") as file:
        file.write("\n/* on main */\n")
    main = repository.commit("cmdp: on main")
    repository.git("merge", "--quiet", "--no-ff", "-m", "Merge side", "side")
    merge = repository.git("rev-parse", "HEAD")
    command = ("bisect", PROGRAM, *options(repository, main))
    assert f"commit: {planted}" in pkvfuzz(*command, cwd=tmp_path).stdout
    whole = pkvfuzz(*command, "--first-parent", cwd=tmp_path)
    assert f"commit: {merge}" in whole.stdout


def test_a_stored_crash_is_looked_for_with_its_planted_bug_or_without(tmp_path: Path) -> None:
    repository = DriverRepository(tmp_path / "repository", project_root() / "module", "stale-last")
    # The patches lie beside the description, as for replay.
    shutil.copytree(project_root() / "module" / "bugs", repository.driver / "bugs")
    planted = repository.plant("pkv: keep the last entry's address")
    repository.note("a comment")
    crash = project_root() / "crashes" / STALE_LAST
    command = ("bisect", crash, *options(repository, repository.first))
    twice = pkvfuzz(*command, cwd=tmp_path)
    assert twice.returncode == 2
    assert "each revision has the planted bug stale-last (--no-bug" in twice.stderr
    assert "stale-last.patch does not apply to" in twice.stderr
    done = pkvfuzz(*command, "--no-bug", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"first bad commit: {planted}\n" in done.stdout


def test_what_has_to_run_before_a_crash_is_run_in_each_revision(tmp_path: Path) -> None:
    repository = DriverRepository(tmp_path / "repository", project_root() / "module", "stale-last")
    text = repository.description.read_text()
    # The one that is shipped forgets what was written before.
    described = text.replace("ioctl(f0, PKV_IOC_CLEAR)", "ioctl(f0, 0)")
    assert described != text
    repository.description.write_text(described)
    good = repository.commit("pkv: nothing is reset")
    planted = repository.plant("pkv: keep the last entry's address")
    repository.note("a comment")
    target = load_target(repository.description)
    stored = read_crash(project_root() / "crashes" / STALE_LAST)
    *before, last = split(stored.program)
    crash = dataclasses.replace(
        stored,
        program=last,
        history=tuple(before),
        identity=dataclasses.replace(
            stored.identity, description=str(repository.description), bug=None
        ),
    )
    path = CrashStore(tmp_path / "crashes").put(crash, target)
    done = pkvfuzz("bisect", path, *options(repository, good), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"first bad commit: {planted}\n" in done.stdout


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("no-such-tag", "HEAD", "--good no-such-tag: no such revision"),
        ("HEAD~3", "--output", "See: pkvfuzz bisect --help"),
        ("HEAD", "HEAD~3", "swap them"),
        ("HEAD", "HEAD", "are the same revision"),
        ("HEAD~1", "HEAD", "shows the crash"),
        ("HEAD~3", "HEAD~2", "does not show the crash in 30 runs"),
        ("HEAD~3", "broken", "nothing_of_that_name"),
    ],
)
def test_revisions_that_are_not_as_said_are_told(
    tmp_path: Path, good: str, bad: str, words: str
) -> None:
    repository = DriverRepository(tmp_path / "repository")
    repository.git("checkout", "--quiet", "-b", "broken")
    repository.break_build("cmdp: broken")
    repository.git("checkout", "--quiet", "main")
    repository.note("a comment")
    repository.plant("cmdp: the bug")
    repository.document("notes")
    done = pkvfuzz("bisect", PROGRAM, *options(repository, good, bad), cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert words in done.stderr
    assert not done.stdout


def test_a_driver_without_a_past_is_refused(tmp_path: Path) -> None:
    shutil.copytree(CMDP, tmp_path / "cmdp")
    target = tmp_path / "cmdp" / "cmdp.yaml"
    done = pkvfuzz("bisect", PROGRAM, "--target", target, "--good", "v1", cwd=tmp_path)
    assert done.returncode == 2
    assert "not a git repository" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing(
    repository: DriverRepository, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    repository.note("a comment")
    repository.plant("cmdp: the bug")
    process = start(
        *("bisect", PROGRAM, "--times", 500, *options(repository, repository.first)),
        cwd=tmp_path,
        TMPDIR=str(tmp_path),
    )
    wait_until(lambda: bool(leftovers(tmp_path)) and has_machine(process))
    running = family(process)
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    wait_gone(running)
    assert not leftovers(tmp_path)
    assert "Traceback" not in (tmp_path / "output").read_text()
