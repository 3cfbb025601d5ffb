# SPDX-License-Identifier: Apache-2.0
"""Every command: its purpose, what it needs of the host, an example, and how it ends.

The parser, each command's ``--help``, the man page, the reference in Markdown, shell
completion and the packages to install are all made from this table. The options of a command
are added by its module, which is imported only then: each start reads this one, with the
standard library alone.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse

ABOUT = "A coverage-guided fuzzer for Linux character-device drivers."

INTERRUPTED = 130
_FAILURES = {
    2: "wrong usage or bad input",
    3: "the infrastructure failed (a build, QEMU, the disk); the message says what to do",
    INTERRUPTED: "Ctrl-C",
}
_CRASH = "crashes/kasan-slab-use-after-free-read-in-pkv-store-last"
_WORK = "work/pkv-stale-last"
_FUNCTIONS = (
    "--functions runs all programs once on a machine of its own. A function of which\n"
    "something is left is listed with its blocks reached and the lines of the others, or, if\n"
    "it was never reached, with who calls it and the nearest caller that was. What is within\n"
    "reach and leads to most comes first."
)


def _ends(done: str, other: str = "", **failures: str) -> Mapping[int, str]:
    """Return exit codes: 0 for ``done``, 1 for ``other``, and those of failures.

    ``interrupted`` says more of what Ctrl-C does, ``failed`` of 3, ``unjudged`` of 4.
    """
    codes = {0: done} | ({1: other} if other else {}) | _FAILURES
    codes[INTERRUPTED] = failures.get("interrupted", codes[INTERRUPTED])
    codes[3] = failures.get("failed", codes[3])
    if unjudged := failures.get("unjudged"):
        codes[4] = unjudged
    return dict(sorted(codes.items()))


EXIT_CODES = _ends("done, and nothing found", "a crash, or a failed test, was found")
"""The meanings of the exit codes in general."""


class Need(NamedTuple):
    """Packages of the host that a command uses; with ``option``, only where that is given."""

    packages: str
    option: str = ""


MACHINE = Need("machine")
"""The packages for kernels, drivers and machines."""


class Subcommand(NamedTuple):
    """A command; ``name`` is one word or two, ``module`` has its ``command(options)``.

    What it takes is added to a parser by the function ``options`` of that module, which is
    empty for one that takes nothing. ``example`` is a line for the shell, in a checkout.
    ``details`` are for its help. A named tuple, as each start looks for what is to be installed.
    """

    name: str
    module: str
    summary: str
    example: str
    exit_codes: Mapping[int, str]
    details: str = ""
    options: str = "add_options"
    needs: tuple[Need, ...] = ()

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add what the command takes to a parser."""
        if self.options:
            getattr(importlib.import_module(self.module), self.options)(parser)

    def run(self, options: argparse.Namespace) -> int:
        """Run the command, and return its exit code."""
        return int(importlib.import_module(self.module).command(options))


