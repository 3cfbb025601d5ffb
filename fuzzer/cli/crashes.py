# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz crashes``: what campaigns have stored, the most severe first."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import likely_causes, same_bugs
from fuzzer.crash.store import read_crash, shown_report
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.program.wire import split
from fuzzer.progress import show
from fuzzer.untrusted import is_regular, read_text
from fuzzer.wording import count

_RECORD = "crash.json"


@dataclass(frozen=True, slots=True)
class _Listed:
    """A stored crash, where it is, and how severe: a level in a word, and a score of 100."""

    crash: Crash
    path: Path
    level: str
    score: int

    @property
    def calls(self) -> int:
        return len(split(self.crash.program))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``crashes`` takes."""
    parser.add_argument(
        "directory",
        type=Path,
        nargs="*",
        help="of a crash, of crashes, or of a campaign [all in work/]",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def command(options: argparse.Namespace) -> int:
    """List the crashes, or show the one whose directory is given."""
    given: list[Path] = options.directory
    if len(given) == 1 and (given[0] / _RECORD).is_file() and not options.json:
        return _show(_list_one(given[0]))
    found = sorted(_find(given), key=lambda each: (-each.score, each.crash.title, str(each.path)))
    same = same_bugs([each.crash for each in found])
    causes = likely_causes([each.crash for each in found])
    if options.json:
        told = [
            _to_json(each, _path_of(found, first), _path_of(found, cause))
            for each, first, cause in zip(found, same, causes, strict=True)
        ]
        show(json.dumps(told, indent=2))
        return int(ExitCode.NOTHING_FOUND)
    if not found:
        show("no crashes")
    width = max((len(each.crash.title) for each in found), default=0)
    for number, (each, first, cause) in enumerate(zip(found, same, causes, strict=True), 1):
        bug = "" if first is None else f"; same bug as [{first + 1}]"
        if cause is not None:
            bug += f"; likely a consequence of [{cause + 1}]"
        show(
            f"[{number}] {each.level:8} {each.score:3}  {each.crash.title:<{width}}  "
            f"{each.crash.verdict()}; {count(each.calls, 'call')}; {each.path}{bug}"
        )
    return int(ExitCode.NOTHING_FOUND)


def _find(given: Sequence[Path]) -> list[_Listed]:
    """Return the crashes in directories: a crash, a store, or a campaign's working directory."""
    found = []
    for directory in given or sorted(Path("work").glob("*")):
        if not directory.is_dir():
            raise BadInputError(
                f"{directory}: no such directory. Give a crash, a directory of crashes or a "
                "campaign's working directory"
            )
        patterns = (_RECORD, f"*/{_RECORD}", f"crashes/*/{_RECORD}")
        records = [path for pattern in patterns for path in sorted(directory.glob(pattern))]
        found += [_list_one(path.parent) for path in records]
    return found


def _list_one(directory: Path) -> _Listed:
    crash = read_crash(directory)
    if not crash.splat.is_reported:
        return _Listed(crash, directory, "unknown", 0)
    severity = crash.splat.severity
    return _Listed(crash, directory, severity.level.value, severity.score)


def _show(listed: _Listed) -> int:
    readme = listed.path / "README.md"
    if is_regular(readme, within=listed.path):
        show(read_text(readme, within=listed.path, errors="replace"))
    else:
        show(f"# {listed.crash.title}\n\n{listed.crash.verdict()}\n")
    program = listed.path / "program.prog"
    if is_regular(program, within=listed.path):
        show(read_text(program, within=listed.path, errors="replace"))
    show(shown_report(listed.path, listed.crash), end="")
    return int(ExitCode.NOTHING_FOUND)


def _path_of(found: Sequence[_Listed], index: int | None) -> str | None:
    return None if index is None else str(found[index].path)


def _to_json(listed: _Listed, same_as: str | None, cause: str | None) -> dict[str, object]:
    crash = listed.crash
    return {
        "title": crash.title,
        "also_titles": list(crash.also_titles),
        "signature": str(crash.signature),
        "same_as": same_as,
        "likely_consequence_of": cause,
        "severity": {"level": listed.level, "score": listed.score},
        "kind": crash.kind,
        "function": crash.function,
        "judged_on": crash.judged_on,
        "reproduced": crash.reproduced,
        "runs": crash.runs,
        "sightings": crash.sightings,
        "calls": listed.calls,
        "history": len(crash.history),
        "target": crash.identity.target,
        "bug": crash.identity.bug,
        "path": str(listed.path),
    }
