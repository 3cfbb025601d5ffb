# SPDX-License-Identifier: Apache-2.0
"""Makes a record of a report's lines."""

from __future__ import annotations

from collections.abc import Iterable

from fuzzer.splat import details
from fuzzer.splat.frames import Frame
from fuzzer.splat.severity import Facts, rate
from fuzzer.splat.splat import Splat
from fuzzer.splat.splitter import Report, split_lines
from fuzzer.splat.stacks import Role, Stack, find_stacks
from fuzzer.splat.title import (
    guilty_frame,
    main_frames,
    make_title,
    place_of,
    races,
    site_of,
    work_of,
)

# These print their first stack without a heading.
_HEADLESS = frozenset({"kmsan", "kfence", "lost"})
# kmemleak's stacks have a fixed depth, and its list nothing after the last.
_NO_STACK_END = frozenset({"leak"})
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
    main = [stack for stack in stacks if stack.role is Role.FAULT]
    open_end = bool(main) and not main[-1].closed and report.cut
    if open_end and report.rule.kind not in _NO_STACK_END and guilty.module is None:
        # The driver may have followed.
        return "its stack is cut short"
    return None


def _is_whole(stacks: tuple[Stack, ...]) -> bool:
    """Tell whether the stack of where it happened was printed to its end."""
    return [stack for stack in stacks if stack.role is Role.FAULT][-1].closed


def analyse(report: Report, facts: Facts = NOTHING_KNOWN) -> Splat:
    """Return what a report says. A function that is not sure is not named."""
    rule, texts = report.rule, report.texts
    stacks = find_stacks(texts, headless=rule.kind in _HEADLESS)
    guilty = guilty_frame(main_frames(stacks, interrupted=rule.interrupted))
    corrupted = _damage(report, stacks, guilty)
    function = guilty.function if guilty and not corrupted else None
    if rule.kind == "kcsan" and not corrupted:
        function = races(stacks, report.match)
        corrupted = None if function else "the stack of one side of the race is missing"
    if not report.mixed:
        machinery = guilty is None and any(stack.role is Role.FAULT for stack in stacks)
        named = site_of(rule, texts)
        if machinery and named is None:
            named = work_of(texts) or (place_of(texts, stacks) if _is_whole(stacks) else None)
        if named is not None:
            function, corrupted = named, None
    title = make_title(rule, report.match, texts, function)
    access, obj = details.find_access(texts, rule.kind), details.find_object(texts)
    kernel, taint = details.find_kernel(texts)
    return Splat(
        title=title,
        kind=rule.kind,
        family=rule.family,
        function=function,
        corrupted=corrupted,
        severity=rate(rule, title, access, obj, facts, corrupted=corrupted is not None),
        access=access,
        object=obj,
        task=details.find_task(texts),
        stacks=stacks,
        locks=details.find_locks(texts) if rule.kind == "lockdep" else (),
        modules=details.find_modules(texts),
        kernel=kernel,
        taint=taint,
        line=report.first.number,
        caller=report.first.caller,
        crash=rule.crash,
        text=report.raw,
        message=report.message,
        advice=rule.advice or None,
    )


def all_splats(lines: Iterable[str], facts: Facts = NOTHING_KNOWN) -> list[Splat]:
    """Return every report in a log's lines, by where they start."""
    records = [analyse(report, facts) for report in split_lines(lines)]
    return sorted(records, key=lambda record: record.line)
