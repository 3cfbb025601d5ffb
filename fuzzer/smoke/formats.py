# SPDX-License-Identifier: Apache-2.0
"""The forms in which a verdict can be had: for people, for CI systems and for code hosts."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from fuzzer import __version__
from fuzzer.smoke.verdict import CrashFound, Replayed, SmokeVerdict, Standing, shown_first
from fuzzer.splat.severity import Level
from fuzzer.wording import count, visible

_SARIF = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {
    Level.CRITICAL: "error",
    Level.HIGH: "error",
    Level.MEDIUM: "warning",
    Level.LOW: "note",
}
_SEVERITIES = {
    Level.CRITICAL: "blocker",
    Level.HIGH: "critical",
    Level.MEDIUM: "major",
    Level.LOW: "minor",
}
# XML has no other control characters.
_ALLOWED = frozenset("\t\n\r")


def headline(verdict: SmokeVerdict) -> str:
    """Return the verdict in one line."""
    counted = len(verdict.counted)
    against = f", compared with {verdict.base}" if verdict.base else ""
    if counted:
        return f"FAILED: {count(counted, 'crash')} of this commit{against}"
    if verdict.interrupted:
        return f"NO VERDICT: it was interrupted after {verdict.seconds:.0f} s{against}"
    if verdict.exit_code:
        seen = sum(each.standing is Standing.UNJUDGED for each in verdict.crashes)
        what = f"{count(seen, 'crash')} seen and not" if seen else "nothing was"
        return f"NO VERDICT: {what} judged in time{against}"
    return f"PASSED: no crash of this commit{against}"


def _fuzzing(verdict: SmokeVerdict) -> str:
    fuzzed = verdict.fuzzed
    text = (
        f"fuzzed for {fuzzed.seconds:.0f} s: {fuzzed.programs:,} programs, "
        f"{fuzzed.covered} of {fuzzed.blocks} blocks"
    )
    if fuzzed.changed:
        text += f", {fuzzed.changed_reached} of {fuzzed.changed} changed blocks reached"
    return text


def _replays(verdict: SmokeVerdict) -> str:
    tried = [each for each in verdict.replayed if each.tried]
    still = sum(each.found is not None for each in tried)
    text = f"{count(len(tried), 'stored reproducer')} run, {still} of them still crash"
    left = len(verdict.replayed) - len(tried)
    return f"{text}; no time was left for {left}" if left else text


def _told(found: CrashFound) -> str:
    reason = f": {found.reason}" if found.reason else ""
    return f"{found.standing.value}{reason}"


def text_form(verdict: SmokeVerdict) -> str:
    """Return it for a terminal or a log."""
    lines = [headline(verdict)]
    for found in shown_first(verdict.crashes):
        place = f" at {found.place.file}:{found.place.line}" if found.place else ""
        lines.append(f"  {found.crash.title}{place}")
        lines.append(f"      {_told(found)}; {found.crash.verdict()}")
        lines.append(f"      pkvfuzz replay {found.directory}")
    if verdict.replayed:
        lines.append(_replays(verdict))
    lines.append(_fuzzing(verdict))
    lines += [f"  not reached: {each.file}:{each.line}" for each in verdict.fuzzed.missed]
    lines += [f"note: {each}" for each in verdict.problems]
    return visible("\n".join(lines)) + "\n"


def markdown_form(verdict: SmokeVerdict) -> str:
    """Return a summary in Markdown, as for a comment on a merge request."""
    lines = [f"### {_plain(verdict.target)}: {_plain(headline(verdict))}", ""]
    crashes = shown_first(verdict.crashes)
    if crashes:
        lines += ["| crash | where | standing | reproduced |", "| --- | --- | --- | --- |"]
    for found in crashes:
        place = f"`{found.place.file}:{found.place.line}`" if found.place else "not known"
        cells = (found.crash.title, place, _told(found), found.crash.verdict())
        lines.append(f"| {' | '.join(map(_plain, cells))} |")
    lines += [""] * bool(crashes)
    facts = [_replays(verdict)] if verdict.replayed else []
    facts += [_fuzzing(verdict), *verdict.problems]
    lines += [f"- {_plain(each)}" for each in facts]
    for found in crashes:
        if found.standing.counts:
            report = visible(found.crash.report).replace("```", "'''")
            lines += ["", f"<details><summary>{_plain(found.crash.title)}</summary>", ""]
            lines += ["```", report.rstrip("\n"), "```", "", "</details>"]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    one = " ".join(visible(text).split())
    return one.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def junit_form(verdict: SmokeVerdict) -> str:
    """Return it as JUnit XML: each reproducer, each crash, and the fuzzing are test cases."""
    name = f"pkvfuzz.{verdict.target}"
    suite = ElementTree.Element("testsuite", name=name, time=f"{verdict.seconds:.1f}")
    for replayed in verdict.replayed:
        _replay_case(suite, name, replayed)
    for found in verdict.found:
        case = _case(suite, f"{name}.crashes", found.crash.title)
        if found.standing.counts:
            _failure(case, found)
        else:
            ElementTree.SubElement(case, "skipped", message=_xml(_told(found)))
    fuzzing = _case(suite, name, "fuzzing", verdict.fuzzed.seconds)
    ElementTree.SubElement(fuzzing, "system-out").text = _xml(
        "\n".join((_fuzzing(verdict), *verdict.problems))
    )
    if not verdict.judged:
        ElementTree.SubElement(fuzzing, "skipped", message="nothing was judged in time")
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("skipped", str(sum(case.find("skipped") is not None for case in cases)))
    suite.set("errors", "0")
    suites = ElementTree.Element("testsuites")
    suites.append(suite)
    ElementTree.indent(suites)
    return f"{ElementTree.tostring(suites, encoding='unicode', xml_declaration=True)}\n"


def _case(
    suite: ElementTree.Element, group: str, name: str, seconds: float = 0.0
) -> ElementTree.Element:
    return ElementTree.SubElement(
        suite, "testcase", classname=_xml(group), name=_xml(name), time=f"{seconds:.1f}"
    )


def _replay_case(suite: ElementTree.Element, name: str, replayed: Replayed) -> None:
    case = _case(suite, f"{name}.reproducers", replayed.title, replayed.seconds)
    if not replayed.tried:
        ElementTree.SubElement(case, "skipped", message="no time was left for it")
    elif replayed.found is not None and replayed.found.standing.counts:
        _failure(case, replayed.found)
    elif replayed.found is not None:
        ElementTree.SubElement(case, "skipped", message=_xml(_told(replayed.found)))


def _failure(case: ElementTree.Element, found: CrashFound) -> None:
    failure = ElementTree.SubElement(
        case, "failure", message=_xml(found.crash.title), type=_xml(found.crash.kind)
    )
    failure.text = _xml(f"{_told(found)}\n{found.crash.verdict()}\n\n{found.crash.report}")


def _xml(text: str) -> str:
    """Return text without what XML cannot hold."""
    return "".join(
        c if c in _ALLOWED or (c >= " " and not 0xD800 <= ord(c) < 0xE000 and ord(c) < 0xFFFE)
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )  # fmt: skip


def sarif_form(verdict: SmokeVerdict) -> str:
    """Return it as SARIF 2.1.0: a result for each crash, at the driver's source line."""
    crashes = [each for each in shown_first(verdict.crashes) if _is_result(each)]
    kinds = sorted({each.crash.kind for each in crashes})
    rules = [{"id": kind, "shortDescription": {"text": f"{kind} in a kernel driver"}}
             for kind in kinds]  # fmt: skip
    driver = {
        "name": "pkvfuzz",
        "version": __version__,
        "rules": rules,
    }
    log = {
        "$schema": _SARIF,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": driver},
                "invocations": [{"executionSuccessful": verdict.exit_code in (0, 1)}],
                "columnKind": "unicodeCodePoints",
                "results": [_result(each, kinds) for each in crashes],
            }
        ],
    }
    return json.dumps(log, indent=2) + "\n"


