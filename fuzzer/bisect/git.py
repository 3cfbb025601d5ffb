# SPDX-License-Identifier: Apache-2.0
"""``git bisect`` itself, in a repository of our own: it deals with merges and skips."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass

from fuzzer.bisect.revisions import Commit, Revisions, complaint, run_git
from fuzzer.errors import BadInputError

_LEFT = re.compile(r"Bisecting: (\d+) revisions? left .*\(roughly (\d+) steps?\)")
_FIRST = re.compile(r"^# first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)
_POSSIBLE = re.compile(r"^# possible first bad commit: \[([0-9a-f]+)\]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class BisectStep:
    """The next step of a bisection: a revision to try, or None at its end.

    ``left`` revisions are left to try after it, in about ``steps`` steps, if git
    says so. At the end ``candidates`` are the commits that may be the first bad one:
    several where those between them were skipped.
    """

    next: Commit | None
    left: int = 0
    steps: int = 0
    candidates: tuple[Commit, ...] = ()


class Bisection:
    """A search for the first bad commit between a good and a bad one."""

    def __init__(self, revisions: Revisions) -> None:
        self._revisions = revisions

    def start(self, good: Commit, bad: Commit, *, first_parent: bool = False) -> BisectStep:
        """Begin; only commits that change the driver's files are looked at.

        Raises:
            BadInputError: git sees nothing between them.
        """
        options = ["--no-checkout", *(["--first-parent"] if first_parent else [])]
        paths = self._revisions.paths
        # git bisect wants to know where to go back to.
        run_git(self._revisions.git, "update-ref", "--no-deref", "HEAD", bad.hash)
        return self._told("start", *options, bad.hash, good.hash, "--", *paths)

    def mark(self, commit: Commit, word: str) -> BisectStep:
        """Say that a revision is ``good``, ``bad``, or one to ``skip``.

        Raises:
            BadInputError: what was said has no meaning, as when a merge base is bad.
        """
        return self._told(word, commit.hash)

    def _told(self, *arguments: str) -> BisectStep:
        done = run_git(self._revisions.git, "bisect", *arguments)
        log = run_git(self._revisions.git, "bisect", "log").stdout
        found = _FIRST.findall(log) or _POSSIBLE.findall(log)
        if found:
            return BisectStep(None, candidates=tuple(map(self._revisions.commit, found)))
        if done.returncode:
            raise BadInputError(f"git bisect {arguments[0]}: {complaint(done)}")
        left, steps = parse_left(done)
        head = run_git(self._revisions.git, "rev-parse", "--verify", "BISECT_HEAD").stdout.strip()
        return BisectStep(self._revisions.commit(head), left, steps)


def parse_left(done: subprocess.CompletedProcess[str]) -> tuple[int, int]:
    """Return how many revisions and steps git says are left; zeros when it does not."""
    match = _LEFT.search(done.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
