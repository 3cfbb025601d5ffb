# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz bisect``: the first revision of a driver in which a crash shows."""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from fuzzer.bisect.git import Bisection, BisectStep
from fuzzer.bisect.revisions import Commit, Revisions
from fuzzer.bisect.search import ERROR, RevisionTrial, RevisionVerdict, Suspect, Trier, first_bad
from fuzzer.campaign.subject import symbols_for
from fuzzer.cli.given import open_crash
from fuzzer.cli.options import add_kernel, add_leaks, add_target_options, parse_positive
from fuzzer.crash.exact import LIMIT
from fuzzer.crash.rate import runs_to_rule_out, show_interval
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.lifetime import unwinding_on_signals
from fuzzer.progress import say, show
from fuzzer.wording import count

_SUBJECT = 60
_SEVERAL = ExitCode.FOUND


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``bisect`` takes."""
    parser.add_argument("crash", type=Path, help="a crash directory, or a .prog file (any splat)")
    parser.add_argument(
        "--good", required=True, metavar="REV", help="a revision without it, in the driver's git"
    )
    parser.add_argument("--bad", default="HEAD", metavar="REV", help="one that shows it [HEAD]")
    parser.add_argument(
        "--times",
        type=parse_positive,
        metavar="N",
        help="runs of a revision [so many that a good one is good with an error below 1 %%]",
    )
    parser.add_argument(
        "--no-bug", action="store_true", help="do not plant the bug that the crash was found with"
    )
    parser.add_argument(
        "--first-parent", action="store_true", help="take merges as a whole, as git bisect does"
    )
    add_kernel(parser)
    add_leaks(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    add_target_options(parser)


def command(options: argparse.Namespace) -> int:
    """Bisect; returns 0 when one commit is left, 1 when skipping left several."""
    # The revision that is checked out need not build.
    given = open_crash(options, fitting=False, plants_bug=not options.no_bug)
    subject, crash = given.subject, given.crash
    suspect = Suspect(given.reproducer, given.kind, given.bug)
    if crash:
        suspect = dataclasses.replace(suspect, reproduced=crash.reproduced, runs=max(crash.runs, 1))
    with (
        unwinding_on_signals(),
        tempfile.TemporaryDirectory(prefix="pkvfuzz-bisect-") as directory,
    ):
        revisions = Revisions(subject.target, Path(directory), symbols_for(subject.kernels))
        good = revisions.resolve("--good", options.good)
        bad = revisions.resolve("--bad", options.bad)
        _check_order(revisions, good, bad)
        if subject.bug:
            say(f"each revision has the planted bug {subject.bug.name} (--no-bug: as it is)")
        trier = Trier(subject, given.kernel(), suspect, revisions, options.params)
        trials = [_confirmed_bad(trier, bad, options.times), _confirmed_good(trier, good)]
        bisection = Bisection(revisions)
        last = first_bad(
            trier,
            bisection,
            bisection.start(good, bad, first_parent=options.first_parent),
            lambda step, trial: trials.append(_told(trial)),
            _ahead,
        )
        return _tell(options, revisions, last, trials)


def _check_order(revisions: Revisions, good: Commit, bad: Commit) -> None:
    if good.hash == bad.hash:
        raise BadInputError(f"--good and --bad are the same revision, {good}")
    if revisions.is_before(bad, good):
        raise BadInputError(
            f"--good {good.hash[:10]} comes after --bad {bad.hash[:10]}. "
            "The good one is the older one: swap them"
        )


def _confirmed_bad(trier: Trier, bad: Commit, times: int | None) -> RevisionTrial:
    """Return the trial of the bad revision, and say how often each revision is run.

    Raises:
        BadInputError: it does not show the crash.
    """
    trial = trier.measure(bad, times)
    if trial.verdict is RevisionVerdict.SKIP:
        raise BadInputError(f"--bad {bad}: cannot be tried: {trial.reason}")
    if trial.verdict is RevisionVerdict.GOOD:
        raise BadInputError(
            f"--bad {bad}: does not show the crash in {count(trial.runs, 'run')}"
            f"{_and_others(trial)}. Give a revision that does, or --times N for more runs"
        )
    _told(trial)
    if trier.exact:
        say(f"a revision in which none of {LIMIT} schedules shows it counts as good")
        return trial
    rate = show_interval(trial.hits, trial.runs)
    text = f"rate {rate}: a revision that is silent in {count(trier.runs, 'run')} counts as good"
    if runs_to_rule_out(trial.hits, trial.runs, ERROR) <= trier.runs:
        text += f", with an error below {100 * ERROR:.0f} %"
    else:
        text += f", with an error above {100 * ERROR:.0f} %: more are needed for less"
    say(text)
    return trial


def _confirmed_good(trier: Trier, good: Commit) -> RevisionTrial:
    trial = trier.test(good)
    if trial.verdict is RevisionVerdict.SKIP:
        raise BadInputError(f"--good {good}: cannot be tried: {trial.reason}")
    if trial.verdict is RevisionVerdict.BAD:
        same = f", its sources are those of {trial.like.hash[:10]}" if trial.like else ""
        raise BadInputError(
            f"--good {good}: shows the crash{same}: {trial.shown}. Give an older revision"
        )
    return _told(trial)


def _ahead(step: BisectStep) -> None:
    say(f"bisecting: {count(step.left, 'revision')} left, about {count(step.steps, 'step')}")


def _told(trial: RevisionTrial) -> RevisionTrial:
    """Say what a revision is, and return it."""
    name = str(trial.commit)
    if len(name) > _SUBJECT:
        name = f"{name[: _SUBJECT - 3]}..."
    if trial.verdict is RevisionVerdict.SKIP:
        say(f"{name}: skipped: {trial.reason}")
    elif trial.like:
        say(f"{name}: {trial.verdict}: the same sources as {trial.like.hash[:10]}")
    else:
        counts = f"{trial.hits} of {count(trial.runs, 'run')}"
        shown = f": {trial.shown}" if trial.shown else ""
        say(f"{name}: {trial.verdict} ({counts}){shown}{_and_others(trial)}")
    return trial


def _and_others(trial: RevisionTrial) -> str:
    return f"; a different bug: {', '.join(trial.others)}" if trial.others else ""


def _tell(
    options: argparse.Namespace, revisions: Revisions, last: BisectStep, trials: list[RevisionTrial]
) -> int:
    """Print the result."""
    found = last.candidates[0] if len(last.candidates) == 1 else None
    if options.json:
        show(json.dumps(_as_json(revisions, last, trials), indent=2))
    elif found:
        show(f"first bad commit: {found.hash}")
        show(f"subject: {found.subject}\nauthor: {found.author}\ndate: {found.date}\nfiles:")
        show("".join(f"  {line}\n" for line in revisions.changed(found)), end="")
    else:
        skipped = {trial.commit for trial in trials if trial.verdict is RevisionVerdict.SKIP}
        show("the first bad commit is one of these:")
        for commit in last.candidates:
            show(f"  {commit.hash} {commit.subject}{' (skipped)' * (commit in skipped)}")
    return int(ExitCode.NOTHING_FOUND if found else _SEVERAL)


def _as_json(revisions: Revisions, last: BisectStep, trials: list[RevisionTrial]) -> dict[str, Any]:
    candidates = [
        {**dataclasses.asdict(commit), "files": list(revisions.changed(commit))}
        for commit in last.candidates
    ]
    return {
        "first_bad": candidates[0] if len(candidates) == 1 else None,
        "candidates": candidates,
        "repository": str(revisions.root),
        "tried": [_trial_json(trial) for trial in trials],
    }


def _trial_json(trial: RevisionTrial) -> dict[str, Any]:
    return {
        "hash": trial.commit.hash,
        "subject": trial.commit.subject,
        "verdict": trial.verdict.value,
        "runs": trial.runs,
        "hits": trial.hits,
        "shown": trial.shown,
        "others": list(trial.others),
        "reason": trial.reason,
        "like": trial.like.hash if trial.like else None,
    }
