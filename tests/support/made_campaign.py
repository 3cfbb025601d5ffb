# SPDX-License-Identifier: Apache-2.0
"""Working directories of campaigns that nobody ran, of any size, for what reads them.

    python -m tests.support.made_campaign DIR --programs 100000 --crashes 500 --functions 400

The driver is compiled by the host's gcc; its build has to stay in the cache for the source to be
shown. All else is written by what writes it in a campaign.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer.cache import build_once, content_key
from fuzzer.campaign.driver_record import DriverRecord, write_driver_record
from fuzzer.crash.crash import Crash, Identity
from fuzzer.crash.store import CrashStore, slug_of
from fuzzer.crash.trace import keep_trace
from fuzzer.driver.blocks import Block, read_blocks
from fuzzer.driver.driver import Driver
from fuzzer.driver.known_builds import find_build, note_build
from fuzzer.engine.compared import ComparedFile, compared_file
from fuzzer.engine.reached import ReachedFile, reached_file
from fuzzer.machine.channel import Comparisons
from fuzzer.paths import own_description
from fuzzer.program.comparison import Comparison
from fuzzer.program.conditions import with_fault
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, split
from fuzzer.report.source_map import SourceMap, source_map
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.symbols import SymbolFile
from fuzzer.state.document import BlockRecord, CallRecord, CrashRecord, EventKind, EventRecord
from fuzzer.state.writer import StateWriter
from fuzzer.target.target import Target, load_target
from tests.unit.state_records import JUDGE, MACHINE, REMARK, ROW, RUN, WALL

MAGIC = 0xFEED
"""A constant that the made driver compares with, and that no operand was equal to."""

NEAREST = (0xFEE0, 0xFF00)
"""The operands that were nearest to it, below and above."""

UNDESCRIBED = 0x40087099
"""An ioctl that the made driver compares, and no description has: _IOW('p', 0x99, 8 bytes)."""

_NAME = "drv"
_HEADER = "extern volatile long drv_state;\nlong drv_alloc(long size);\n\n"
# Marks in comments say what programs reached; {} is the number of the function.
_FUNCTION = """\
/* <script>alert("source")</script> */
__attribute__((noinline)) long drv_call{0}(long size, long value)
{{
	long memory = drv_alloc(size);

	if (memory < 0)
		drv_state = -12; /* under a fault */
	if (value == 0xfeed) /* never equal */
		drv_state += 3; /* missed */
	else
		drv_state += 5; /* reached */
	while (value > size)
		value -= drv_state;
	return memory + value;
}}

