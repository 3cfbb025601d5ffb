# SPDX-License-Identifier: Apache-2.0
"""The report in a browser: its links, tables and source, by light, by dark and on a phone."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from fuzzer.report.html.serving import PageServer
from fuzzer.state.writer import StateWriter
from tests.e2e.pkvfuzz_process import pkvfuzz
from tests.support.made_campaign import make_campaign
from tests.unit.state_records import row_at

HOSTILE = '"><script>document.title = "taken"</script><img src=x onerror="document.title=1">'
PHONE = {"width": 390, "height": 844}
SECONDS, CRASHES = 120, 12
# Contrast of text that the Web Content Accessibility Guidelines ask for, and what to look at.
CONTRAST = 4.5
TEXTS = "h1, h2, p, a, td, th, pre, summary, .soft, .level, .new, .never, .legend li, .tick"

_CONTRASTS = """
selector => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(each => each / 255)
      .map(each => each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const ground = at => {
    for (; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/rgba\\(.*, 0\\)/.test(colour)) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const each of document.querySelectorAll(selector)) {
    const [one, other] = [getComputedStyle(each).color, ground(each)].map(light);
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    found.push([contrast, each.tagName + "." + each.className]);
  }
  return found;
}
"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PKVFUZZ_CACHE", str(directory / "cache"))
        make_campaign(
            directory / "work", crashes=CRASHES, functions=CRASHES, told=HOSTILE, seconds=SECONDS
        )
        done = pkvfuzz("report", directory / "work", cwd=directory)
        assert done.returncode == 0, done.stderr
    return directory / "work"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on this host")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program)
        yield found
        found.close()


def opened(browser: Browser, campaign: Path, **options: Any) -> Page:
    """Open the report in a window of its own, which must ask for nothing else."""
    page = browser.new_context(**options).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto((campaign / "report.html").as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page.url]
    assert complaints == []
    return page


def unfold(page: Page) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")


def is_in_view(page: Page, selector: str) -> bool:
    return bool(
        page.evaluate(
            "selector => { const found = document.querySelector(selector);"
            " const box = found.getBoundingClientRect();"
            " return found.checkVisibility() && box.top < innerHeight && box.bottom > 0; }",
            selector,
        )
    )


def test_text_of_the_kernel_runs_nothing(browser: Browser, campaign: Path) -> None:
    page = opened(browser, campaign)
    assert page.title() == "pkv: pkvfuzz report"
    assert page.locator("img").count() == 0
    assert HOSTILE in page.locator("#c-1 > summary").inner_text()


@pytest.mark.parametrize("javascript", [True, False])
def test_each_link_leads_to_its_place_also_where_that_is_folded(
    browser: Browser, campaign: Path, javascript: bool
) -> None:
    page = opened(browser, campaign, java_script_enabled=javascript)
    targets = page.locator("a[href^='#']").evaluate_all(
        "links => [...new Set(links.map(link => link.getAttribute('href')))]"
    )
    assert {f"#crash-{CRASHES}", "#source", "#runs"} <= set(targets)
    assert any(target.startswith("#p-") for target in targets)
    for target in targets:
        page.goto(page.url.partition("#")[0] + target)
        assert is_in_view(page, f"[id='{target[1:]}']"), target


def test_the_first_program_of_a_line_is_one_click_away(browser: Browser, campaign: Path) -> None:
    page = opened(browser, campaign, java_script_enabled=False)
    page.locator(".file > summary").click()
    line = page.locator(".source tr.covered", has_text="/* reached */").first
    assert page.locator(".source tr.missed a").count() == 0
    line.locator("a").click()
    program = page.locator(":target")
    assert program.locator("pre").is_visible()
    assert 'write(f0, "key' in program.inner_text()


def test_the_table_of_crashes_leads_to_all_of_a_crash(browser: Browser, campaign: Path) -> None:
    page = opened(browser, campaign, java_script_enabled=False)
    rows = page.locator("section[aria-labelledby=crashes] > .scroll tbody tr")
    assert rows.count() == CRASHES
    rows.nth(4).locator("a").click()
    crash = page.locator(":target")
    shown = crash.inner_text()
    assert "./pkvfuzz replay" in shown
    assert "drv.c:" in shown
    crash.locator("details > summary").click()
    assert "int main(void)" in crash.locator("details pre").inner_text()


def test_a_flag_of_the_chart_is_a_link_by_keyboard(browser: Browser, campaign: Path) -> None:
    page = opened(browser, campaign)
    flag = page.locator("svg.chart a").first
    flag.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**#crash-*")
    assert page.locator(":target").is_visible()


@pytest.mark.parametrize("viewport", [PHONE, {"width": 1200, "height": 900}])
def test_nothing_is_wider_than_the_screen(
    browser: Browser, campaign: Path, viewport: dict[str, int]
) -> None:
    page = opened(browser, campaign, viewport=viewport)
    unfold(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    # Source and logs are scrolled by themselves; tables must not need that on a phone.
    tables = page.locator("table.stack").evaluate_all(
        "tables => tables.map(each => each.parentElement.scrollWidth"
        " - each.parentElement.clientWidth)"
    )
    assert tables
    assert max(tables) <= 0


def test_labels_of_a_chart_do_not_overlap_on_a_phone(browser: Browser, campaign: Path) -> None:
    page = opened(browser, campaign, viewport=PHONE)
    boxes = page.locator("#speed-matplotlib\\.axis_1 text").evaluate_all(
        "texts => texts.map(each => each.getBoundingClientRect()).map(box => [box.left, box.right])"
    )
    assert len(boxes) > 3
    ends = sorted(boxes)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ends))
    size = page.locator("svg.chart text").first.evaluate(
        "text => text.getBoundingClientRect().height"
    )
    assert size >= 9


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_ground(browser: Browser, campaign: Path, scheme: str) -> None:
    page = opened(browser, campaign, color_scheme=scheme)
    unfold(page)
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    worst, where = min(page.evaluate(_CONTRASTS, TEXTS))
    assert worst >= CONTRAST, where


def test_paper_has_what_is_open(browser: Browser, campaign: Path, tmp_path: Path) -> None:
    page = opened(browser, campaign)
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    page.locator("#c-1").evaluate("each => { each.open = true }")
    report = page.locator("#crash-1 > pre").last
    assert report.evaluate("each => each.scrollHeight <= each.clientHeight + 1")
    path = tmp_path / "report.pdf"
    page.pdf(path=path)
    assert path.read_bytes().startswith(b"%PDF")


def test_the_live_page_shows_what_is_new_and_stays_as_it_was(
    browser: Browser, campaign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzzer.report.html.serving._LEAST", 0.0)
    monkeypatch.setattr("fuzzer.report.html.serving._SHARE", 0.0)
    with PageServer(campaign, 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            page = browser.new_page()
            page.goto(server.url)
            page.locator("#all-programs > summary").click()
            writer = StateWriter(campaign)
            with writer.changing():
                writer.add_row(row_at(SECONDS + 60.0, programs=777_777))
            writer.close()
            page.get_by_text("777,777").first.wait_for()
            assert page.locator("#all-programs").get_attribute("open") is not None
            page.close()
        finally:
            server.shutdown()
            thread.join()
