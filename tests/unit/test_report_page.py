# SPDX-License-Identifier: Apache-2.0
"""The report on a campaign: what it tells of a working directory, damaged or hostile ones too."""

from __future__ import annotations

import html
import re
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.driver.known_builds import find_build
from fuzzer.engine.compared import ConstantCompared
from fuzzer.report.html.gathering import Gathered, gather
from fuzzer.report.html.page import campaign_charts, compared_text, report_page, shown
from fuzzer.report.html.source_view import LineStatus, functions_of, never_equal, source_files
from fuzzer.report.html.telling import last_new_block, what_happened
from fuzzer.state.document import HistoryRow
from tests.support.made_campaign import MAGIC, NEAREST, UNDESCRIBED, MadeDriver, make_campaign
from tests.unit.state_records import RUN, row_at

HOSTILE = "<script>alert(1)</script>"


class Campaign:
    """A made campaign: its directory, and the driver."""

    def __init__(self, workdir: Path, made: MadeDriver) -> None:
        self.workdir = workdir
        self.made = made

    def gathered(self) -> Gathered:
        return gather(self.workdir)

    def page(self) -> str:
        return report_page(self.gathered())


@pytest.fixture
def campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    return Campaign(tmp_path / "work", make_campaign(tmp_path / "work", told=HOSTILE))


def words(text: str) -> str:
    """Return a page's text as a reader sees it."""
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", text)))


def section(page: str, name: str) -> str:
    """Return the part of a page from a heading to the next section."""
    return page.partition(f'<section aria-labelledby="{name}">')[2].partition("</section>")[0]


def test_text_of_the_kernel_is_never_markup(campaign: Campaign) -> None:
    page = campaign.page()
    assert HOSTILE not in page
    assert html.escape(HOSTILE) in section(page, "crashes")
    assert 'alert("source")' not in page
    assert page.count("<script") == 1


def test_it_needs_no_network(campaign: Campaign) -> None:
    page = campaign.page()
    assert "default-src 'none'" in page
    for address in re.findall(r'(?:src|href|action)="([^"]*)"', page):
        assert address.startswith(("#", "data:")), address
    assert not re.search(r"url\((?!#)|@import", page)


def test_each_link_leads_to_something_and_no_name_is_used_twice(campaign: Campaign) -> None:
    page = campaign.page()
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links <= set(names)
    assert {"crash-1", "source", "summary"} <= links


def test_it_begins_with_what_happened(campaign: Campaign) -> None:
    told = what_happened(campaign.gathered())
    assert told[0].startswith("3 bugs in 3 stored crashes. The most severe: KASAN: slab-use-after")
    assert "2 min of fuzzing on 2 machines" in told[1]
    assert "120,000 programs with 1,080,000 calls, 1,000 a second." in told[1]
    assert told[2].endswith("the time was over.")
    assert "28 of 32 blocks of the driver were reached (88%), by 30 programs" in told[3]
    page = words(section(campaign.page(), "summary"))
    assert "/dev/x does not open" in page


def test_lines_are_marked_by_what_was_reached_of_them(campaign: Campaign) -> None:
    (file,) = source_files(campaign.gathered())
    status = {line.text.partition("/* ")[2][:-3]: line.status for line in file.lines}
    assert status["reached"] is LineStatus.COVERED
    assert status["missed"] is LineStatus.MISSED
    assert status["under a fault"] is LineStatus.FAULT
    assert {line.status for line in file.lines if not line.text} == {LineStatus.NONE}
    assert (file.reached, file.fault, file.blocks) == (28, 4, 32)
    page = section(campaign.page(), "source")
    for mark in ("covered", "missed", "fault"):
        assert f'class="{mark}"' in page
    assert "4 only under a fault" in words(page)


def test_a_line_leads_to_the_program_that_reached_it_first(campaign: Campaign) -> None:
    page = campaign.page()
    line = next(each for each in page.splitlines() if "/* reached */" in each)
    match = re.search(r'<a href="#(p-[0-9a-f]{16})">', line)
    assert match
    program = page.partition(f'id="{match[1]}"')[2].partition("</pre>")[0]
    assert "write(f0, " in program
    missed = next(each for each in page.splitlines() if "/* missed */" in each)
    assert "<a " not in missed


def test_a_branch_compared_but_never_passed_has_its_operands(campaign: Campaign) -> None:
    found = never_equal(campaign.gathered())
    assert [each.text for each in found] == ["if (value == 0xfeed) /* never equal */"] * 4
    assert all(each.leads_on for each in found)
    page = words(section(campaign.page(), "compared"))
    below, above = NEAREST
    assert f"compared with {MAGIC} ({MAGIC:#x}) 3 times, never equal" in page
    assert f"nearest below {below} ({below:#x}), nearest above {above} ({above:#x})" in page


@pytest.mark.parametrize(
    ("compared", "text"),
    [
        (ConstantCompared(0, 7, 4, 1, None, 9), "with 7 1 time, never equal; nearest above 9"),
        (ConstantCompared(0, (1 << 32) - 22, 4, 2, 3, None), "with -22 2 times"),
        (ConstantCompared(0, 0xC0000000, 4, 2, 3, None), "with 3221225472 (0xc0000000)"),
    ],
)
def test_operands_are_written_as_people_read_them(compared: ConstantCompared, text: str) -> None:
    assert text in compared_text(compared)