"""
_REPORT = """\
BUG: KASAN: slab-use-after-free in {function}+{offset:#x}/{size:#x} [drv]
Read of size 8 at addr ffff888003c98400 by task executor/27

CPU: 0 UID: 0 PID: 27 Comm: executor Not tainted 6.12.1 #1
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
 print_report+0x171/0x4c0
 kasan_report+0xf4/0x130
 {function}+{offset:#x}/{size:#x} [drv]
 vfs_read+0x1cd/0xad0
 ksys_read+0xe5/0x1c0
 do_syscall_64+0x4b/0x110
 entry_SYSCALL_64_after_hwframe+0x77/0x7f
 </TASK>

Allocated by task 27:
 kasan_save_stack+0x33/0x60
 __kasan_kmalloc+0x8f/0xa0
 {function}+{offset:#x}/{size:#x} [drv]
 vfs_write+0x20d/0xde0

Memory state around the buggy address:
{memory}
"""
_MEMORY = " ffff888003c98{0:03x}: fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb fb"


@dataclass(frozen=True, slots=True)
class MadeDriver:
    """A driver that was compiled here: its blocks, and the source of them."""

    driver: Driver
    blocks: tuple[Block, ...]
    source: SourceMap

    def marked(self, mark: str) -> list[int]:
        """Return the numbers of the blocks that begin at a line with a mark."""
        texts = {name: text.splitlines() for name, text in self.source.files.items()}
        return [
            number
            for number, start in enumerate(self.source.starts)
            if start and mark in texts[start[0]][start[1] - 1]
        ]


def make_driver(functions: int) -> MadeDriver:
    """Compile a driver of so many functions into the cache, and note it there as a build."""
    source = _HEADER + "".join(_FUNCTION.format(number) for number in range(functions))

    def build(directory: Path) -> None:
        file = directory / f"{_NAME}.c"
        file.write_text(source)
        command = ["gcc", "-O1", "-g", "-fsanitize-coverage=trace-pc", "-c", str(file)]
        subprocess.run([*command, "-o", str(file.with_suffix(".ko"))], check=True, timeout=120)

    key = content_key("made campaign 1", source)
    driver = Driver(_NAME, build_once("driver", key, build) / f"{_NAME}.ko", key)
    note_build(driver)
    blocks = read_blocks(driver.object)
    known = find_build(driver.key)
    assert known
    return MadeDriver(driver, blocks, source_map(known, blocks))


def make_campaign(
    workdir: Path,
    *,
    programs: int = 30,
    crashes: int = 3,
    functions: int = 4,
    seconds: int = 120,
    told: str = "",
) -> MadeDriver:
    """Make a campaign's directory; ``told`` is added to what the kernel and people called things.

    Raises:
        OSError: it cannot be written.
    """
    made = make_driver(functions)
    target = load_target(own_description())
    workdir.mkdir(parents=True, exist_ok=True)
    identity = {"format": 1, "target": target.name, "bug": None}
    (workdir / "campaign.json").write_text(json.dumps(identity) + "\n")
    _write_corpus(workdir / "corpus", programs)
    reached = _write_records(workdir, made, target)
    stored = _store_crashes(workdir, made, target, crashes, told)
    _write_state(workdir, made, stored, sorted(reached), seconds=seconds, programs=programs)
    return made


def _program(number: int) -> bytes:
    text = b"key%d=value\n" % number
    return encode((Call(Op.WRITE, data=text * (1 + number % 4)), Call(Op.READ, arg=number % 4096)))


def _write_corpus(directory: Path, programs: int) -> None:
    directory.mkdir(exist_ok=True)
    for number in range(programs):
        program = _program(number)
        (directory / hashlib.sha1(program, usedforsecurity=False).hexdigest()).write_bytes(program)


def _write_records(workdir: Path, made: MadeDriver, target: Target) -> set[int]:
    """Write what was reached and compared; return the blocks that were reached."""
    missed, faults = set(made.marked("missed")), set(made.marked("under a fault"))
    plain = [each for each in range(len(made.blocks)) if each not in missed | faults]
    record = DriverRecord(
        name=_NAME,
        key=made.driver.key,
        flavour="fast",
        release="6.12.1",
        target=target.name,
        description=str(target.path),
        blocks=made.blocks,
        loaded=frozenset(plain[:1]),
        sections={".text": 0},
        ioctls={},
        any_ioctl=False,
    )
    write_driver_record(workdir, record)
    first = ReachedFile(reached_file(workdir, "worker-0"), made.driver.key, target)
    for number, start in enumerate(range(0, len(plain), 3)):
        first.note(_program(number), _counters(made, plain[start : start + 3]))
    failing = b"".join([with_fault(split(_program(0))[0], 1), *split(_program(0))[1:]])
    first.note(failing, _counters(made, sorted(faults)))
    compared = ComparedFile(compared_file(workdir, "worker-0"), made.driver.key)
    for block in made.marked("never equal"):
        # The call of the block stands for the comparison behind it.
        site = made.blocks[block].offset
        found = tuple(Comparison(MAGIC, each, 0, 8, True, site) for each in (*NEAREST, 7))
        compared.note(Comparisons(able=True, found=found, dropped=0))
    compared.write([UNDESCRIBED], now=True)
    return {*plain, *faults}


def _counters(made: MadeDriver, blocks: Sequence[int]) -> bytes:
    counters = bytearray(len(made.blocks))
    for each in blocks:
        counters[each] = 1
    return bytes(counters)


def _store_crashes(
    workdir: Path, made: MadeDriver, target: Target, crashes: int, told: str
) -> list[Crash]:
    """Store crashes, each in a function of its own while there are any."""
    symbols = SymbolFile(made.driver.object, _NAME)
    functions = sorted(
        {each for each in made.source.functions if each.startswith(f"{_NAME}_call")},
        key=lambda name: int(name.removeprefix(f"{_NAME}_call")),
    )
    store = CrashStore(workdir / "crashes")
    stored = []
    for number in range(crashes):
        function = functions[number % len(functions)]
        report = _REPORT.format(
            function=function,
            offset=16,
            size=-(-symbols.sizes(function)[0] // 16) * 16,
            memory="\n".join(map(_MEMORY.format, range(0, 0x800, 0x80))),
        )
        report += f"{told}\n" if told else ""
        splat = all_splats(report.splitlines())[0]
        title = splat.title + (f" {told}" if told else "")
        title += f" #{number // len(functions)}" if number >= len(functions) else ""
        crash = Crash(
            title=title,
            kind=str(splat.kind),
            function=function,
            judged_on="full",
            reproduced=3,
            runs=3,
            sightings=number + 1,
            sighted_as=(title,),
            identity=Identity(
                target.name, str(target.path), None, "full", made.driver.key, "7.2", "tcg"
            ),
            report=report,
            first_log=report,
            program=_program(number),
        )
        path = store.put(crash, target)
        keep_trace(path, f"write(f0, ...) = 12 {told}\nread(f0) = -1 EIO\n")
        stored.append(crash)
    return stored


def _write_state(
    workdir: Path,
    made: MadeDriver,
    crashes: Sequence[Crash],
    reached: Sequence[int],
    *,
    seconds: int,
    programs: int,
) -> None:
    writer = StateWriter(workdir)
    end = WALL + seconds
    with writer.changing():
        run = replace(
            RUN, driver=made.driver.key, target="pkv", fuzzed=float(seconds), ended=end, alive=end,
            ended_by="the time was over",
        )  # fmt: skip
        writer.put("run", run)
        for at in range(seconds + 1):
            writer.add_row(
                replace(
                    ROW,
                    at=float(at),
                    wall=WALL + at,
                    programs=1000 * at,
                    calls=9000 * at,
                    covered=round(len(reached) * (at / seconds) ** 0.3),
                    blocks=len(made.blocks),
                    corpus=round(programs * at / seconds),
                    crashes=len(crashes) * at // seconds,
                )
            )
        writer.put("machine", MACHINE)
        writer.put("judge", JUDGE, only=1)
        writer.put("remark", REMARK)
        for number, crash in enumerate(crashes):
            _put_crash(writer, crash, seconds * (number + 1) / (len(crashes) + 1))
        for block, place in enumerate(made.blocks):
            first = seconds * 0.9 if block in reached else None
            wall = None if first is None else WALL + first
            record = BlockRecord(
                block, place.section, place.offset, None if first is None else 1, first, wall
            )
            writer.put("block", record)
        _put_calls(writer)
    writer.close()


def _put_crash(writer: StateWriter, crash: Crash, at: float) -> None:
    slug = slug_of(crash.title)
    record = CrashRecord(
        slug, crash.title, crash.kind, crash.function or "", "high", 70, crash.reproduced,
        crash.runs, crash.verdict(), crash.judged_on, "", "", crash.sightings, 1, at, WALL + at,
    )  # fmt: skip
    writer.put("crash", record)
    writer.add_event(EventRecord(1, at, WALL + at, EventKind.CRASH, slug, crash.title))


def _put_calls(writer: StateWriter) -> None:
    calls = (
        CallRecord(int(Op.WRITE), 0, "write", True, {0: 900, 22: 40, 12: 3}),
        CallRecord(int(Op.READ), 0, "read", True, {0: 700}),
        CallRecord(int(Op.IOCTL), UNDESCRIBED, f"ioctl {UNDESCRIBED:#x}", False, {25: 6}),
    )
    for call in calls:
        writer.execute(
            "INSERT INTO call (op, number, name, described) VALUES (?, ?, ?, ?)",
            (call.op, call.number, call.name, int(call.described)),
        )
        for error, count in call.outcomes.items():
            writer.execute(
                "INSERT INTO outcome (op, number, error, count) VALUES (?, ?, ?, ?)",
                (call.op, call.number, error, count),
            )


def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("workdir", type=Path, metavar="DIR")
    parser.add_argument("--programs", type=int, default=100_000)
    parser.add_argument("--crashes", type=int, default=500)
    parser.add_argument("--functions", type=int, default=400)
    parser.add_argument("--seconds", type=int, default=28_800)
    options = parser.parse_args()
    made = make_campaign(
        options.workdir,
        programs=options.programs,
        crashes=options.crashes,
        functions=options.functions,
        seconds=options.seconds,
    )
    print(f"{options.workdir}: {len(made.blocks)} blocks")


if __name__ == "__main__":
    _main()