def _is_result(found: CrashFound) -> bool:
    return found.standing not in {Standing.UNREPRODUCED, Standing.UNJUDGED}


def _result(found: CrashFound, kinds: list[str]) -> dict[str, Any]:
    crash = found.crash
    result: dict[str, Any] = {
        "ruleId": crash.kind,
        "ruleIndex": kinds.index(crash.kind),
        "level": _LEVELS[crash.splat.severity.level],
        "message": {"text": f"{crash.title} ({_told(found)}; {crash.verdict()})"},
        # By this a code host knows it again.
        "partialFingerprints": {"pkvfuzzSignature/v1": str(crash.signature)},
        "baselineState": "new" if found.standing.counts else "unchanged",
        "locations": [_location(found.place.file, found.place.line)] if found.place else [],
    }
    if not found.standing.counts:
        justification = found.reason or found.standing.value
        result["suppressions"] = [{"kind": "external", "justification": justification}]
    if found.stack:
        steps = [{"location": _location(each.file, each.line, each.function)}
                 for each in reversed(found.stack)]  # fmt: skip
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _location(file: str, line: int, function: str = "") -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": {"uri": file},
            "region": {"startLine": max(line, 1)},
        }
    }
    if function:
        location["message"] = {"text": function}
    return location


def github_form(verdict: SmokeVerdict) -> str:
    """Return commands of GitHub Actions, which annotate the driver's source lines."""
    lines = []
    for found in shown_first(verdict.crashes):
        word = "error" if found.standing.counts else "notice"
        where = (
            f"file={_property(found.place.file)},line={found.place.line}," if found.place else ""
        )
        told = f"{_told(found)}; {found.crash.verdict()}"
        lines.append(f"::{word} {where}title={_property(found.crash.title)}::{_data(told)}")
    lines += [f"::notice title=pkvfuzz::{_data(headline(verdict))}"]
    return "\n".join(lines) + "\n"


def _data(text: str) -> str:
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def gitlab_form(verdict: SmokeVerdict) -> str:
    """Return GitLab's code quality report, which it shows beside the source lines."""
    entries = [
        {
            "description": f"{found.crash.title} ({_told(found)})",
            "check_name": found.crash.kind,
            "fingerprint": str(found.crash.signature),
            "severity": _SEVERITIES[found.crash.splat.severity.level],
            "location": {
                "path": found.place.file if found.place else verdict.target,
                "lines": {"begin": found.place.line if found.place else 1},
            },
        }
        for found in shown_first(verdict.crashes)
        if found.standing.counts
    ]
    return json.dumps(entries, indent=2) + "\n"


FORMS: Mapping[str, Callable[[SmokeVerdict], str]] = {
    "text": text_form,
    "junit": junit_form,
    "sarif": sarif_form,
    "markdown": markdown_form,
    "github": github_form,
    "gitlab": gitlab_form,
}
"""The forms by the names that the command line has for them."""