def test_an_ioctl_that_the_description_lacks_is_named(campaign: Campaign) -> None:
    page = words(section(campaign.page(), "description"))
    assert f"{UNDESCRIBED:#x} _IOW('p', 0x99) 8 6 0" in page


def test_calls_have_names_and_error_numbers(campaign: Campaign) -> None:
    page = words(section(campaign.page(), "calls"))
    assert "write 900 43 EINVAL 40 , ENOMEM 3" in page
    assert f"ioctl {UNDESCRIBED:#x} not described 0 6 ENOTTY 6" in page


def test_a_crash_has_all_that_one_needs_to_see_it_again(campaign: Campaign) -> None:
    page = section(campaign.page(), "crashes")
    crash = page.partition('id="crash-1"')[2].partition('id="crash-2"')[0]
    told = words(crash)
    assert "reproduced 3 of 3" in told
    assert "./pkvfuzz replay " in told
    assert "drv.c:" in told
    assert "| > " in told
    assert "int main(void)" in told
    assert 'write(f0, "key0=value' in told
    assert "= -1 EIO" in told


def test_flags_of_the_chart_lead_to_their_crashes(campaign: Campaign) -> None:
    gathered = campaign.gathered()
    coverage, speed = campaign_charts(gathered)
    assert [flag.at for flag in coverage.flags] == [30.0, 60.0, 90.0]
    assert {flag.link for flag in coverage.flags} == {"#crash-1", "#crash-2", "#crash-3"}
    assert coverage.most == len(campaign.made.blocks)
    assert {value for _, value in speed.lines[0].points} == {1000.0}


def test_functions_with_most_left_come_first(campaign: Campaign) -> None:
    functions = functions_of(campaign.gathered())
    assert [each.name for each in functions] == [f"drv_call{n}" for n in range(4)]
    assert {each.blocks - each.reached for each in functions} == {1}
    assert functions[0].file == "drv.c"


def test_it_is_made_of_what_there_is(campaign: Campaign) -> None:
    """Whatever is missing or damaged is told, and the rest is shown."""
    gathered = campaign.gathered()
    build = find_build(campaign.made.driver.key)
    assert build

    def without_build() -> None:
        build.object.unlink()

    def damaged_crash() -> None:
        (gathered.crashes[0].path / "crash.json").write_text("{")

    def other_state() -> None:
        database = sqlite3.connect(campaign.workdir / "state.db")
        database.execute("PRAGMA user_version = 99")
        database.close()

    def without_driver() -> None:
        (campaign.workdir / "driver.json").unlink()

    steps: list[tuple[Callable[[], None], str]] = [
        (without_build, "build is not in the cache"),
        (damaged_crash, "a crash is not shown"),
        (other_state, "has version 99"),
        (without_driver, "driver.json: missing"),
    ]
    for damage, message in steps:
        damage()
        page = campaign.page()
        assert message in words(section(page, "summary"))
        assert "2 stored crashes" in words(page) or message == "build is not in the cache"
    assert (campaign.workdir / "corpus").is_dir()


def test_a_campaign_that_just_began_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    page = report_page(gather(tmp_path))
    assert "No crash was found." in page
    assert "<svg" not in page


def test_the_last_new_block_is_dated() -> None:
    def rows(*covered: int) -> list[HistoryRow]:
        return [row_at(float(at), covered=each) for at, each in enumerate(covered)]

    assert last_new_block(rows(1, 5, 5, 5)) == 1.0
    assert last_new_block(rows(7, 7)) == 0.0
    assert last_new_block(rows(0, 0)) is None
    assert last_new_block([]) is None


def test_how_a_run_ended_is_told(campaign: Campaign) -> None:
    gathered = campaign.gathered()
    run = replace(gathered.state.runs[0], ended=None, alive=RUN.began + 60)
    killed = replace(gathered, state=replace(gathered.state, runs=(run,)))
    assert any(each.startswith("It did not end by itself") for each in what_happened(killed))


def test_long_text_is_cut_at_a_line() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    cut = shown(text, 100)
    assert len(cut) < 160
    assert cut.splitlines()[-2].startswith("line ")
    assert "more characters in the file" in cut
    assert shown("x" * 5000, 10_000) == "x" * 1000 + " …"
    assert "\x1b" not in shown("\x1b[31mred", 100)


def test_the_command_writes_the_page_and_pictures(
    campaign: Campaign, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = tmp_path / "pictures"
    assert main(["report", str(campaign.workdir), "--png", str(pictures)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert written == [
        campaign.workdir / "report.html",
        pictures / "coverage.png",
        pictures / "speed.png",
    ]
    assert written[0].read_text().startswith("<!DOCTYPE html>")
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written[1:])
    elsewhere = tmp_path / "page.html"
    assert main(["report", str(campaign.workdir), "-o", str(elsewhere)]) == 0
    assert elsewhere.is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none"], "no such directory"),
        (["."], "is not a campaign's working directory"),
        (["work", "--port", "8000"], "--port is for --serve"),
        (["work", "--serve", "--png", "x"], "writes no files"),
    ],
)
def test_what_cannot_be_done_is_explained(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    (tmp_path / "work" / "corpus").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert main(["report", *options]) == 2
    assert message in capsys.readouterr().err
