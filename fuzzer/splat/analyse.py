# SPDX-License-Identifier: Apache-2.0
"""Makes a record of a report's lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fuzzer.splat import details
from fuzzer.splat.frames import Frame
from fuzzer.splat.guilty import POINTER, find_guilty, named_at, place_of, races, site_of, warned_at
from fuzzer.splat.origin import find_holders, find_module, find_panic, find_source
from fuzzer.splat.report import Report
from fuzzer.splat.severity import Facts, rate
from fuzzer.splat.splat import Splat
from fuzzer.splat.splitter import split_lines
from fuzzer.splat.stacks import Role, Stack, find_stacks, own_dump
from fuzzer.splat.title import make_title

# These print their first stack without a heading.
_HEADLESS = frozenset({"kmsan", "kfence", "lost"})
NOTHING_KNOWN = Facts()


def _damage(report: Report, stacks: tuple[Stack, ...], guilty: Frame | None) -> str | None:
    """Return why a report cannot be trusted to say where it happened, None if it can."""
    if report.rule.kind == "lost" and (guilty is None or "{function}" not in report.rule.title):
        return "its beginning is missing"
    if "{function}" not in report.rule.title:
        return None
    if report.mixed:
        return "its lines are mixed with another report's, and have no caller ids"
    if guilty is None:
        frames = any(stack.role is Role.FAULT for stack in stacks)
        return "its stack is only machinery" if frames else "its stack is missing"
    return None


def _is_whole(stacks: tuple[Stack, ...]) -> bool:
    """Tell whether the stack of where it happened was printed to its end."""
    main = [stack for stack in stacks if stack.role is Role.FAULT and stack.heading != POINTER]
    return bool(main) and main[-1].closed


def _is_cut(report: Report, texts: Sequence[str], stacks: tuple[Stack, ...]) -> bool:
    """Tell whether the log ends before a stack that the kind of report has."""
    if not report.cut or "{function}" not in report.rule.title or _is_whole(stacks):
        return False
    return site_of(report.rule, texts) is None


def _named(
    report: Report,
    texts: Sequence[str],
    stacks: tuple[Stack, ...],
    guilty: Frame | None,
    corrupted: str | None,
) -> str | None:
    """Return the function that is named otherwise than by the stack; None: the stack is right."""
    rule = report.rule
    if report.mixed:
        # The first line is this report's alone.
        texts, stacks = texts[:1], ()
    if (site := site_of(rule, texts)) is not None:
        return site
    if rule.plain and (warned := warned_at(texts, stacks, guilty)):
        return warned.function
    if corrupted is None or "{function}" not in rule.title:
        return None
    has_stack = any(stack.role is Role.FAULT for stack in stacks)
    if head := named_at(texts, is_all=not has_stack):
        return head.function
    if guilty is None and has_stack and _is_whole(stacks):
        return place_of(texts, stacks, rule)
    return None


def analyse(report: Report, facts: Facts = NOTHING_KNOWN) -> Splat:
    """Return the record of a report. A function that is not certain is left out."""
    rule, texts = report.rule, report.texts
    stacks = find_stacks(texts, headless=rule.kind in _HEADLESS)
    guilty = find_guilty(rule, stacks)
    corrupted = _damage(report, stacks, guilty)
    function = guilty.function if guilty and not corrupted else None
    if rule.kind == "kcsan" and not report.mixed:
        function = races(stacks, report.match)
        corrupted = None if function else "the stack of one side of the race is missing"
    named = _named(report, texts, stacks, guilty, corrupted)
    if named is not None:
        function, corrupted = named, None
    title = make_title(rule, report.match, texts, function)
    access, obj = details.find_access(texts, rule.kind), details.find_object(texts)
    kernel, taint = details.find_kernel(texts)
    task = details.find_task(texts[own_dump(texts) :])
    return Splat(
        title=title,
        kind=rule.kind,
        family=rule.family,
        function=function,
        corrupted=corrupted,
        severity=rate(rule, title, access, obj, facts, corrupted=corrupted is not None),
        access=access,
        object=obj,
        task=task,
        stacks=stacks,
        locks=details.find_locks(texts) if rule.kind == "lockdep" else (),
        modules=details.find_modules(texts),
        kernel=kernel,
        taint=taint,
        line=report.first.number,
        caller=report.first.caller,
        crash=rule.crash,
        text=report.raw,
        message=report.message or find_panic(texts),
        advice=rule.advice or None,
        module=find_module(texts, stacks, function, guilty),
        source=find_source(texts, guilty),
        holders=find_holders(texts, task) if rule.kind == "hang" else (),
        cut=_is_cut(report, texts, stacks),
    )


def all_splats(lines: Iterable[str], facts: Facts = NOTHING_KNOWN) -> list[Splat]:
    """Return every report in a log's lines, by where they start."""
    records = [analyse(report, facts) for report in split_lines(lines)]
    return sorted(records, key=lambda record: record.line)
