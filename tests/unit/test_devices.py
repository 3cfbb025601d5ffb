# SPDX-License-Identifier: Apache-2.0
"""Drivers with several files: described, opened, fuzzed and written as C by the right names."""

from __future__ import annotations

import random
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from fuzzer.crash.minimizer.passes import minimal
from fuzzer.crash.reproducer import Reproducer
from fuzzer.errors import BadInputError
from fuzzer.program.csource.source import c_source
from fuzzer.program.generate import Generator
from fuzzer.program.mutate import Mutator
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Program
from fuzzer.program.race_pairs import RacePairs
from fuzzer.program.text import format_program, parse_program
from fuzzer.program.wire import decode, encode, encode_call, split
from fuzzer.target.device import Device, DeviceKind, description_of, families
from fuzzer.target.target import ResetKind, ResetSpec, Target, load_target
from tests.unit.test_minimizer_passes import drive

DEMO = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
DEVICES = (
    Device("/dev/demo0", "demo"),
    Device("/dev/demo1", "demo", 1),
    Device("/dev/demo2", "demo", 2),
    Device("/dev/sub/dir/blk", 240, 3, block=True),
    Device("/proc/demo"),
    Device("/sys/kernel/debug/demo/x"),
    Device("/sys/kernel/demo/level"),
)
TARGET = replace(DEMO, devices=DEVICES)


def described(directory: Path, devices: str) -> tuple[Device, ...]:
    """Return the devices of a description with these lines."""
    (directory / "x.ko").touch()
    path = directory / "x.yaml"
    path.write_text(
        f"version: 1\nname: x\nmodule: {{object: x.ko, name: x}}\ncalls: [read: [1]]\n{devices}"
    )
    return load_target(path).devices


def parsed(text: str, target: Target | None = TARGET) -> Program:
    return parse_program(text, target, "x")


def unchanged(data: bytes, max_size: int) -> bytes:
    return data[:max_size]


def mutator(target: Target = TARGET, seed: int = 1) -> Mutator:
    return Mutator(target, random.Random(seed), unchanged)


def first_device(calls: Iterable[Call]) -> int:
    """Return the device that file 0 is after a program's first call."""
    call = next(iter(calls))
    return call.arg if call.op is Op.OPEN and call.file == 0 else 0


def test_a_description_names_devices_in_short_and_in_full(tmp_path: Path) -> None:
    text = """\
devices:
  - /proc/driver/x
  - {path: /dev/x, major: x driver, minor: 0x10}
  - {path: /dev/xblk, major: 240, block: true}
"""
    assert described(tmp_path, text) == (
        Device("/proc/driver/x"),
        Device("/dev/x", "x driver", 16),
        Device("/dev/xblk", 240, 0, block=True),
    )
    assert described(tmp_path, "device: /dev/x\n") == (Device("/dev/x"),)


@pytest.mark.parametrize(
    "devices",
    [
        DEVICES,
        (Device("/dev/x"),),
        (Device("/dev/x", "on"),),
        (Device("/dev/#x", "1e3", 7), Device("/proc/x:y"), Device("/dev/'", "a: b #c")),
    ],
)
def test_the_lines_written_for_devices_are_read_back(
    devices: tuple[Device, ...], tmp_path: Path
) -> None:
    assert described(tmp_path, description_of(devices)) == devices


def test_a_targets_device_is_its_first() -> None:
    assert (TARGET.device, DEMO.device) == ("/dev/demo0", "/dev/demo")


def test_devices_that_differ_in_a_number_are_of_one_family() -> None:
    assert families(DEVICES) == ((0, 1, 2), (3,), (4,), (5,), (6,))
    kinds = [DEVICES[numbers[0]].kind for numbers in families(DEVICES)]
    assert kinds == list(DeviceKind)


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("open(f1)", Call(Op.OPEN, 1, cmd=2)),
        ('open(f0, "/proc/demo")', Call(Op.OPEN, 0, cmd=2, arg=4)),
        ('open(f1, "/dev/demo1", O_RDONLY|O_NONBLOCK)', Call(Op.OPEN, 1, cmd=0o4000, arg=1)),
        ("open(f1) !arg=0x7", Call(Op.OPEN, 1, cmd=2, arg=7)),
    ],
)
def test_an_open_names_its_device(line: str, call: Call) -> None:
    assert parsed(line) == (call,)
    assert format_program((call,), TARGET) == line + "\n"
    # Without the description it is a number, and no less.
    assert parsed(format_program((call,), None), None) == (call,)


