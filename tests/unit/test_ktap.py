# SPDX-License-Identifier: Apache-2.0
"""KTAP out of stored kernel logs, out of cut ones, and out of nonsense."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.ktap import Outcome, Report, Result, parse_ktap

_LOGS = Path(__file__).parent.parent / "data" / "ktap"


def _log(name: str) -> str:
    return (_LOGS / name).read_text()


def _outline(result: Result, depth: int = 0) -> list[str]:
    """Return name, outcome and reason of a result and all in it, indented."""
    line = f"{'  ' * depth}{result.outcome.value} {result.name}"
    lines = [f"{line} ({result.reason})" if result.reason else line]
    for part in result.parts:
        lines += _outline(part, depth + 1)
    return lines


def _outlines(report: Report) -> list[str]:
    return [line for suite in report.suites for line in _outline(suite)]


def _case(report: Report, suite: str, name: str) -> Result:
    (found,) = [case for of, case in report.cases() if (of, case.name) == (suite, name)]
    return found


def test_records_of_kmsg_become_suites_cases_and_parameters() -> None:
    report = parse_ktap(_log("failures.kmsg"))
    assert _outlines(report) == [
        "not ok toy",
        "  ok adds",
        "  not ok fails",
        "  skip skips (needs a # and FAILSLAB)",
        "  ok talks",
        "  not ok odd",
        "    ok of 1",
        "    not ok of 2",
        "    skip of 3 (three)",
        "not ok toy_crash",
        "  ok after",
        "  not ok crashes",
        "  ok after",
        "not ok toy_init",
    ]
    assert report.all_errors() == []


def test_a_failed_case_has_the_expectation_over_several_lines() -> None:
    report = parse_ktap(_log("failures.kmsg"))
    assert _case(report, "toy", "fails").diagnostics[:4] == (
        "    # fails: EXPECTATION FAILED at /build/toy/toy_kunit.c:7",
        "    Expected 4 == seen, but",
        "        seen == 3 (0x3)",
        "    # fails: EXPECTATION FAILED at /build/toy/toy_kunit.c:8",
    )
    assert _case(report, "toy", "adds").diagnostics == ("    # adds: added",)


def test_what_the_kernel_printed_belongs_to_the_case_that_ran() -> None:
    report = parse_ktap(_log("failures.kmsg"))
    assert _case(report, "toy", "talks").diagnostics == (
        "toy: two",
        "lines",
        "toy: a tab \t, a backslash \\ and an umlaut ä",
        "    ok so far",
    )
    crashed = _case(report, "toy_crash", "crashes").diagnostics
    assert crashed[0].startswith("Oops: general protection fault")
    assert crashed[-2] == "    # crashes: try faulted"


def test_a_failed_parameter_has_its_own_diagnostics() -> None:
    odd = _case(parse_ktap(_log("failures.kmsg")), "toy", "odd")
    assert odd.parts[1].diagnostics[-1] == "2 is even"
    assert odd.diagnostics == ("    # odd: pass:1 fail:1 skip:1 total:3",)


def test_a_suite_has_its_attributes_totals_and_what_kept_it_from_starting() -> None:
    toy, _, init = parse_ktap(_log("failures.kmsg")).suites
    assert toy.diagnostics == (
        "    # module: toy",
        "# toy: pass:2 fail:2 skip:1 total:5",
        "# Totals: pass:3 fail:2 skip:2 total:7",
    )
    assert init.diagnostics == ("    # toy_init:     # failed to initialize (-12)",)


def test_a_description_shows_what_failed_and_leaves_out_what_passed() -> None:
    text = _case(parse_ktap(_log("failures.kmsg")), "toy", "odd").describe()
    assert text.startswith("odd: not ok\n")
    assert "  of 2: not ok\n" in text
    assert "Expected *p & 1 to be true, but is false" in text
    assert "of 3: skip (three)" in text
    assert "of 1" not in text


def test_a_panic_leaves_what_ran_missing_with_the_kernels_words() -> None:
    report = parse_ktap(_log("panic.console"))
    assert _outlines(report)[9:] == [
        "missing toy_end",
        "  ok after",
        "  missing ends",
        "    ok of 1",
    ]
    assert report.all_errors() == [
        "the plan says 3, seen are 2: 1 missing",
        "toy_end: the plan says 3, seen are 2: 1 missing",
        "toy_end: it has no result line",
        "toy_end::ends: it has no result line",
    ]
    ends = _case(report, "toy_end", "ends")
    assert ends.diagnostics[0] == "Kernel panic - not syncing: toy: the end"
    assert "ends: missing" in report.suites[1].describe()


def test_the_console_and_kmsg_tell_the_same() -> None:
    # The two runs differ from their second suite on only.
    console, kmsg = parse_ktap(_log("panic.console")), parse_ktap(_log("failures.kmsg"))
    assert _outline(console.suites[0]) == _outline(kmsg.suites[0])


def test_other_messages_in_between_change_no_result() -> None:
    report = parse_ktap(_log("interleaved.console"))
    assert _outlines(report) == [
        "ok first",
        "  ok opens",
        "  ok reads",
        "    ok small",
        "    ok large",
        "skip second",
        "  skip waits",
    ]
    assert report.all_errors() == []
    first = report.suites[0]
    assert first.diagnostics[:2] == ("    # module: toy", "clocksource: Long readout interval")
    assert first.parts[0].diagnostics == ("toy: opened",)
    reads = first.parts[1]
    assert [part.diagnostics for part in reads.parts] == [
        ("        # reads: first byte",),
        ("toy: 1..3 is no plan", "toy: nothing of this is ok 2"),
    ]
    assert reads.diagnostics[0] == "toy: late"


def test_other_depths_directives_and_versions_of_the_protocol_are_read() -> None:
    report = parse_ktap(_log("nested.txt"))
    assert _outlines(report) == [
        "not ok main_test",
        "  ok example_test_1",
        "    ok test_1",
        "  ok example_test_2",
        "    skip test_1 (test_1 skipped)",
        "    ok test_2",
        "  not ok example_test_3",
        "    ok test_1",
        "    not ok test_2",
        "    not ok test_3 (TIMEOUT 30 seconds)",
        "    ok check return code (rcode=0)",
    ]
    assert report.all_errors() == []


@pytest.mark.parametrize("name", ["failures.kmsg", "interleaved.console", "nested.txt"])
def test_a_log_that_was_cut_anywhere_is_never_without_errors(name: str) -> None:
    lines = _log(name).splitlines()
    whole = parse_ktap("\n".join(lines))
    first = next(i for i, line in enumerate(lines) if "1.." in line)
    last = max(i for i, line in enumerate(lines) if "ok " in line)
    for end in range(first + 1, last):
        cut = parse_ktap("\n".join(lines[:end]))
        assert cut.all_errors(), f"cut before line {end + 1}"
        complete = [suite for suite in cut.suites if suite.outcome is not Outcome.MISSING]
        assert complete == list(whole.suites[: len(complete)])


def test_a_plan_that_is_not_kept_is_an_error() -> None:
    report = parse_ktap("KTAP version 1\n1..5\nok 1 a\nok 2 b\nok 3 c\nok 4 d\n")
    assert report.errors == ("the plan says 5, seen are 4: 1 missing",)
    report = parse_ktap("KTAP version 1\n1..1\nok 1 a\nok 2 b\n")
    assert report.errors == ("the plan says 1, seen are 2",)


def test_a_result_out_of_order_is_an_error() -> None:
    report = parse_ktap("KTAP version 1\n1..2\nok 1 a\nok 3 c\n")
    assert report.errors == ("result 3 (c) is at place 2",)


def test_a_result_before_any_test_is_an_error() -> None:
    # The kernel's log buffer is a ring: the beginning may be gone.
    report = parse_ktap("    ok 7 late\nok 1 suite\n")
    assert report.suites == ()
    assert report.errors == (
        "a result before any version line: ok 7 late",
        "a result before any version line: ok 1 suite",
    )


def test_a_suite_whose_result_was_lost_does_not_take_the_next_ones() -> None:
    report = parse_ktap(
        "KTAP version 1\n1..2\n"
        "    KTAP version 1\n    # Subtest: one\n    1..1\n    ok 1 a\n"
        "    KTAP version 1\n    # Subtest: two\n    1..1\n    ok 1 b\nok 2 two\n"
    )
    assert _outlines(report) == ["missing one", "  ok a", "ok two", "  ok b"]
    assert report.all_errors() == ["one: it has no result line"]


def test_a_result_of_another_name_ends_what_was_open_as_missing() -> None:
    report = parse_ktap(
        "KTAP version 1\n1..2\n    KTAP version 1\n    # Subtest: one\n    1..1\nnot ok 2 two\n"
    )
    assert _outlines(report) == ["missing one", "not ok two"]


def test_a_driver_loaded_twice_has_its_suites_twice() -> None:
    report = parse_ktap(2 * _log("interleaved.console"))
    assert [suite.name for suite in report.suites] == ["first", "second"] * 2
    assert report.all_errors() == []


def test_a_suite_without_the_outer_level_is_found() -> None:
    report = parse_ktap("    KTAP version 1\n    # Subtest: s\n    1..1\n    ok 1 a\nok 1 s\n")
    assert _outlines(report) == ["ok s", "  ok a"]
    assert report.all_errors() == []


def test_a_test_may_print_what_looks_like_a_plan_or_a_name() -> None:
    report = parse_ktap(
        "KTAP version 1\n1..1\n"
        "    KTAP version 1\n    # Subtest: s\n    1..1\n    # Subtest: other\n    1..9\n"
        "    ok 1 a\nok 1 s\n"
    )
    assert report.all_errors() == []
    assert report.suites[0].parts[0].diagnostics == ("    # Subtest: other", "    1..9")


def test_the_fields_of_a_record_are_no_output() -> None:
    report = parse_ktap(
        "6,1,1,-;KTAP version 1\n6,2,2,-;1..1\n"
        "6,3,3,-,caller=T1;toy: added\n SUBSYSTEM=misc\n DEVICE=c10:125\n6,4,4,-;ok 1 a\n"
    )
    assert report.suites[0].diagnostics == ("toy: added",)


def test_a_log_without_tests_has_none() -> None:
    assert parse_ktap("") == Report((), ())
    assert parse_ktap("[    0.000000] Linux version 6.12\n") == Report((), ())


_PIECES = st.sampled_from(
    [
        "KTAP version 1",
        "1..2",
        "# Subtest: s",
        "ok 1 a",
        "not ok 2 b # SKIP c",
        "ok 99999999999 x",
        "6,1,2,-;",
        "<6>[    1.000000][  T1] ",
        "    ",
        "\\x0a",
        "\\xff",
        "\r",
        "\n",
        "\n",
        "\n    ",
    ]
)


@given(st.lists(_PIECES | st.text(max_size=8)).map("".join))
def test_arbitrary_text_is_parsed(log: str) -> None:
    report = parse_ktap(log)
    report.all_errors()
    for suite in report.suites:
        suite.describe()


def test_depth_has_an_end() -> None:
    log = "\n".join(f"{' ' * depth}KTAP version 1" for depth in range(5000))
    report = parse_ktap(log)
    assert report.all_errors()
