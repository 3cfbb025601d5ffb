# SPDX-License-Identifier: Apache-2.0
"""The report on a large campaign: the work and the page grow with it no faster than it does.

100,000 programs and 500 crashes are made by ``python -m tests.support.made_campaign DIR``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from fuzzer.crash.crash import _splat_in
from fuzzer.report.html.gathering import gather
from fuzzer.report.html.page import report_page
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.splat import Splat
from tests.support.made_campaign import make_campaign

PROGRAMS, CRASHES, FUNCTIONS = 2_000, 120, 60
# Bytes of the page that each crash may take of the 20 MB that 500 may.
SHARE = 40_000


@pytest.fixture(scope="module")
def workdir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PKVFUZZ_CACHE", str(directory / "cache"))
        make_campaign(directory / "work", programs=PROGRAMS, crashes=CRASHES, functions=FUNCTIONS)
    return directory / "work"


def test_each_report_is_read_once(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()

    def counted(lines: Iterable[str], *facts: object) -> list[Splat]:
        texts = list(lines)
        read["\n".join(texts)] += 1
        return all_splats(texts, *facts)  # type: ignore[arg-type]

    monkeypatch.setattr("fuzzer.crash.crash.all_splats", counted)
    _splat_in.cache_clear()
    gathered = gather(workdir)
    page = report_page(gathered)
    assert len(gathered.crashes) == CRASHES
    assert gathered.corpus == PROGRAMS
    # Several crashes of a function have one report here, under titles of their own.
    assert max(read.values()) <= CRASHES // FUNCTIONS
    assert page.count('class="crash"') == CRASHES


def test_the_page_stays_small_and_has_the_first_crashes_whole(workdir: Path) -> None:
    page = report_page(gather(workdir))
    assert len(page.encode()) < SHARE * CRASHES
    first = page.partition('id="crash-1"')[2].partition('id="crash-2"')[0]
    last = page.partition(f'id="crash-{CRASHES}"')[2].partition("</section>")[0]
    assert "int main(void)" in first
    assert "int main(void)" not in last
    assert "repro.c</code>" in last
    assert "BUG: KASAN" in last
