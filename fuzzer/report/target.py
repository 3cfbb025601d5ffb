# SPDX-License-Identifier: Apache-2.0
"""A description as the fuzzer reads it, and what it has it do, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from fuzzer.target.calls import (
    AnyIoctlSpec,
    CallSpec,
    CreateSpec,
    IoctlSpec,
    PlainSpec,
    ReadSpec,
    RecordSpec,
    ReloadSpec,
    SleepSpec,
    WriteSpec,
    file_kind,
    kinds_of,
)
from fuzzer.target.check import Diagnostic, DiagnosticSeverity
from fuzzer.target.lint import ioctl_parts
from fuzzer.target.target import ResetKind, Target
from fuzzer.wording import count, table

_COLUMNS = ("share", "call", "number", "made by", "argument", "bytes")
# Those of figures.
_RIGHT = (_COLUMNS.index("share"), _COLUMNS.index("bytes"))

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class Checked:
    """A description that was checked; ``problems`` are those of its reset and its ``seeds``.

    Each of these names its file and line. ``target`` is what can be read of the
    description. Unless ``is_resolved``, its ioctl numbers and structs are not known.
    """

    path: Path
    target: Target | None
    is_resolved: bool
    findings: tuple[Diagnostic, ...]
    problems: tuple[str, ...] = ()
    seeds: tuple[Path, ...] = ()

    @property
    def is_usable(self) -> bool:
        """True if it can be fuzzed with."""
        errors = any(finding.severity is DiagnosticSeverity.ERROR for finding in self.findings)
        return self.target is not None and not errors and not self.problems


@dataclass(frozen=True, slots=True)
class _Row:
    """One call; ``share`` of all calls, None for what is not made as calls are."""

    call: str
    share: float | None
    argument: str
    name: str = ""
    number: int | None = None
    struct: str = ""
    size: int | None = None


def as_text(checked: Checked) -> str:
    """Return findings a line each, then a table of calls, then files, reset and seeds."""
    lines = [f"{_place(checked.path, each)}: {each.severity}: {each.message}"
             for each in checked.findings]  # fmt: skip
    lines += [f"{problem}" for problem in checked.problems]
    if checked.target is not None:
        lines += [*([""] if lines else []), *_described(checked, checked.target)]
    lines += ["", _summary(checked)]
    return "\n".join(lines)


def as_json(checked: Checked) -> Json:
    """Return the same as JSON values."""
    target = checked.target
    findings: list[Json] = [
        {"severity": str(f.severity), "line": f.line, "column": f.column, "message": f.message}
        for f in checked.findings
    ]
    return {
        "description": str(checked.path),
        "usable": checked.is_usable,
        "resolved": checked.is_resolved,
        "findings": findings,
        "problems": list(checked.problems),
        "name": target.name if target else None,
        "files": [device.path for device in target.devices] if target else [],
        "module": target.module.name if target else None,
        "headers": [str(path) for path in target.headers] if target else [],
        "calls": [_row_json(row) for row in _rows(checked)],
        "reset": target.reset.kind.value if target else None,
        "seeds": [str(path) for path in checked.seeds],
    }


def _row_json(row: _Row) -> Json:
    share = None if row.share is None else round(row.share, 4)
    return {
        "call": row.call,
        "share": share,
        "name": row.name or None,
        "number": row.number,
        "made_by": ioctl_parts(row.number)[0] if row.number is not None else None,
        "argument": row.argument,
        "struct": row.struct or None,
        "bytes": row.size,
    }


def _place(path: Path, finding: Diagnostic) -> str:
    parts = [str(path), *(str(part) for part in (finding.line, finding.column) if part)]
    return ":".join(parts)


def _described(checked: Checked, target: Target) -> list[str]:
    module = target.module
    origin = module.source or ", ".join(module.builtin) or module.object
    files = ", ".join(device.path for device in target.devices)
    lines = [
        f"{target.name}: {files}, of the module {module.name} ({origin})",
        *(f"  {line}" for line in table([_COLUMNS, *map(_cells, _rows(checked))], _RIGHT)),
        f"between programs: {_reset(target)}",
    ]
    if not checked.is_resolved:
        lines.append(
            "names of macros and structs are not looked up here: "
            "no header that compiles in user space has them all"
        )
    elif checked.seeds:
        bad = [problem for problem in checked.problems if ".prog:" in problem]
        directory, number = checked.seeds[0].parent, len(checked.seeds)
        lines.append(f"seeds: {number - len(bad)} of {number} in {directory} can be read")
    elif not any(each.severity is DiagnosticSeverity.ERROR for each in checked.findings):
        lines.append("seeds: none; it starts from generated programs")
    return lines


def _reset(target: Target) -> str:
    if target.reset.kind is ResetKind.CALLS:
        return "; ".join(target.reset.lines)
    return {
        ResetKind.NONE: "nothing; what a program leaves behind is there for the next one",
        ResetKind.RELOAD: "the module is loaded anew",
        ResetKind.RESTORE: "the machine is restored",
    }[target.reset.kind]


def _summary(checked: Checked) -> str:
    counts = Counter(finding.severity for finding in checked.findings)
    counts[DiagnosticSeverity.ERROR] += len(checked.problems)
    told = ", ".join(f"{count(counts[s], s)}" for s in DiagnosticSeverity)
    return f"{checked.path}: {told}"


def _rows(checked: Checked) -> list[_Row]:
    calls = checked.target.calls if checked.target else ()
    total = sum(spec.weight for spec in calls if not isinstance(spec, SleepSpec | ReloadSpec))
    return [_linked(spec, _row(spec, total, is_resolved=checked.is_resolved)) for spec in calls]


def _linked(spec: CallSpec, row: _Row) -> _Row:
    """Return the row of a call with the handles that it gives and takes, and its kind of file."""
    given, taken = kinds_of(spec)
    parts = [f"takes {each}" for each in taken] + [f"gives {each}" for each in given]
    if kind := file_kind(spec):
        parts.append(f"on {kind}")
    argument = row.argument
    if isinstance(spec, IoctlSpec) and spec.takes:
        argument = ""
    return replace(row, argument=", ".join(filter(None, (argument, *parts)))) if parts else row


def _row(spec: CallSpec, total: int, *, is_resolved: bool) -> _Row:
    share = spec.weight / total if total else 0.0
    match spec:
        case SleepSpec(milliseconds):
            return _Row("sleep", None, f"{_any_of(milliseconds)} ms")
        case ReloadSpec(templates):
            told = [template for template in templates if template.parts]
            return _Row("reload", None, count(len(told), "template") if told else "no parameters")
        case PlainSpec(kind):
            return _Row(kind.value, share, "")
        case CreateSpec(kinds):
            return _Row("create", share, ", ".join(kind.name.lower() for kind in kinds))
        case ReadSpec(counts, positioned):
            return _Row("pread" if positioned else "read", share, f"{_any_of(counts)} bytes")
        case WriteSpec(templates, positioned):
            parts = [count(len(templates), "template")] if templates else []
            parts += map(_record, spec.records)
            return _Row("pwrite" if positioned else "write", share, ", ".join(parts))
        case AnyIoctlSpec(sizes):
            return _Row(f"{_ioctl_name(spec)} any", share, f"buffer of {_any_of(sizes)} bytes")
        case IoctlSpec():
            return _ioctl(spec, share, is_resolved=is_resolved)


def _ioctl(spec: IoctlSpec, share: float, *, is_resolved: bool) -> _Row:
    call, name = f"{_ioctl_name(spec)} {spec.name or ''}".rstrip(), spec.name or ""
    number = spec.number if is_resolved or not name else None
    if spec.struct is not None:
        return _Row(
            call, share, spec.struct.c_type, name, number, spec.struct.name, spec.struct.size
        )
    if spec.sizes:
        return _Row(call, share, f"buffer of {_any_of(spec.sizes)} bytes", name, number)
    return _Row(call, share, f"value {_any_of(spec.values)}", name, number)


def _ioctl_name(spec: IoctlSpec | AnyIoctlSpec) -> str:
    return "uring_cmd" if spec.uring else "ioctl"


def _record(record: RecordSpec) -> str:
    if record.least == record.most:
        times = f"{record.least} " if record.most > 1 else ""
    else:
        times = f"{record.least} to {record.most} "
    return f"{times}{record.struct.c_type} of {record.struct.size} bytes"


def _any_of(numbers: Sequence[int]) -> str:
    shown = [str(n) if abs(n) < 65536 else f"{n:#x}" for n in dict.fromkeys(numbers)]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:5], "..."])


def _cells(row: _Row) -> tuple[str, ...]:
    number = row.number
    return (
        "-" if row.share is None else f"{100 * row.share:.1f} %",
        row.call,
        "" if number is None else f"{number:#x}",
        "" if number is None else ioctl_parts(number)[0],
        row.argument,
        "" if row.size is None else str(row.size),
    )
