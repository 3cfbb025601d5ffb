# SPDX-License-Identifier: Apache-2.0
"""What a campaign says of its crashes."""

from __future__ import annotations

import io
from pathlib import Path

from fuzzer.campaign.campaign import Snapshot
from fuzzer.crash.known import KnownCrashes
from fuzzer.crash.store import CrashStore
from fuzzer.report.status import StatusView, summary
from fuzzer.target.target import Target
from tests.unit.test_keep import crash
from tests.unit.test_triage import ELSEWHERE, GPF, KASAN


def test_a_known_crash_is_announced_as_known(tmp_path: Path, pkv_target: Target) -> None:
    known, store = KnownCrashes(), CrashStore(tmp_path / "crashes")
    path = store.put(crash(KASAN), pkv_target)
    known.add(store)
    stream = io.StringIO()
    view = StatusView(CrashStore(tmp_path / "work"), stream, known)
    view.show(Snapshot(crashes=(crash(GPF), crash(ELSEWHERE))))
    first, second, *_ = stream.getvalue().splitlines()
    assert first.startswith("crash: general protection fault in drv_last (reproduced 3 of 3")
    assert first.endswith(f", known: {path}")
    assert ", known: " not in second


def test_the_summary_counts_bugs_and_what_is_new(tmp_path: Path, pkv_target: Target) -> None:
    known, store = KnownCrashes(), CrashStore(tmp_path)
    store.put(crash(ELSEWHERE), pkv_target)
    known.add(store)
    kasan = crash(KASAN, also_titles=("list corruption in drv_last",))
    text = summary(Snapshot(crashes=(kasan, crash(GPF), crash(ELSEWHERE))), tmp_path, known)
    assert "2 bugs in 3 crashes, 2 of them new" in text
    assert "    also seen as list corruption in drv_last" in text
    assert "1 bug in 1 crash, 0 of them new" in summary(
        Snapshot(crashes=(crash(ELSEWHERE),)), tmp_path, known
    )
    assert "no crash" in summary(Snapshot(), tmp_path, known)