def test_the_first_device_may_be_named() -> None:
    assert parsed('open(f0, "/dev/demo0", O_RDONLY)') == (Call(Op.OPEN),)


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ('open(f0, "/dev/dem")', TARGET, "no device '/dev/dem'; the description's are /dev/demo0,"),
        ('open(f0, "/dev/dem")', None, "without a target, give its number, as !arg=1"),
        ('open(f0, O_RDONLY, "/proc/demo")', TARGET, "',' where ')' is expected"),
    ],
)
def test_a_device_that_is_none_is_explained(text: str, target: Target | None, message: str) -> None:
    with pytest.raises(BadInputError, match="x:1: ") as caught:
        parsed(text, target)
    assert message in str(caught.value)


def test_generated_programs_open_every_family_as_often_and_every_device_of_it() -> None:
    generator = Generator(TARGET, random.Random(1))
    calls = [generator.call() for _ in range(60_000)]
    opened = Counter(call.arg for call in calls if call.op is Op.OPEN)
    assert opened.keys() == set(range(len(DEVICES)))
    assert max(opened[0], opened[1], opened[2]) < 1.5 * min(opened[0], opened[1], opened[2])
    assert min(opened[3], opened[4], opened[5]) > 2 * max(opened[0], opened[1], opened[2])
    assert {call.arg for call in calls if call.op is Op.CLOSE} == {0}


def test_files_of_sysfs_are_opened_for_one_way() -> None:
    generator = Generator(TARGET, random.Random(1))
    calls = [call for call in generator.program(128) if call.op is Op.OPEN]
    while len(calls) < 600:
        calls += [call for call in generator.program(128) if call.op is Op.OPEN]
    flags = Counter(call.cmd & 3 for call in calls if call.arg == 6)
    assert min(flags[0], flags[1]) > flags[2] / 2


def test_a_description_without_open_still_has_all_its_devices_opened() -> None:
    quiet = replace(TARGET, calls=DEMO.calls[:2])
    generator = Generator(quiet, random.Random(1))
    assert generator.uses_files
    calls = [call for _ in range(8) for call in generator.program(128)]
    assert {call.arg for call in calls if call.op is Op.OPEN} == set(range(len(DEVICES)))
    assert not Generator(replace(quiet, devices=DEVICES[:1]), random.Random(1)).uses_files


def test_a_single_device_changes_nothing_of_what_is_generated() -> None:
    opens = [call for call in Generator(DEMO, random.Random(3)).program(128) if call.op is Op.OPEN]
    assert opens
    assert {call.arg for call in opens} == {0}


def test_every_device_is_the_main_file_of_programs_made_from_nothing() -> None:
    made = mutator()
    fresh = Counter(first_device(decode(made.fresh())) for _ in range(2000))
    mutants = Counter(first_device(decode(made.mutate(b"", 4096))) for _ in range(2000))
    for found in (fresh, mutants):
        assert found.keys() == set(range(len(DEVICES)))
        assert 500 < found[0] < 1500


def test_a_mutant_may_begin_with_another_device_or_open_another() -> None:
    start = encode(parsed('open(f0, "/proc/demo")\nopen(f1, "/dev/demo1")\nread(f1, 8)\n'))
    made = mutator()
    programs = [decode(made.mutate(start, 4096)) for _ in range(3000)]
    assert {first_device(each) for each in programs if each} == set(range(len(DEVICES)))
    second = {call.arg for each in programs for call in each if (call.op, call.file) == (0, 1)}
    assert second >= {0, 1, 2, 3, 4, 5, 6}


def test_a_reload_within_a_program_gives_it_its_main_file_back() -> None:
    start = encode(parsed('open(f0, "/proc/demo")\nread(f0, 8)\n'))
    made = mutator()
    found = Counter[int]()
    for _ in range(2000):
        calls = decode(made.mutate(start, 4096, slow=True))
        for before, call, after in zip(calls, calls[1:], calls[2:], strict=False):
            if (before.op, call.op) == (Op.UNLOAD, Op.LOAD) and after.op is Op.OPEN:
                found[after.arg] += 1
    assert found[4] > 100
    assert found[0] > 100


def test_calls_that_race_do_so_on_their_own_device() -> None:
    opening = encode(parsed('open(f0, "/proc/demo")\n'))
    program = opening + encode(parsed("read(f0, 1)\nread(f0, 2)\n" * 8))
    meetings = RacePairs(random.Random(1))
    meetings.note(program, split(program))
    races = [meetings.race(64) for _ in range(200)]
    reads = [race for race in races if race[-1][0] == Op.READ]
    assert len(reads) > 50
    assert all(race[0] == opening for race in reads)


