# SPDX-License-Identifier: Apache-2.0
"""Bisection with real git over small repositories, and trials that are made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from fuzzer.bisect.git import Bisection, BisectStep
from fuzzer.bisect.revisions import Commit, Revisions
from fuzzer.bisect.search import RevisionTrial, RevisionVerdict, Trier, first_bad
from fuzzer.errors import BadInputError
from fuzzer.target.target import load_target
from tests.driver_repository import DriverRepository


class _Oracle:
    """Stands in for a Trier: says what a revision is by its hash."""

    def __init__(self, verdict_of: Callable[[str], RevisionVerdict]) -> None:
        self._verdict_of = verdict_of
        self.asked: list[str] = []

    def test(self, commit: Commit) -> RevisionTrial:
        self.asked.append(commit.hash)
        return RevisionTrial(commit, self._verdict_of(commit.hash))


@pytest.fixture
def repository(tmp_path: Path) -> DriverRepository:
    """Return a repository with the good driver."""
    return DriverRepository(tmp_path / "repository")


def revisions_of(repository: DriverRepository, directory: Path) -> Revisions:
    (directory / "ours").mkdir()
    return Revisions(load_target(repository.description), directory / "ours")


def found_in(
    revisions: Revisions, good: str, bad: str, verdict_of: Callable[[str], RevisionVerdict]
) -> tuple[BisectStep, list[str]]:
    """Return the last step of a bisection, and the revisions that it asked for."""
    oracle = _Oracle(verdict_of)
    bisection = Bisection(revisions)
    first = bisection.start(revisions.commit(good), revisions.commit(bad))
    last = first_bad(
        cast("Trier", oracle), bisection, first, lambda step, trial: None, lambda step: None
    )
    return last, oracle.asked


@pytest.mark.parametrize("first", range(12))
def test_the_first_bad_commit_is_found_in_few_steps(
    repository: DriverRepository, tmp_path: Path, first: int
) -> None:
    commits = [repository.note(f"comment {number}") for number in range(12)]
    bad = set(commits[first:])
    last, asked = found_in(
        revisions_of(repository, tmp_path),
        repository.first,
        commits[-1],
        lambda name: RevisionVerdict.BAD if name in bad else RevisionVerdict.GOOD,
    )
    assert [commit.hash for commit in last.candidates] == [commits[first]]
    assert len(asked) <= 4


def test_what_was_skipped_stays_a_candidate(repository: DriverRepository, tmp_path: Path) -> None:
    commits = [repository.note(f"comment {number}") for number in range(8)]
    verdicts = dict(
        zip(commits, [RevisionVerdict.GOOD] * 3 + [RevisionVerdict.SKIP] * 2, strict=False)
    )
    last, _ = found_in(
        revisions_of(repository, tmp_path),
        repository.first,
        commits[-1],
        lambda name: verdicts.get(name, RevisionVerdict.BAD),
    )
    assert {commit.hash for commit in last.candidates} == set(commits[3:6])


def test_commits_that_leave_the_driver_alone_are_not_tried(
    repository: DriverRepository, tmp_path: Path
) -> None:
    bad = repository.note("the bug")
    for number in range(8):
        (repository.root / "elsewhere").write_text(str(number))
        tip = repository.commit(f"elsewhere {number}")
    last, asked = found_in(
        revisions_of(repository, tmp_path), repository.first, tip, lambda name: RevisionVerdict.BAD
    )
    assert [commit.hash for commit in last.candidates] == [bad]
    assert asked == [bad]


def test_a_bug_that_was_mended_on_the_good_side_is_told(
    repository: DriverRepository, tmp_path: Path
) -> None:
    base = repository.note("the bug, in both")
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.note("mended here")
    repository.git("checkout", "--quiet", "main")
    main = repository.note("not here")
    revisions = revisions_of(repository, tmp_path)
    with pytest.raises(BadInputError, match=f"merge base {base} is bad"):
        found_in(
            revisions,
            side,
            main,
            lambda name: RevisionVerdict.GOOD if name == side else RevisionVerdict.BAD,
        )


def test_a_revision_has_its_own_sources_and_description(
    repository: DriverRepository, tmp_path: Path
) -> None:
    description = repository.description
    description.write_text(description.read_text().replace("/dev/cmdp", "/dev/other"))
    header = repository.driver / "cmdp.h"
    old = header.read_bytes()
    header.write_text(header.read_text() + "/* longer */\n")
    later = repository.commit("cmdp: another name")
    (repository.driver / "cmdp.c").unlink()
    revisions = revisions_of(repository, tmp_path)
    target, key = revisions.target_at(revisions.commit(repository.first))
    assert target.device == "/dev/cmdp"
    assert target.module.source
    assert (target.module.source / "cmdp.c").is_file()
    assert target.headers[0].read_bytes() == old
    other, other_key = revisions.target_at(revisions.commit(later))
    assert other.device == "/dev/other"
    assert key != other_key
    assert revisions.plain(f"{other.path}: x") == f"{description}: x"


def test_todays_description_is_taken_where_a_revision_has_none_that_fits(
    repository: DriverRepository, tmp_path: Path
) -> None:
    description = repository.description
    good = description.read_text()
    description.write_text(good.replace("CMDP_IOC_STOP", "CMDP_IOC_GONE"))
    misfit = repository.commit("cmdp: a description with an error")
    description.unlink()
    none = repository.commit("cmdp: no description")
    description.write_text(good.replace("call_timeout_ms", "# ").replace("/dev/cmdp", "/dev/new"))
    revisions = revisions_of(repository, tmp_path)
    for name in (misfit, none):
        assert revisions.target_at(revisions.commit(name))[0].device == "/dev/new"


def test_a_description_outside_of_the_repository_is_taken_for_all(
    repository: DriverRepository, tmp_path: Path
) -> None:
    text = repository.description.read_text()
    outside = tmp_path / "described" / "cmdp.yaml"
    outside.parent.mkdir()
    place = "../repository/drivers/cmdp"
    text = text.replace("source: .", f"source: {place}")
    outside.write_text(text.replace("header: cmdp.h", f"header: {place}/cmdp.h"))
    repository.note("a comment")
    (tmp_path / "ours").mkdir()
    revisions = Revisions(load_target(outside), tmp_path / "ours")
    target, _ = revisions.target_at(revisions.commit(repository.first))
    assert target.module.source
    assert "a comment" not in (target.module.source / "cmdp.c").read_text()


def test_headers_outside_of_the_repository_are_taken_for_all(
    repository: DriverRepository, tmp_path: Path
) -> None:
    description = repository.description
    outside = tmp_path / "uapi"
    outside.mkdir()
    (repository.driver / "cmdp.h").rename(outside / "cmdp.h")
    (tmp_path / "more").mkdir()
    text = description.read_text()
    text = text.replace("header: cmdp.h", "header: ../../../uapi/cmdp.h\ninclude: [../../../more]")
    description.write_text(text)
    bad = repository.commit("cmdp: its header elsewhere")
    revisions = revisions_of(repository, tmp_path)
    target, _ = revisions.target_at(revisions.commit(bad))
    assert target.headers[0].read_bytes() == (outside / "cmdp.h").read_bytes()
    assert target.headers[0] != outside / "cmdp.h"


def test_a_description_that_names_a_fixed_place_is_refused(
    repository: DriverRepository, tmp_path: Path
) -> None:
    description = repository.description
    description.write_text(
        description.read_text().replace("source: .", f"source: {repository.driver}")
    )
    with pytest.raises(BadInputError, match="relative to the description"):
        revisions_of(repository, tmp_path)


def test_a_driver_that_is_not_there_yet_is_told(
    repository: DriverRepository, tmp_path: Path
) -> None:
    later = repository.driver.with_name("later")
    repository.driver.rename(later)
    repository.commit("cmdp: elsewhere")
    (tmp_path / "ours").mkdir()
    revisions = Revisions(load_target(later / "cmdp.yaml"), tmp_path / "ours")
    with pytest.raises(BadInputError, match="it has no drivers/later/"):
        revisions.target_at(revisions.commit(repository.first))


def test_names_mean_what_they_mean_to_the_user(
    repository: DriverRepository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = repository.note('a "quoted" comment')
    repository.git("tag", "--annotate", "--message", "x", "v1")
    # As in a hook.
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nowhere/index")
    revisions = revisions_of(repository, tmp_path)
    assert revisions.resolve("--bad", "v1").hash == tip
    assert revisions.resolve("--good", "main~1").hash == repository.first
    assert revisions.resolve("--bad", tip[:8]).subject == 'cmdp: a "quoted" comment'
    assert revisions.changed(revisions.commit(tip)) == ("M drivers/cmdp/cmdp.c",)
    for name in ("v2", "", "--all", "main:drivers"):
        with pytest.raises(BadInputError, match="no such revision"):
            revisions.resolve("--good", name)


def test_a_shallow_clone_is_enough_if_it_has_them(
    repository: DriverRepository, tmp_path: Path
) -> None:
    commits = [repository.note(f"comment {number}") for number in range(6)]
    clone = tmp_path / "clone"
    source = f"file://{repository.root}"
    repository.git("clone", "--quiet", "--depth", "4", source, str(clone))
    (tmp_path / "ours").mkdir()
    description = clone / "drivers" / "cmdp" / "cmdp.yaml"
    revisions = Revisions(load_target(description), tmp_path / "ours")
    last, _ = found_in(
        revisions,
        commits[2],
        commits[5],
        lambda name: RevisionVerdict.BAD if name in commits[4:] else RevisionVerdict.GOOD,
    )
    assert [commit.hash for commit in last.candidates] == [commits[4]]
