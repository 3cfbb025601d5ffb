# SPDX-License-Identifier: Apache-2.0
"""File, line and source in stored reports, of a driver that gcc makes here."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.crash.store import CrashStore, read_crash
from fuzzer.crash.symbolised import SOURCE_HEADING, symbolised_report
from fuzzer.driver.driver import Driver
from fuzzer.driver.known_builds import find_build, note_build
from fuzzer.splat.symbols import SymbolFile
from fuzzer.target.target import Target
from tests.unit.test_store import crash

SOURCE = """\
extern volatile int *drv_table;

static inline __attribute__((always_inline)) int drv_peek(int index)
{
	return drv_table[index];
}

__attribute__((noinline)) int drv_read(int index)
{
	return drv_peek(index) + 1; /* "BUG: KASAN: wild-memory-access in drv_fake" */
}
"""
KEY = "0123456789abcdef"


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "cache" / "built" / "drv.c"
    source.parent.mkdir(parents=True)
    source.write_text(SOURCE)
    built = source.with_suffix(".ko")
    subprocess.run(["gcc", "-O2", "-g", "-c", str(source), "-o", str(built)], check=True)
    driver = Driver("drv", built, KEY)
    note_build(driver)
    return driver


def report_of(driver: Driver) -> str:
    file = SymbolFile(driver.object, "drv")
    (size,) = file.sizes("drv_read")
    size = -(-size // 16) * 16
    inlined = next(
        offset for offset in range(64) if len(file.locate([(".text", offset)])[".text", offset]) > 1
    )
    return (
        "[    2.1][   T27] BUG: unable to handle page fault for address: ffffc90000201000\n"
        f"[    2.1][   T27] RIP: 0010:drv_read+{inlined:#x}/{size:#x} [drv]\n"
        "[    2.1][   T27] Call Trace:\n"
        "[    2.1][   T27]  <TASK>\n"
        f"[    2.1][   T27]  ? drv_read+{inlined + 1:#x}/{size:#x} [drv]\n"
        "[    2.1][   T27]  vfs_read+0x1/0x2\n"
        "[    2.1][   T27]  </TASK>\n"
    )


def stored(tmp_path: Path, driver: Driver, target: Target) -> Path:
    plain = crash(report=report_of(driver))
    identity = dataclasses.replace(plain.identity, driver=KEY)
    return CrashStore(tmp_path / "crashes").put(
        dataclasses.replace(plain, identity=identity), target
    )


def test_frames_get_file_line_inlined_functions_and_source(driver: Driver) -> None:
    text = symbolised_report(report_of(driver), KEY)
    assert text is not None
    report, _, sources = text.partition(f"\n{SOURCE_HEADING}\n")
    lines = report.splitlines()
    assert lines[1] == "[    2.1][   T27]  drv_peek drv.c:5 [inline]"
    assert lines[2].startswith("[    2.1][   T27] RIP: 0010:drv_read+0x")
    assert lines[2].endswith(" drv.c:10 [drv]")
    assert lines[5] == "[    2.1][   T27]  ? drv_peek drv.c:5 [inline]"
    assert lines[7] == "[    2.1][   T27]  vfs_read+0x1/0x2"
    assert "drv_peek at drv.c:5\n|      3  static inline" in sources
    assert "\n| >    5  \treturn drv_table[index];\n" in sources
    assert sources.count("drv_read at drv.c:10") == 1
    assert str(driver.object.parent) not in text


def test_a_bundle_has_it_beside_the_report_as_it_came(
    tmp_path: Path, driver: Driver, pkv_target: Target
) -> None:
    directory = stored(tmp_path, driver, pkv_target)
    assert "drv.c:10 [drv]" in (directory / "report.txt").read_text()
    again = read_crash(directory)
    assert again.report == report_of(driver)


def test_it_stays_when_the_build_is_gone(
    tmp_path: Path, driver: Driver, pkv_target: Target
) -> None:
    directory = stored(tmp_path, driver, pkv_target)
    before = (directory / "report.txt").read_text()
    driver.object.unlink()
    assert find_build(KEY) is None
    found = dataclasses.replace(read_crash(directory), sightings=2)
    CrashStore(tmp_path / "crashes").put(found, pkv_target)
    assert (directory / "report.txt").read_text() == before
    other = dataclasses.replace(found, report=found.report.replace("c90000201000", "c90000201008"))
    CrashStore(tmp_path / "crashes").put(other, pkv_target)
    assert (directory / "report.txt").read_text() == other.report
    assert read_crash(directory).report == other.report


def test_crashes_shows_it_also_of_an_older_bundle(
    tmp_path: Path, driver: Driver, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = stored(tmp_path, driver, pkv_target)
    (directory / "report.raw.txt").replace(directory / "report.txt")
    assert main(["crashes", str(directory)]) == 0
    shown = capsys.readouterr().out
    assert "drv_peek drv.c:5 [inline]" in shown
    assert "| >   10  \treturn drv_peek(index) + 1;" in shown


def test_source_lines_are_no_reports_to_triage(
    tmp_path: Path, driver: Driver, pkv_target: Target, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = stored(tmp_path, driver, pkv_target)
    assert "wild-memory-access" in (directory / "report.txt").read_text()
    assert main(["triage", str(directory / "report.txt")]) == 1
    shown = capsys.readouterr().out
    assert "BUG: unable to handle page fault in drv_read" in shown
    assert not [line for line in shown.splitlines() if line.startswith("[2]")]


def test_a_driver_of_another_build_or_none_leaves_the_report_alone(driver: Driver) -> None:
    assert symbolised_report(report_of(driver), "unknown") is None
    assert symbolised_report(report_of(driver).replace("drv_read+", "drv_other+"), KEY) is None
    report = report_of(driver)
    driver.object.write_bytes(b"no object")
    assert symbolised_report(report, KEY) is None