def test_a_smaller_device_is_simpler() -> None:
    calls = parsed('open(f1, "/sys/kernel/demo/level")\nread(f1, 8)\nread(f0, 8)\n')

    def shows(reproducer: Reproducer) -> bool:
        return any(call.op is Op.OPEN and call.arg >= 4 for call in decode(reproducer.program))

    left, _ = drive(minimal(Reproducer(encode(calls)), {}), shows)
    assert format_program(decode(left.program), TARGET) == 'open(f0, "/proc/demo")\n'


def test_joined_programs_reset_the_first_device() -> None:
    earlier = encode(parsed('open(f0, "/proc/demo")\nread(f0, 8)\n'))
    reset = parsed("ioctl(f0, DEMO_IOC_CLEAR)\n")
    tried: list[Program] = []

    def shows(reproducer: Reproducer) -> bool:
        if not reproducer.history:
            tried.append(decode(reproducer.program))
        return bool(reproducer.history)

    start = Reproducer(encode(parsed("read(f0, 8)\n")), (earlier,))
    drive(minimal(start, {}, reset), shows)
    assert any(
        (call, after) == (Call(Op.OPEN, cmd=2), reset[0])
        for program in tried
        for call, after in pairwise(program)
    )


def compiled(source: str, directory: Path) -> str:
    """Compile C without a warning, and return it."""
    (directory / "demo.h").write_bytes((DEMO.path.parent / "demo.h").read_bytes())
    (directory / "repro.c").write_text(source)
    command = ["gcc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pthread", "repro.c"]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.returncode, done.stderr + source
    return source


def test_a_reproducer_in_c_opens_each_device_by_its_path_and_makes_its_node(
    tmp_path: Path,
) -> None:
    program = parsed(
        'open(f1, "/proc/demo", O_RDONLY)\nopen(f0, "/dev/sub/dir/blk")\nread(f0, 1)\nread(f1, 1)\n'
    )
    source = compiled(c_source(program, replace(TARGET, reset=ResetSpec())), tmp_path)
    assert '#define DEVICE\t"/dev/demo0"\n' in source
    assert '\tf1 = open("/proc/demo", O_RDONLY);\n' in source
    assert '\tclose(f0);\n\tf0 = open("/dev/sub/dir/blk", O_RDWR);\n' in source
    assert '\tmake_node("/dev/demo0", S_IFCHR, find_major("demo", 0), 0);\n' in source
    assert '\tmkdir("/dev/sub", 0755);\n\tmkdir("/dev/sub/dir", 0755);\n' in source
    assert '\tmake_node("/dev/sub/dir/blk", S_IFBLK, 240, 3);\n' in source
    assert "/dev/demo1" not in source
    assert "\tmake_nodes();\n\trun();\n" in source


def test_a_reproducer_in_c_makes_the_node_again_when_the_module_is_loaded(tmp_path: Path) -> None:
    program = parsed('close(f0)\nunload()\nload("")\nopen(f0)\n')
    source = compiled(c_source(program, replace(TARGET, reset=ResetSpec())), tmp_path)
    assert '\tload("");\n\tmake_nodes();\n\tawait_device();\n' in source


def test_a_reproducer_in_c_resets_the_first_device(tmp_path: Path) -> None:
    reset = ResetSpec(ResetKind.CALLS, ("read(f0, 3)",), (1,))
    target = replace(TARGET, reset=reset)
    replaced = 'open(f0, "/proc/demo")\n'
    source = compiled(c_source(parsed(replaced), target), tmp_path)
    assert "\tclose(f0);\n\tf0 = open(DEVICE, O_RDWR);\n\tread(f0, buffer, 3);\n" in source
    source = c_source(parsed(replaced + "open(f0)\n"), target)
    assert source.count("f0 = open(DEVICE, O_RDWR);") == 2


def test_a_reproducer_in_c_opens_a_file_of_sysfs_for_what_it_allows(tmp_path: Path) -> None:
    target = replace(TARGET, devices=DEVICES[-1:], reset=ResetSpec())
    assert "\tf0 = open_either(DEVICE);\n" in compiled(c_source((), target), tmp_path)


def test_a_stored_program_opens_the_first_device() -> None:
    chunk = encode_call(Call(Op.OPEN, 1, cmd=2))
    assert format_program(decode(chunk), TARGET) == "open(f1)\n"
