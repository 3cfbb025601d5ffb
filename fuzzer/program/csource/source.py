# SPDX-License-Identifier: Apache-2.0
"""A whole reproducer in C; the same programs always give the same text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import PurePosixPath

from fuzzer.program.children import as_made, end_of_child
from fuzzer.program.csource.calls import CallWriter, Printed
from fuzzer.program.csource.helpers import HELPERS, closure
from fuzzer.program.csource.literals import c_string
from fuzzer.program.csource.mappings import KEPT_PAGES
from fuzzer.program.kinds import handle_names
from fuzzer.program.links import links
from fuzzer.program.ops import FLAG_WAITS, Op, flags_used
from fuzzer.program.preload import shared_preload
from fuzzer.program.program import Call, Program
from fuzzer.program.text import reset_program
from fuzzer.program.text_parser import struct_layouts
from fuzzer.program.wire import decode, encode
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import ResetKind, Target, module_name

MAPPED_PAGE = "of a mapped page"
"""The end of the title of a crash that is a page freed while it is mapped."""

_HANDLE = re.compile(r'"(?:[^"\\]|\\.)*"|(?<![\w.>])h[0-7]\b')

MOST_BEFORE = 64
"""The most steps before a program in one file; nobody would read a longer file."""


def can_precede(history: Sequence[Program]) -> bool:
    """Tell whether a history is short enough for a C file: at most ``MOST_BEFORE`` steps.

    Equal programs in a row are one step.
    """
    return len(_steps(history)) <= MOST_BEFORE


def c_source(
    program: Program,
    target: Target,
    title: str = "",
    history: Sequence[Program] = (),
    header_names: Sequence[str] | None = None,
    *,
    printed: Printed | None = None,
) -> str:
    """Return a program as one C file; the target's headers have to lie beside it.

    The headers have their own names there, or ``header_names``.

    The programs of ``history`` run before it, once. A program with threads is
    repeated until the kernel reports something. One in which loading the module fails at an
    allocation is repeated with the next few allocations failing. Where several runs begin by
    loading the module in the same way, this is done once before them, as on the preloaded
    machine they come from. ``title`` is the title of the crash, for the comment at the top,
    ``printed`` the bytes or the result that it prints.
    """
    program, history = as_made(program), [as_made(each) for each in history]
    names: dict[int, str] = {}
    for spec in target.calls:
        if isinstance(spec, IoctlSpec) and spec.name is not None:
            names.setdefault(spec.number, spec.name)
    # Without a header for user space names are written as numbers, and structs as bytes.
    has_header = target.prelude is not None
    writer = CallWriter(names, struct_layouts(target) if has_header else {}, target.devices)
    loops = any(call.thread or call.op is Op.FLIP for call in program)
    functions: list[str] = []
    names_of: dict[Program, str] = {}
    before: list[str] = []
    params = target.module.params.encode()
    if preload := _shared_preload((*history, program)) if history or loops else ():
        params = next(call.data for call in preload if call.op is Op.LOAD)
        history = [earlier[len(preload) :] for earlier in history]
        program = program[len(preload) :]
        printed = printed and replace(printed, call=printed.call - len(preload))
        loading = [call for call in preload if call.op in {Op.UNLOAD, Op.LOAD}]
        body = _indent(_calls(loading, writer, functions))
        functions.append(f"static void preload(void)\n{{\n{body}}}\n")
        before.append("preload();")
    for earlier, times in _steps(history):
        if earlier not in names_of:
            names_of[earlier] = f"before_{len(names_of) + 1}"
            _add_function(
                names_of[earlier], earlier, target, writer, functions, params=params, again=True
            )
        if times > 1:
            before.append(f"for (int i = 0; i < {times}; i++)")
        before.append("\t" * (times > 1) + f"{names_of[earlier]}();")
    calls = [call for each in (*history, program) for call in each]
    looks = title.endswith(MAPPED_PAGE)
    again = loops or looks or any(call.op is Op.LOAD and call.fault for call in calls)
    _add_function(
        "run",
        program,
        target,
        writer,
        functions,
        params=params,
        again=again,
        printed=printed,
        looks=looks,
    )
    defined = {} if has_header else {name: number for number, name in names.items()}
    if header_names is None:
        header_names = [header.name for header in target.headers]
    text = _file(
        target, title, writer, functions, before, headers=header_names, names=defined, loops=loops
    )
    return _renamed(text, handle_names(target))


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """Return C text with other names of handles, but for members and in strings."""
    if not names:
        return text
    return _HANDLE.sub(lambda match: names.get(match[0], match[0]), text)


def _shared_preload(programs: Sequence[Program]) -> Program:
    """Return the preload of programs: calls that load the module and that all begin with."""
    return decode(shared_preload([encode(program) for program in programs]))


def _steps(history: Sequence[Program]) -> list[tuple[Program, int]]:
    """Return the programs with the number of times that each runs in a row."""
    return [(program, len(list(alike))) for program, alike in groupby(history)]


def _add_function(
    name: str,
    program: Program,
    target: Target,
    writer: CallWriter,
    functions: list[str],
    *,
    params: bytes,
    again: bool,
    printed: Printed | None = None,
    looks: bool = False,
) -> None:
    """Add a function that runs a program; ``again`` tells that another run may follow.

    ``params`` are the parameters of the module. With ``looks`` it shows which of the pages
    that it has mapped were freed, as the kernel has nothing to say of them.
    """
    writer.open_files = {}
    writer.flips = {}
    body = writer.first_file()
    if again:
        found = links(fixup for call in program for fixup in call.fixups)
        handles = {link.number for link in found if not link.is_file}
        body += [f"h{number} = 0;" for number in sorted(handles)]
    body += _calls(program, writer, functions, printed)
    if looks and writer.mapped:
        writer.needs.helpers.add("look_through")
        body += [f"look_through({number});" for number in sorted(writer.mapped)]
    body += _ending(program, target, writer, params=params, again=again)
    functions.append(f"static void {name}(void)\n{{\n{_indent(body)}}}\n")


def _calls(
    program: Sequence[Call],
    writer: CallWriter,
    functions: list[str],
    printed: Printed | None = None,
) -> list[str]:
    """Return the lines of all calls; those of threads are put into functions."""
    lines: list[str] = []
    part: list[Call] = []
    waiting = False
    child_end = 0
    for index, call in enumerate((*program, None)):
        if index < child_end:
            continue
        # Here the executor interrupts calls that wait.
        if waiting and (call is None or call.thread or call.op in {Op.LOAD, Op.UNLOAD}):
            lines.append("end_waiting();")
            waiting = False
        if call is not None and call.thread:
            part.append(call)
            continue
        if part:
            lines += _part(part, writer, functions)
            part = []
        if call is None:
            break
        if call.op is Op.CHILD:
            child_end = end_of_child(program, index)
            lines += _child(program[index + 1 : child_end], writer, functions)
            continue
        if call.flags & flags_used(call.op, call.flags) & FLAG_WAITS:
            lines += _waiting(call, writer, functions)
            waiting = True
            continue
        lines += writer.lines(call, printed if printed and printed.call == index else None)
        if waiting:
            lines.append("usleep(1000);")
    return lines


def _child(calls: Sequence[Call], writer: CallWriter, functions: list[str]) -> list[str]:
    """Return the lines in which another process makes calls, and is waited for."""
    writer.needs.includes |= {"sys/wait.h", "unistd.h"}
    known = dict(writer.open_files), set(writer.mapped)
    # Its ring is its own.
    before = ["close_ring();"] if writer.uses_ring else []
    inside = [*before, *_calls(calls, writer, functions), "_exit(0);"]
    writer.open_files, writer.mapped = known
    return ["if (!fork()) {", *(f"\t{line}" if line else "" for line in inside), "}", "wait(NULL);"]


def _waiting(call: Call, writer: CallWriter, functions: list[str]) -> list[str]:
    """Return the line that makes a call which waits, on a thread of its own."""
    lines = ["(void)unused;"]
    made = writer.lines(call)
    writer.needs.helpers.add("leave_waiting")
    if any("before_gap(" in line for line in made):
        lines.append("gap = make_gap();")
    lines += [*made, "return NULL;"]
    name = f"waiting_{len(functions) + 1}"
    functions.append(f"static void *{name}(void *unused)\n{{\n{_indent(lines)}}}\n")
    return [f"leave_waiting({name});"]


def _part(part: list[Call], writer: CallWriter, functions: list[str]) -> list[str]:
    writer.needs.helpers.add("run_threads")
    made: list[str] = []
    for thread in sorted({call.thread for call in part}):
        calls = [line for call in part if call.thread == thread for line in writer.lines(call)]
        name = f"thread_{len(functions) + 1}"
        lines = ["(void)unused;"]
        if any("before_gap(" in line for line in calls):
            writer.needs.helpers.add("thread_gap")
            lines.append(f"gap = thread_gap({thread});")
        lines += ["meet();", *calls, "return NULL;"]
        functions.append(f"static void *{name}(void *unused)\n{{\n{_indent(lines)}}}\n")
        made.append(name)
    array = f"(void *(*const[])(void *)){{ {', '.join(made)} }}"
    return [f"run_threads({len(made)}, {array});"]


def _ending(
    program: Program, target: Target, writer: CallWriter, *, params: bytes, again: bool
) -> list[str]:
    """Return the lines for the end of a program, as in the executor: reset and closing of files."""
    lines: list[str] = []
    altered = any(call.op in {Op.LOAD, Op.UNLOAD} for call in program)
    reload = target.reset.kind is ResetKind.RELOAD
    if altered or (reload and again):
        lines += _close_all(writer)
        lines += writer.lines(Call(Op.UNLOAD))
        lines += writer.lines(Call(Op.LOAD, data=params))
    if target.reset.kind is ResetKind.CALLS:
        if writer.open_files.get(0, -1) != 0:
            lines += writer.first_file()
        for call in reset_program(target):
            lines += writer.lines(call)
    lines += _close_all(writer)
    return ["", "/* Back to how it was. */", *lines] if lines else []


def _close_all(writer: CallWriter) -> list[str]:
    lines = [
        line for file in sorted(writer.open_files) for line in writer.lines(Call(Op.CLOSE, file))
    ]
    if "control_epoll" in writer.needs.helpers:
        lines += ["close(epoll);", "epoll = -1;"]
    if {"splice_from", "splice_to"} & writer.needs.helpers:
        lines.append("close_pipe();")
    lines += [f"unmap({number}, 0, {KEPT_PAGES});" for number in sorted(writer.mapped)]
    return [*lines, "close_ring();"] if writer.uses_ring else lines


def _file(
    target: Target,
    title: str,
    writer: CallWriter,
    functions: list[str],
    before: list[str],
    *,
    headers: Sequence[str],
    names: Mapping[str, int],
    loops: bool,
) -> str:
    """Return the whole text of the file; ``names`` are the macros that no header defines."""
    needs = writer.needs
    if loops:
        needs.helpers.add("taint")
    nodes = _make_nodes(target, writer)
    helpers = closure(needs.helpers)
    includes = {"fcntl.h", "stdint.h", *needs.includes}
    for name in helpers:
        includes |= set(HELPERS[name].includes)
    takes_module = "load" in helpers
    if takes_module:
        includes.add("stdio.h")
    usage = f"./repro {target.module.name}.ko" if takes_module else "./repro"
    comment = ["/*", *([f" * {title}", " *"] if title else [])]
    comment += [
        " * Build: cc -Wall -Wextra -static -pthread repro.c -o repro",
        f" * Run, as root and with the module loaded: {usage}",
        " */",
    ]
    text = "\n".join(comment) + "\n#define _GNU_SOURCE\n"
    text += "".join(f"#include <{name}>\n" for name in sorted(includes))
    if headers and target.prelude is not None:
        lines = [*target.prelude, *(f'#include "{name}"' for name in headers)]
        text += "\n" + "".join(f"{line}\n" for line in lines)
    text += f'\n#define DEVICE\t"{target.device}"\n'
    body = "\n".join(functions)
    for name, number in names.items():
        if re.search(rf"\b{name}\b", body):
            text += f"#ifndef {name}\n#define {name}\t{number:#x}\n#endif\n"
    if "unload" in helpers:
        text += f'#define MODULE\t"{module_name(target.module.name)}"\n'
    text += f"\nstatic int {', '.join(f'f{file} = -1' for file in sorted(needs.files))};\n"
    if needs.handles:
        text += f"static uint64_t {', '.join(f'h{number}' for number in sorted(needs.handles))};\n"
    if needs.buffer:
        text += f"static char buffer[{needs.buffer}];\n"
    parts = [HELPERS[name].text for name in helpers] + nodes + functions
    before = ["make_nodes();", *before] if nodes else before
    return text + "".join("\n" + part for part in [*parts, _main(helpers, before, loops)])


def _make_nodes(target: Target, writer: CallWriter) -> list[str]:
    """Return the function that makes device nodes, if the description has any to make."""
    if all(device.major is None for device in target.devices):
        return []
    lines: list[str] = []
    for number in sorted(writer.needs.devices):
        device = target.devices[number]
        if device.major is None:
            continue
        writer.needs.helpers.add("make_node")
        path = c_string(device.path.encode(), width=None)[0]
        for parent in reversed(PurePosixPath(device.path).parents):
            if len(parent.parts) > 2:
                lines.append(f"mkdir({c_string(str(parent).encode(), width=None)[0]}, 0755);")
        major = str(device.major)
        if isinstance(device.major, str):
            writer.needs.helpers.add("find_major")
            major = f"find_major({c_string(major.encode())[0]}, {int(device.block)})"
        kind = "S_IFBLK" if device.block else "S_IFCHR"
        lines.append(f"make_node({path}, {kind}, {major}, {device.minor});")
    return [f"static void make_nodes(void)\n{{\n{_indent(lines)}}}\n"]


def _main(helpers: list[str], before: list[str], loops: bool) -> str:
    lines: list[str] = []
    if loops:
        lines += ["long before = taint();", ""]
    if "load" in helpers:
        lines += [
            "if (argc != 2) {",
            '\tfprintf(stderr, "usage: %s MODULE.ko\\n", argv[0]);',
            "\treturn 2;",
            "}",
            "read_image(argv[1]);",
        ]
    if "prepare_faults" in helpers:
        lines.append("prepare_faults();")
    if "before_gap" in helpers:
        lines.append("gap = make_gap();")
    lines += before
    if loops:
        lines.append("for (int i = 0; i < ROUNDS && taint() == before; i++)")
        lines.append("\trun();")
    elif "look_through" in helpers:
        lines += ["for (int i = 0; i < 10; i++)", "\trun();"]
    elif "shift" in helpers:
        lines += ["for (shift = 0; shift < SHIFTS; shift++)", "\trun();"]
    else:
        lines.append("run();")
    lines.append("return 0;")
    arguments = "int argc, char **argv" if "load" in helpers else "void"
    return f"int main({arguments})\n{{\n{_indent(lines)}}}\n"


def _indent(lines: list[str]) -> str:
    return "".join(f"\t{line}\n" if line else "\n" for line in lines)
