# SPDX-License-Identifier: Apache-2.0
"""The files beside a stored crash for people and other tools; the same crash gives the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzzer.crash.crash import Crash, Identity
from fuzzer.crash.headers import stored_headers
from fuzzer.crash.leak_report import leaked_ranges, leaking_call
from fuzzer.crash.leaks import ARGUMENTS, FILE, LEAK, MINIMUM_AGE, SCANS
from fuzzer.crash.meaning import meaning_of
from fuzzer.crash.poison import INFO_LEAK
from fuzzer.paths import project_root
from fuzzer.program.csource.calls import Printed
from fuzzer.program.csource.source import c_source, can_precede
from fuzzer.program.wire import decode
from fuzzer.splat.splat import to_json
from fuzzer.target.target import Target
from fuzzer.untrusted import read_bytes

README, REPORT, SOURCE = "README.md", "report.json", "repro.c"
# Names of a crash's own files, which no stored header may have.
_OTHERS = frozenset(
    (
        *(README, REPORT, SOURCE, "repro", "crash.json"),
        *("report.txt", "report.raw.txt", "log.txt", "first-seen.txt"),
    )
)


def write_bundle(directory: Path, crash: Crash, target: Target) -> None:
    """Write the README, the structured report and the program as C into a crash's directory.

    Raises:
        OSError: the disk is full.
    """
    history = tuple(decode(each) for each in crash.history)
    if not can_precede(history):
        history = ()
    names = _copy_description(directory, target)
    printed = _printed(crash)
    source = c_source(decode(crash.program), target, crash.title, history, names, printed=printed)
    (directory / SOURCE).write_text(source)
    (directory / REPORT).write_text(json.dumps(_report_json(crash), indent=2) + "\n")
    (directory / README).write_text(
        _readme(crash, source, target, lacks=len(crash.history) - len(history))
    )


def _printed(crash: Crash) -> Printed | None:
    """Return what a program in C prints of a crash that no kernel reports."""
    call = leaking_call(crash.report) if crash.kind == INFO_LEAK else None
    return None if call is None else Printed(call, tuple(leaked_ranges(crash.report)))


def _copy_description(directory: Path, target: Target) -> list[str]:
    """Copy the headers beside the program in C, and a description that is not the project's.

    Returns the names of the headers that the program includes. Files that were removed since
    they were read are left out: a crash is stored all the same.
    """
    path = target.path.resolve()
    taken = {*_OTHERS, path.name}
    headers = stored_headers(target, taken)
    for header in headers:
        (directory / header.name).write_bytes(header.text)
    if not path.is_relative_to(project_root()) and path.is_file():
        (directory / path.name).write_bytes(read_bytes(path))
        # The description and the headers refer to headers by these paths.
        for header in headers:
            if header.path.is_relative_to(path.parent):
                _copy_below(directory, header.path, header.path.relative_to(path.parent))
    names = {header.path: header.name for header in headers}
    return [names.get(header, header.name) for header in target.headers]


def _copy_below(directory: Path, header: Path, place: Path) -> None:
    """Copy a header into a subdirectory."""
    if len(place.parts) > 1:
        copy = directory / place
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(read_bytes(header))


def _report_json(crash: Crash) -> dict[str, Any]:
    if crash.splat.is_reported:
        return to_json(crash.splat)
    return {"title": crash.title, "kind": crash.kind, "function": crash.function}


def _readme(crash: Crash, source: str, target: Target, *, lacks: int) -> str:
    """Return the README; ``source`` leaves out ``lacks`` programs of the history."""
    identity = crash.identity
    lines = [f"# {crash.title}", ""]
    where = f"In `{crash.function}`, {crash.verdict()}" if crash.function else crash.verdict()
    kernel = "" if crash.unseen_on or crash.instead else f" on the `{crash.judged_on}` kernel"
    lines.append(f"{where[0].upper()}{where[1:]}{kernel}.")
    if crash.splat.is_reported:
        severity = crash.splat.severity
        reasons = "; ".join(severity.reasons)
        lines.append(f"Severity: {severity.level}, {severity.score} of 100 ({reasons}).")
    if crash.also_titles:
        lines.append(f"The same bug was also seen as: {'; '.join(crash.also_titles)}.")
    if meaning := meaning_of(crash.report, (*crash.history, crash.program)):
        lines.append(meaning)
    if identity.bug:
        lines.append(f"The driver had the planted bug `{identity.bug}`.")
    lines += ["", "To see it, with this directory:", "", "    ./pkvfuzz replay DIRECTORY", ""]
    lines += ["Or, in a guest that has the driver loaded, what this makes of `repro.c`:", ""]
    lines += ["    cc -Wall -Wextra -static -pthread repro.c -o repro"]
    shell = "./pkvfuzz shell --crash DIRECTORY --put DIRECTORY/repro"
    run = "./repro"
    takes_module = "MODULE.ko" in source
    if takes_module:
        run += f" {target.module.name}.ko"
    if crash.kind == LEAK:
        scan = f"sleep {MINIMUM_AGE}; echo scan > {FILE}"
        look = "; ".join([f"echo clear > {FILE}", run, *[scan] * SCANS, f"cat {FILE}"])
        lines += [f"    {shell} -- sh -c \\", f"      '{look}'", ""]
        lines += [f"A guest of yours needs `{ARGUMENTS}` for its kernel to tell what was lost.", ""]
    else:
        lines += [f"    {shell} -- {run}", ""]
    if crash.kind == INFO_LEAK:
        lines += [
            "It prints the bytes, which are what the memory held before.",
            "",
        ]
    if takes_module:
        lines += ["Its argument is the driver's .ko, which it unloads and loads.", ""]
    if lacks:
        ran = f"It needs the {lacks} programs in `history.bin` before it."
        if not crash.reproduced:
            ran = f"The {lacks} programs in `history.bin` ran before it."
        lines += [f"{ran} They are too many", "to be written as C: `repro.c` lacks them.", ""]
    return "\n".join([*lines, *_versions(identity)]) + "\n"


def _versions(identity: Identity) -> list[str]:
    """Return the table of the versions that a crash was found with; unknown ones are left out."""
    rows = {
        "kernel": f"{identity.release} ({identity.kernel})"
        if identity.release
        else identity.kernel,
        "kernel's configuration": identity.config,
        "kernel's compiler": identity.compiler,
        "driver": identity.driver,
        "driver's compiler": identity.driver_compiler,
        "QEMU": identity.qemu,
        "accelerator": identity.accel,
        "parameters": identity.params or "-",
        "pkvfuzz": identity.pkvfuzz,
    }
    table = [f"| {name} | {value} |" for name, value in rows.items() if value]
    return ["| found with | |", "| --- | --- |", *table]
