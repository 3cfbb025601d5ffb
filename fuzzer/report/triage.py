# SPDX-License-Identifier: Apache-2.0
"""The output of ``pkvfuzz triage``: a line for each bug, then what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuzzer.splat.splat import Splat
from fuzzer.splat.stacks import Stack
from fuzzer.splat.symbols import source_lines
from fuzzer.splat.triage import Bug, Finding, LogTriage
from fuzzer.wording import count, visible

_PLACES = 3
_FRAMES = 12
_PASTED = 150
_RULER = "-" * 72


def triage_text(triage: LogTriage) -> str:
    """Return the lines and the details: one of each for each bug."""
    bugs = triage.bugs()
    lines = [_line(number, bug.finding) for number, bug in enumerate(bugs, 1)]
    for number, bug in enumerate(bugs, 1):
        lines += ["", f"[{number}] {_title(bug.finding.record)}"]
        if bug.finding.after is not None:
            lines.append(f"  likely a consequence of: {bug.finding.after}")
        for other in bug.others:
            lines.append(f"  also reported as: {other.record.title}  ({_places(other)})")
        lines += _details(bug.finding.record)
    if triage.dropped:
        lines.append(f"{triage.dropped} more reports, of too many titles to keep")
    if not bugs:
        lines.append(f"no kernel report in {triage.lines:,} lines")
    return visible("\n".join(lines)) + "\n"


def record_text(record: Splat) -> str:
    """Return one report: its title, and what is known of it."""
    return visible("\n".join([_title(record), *_details(record)])) + "\n"


def bug_report_text(triage: LogTriage) -> str:
    """Return for each bug a block to paste into a report of it; notices have none."""
    blocks = [_block(bug) for bug in triage.bugs() if bug.finding.record.crash]
    if not blocks:
        blocks = [f"no crash in {triage.lines:,} lines"]
    return visible(f"\n\n{_RULER}\n\n".join(blocks)) + "\n"


def _block(bug: Bug) -> str:
    finding = bug.finding
    record = finding.record
    lines = [f"Subject: {_title(record)}", "", f"{record.title}, seen {_times(finding.count)}."]
    lines += [each.strip() for each in _what(record)]
    lines += [f"also reported as: {other.record.title}" for other in bug.others]
    if finding.after is not None:
        lines.append(f"likely a consequence of: {finding.after}")
    text = record.text.rstrip("\n").split("\n")
    lines += ["", "What the kernel said:", "", *text[:_PASTED]]
    if len(text) > _PASTED:
        lines.append(f"({len(text) - _PASTED} more lines)")
    return "\n".join(lines)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _title(record: Splat) -> str:
    return f"{record.title} [{record.module.name}]" if record.module else record.title


def _places(finding: Finding) -> str:
    places = ", ".join(f"{each.log}:{each.line}" for each in finding.places[:_PLACES])
    if finding.count > _PLACES:
        places += f" and {finding.count - _PLACES} more"
    return places


def _line(number: int, finding: Finding) -> str:
    record = finding.record
    level = f"{record.severity.level} {record.severity.score}" if record.crash else "notice"
    title = _title(record)
    return f"[{number}] {level:<11} {finding.count:>4}x  {title}  ({_places(finding)})"


def _details(record: Splat) -> Iterator[str]:
    yield from _what(record)
    yield from _stacks(record.stacks)
    module = record.module
    if module and not any(f.file for s in record.stacks for f in s.frames if f.module):
        file = f"{module.name}.ko"
        yield f"  file and line: --module {file} tells them, if built with debug information"


def _what(record: Splat) -> Iterator[str]:
    """Return what is known beside the stacks."""
    if record.severity.meaning:
        yield f"  meaning: {record.severity.meaning}"
    yield f"  severity: {'; '.join(record.severity.reasons)}"
    if record.message:
        yield f"  message: {record.message}"
    if record.advice:
        yield f"  what to do: {record.advice}"
    if record.corrupted:
        yield f"  damaged: {record.corrupted}"
    if module := record.module:
        marks = f" ({', '.join(module.marks)})" if module.marks else ""
        yield f"  module: {module.name}{marks}"
    if record.source:
        yield f"  source: {record.source}"
    if access := record.access:
        parts = [access.direction or "access"]
        parts += [f"of {count(access.size, 'byte')}"] if access.size is not None else []
        parts += [f"at {access.address:#x} ({access.address_class})"] if access.address else []
        yield f"  access: {' '.join(parts)}"
    if obj := record.object:
        parts = [obj.cache or "an object"]
        parts += [f"of {count(obj.size, 'byte')}"] if obj.size is not None else []
        parts += [f"({obj.state})"] if obj.state else []
        if obj.offset is not None and obj.where:
            beside = "into" if obj.where == "inside" else f"to the {obj.where} of"
            parts.append(f", {count(obj.offset, 'byte')} {beside} it")
        yield f"  object: {' '.join(parts)}".replace(" ,", ",")
    if record.task.name is not None:
        cpu = "" if record.task.cpu is None else f" on CPU {record.task.cpu}"
        yield f"  task: {record.task.name}/{record.task.pid}{cpu}"
    if record.kernel:
        yield f"  kernel: {record.kernel}" + (f", tainted {record.taint}" if record.taint else "")
    if record.locks:
        yield f"  locks: {', '.join(record.locks)}"
    for holder in record.holders:
        by = f" (taken in {holder.function})" if holder.function else ""
        yield f"  waits for {holder.lock}, held by {holder.task}/{holder.pid}{by}"


def _stacks(stacks: Sequence[Stack]) -> Iterator[str]:
    for stack in stacks:
        frames = [frame for frame in stack.frames if frame.reliable]
        if not frames:
            continue
        heading = stack.heading.rstrip(":")
        plain = heading.lower().startswith(("call trace", "instruction", "backtrace"))
        yield f"  {stack.role}:" if plain or not heading else f"  {stack.role} ({heading}):"
        for frame in frames[:_FRAMES]:
            offset = "" if frame.offset is None else f"+{frame.offset:#x}/{frame.size or 0:#x}"
            module = f" [{frame.module}]" if frame.module else ""
            file = f" {frame.file}" if frame.file else ""
            inlined = " (inlined)" if frame.inline else ""
            yield f"    {frame.function}{offset}{module}{file}{inlined}"
            if frame.module and frame.file:
                yield from (f"      {line}" for line in source_lines(frame.file))
        if len(frames) > _FRAMES:
            yield f"    and {len(frames) - _FRAMES} more"
