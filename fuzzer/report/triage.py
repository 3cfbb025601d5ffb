# SPDX-License-Identifier: Apache-2.0
"""What ``pkvfuzz triage`` shows: a line for each distinct report, then what is known of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fuzzer.splat.splat import Splat
from fuzzer.splat.stacks import Stack
from fuzzer.splat.symbols import source_lines
from fuzzer.splat.triage import Finding, Triage, same_bugs
from fuzzer.wording import count

_PLACES = 3
_FRAMES = 12


def printable(text: str) -> str:
    """Return text from a log so that a terminal takes none of it for a command."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


def triage_text(triage: Triage) -> str:
    """Return the lines and the details."""
    findings = triage.findings()
    same = same_bugs(findings)
    lines = [_line(number, finding) for number, finding in enumerate(findings, 1)]
    for number, (finding, first) in enumerate(zip(findings, same, strict=True), 1):
        lines += ["", f"[{number}] {finding.record.title}"]
        if first is not None:
            lines.append(f"  the same bug as [{first + 1}], by its place in the driver")
        lines += _details(finding.record)
    if triage.dropped:
        lines.append(f"{triage.dropped} more reports, of too many titles to keep")
    if not findings:
        lines.append(f"no kernel report in {triage.lines:,} lines")
    return printable("\n".join(lines)) + "\n"


def _line(number: int, finding: Finding) -> str:
    record = finding.record
    level = f"{record.severity.level} {record.severity.score}" if record.crash else "notice"
    places = ", ".join(f"{each.log}:{each.line}" for each in finding.places[:_PLACES])
    if finding.count > _PLACES:
        places += f" and {finding.count - _PLACES} more"
    return f"[{number}] {level:<11} {finding.count:>4}x  {record.title}  ({places})"


def _details(record: Splat) -> Iterator[str]:
    yield f"  severity: {'; '.join(record.severity.reasons)}"
    if record.message:
        yield f"  message: {record.message}"
    if record.advice:
        yield f"  what to do: {record.advice}"
    if record.corrupted:
        yield f"  damaged: {record.corrupted}"
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
    yield from _stacks(record.stacks)


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
