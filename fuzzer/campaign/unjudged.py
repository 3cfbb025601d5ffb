# SPDX-License-Identifier: Apache-2.0
"""Sightings that wait for the judge, stored as crashes that are not reproduced."""

from __future__ import annotations

from fuzzer.campaign.subject import Subject, identify
from fuzzer.campaign.workdir import Workdir
from fuzzer.crash.crash import Crash
from fuzzer.crash.dedup import sighted
from fuzzer.crash.judge import first_impression
from fuzzer.crash.sighting import Sighting, read_sighting
from fuzzer.driver.provision import Guest
from fuzzer.splat.splat import Splat


def keep_unjudged(workdir: Workdir, subject: Subject, guest: Guest) -> None:
    """Store the sightings in the spool as crashes, so that none is overlooked.

    They stay in the spool as well, and are judged when the campaign is resumed.
    """
    store = workdir.crashes
    for path in workdir.spool.waiting():
        try:
            sighting = read_sighting(path)
            splat = first_impression(sighting)
            if sighted(store.all(), sighting.title, splat):
                continue
            if not path.exists():
                continue  # the judge has just stored it
            store.put(_unjudged(sighting, splat, subject, guest), subject.target)
        except (OSError, ValueError, KeyError):
            # A full disk or a damaged entry: it stays where it is.
            continue
    try:
        store.update_sightings(workdir.spool.counts())
    except OSError:
        return


def _unjudged(sighting: Sighting, splat: Splat, subject: Subject, guest: Guest) -> Crash:
    return Crash(
        title=splat.title,
        kind=splat.kind,
        function=splat.function,
        judged_on=guest.kernel.flavour.value,
        reproduced=0,
        runs=0,
        sightings=1,
        sighted_as=(sighting.title,),
        identity=identify(subject, guest),
        report=splat.text,
        first_log=splat.text,
        program=sighting.program,
        history=sighting.history,
        first_run=(*sighting.history, sighting.program),
        log=sighting.log,
    )
