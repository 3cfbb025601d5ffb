# SPDX-License-Identifier: Apache-2.0
"""All that a working directory knows of its campaign, gathered for a report.

No machine and no build is needed. What is missing or damaged is left out, and told in
``missing``.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fuzzer.campaign.driver_record import DriverRecord, read_driver_record
from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import likely_causes, same_bugs
from fuzzer.crash.store import read_crash
from fuzzer.driver.known_builds import find_build
from fuzzer.engine.compared import Compared, read_compared
from fuzzer.engine.reached import FirstReach, read_reached
from fuzzer.errors import BadInputError, PkvfuzzError
from fuzzer.report.source_map import FileLine, SourceMap, locate, source_map
from fuzzer.state.document import CampaignState
from fuzzer.state.reader import read_state

_Found = TypeVar("_Found")
# What shows that a directory is, or was, a campaign's.
_SIGNS = ("campaign.json", "state.db", "driver.json", "crashes", "corpus")
_NO_SOURCE = (
    "the driver's source is not shown: its build is not in the cache of this host any more. "
    "Run the campaign again for a moment (run --time 1s), and it is"
)


@dataclass(frozen=True, slots=True)
class StoredCrash:
    """A stored crash and its directory.

    ``same_as`` is the directory's name of the same bug that is listed before it, ``cause`` that
    of the crash which it is likely a consequence of; both may be empty.
    """

    path: Path
    crash: Crash
    level: str
    score: int
    same_as: str = ""
    cause: str = ""

    @property
    def slug(self) -> str:
        """The directory's name."""
        return self.path.name


@dataclass(frozen=True, slots=True)
class Gathered:
    """The content of a working directory.

    ``covered`` are the numbers of the blocks that were reached. ``places`` has the lines of what
    was compared with constants, by site. ``crashes`` are sorted, the most severe first.
    ``missing`` says what is not there, or damaged.
    """

    workdir: Path
    target: str
    bug: str | None
    state: CampaignState
    driver: DriverRecord | None
    source: SourceMap | None
    covered: frozenset[int]
    reached: tuple[FirstReach, ...]
    compared: Compared
    places: dict[int, FileLine]
    crashes: tuple[StoredCrash, ...]
    corpus: int
    missing: tuple[str, ...] = field(default=())

    @property
    def bugs(self) -> int:
        """The number of distinct bugs, without likely consequences of others."""
        return sum(not each.same_as and not each.cause for each in self.crashes)


def check_workdir(workdir: Path) -> None:
    """Check that a directory is a campaign's.

    Raises:
        BadInputError: it is none.
    """
    if not workdir.is_dir():
        raise BadInputError(f"{workdir}: no such directory. Give a campaign's working directory")
    if not any((workdir / sign).exists() for sign in _SIGNS):
        raise BadInputError(
            f"{workdir} is not a campaign's working directory: it has none of "
            f"{', '.join(_SIGNS)}. Give the directory that run --workdir was given, as work/pkv"
        )


def gather(workdir: Path) -> Gathered:
    """Return what a working directory has.

    Raises:
        BadInputError: the directory is no campaign's.
    """
    check_workdir(workdir)
    missing: list[str] = []

    def tried(read: Callable[[], _Found], otherwise: _Found) -> _Found:
        try:
            return read()
        except (PkvfuzzError, OSError) as error:
            missing.append(str(error))
            return otherwise

    state = tried(lambda: read_state(workdir), CampaignState())
    driver = tried(lambda: read_driver_record(workdir), None)
    target, bug = _identity(workdir, driver, state)
    source: SourceMap | None = None
    places: dict[int, FileLine] = {}
    reached: tuple[FirstReach, ...] = ()
    compared = Compared()
    if driver is not None:
        reached = tuple(read_reached(workdir, driver.key))
        compared = read_compared(workdir, driver.key)
        build = find_build(driver.key)
        if build is None:
            missing.append(_NO_SOURCE)
        else:
            source = tried(lambda: source_map(build, driver.blocks), None)
            if source is not None and len(source.starts) != len(driver.blocks):
                missing.append("the driver's source is not shown: the blocks are of another build")
                source = None
            places = tried(lambda: _places(driver, compared), places)
    return Gathered(
        workdir,
        target,
        bug,
        state,
        driver,
        source,
        _covered(driver, state, reached),
        reached,
        compared,
        places,
        _crashes(workdir, missing),
        _count(workdir / "corpus"),
        tuple(missing),
    )


def _identity(
    workdir: Path, driver: DriverRecord | None, state: CampaignState
) -> tuple[str, str | None]:
    """Return the target's name, and that of the planted bug."""
    if state.runs:
        return state.runs[-1].target, state.runs[-1].bug
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads((workdir / "campaign.json").read_text())
        return str(content["target"]), content["bug"] and str(content["bug"])
    return driver.target if driver else workdir.name, None


def _covered(
    driver: DriverRecord | None, state: CampaignState, reached: tuple[FirstReach, ...]
) -> frozenset[int]:
    if driver is None:
        return frozenset(each.number for each in state.blocks if each.first_at is not None)
    found = {*driver.loaded, *(block for each in reached for block in each.blocks)}
    if state.runs and state.runs[-1].driver == driver.key:
        found |= {each.number for each in state.blocks if each.first_at is not None}
    return frozenset(number for number in found if number < len(driver.blocks))


def _places(driver: DriverRecord, compared: Compared) -> dict[int, FileLine]:
    build = find_build(driver.key)
    if build is None:
        return {}
    known = driver.places_of({each.site for each in compared.constants if not each.equal})
    lines = locate(build, list(known.values()))
    return {site: lines[place] for site, place in known.items() if place in lines}


def _crashes(workdir: Path, missing: list[str]) -> tuple[StoredCrash, ...]:
    found = []
    for record in Workdir(workdir).crashes.records():
        try:
            found.append(_stored(record.parent, read_crash(record.parent)))
        except (BadInputError, UnicodeDecodeError) as error:
            missing.append(f"a crash is not shown: {error}")
    found.sort(key=lambda each: (-each.score, each.crash.title, each.slug))
    crashes = [each.crash for each in found]
    same, causes = same_bugs(crashes), likely_causes(crashes)
    return tuple(
        StoredCrash(
            each.path,
            each.crash,
            each.level,
            each.score,
            "" if first is None else found[first].slug,
            "" if cause is None else found[cause].slug,
        )
        for each, first, cause in zip(found, same, causes, strict=True)
    )


def _stored(path: Path, crash: Crash) -> StoredCrash:
    splat = crash.splat
    if not splat.is_reported:
        return StoredCrash(path, crash, "unknown", 0)
    return StoredCrash(path, crash, splat.severity.level.value, splat.severity.score)


def _count(directory: Path) -> int:
    try:
        return sum(not each.name.startswith(".") for each in directory.iterdir())
    except OSError:
        return 0
