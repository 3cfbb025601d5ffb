# SPDX-License-Identifier: Apache-2.0
"""File and line of frames, from objects that gcc makes here."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.errors import BadInputError
from fuzzer.splat.analyse import all_splats
from fuzzer.splat.frames import parse_frame
from fuzzer.splat.stacks import Role
from fuzzer.splat.symbols import SymbolFile, Symbols, source_lines
from fuzzer.splat.triage import with_guilty_by_file

SOURCE = """\
extern volatile int *drv_table;

static inline __attribute__((always_inline)) int drv_peek(int index)
{
	return drv_table[index];
}

__attribute__((noinline)) int drv_read(int index)
{
	return drv_peek(index) + 1;
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("symbols")
    source = directory / "drv.c"
    source.write_text(SOURCE)
    built = directory / "drv.ko"
    subprocess.run(["gcc", "-O2", "-g", "-c", str(source), "-o", str(built)], check=True)
    return built


def log_of(module: Path, *, grown: int = 0) -> str:
    (size,) = SymbolFile(module, "drv").sizes("drv_read")
    # Rounded up, as kallsyms has it.
    size = -(-size // 16) * 16 + grown
    return (
        "BUG: unable to handle page fault for address: ffffc90000201000\n"
        f"RIP: 0010:drv_read+0x{_load(module):x}/0x{size:x} [drv]\n"
        "Call Trace:\n <TASK>\n vfs_read+0x1/0x2\n </TASK>\n"
    )


def _load(module: Path) -> int:
    """Return the offset of an instruction that is of the inlined function."""
    return next(
        offset
        for offset in range(64)
        if len(SymbolFile(module, "drv").locate([(".text", offset)])[".text", offset]) > 1
    )


def test_frames_get_file_and_line_and_what_was_inlined(module: Path) -> None:
    (record,) = all_splats(log_of(module).splitlines())
    symbols = Symbols(None, [module])
    stack = symbols.symbolise(record).stack(Role.FAULT)
    assert stack
    inner, outer = stack.frames
    assert (inner.function, inner.inline, inner.module) == ("drv_peek", True, "drv")
    assert (outer.function, outer.inline, outer.module) == ("drv_read", False, "drv")
    assert inner.file == f"{module.with_suffix('.c')}:5"
    assert outer.file == f"{module.with_suffix('.c')}:10"
    assert symbols.complaints == {}


def test_a_function_of_another_size_is_another_build(module: Path) -> None:
    (record,) = all_splats(log_of(module, grown=128).splitlines())
    symbols = Symbols(None, [module])
    assert symbols.symbolise(record) == record
    (complaint,) = symbols.complaints.values()
    assert "is not what the log is of: drv_read has" in complaint


def test_a_build_id_decides(tmp_path: Path, module: Path) -> None:
    built = tmp_path / "drv.ko"
    words = ["gcc", "-shared", "-O2", "-g", "-fPIC", "-Wl,--build-id=0x" + "ab" * 20]
    subprocess.run([*words, str(module.with_suffix(".c")), "-o", str(built)], check=True)
    file = SymbolFile(built, "drv")
    (size,) = file.sizes("drv_read")
    for digits, same in (("ab", True), ("cd", False)):
        frame = parse_frame(f" drv_read+0x4/0x{size:x} [drv {digits * 20}]")
        assert frame
        assert frame.module == "drv"
        assert (file.address_of(frame, exact=True) is not None) == same


def test_the_source_is_shown_around_the_line(module: Path) -> None:
    lines = source_lines(f"{module.with_suffix('.c')}:5", around=1)
    assert lines == ["     4  {", ">    5  \treturn drv_table[index];", "     6  }"]
    assert source_lines("/no/such/file.c:5") == []
    assert source_lines("nothing") == []


def test_triage_tells_file_line_and_source(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_text(log_of(module))
    assert main(["triage", str(log), "--module", str(module)]) == 1
    told = capsys.readouterr().out
    assert f"[drv] {module.with_suffix('.c')}:5 (inlined)" in told
    assert ">    5  \treturn drv_table[index];" in told
    assert main(["triage", "--json", str(log), "--module", str(module)]) == 1
    (report,) = json.loads(capsys.readouterr().out)["reports"]
    assert report["stacks"][0]["frames"][0]["inline"] is True


def test_triage_says_when_the_module_is_another_build(
    module: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log"
    log.write_text(log_of(module, grown=128))
    assert main(["triage", str(log), "--module", str(module)]) == 1
    assert "is not what the log is of" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"no ELF file", None])
def test_a_file_without_symbols_is_told(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "x.ko"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInputError, match="reading symbols of"):
        Symbols(None, [path])


def test_an_object_without_debugging_information_is_told(tmp_path: Path) -> None:
    source = tmp_path / "x.c"
    source.write_text(SOURCE)
    built = tmp_path / "x.ko"
    subprocess.run(["gcc", "-O2", "-g0", "-c", str(source), "-o", str(built)], check=True)
    with pytest.raises(BadInputError, match="no debugging information"):
        Symbols(None, [built])


def test_a_build_tree_here_is_found_by_itself(
    module: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "log"
    log.write_text(log_of(module))
    monkeypatch.chdir(module.parent)
    assert main(["triage", str(log)]) == 1
    told = capsys.readouterr()
    assert f"drv_peek [drv] {module.with_suffix('.c')}:5 (inlined)" in told.out
    assert "--module drv.ko" not in told.out
    # Nobody asked for them: one of another build is passed over.
    log.write_text(log_of(module, grown=4096))
    assert main(["triage", str(log)]) == 1
    told = capsys.readouterr()
    assert "--module drv.ko" in told.out
    assert told.err == ""


@pytest.mark.parametrize("content", [b"", b"\x7fELF no more"])
def test_what_is_here_and_cannot_be_read_is_passed_over(
    content: bytes,
    module: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = tmp_path / "log"
    log.write_text(log_of(module))
    below = tmp_path / "src" / "driver"
    below.mkdir(parents=True)
    (below / "drv.ko").write_bytes(content)
    monkeypatch.chdir(tmp_path)
    assert main(["triage", str(log)]) == 1
    assert capsys.readouterr().err == ""


def test_files_that_symbols_tell_say_what_is_core() -> None:
    log = """\
BUG: unable to handle page fault for address: ffffc90000201000
RIP: 0010:new_helper+0x1/0x20
Call Trace:
 <TASK>
 other_write+0x1/0x20
 vfs_write+0x1/0x20
 </TASK>
"""
    (record,) = all_splats(log.splitlines())
    assert record.function == "new_helper"
    files = {"new_helper": "/b/linux/mm/new.c:5", "other_write": "/b/linux/drivers/other.c:7"}
    stacks = tuple(
        replace(stack, frames=tuple(replace(f, file=files.get(f.function)) for f in stack.frames))
        for stack in record.stacks
    )
    told = with_guilty_by_file(replace(record, stacks=stacks))
    assert told.title == "BUG: unable to handle page fault in other_write"
    assert (told.function, told.source) == ("other_write", files["other_write"])