COMMANDS = (
    Subcommand(
        "run",
        "fuzzer.cli.run",
        "fuzz a driver; store every crash with a program that causes it",
        "./pkvfuzz run --bug stale-last --time 1m",
        _ends(
            "no crash is in the working directory that --known has not",
            "a crash is",
            interrupted="Ctrl-C before anything was fuzzed; later it ends the run with 0, 1 or 4",
            unjudged="no crash was seen, but the run was ended before anything was judged",
        ),
        needs=(MACHINE,),
    ),
    Subcommand(
        "smoke",
        "fuzzer.cli.smoke",
        "give a verdict on a commit in a minute: reproducers, corpus, fuzzing",
        "./pkvfuzz smoke --base HEAD~1",
        _ends(
            "no crash counts",
            "a crash reproduces that the base has not, and that is not accepted",
            unjudged="nothing was judged in time",
        ),
        needs=(MACHINE,),
    ),
    Subcommand(
        "init",
        "fuzzer.cli.init",
        "write a description of a driver, to be edited: build it, load it, look what it has",
        "./pkvfuzz init module -o work/mine.yaml",
        _ends("written"),
        needs=(MACHINE,),
    ),
    Subcommand(
        "replay",
        "fuzzer.cli.replay",
        "run a stored crash again on fresh machines",
        f"./pkvfuzz replay {_CRASH} --times 20",
        _ends("not reproduced; of --gdb: gdb is done", "reproduced, or another crash seen"),
        needs=(MACHINE, Need("debugger", "--gdb")),
    ),
    Subcommand(
        "crashes",
        "fuzzer.cli.crashes",
        "list stored crashes, the most severe first, or show one",
        "./pkvfuzz crashes crashes",
        _ends("shown"),
    ),
    Subcommand(
        "report",
        "fuzzer.cli.report",
        "write a page on a campaign: what happened, what was reached, what crashed",
        f"./pkvfuzz report {_WORK}",
        _ends("written, or served until Ctrl-C"),
        details=(
            "One HTML file that needs nothing else: coverage and speed over time, each crash with\n"
            "its report and program, the driver's source with what was reached of it. It can be\n"
            "made while the campaign runs; --serve keeps it up to date, for this host alone."
        ),
    ),
    Subcommand(
        "compare",
        "fuzzer.cli.compare",
        "show campaigns side by side: coverage over time, speed, time to each bug",
        f"./pkvfuzz compare {_WORK} work/pkv",
        _ends("shown"),
        details=(
            "A side is a working directory, or a directory of several, campaigns of one setting\n"
            "with other seeds. Where both sides have several, Vargha and Delaney's A12 and the p\n"
            "of Mann and Whitney's test say whether a difference is more than chance."
        ),
    ),
    Subcommand(
        "triage",
        "fuzzer.cli.triage",
        "say which kernel reports are in logs, from anywhere",
        f"./pkvfuzz triage {_CRASH}/log.txt",
        _ends("no report, or notices only", "a report is in a log"),
    ),
    Subcommand(
        "minimize",
        "fuzzer.cli.minimize",
        "make a crash's program as small as it can be",
        f"./pkvfuzz minimize {_CRASH}/program.prog --bug stale-last",
        _ends("not reproduced", "reproduced, and the program is as small as it got"),
        needs=(MACHINE,),
    ),
    Subcommand(
        "bisect",
        "fuzzer.cli.bisect",
        "find the revision of a driver that brought a crash, with git",
        "./pkvfuzz bisect work/mydrv/crashes/CRASH --good v1.2",
        _ends("the commit is found", "several are left, as others had to be skipped"),
        needs=(MACHINE,),
    ),
    Subcommand(
        "shell",
        "fuzzer.cli.shell",
        "open a shell in a guest that has the driver loaded, or run a command there",
        "echo 'ls -l /dev/pkv' | ./pkvfuzz shell",
        _ends(
            "the shell or the command has ended, whatever its own status",
            "the kernel reported something while a command, or what came through a pipe, ran",
        ),
        details=(
            "Without COMMAND a terminal has a shell on the guest's console; commands that come\n"
            "through a pipe are run. The kernel's messages are printed as well. The driver's\n"
            "module is in the guest's /tmp. A static program of your own is run by\n"
            "  pkvfuzz shell --put repro -- ./repro ARGUMENTS"
        ),
        needs=(MACHINE,),
    ),
    Subcommand(
        "convert",
        "fuzzer.cli.convert",
        "turn a program's text into wire form, or back",
        "./pkvfuzz convert --c seeds/pkv/list.prog",
        _ends("converted"),
    ),
    Subcommand(
        "corpus",
        "fuzzer.cli.corpus",
        "look at a corpus, or take care of it with one of the commands below",
        f"./pkvfuzz corpus {_WORK}",
        _ends("shown"),
        details=_FUNCTIONS,
        options="add_show",
        needs=(MACHINE._replace(option="--functions"),),
    ),
    Subcommand(
        "corpus show",
        "fuzzer.cli.corpus",
        "say what is in a corpus, or print one of its programs",
        f"./pkvfuzz corpus show {_WORK} --programs",
        _ends("shown"),
        details=_FUNCTIONS,
        options="add_show",
        needs=(MACHINE._replace(option="--functions"),),
    ),
    Subcommand(
        "corpus export",
        "fuzzer.cli.corpus",
        "write a corpus as text, a .prog file for each program",
        f"./pkvfuzz corpus export {_WORK} work/exported",
        _ends("written"),
        options="add_export",
    ),
    Subcommand(
        "corpus import",
        "fuzzer.cli.corpus",
        "put programs into a corpus: .prog files, or files in wire form",
        f"./pkvfuzz corpus import {_WORK} seeds/pkv",
        {**_ends("all added, or there already"), 2: "wrong usage, or a file was left out"},
        options="add_import",
    ),
    Subcommand(
        "corpus merge",
        "fuzzer.cli.corpus",
        "add the programs of other corpora that cover something new",
        f"./pkvfuzz corpus merge {_WORK} seeds/pkv",
        _ends("merged"),
        options="add_merge",
        needs=(MACHINE,),
    ),
    Subcommand(
        "corpus minimize",
        "fuzzer.cli.corpus",
        "reduce a corpus to few and short programs that cover the same",
        f"./pkvfuzz corpus minimize {_WORK}",
        _ends("reduced"),
        options="add_minimize",
        needs=(MACHINE,),
    ),
    Subcommand(
        "bugs",
        "fuzzer.cli.bugs",
        "list the planted bugs of a driver, for run --bug",
        "./pkvfuzz bugs",
        _ends("listed"),
    ),
    Subcommand(
        "kernel",
        "fuzzer.cli.kernel",
        "list the kernels, or say where to build a module for one",
        "./pkvfuzz kernel --path fast",
        _ends("listed, or printed"),
        details=(
            "A kernel loads only modules that were built against it, and a campaign has two:\n"
            "fast fuzzes, full judges. In a driver's directory,\n"
            "  make -C $(pkvfuzz kernel --path fast) M=$PWD modules\n"
            "makes a .ko for fast, with coverage and sanitizer turned on."
        ),
        needs=(MACHINE,),
    ),
    Subcommand(
        "cache list",
        "fuzzer.cli.cache",
        "say what is in the cache: kernels, templates, drivers",
        "./pkvfuzz cache list",
        _ends("listed"),
        options="add_list",
    ),
    Subcommand(
        "cache clean",
        "fuzzer.cli.cache",
        "remove from the cache what was not used for long; nothing that is in use",
        "./pkvfuzz cache clean --older 7d --dry-run",
        _ends("done"),
        options="add_clean",
    ),
    Subcommand(
        "cache export",
        "fuzzer.cli.cache",
        "write what a campaign needs into one file: kernels, templates, maybe a corpus",
        "./pkvfuzz cache export pkv.cache",
        _ends("written"),
        details=(
            "What is missing for fuzzing DRIVER is built first. The same content gives the same\n"
            "bytes. The file is a tar archive, compressed by zstd."
        ),
        options="add_export",
        needs=(MACHINE, Need("archive")),
    ),
    Subcommand(
        "cache import",
        "fuzzer.cli.cache",
        "put into the cache what another host exported",
        "./pkvfuzz cache import pkv.cache",
        _ends("imported"),
        details=(
            "Whole or not at all. Kernels of another compiler, and templates of another QEMU or\n"
            "accelerator, are of no use and stay unused; that is said. Import only what you would\n"
            "run: programs in it run in the sandbox that drivers are built in."
        ),
        options="add_import",
        needs=(Need("archive"),),
    ),
    Subcommand(
        "target check",
        "fuzzer.cli.target",
        "say what is wrong with a description, and what will be fuzzed",
        "./pkvfuzz target check module/pkv.yaml",
        _ends("it can be used; there may be warnings and notes"),
        options="add_check",
    ),
    Subcommand(
        "target schema",
        "fuzzer.cli.target",
        "print the JSON Schema of descriptions, for editors",
        "./pkvfuzz target schema --path",
        _ends("printed"),
        details=(
            "A description whose first line is\n"
            "  # yaml-language-server: $schema=PATH\n"
            "is completed and checked by editors that know YAML's language server."
        ),
        options="add_schema",
    ),
    Subcommand(
        "bench",
        "fuzzer.cli.bench",
        "measure speed; prints ratios, and counts that noise cannot change",
        "./pkvfuzz bench --time 5s",
        _ends("measured"),
        needs=(MACHINE,),
    ),
    Subcommand(
        "bench bugs",
        "fuzzer.cli.bench_bugs",
        "measure how soon the fuzzer finds each planted bug",
        "./pkvfuzz bench bugs --bug stale-last --runs 1 --time 1m",
        _ends("each run found its bug", "a run did not find its bug"),
        needs=(MACHINE,),
    ),
    Subcommand(
        "completion",
        "fuzzer.cli.completion",
        "print a script that has a shell complete commands, options and files",
        'eval "$(./pkvfuzz completion bash)"',
        _ends("printed"),
        details="The example as a line of ~/.bashrc; of zsh the same; of fish: ... fish | source",
    ),
    Subcommand(
        "man",
        "fuzzer.cli.man",
        "print the manual page of all commands",
        "./pkvfuzz man | man -l -",
        _ends("printed"),
    ),
    Subcommand(
        "doctor",
        "fuzzer.cli.doctor",
        "say what is missing or slow on this host, and what fixes it",
        "./pkvfuzz doctor",
        _ends("nothing that is needed is missing", failed="something that is needed is missing"),
        options="",
    ),
    Subcommand(
        "test",
        "fuzzer.cli.test",
        "run the project's own checks and tests",
        "./pkvfuzz test --only unit -- -k corpus",
        _ends("all passed", "something failed", failed="something could not be run"),
        needs=(MACHINE, Need("tests"), Need("debugger"), Need("clang")),
    ),
)

BY_NAME = {command.name: command for command in COMMANDS}
