# SPDX-License-Identifier: Apache-2.0
"""Hundreds of bad inputs: each ends with exit code 2 and one message that names the file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from fuzzer.campaign.workdir import Workdir
from fuzzer.cli.main import main
from fuzzer.errors import DEFECT
from fuzzer.paths import own_description, project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode

STORED = project_root() / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"
RECORD: Mapping[str, object] = json.loads((STORED / "crash.json").read_text())
DEEP = 100_000

# Bad as JSON, as YAML of a description, and as a program's text.
BAD: Mapping[str, bytes] = {
    "empty": b"",
    "spaces": b" \n\t\n",
    "zeros": bytes(4096),
    "bytes": bytes(range(256)) * 8,
    "latin": "ma\xdfe: \xe9\n".encode("latin-1"),
    "utf-16": "version: 1\n".encode("utf-16"),
    "surrogate": b'{"a": "\xed\xa0\x80"}',
    "cut": b'{"title": "x", "kind": ',
    "brackets": b"[" * DEEP,
    "closed brackets": b"[" * DEEP + b"]" * DEEP,
    "braces": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "flow": b"{a: " * DEEP,
    "nested": b"".join(b" " * i + b"a:\n" for i in range(2000)),
    "sequences": b"- " * DEEP,
    "number": b"1",
    "text": b'"text"',
    "null": b"null",
    "true": b"true",
    "list": b"[1, 2, 3]",
    "list of objects": b'[{"a": 1}]',
    "empty object": b"{}",
    "other object": b'{"format": 1}',
    "format": b'{"format": "one"}',
    "newer": b'{"format": 99}',
    "infinity": b'{"format": Infinity}',
    "nan": b'{"format": NaN}',
    "huge number": b'{"format": 1' + b"0" * 5000 + b"}",
    "huge exponent": b'{"format": 1e999999999}',
    "negative": b'{"format": -1}',
    "comma": b'{"format": 1,}',
    "two": b'{"format": 1}{"format": 1}',
    "twice": b"version: 1\nversion: 1\n",
    "aliases": b"a: &a [x, x, x, x, x, x, x, x, x]\n"
    + b"".join(
        b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c, *%c]\n"
        % (i + 1, i + 1, i, i, i, i, i, i, i, i)
        for i in range(ord("a"), ord("p"))
    ),
    "recursion": b"a: &a [*a]\n",
    "unknown alias": b"a: *b\n",
    "python": b"!!python/object/apply:os.system ['true']\n",
    "tag": b"!unknown {a: b}\n",
    "binary": b"version: !!binary '@'\n",
    "date": b"version: 2001-99-99\n",
    "sexagesimal": b"version: 190:20:30\n",
    "documents": b"version: 1\n---\nversion: 1\n",
    "tab": b"version:\t1\n\tname: x\n",
    "unclosed": b"version: 'x\n",
    "directive": b"%YAML 9.9\n---\nversion: 1\n",
    "merge": b"<<: 1\n",
    "key": b"? [1, 2]\n: 3\n",
    "null key": b"null: 1\n",
    "long line": b"a" * 1_000_000,
    "long key": b"a" * 1_000_000 + b": 1\n",
    "many lines": b"x\n" * 200_000,
    "returns": b"version: 1\r\rname: x\r",
    "elf": b"\x7fELF" + bytes(60),
    "gzip": b"\x1f\x8b\x08\x00" + bytes(30),
}
# Fields for other programs, which are found again by reading the rest.
_UNREAD = {"signature", "minimal_calls", "original_calls"}
_FIELDS = sorted(set(RECORD) - {"program_bytes", "needs_history", "format"})
# Values of other types than a record has, in JSON.
WRONG: Mapping[str, str] = {
    "null": "null",
    "list": "[[]]",
    "object": '{"a": {}}',
    "infinity": "Infinity",
    "nan": "NaN",
    "surrogate": '"\\ud800"',
    "negative": "-1",
    "huge": "1" + "0" * 400,
    "deep": "[" * DEEP,
}


def _one_message(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Check that one message was printed, that it names the file, and is no traceback."""
    told = capsys.readouterr()
    text = told.err or told.out
    assert name in text, text[:500]
    assert DEFECT not in text, text[:500]
    assert "Traceback" not in told.out + told.err
    assert len(told.err.splitlines()) <= 1, told.err[:1000]
    assert len(text) < 4000


def _left(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*"))


@pytest.mark.parametrize("name", list(BAD))
def test_descriptions(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "driver.yaml"
    path.write_bytes(BAD[name])
    (tmp_path / "x.prog").write_text("open(f0)\n")
    assert main(["target", "check", str(path)]) == 2
    told = capsys.readouterr()
    assert str(path) in told.out + told.err
    assert DEFECT not in told.out + told.err
    for command in (["convert", str(tmp_path / "x.prog"), "--target", str(path)],
                    ["bugs", "--target", str(path)]):  # fmt: skip
        assert main(command) == 2
        _one_message(capsys, str(path))
    assert _left(tmp_path) == ["driver.yaml", "x.prog"]


@pytest.mark.parametrize("name", sorted(set(BAD) - {"empty", "spaces"}))
def test_programs(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.prog"
    path.write_bytes(BAD[name])
    assert main(["convert", str(path), "-o", str(tmp_path / "out")]) == 2
    _one_message(capsys, str(path))
    assert _left(tmp_path) == ["x.prog"]


@pytest.mark.parametrize("name", list(BAD))
def test_records_of_crashes(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    crash = Path(shutil.copytree(STORED, tmp_path / "crash"))
    (crash / "crash.json").write_bytes(BAD[name])
    for command in ("crashes", "replay"):
        assert main([command, str(crash)]) == 2
        _one_message(capsys, str(crash / "crash.json"))


def _wrong_fields() -> Iterator[tuple[str, str]]:
    for field in _FIELDS:
        for name in WRONG:
            fits = (name == "null" and RECORD[field] is None) or (
                name == "null" and field in {"function", "privileges", "history_programs"}
            )
            if not fits and (field, name) != ("minimize_seconds", "negative"):
                yield field, name


@pytest.mark.parametrize(("field", "name"), list(_wrong_fields()))
def test_fields_of_crashes(
    tmp_path: Path, field: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Path(shutil.copytree(STORED, tmp_path / "crash"))
    text = json.dumps({**RECORD, field: "THE VALUE"}).replace('"THE VALUE"', WRONG[name])
    (crash / "crash.json").write_text(text)
    code = main(["crashes", str(crash)])
    if code == 0:
        # A field that this version does not read.
        assert field in _UNREAD, field
        return
    assert code == 2
    _one_message(capsys, str(crash / "crash.json"))


_IDENTITY = RECORD["identity"]
assert isinstance(_IDENTITY, dict)


@pytest.mark.parametrize("field", sorted(_IDENTITY))
@pytest.mark.parametrize("name", ["list", "object", "negative", "surrogate"])
def test_identities_of_crashes(
    tmp_path: Path, field: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Path(shutil.copytree(STORED, tmp_path / "crash"))
    assert isinstance(_IDENTITY, dict)
    text = json.dumps({**RECORD, "identity": {**_IDENTITY, field: "THE VALUE"}})
    (crash / "crash.json").write_text(text.replace('"THE VALUE"', WRONG[name]))
    assert main(["replay", str(crash)]) == 2
    _one_message(capsys, str(crash / "crash.json"))


@pytest.mark.parametrize("file", ["program.bin", "report.txt", "first-seen.txt", "original.bin"])
@pytest.mark.parametrize("name", ["bytes", "latin", "empty", "elf"])
def test_files_of_crashes(
    tmp_path: Path, file: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crash = Path(shutil.copytree(STORED, tmp_path / "crash"))
    (crash / file).write_bytes(BAD[name])
    code = main(["crashes", str(crash)])
    told = capsys.readouterr()
    # Any bytes are a program, and any text a report.
    harmless = file == "original.bin" or (file != "program.bin" and name in {"empty", "elf"})
    assert code == (0 if harmless else 2)
    assert code == 0 or str(crash / file) in told.err
    assert DEFECT not in told.err


@pytest.mark.parametrize("name", list(BAD))
def test_logs_have_no_report_or_one(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_bytes(BAD[name])
    for options in ([], ["--json"], ["--bug-report"]):
        # A file that is called compressed, and is not, cannot be read.
        assert main(["triage", str(path), *options]) in ({2} if name == "gzip" else {0})
        told = capsys.readouterr()
        assert DEFECT not in told.err
        assert len(told.err.splitlines()) <= 1


@pytest.mark.parametrize("name", sorted(set(BAD) - {"empty", "spaces", "null"}))
def test_lists_of_accepted_crashes(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "accepted.yaml"
    path.write_bytes(BAD[name])
    with pytest.MonkeyPatch.context() as patched:
        # It is read before anything is built; without a machine that is all there is to see.
        patched.setattr("fuzzer.cli.smoke.subject_of", lambda *_all, **_more: _Subject())
        patched.setattr("fuzzer.cli.smoke.load_seeds", lambda *_all: [])
        assert main(["smoke", "--accepted", str(path)]) == 2
    _one_message(capsys, str(path))


class _Subject:
    class target:  # noqa: N801 - a stand-in's attribute
        name, path = "x", own_description()


@pytest.mark.parametrize("name", list(BAD))
@pytest.mark.parametrize("file", ["campaign.json", "corpus.json"])
def test_records_of_working_directories(
    tmp_path: Path, name: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = Workdir(tmp_path / "work")
    with workdir.opened("pkv", None):
        workdir.add_program(encode((Call(Op.READ, arg=64),)))
    (workdir.root / file).write_bytes(BAD[name])
    # What it says of the corpus is left out.
    assert main(["corpus", "show", str(workdir.root), "--programs"]) == 0
    told = capsys.readouterr()
    assert "1 program" in told.out
    assert not told.err


@pytest.mark.parametrize("name", list(BAD))
def test_archives(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "archive.pkv"
    path.write_bytes(BAD[name])
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
        assert main(["cache", "import", str(path)]) == 2
    _one_message(capsys, str(path))
    assert [left for left in _left(tmp_path) if not left.startswith("cache")] == ["archive.pkv"]


OPTIONS = [
    ["run", "--time", "x"],
    ["run", "--time", "-1"],
    ["run", "--time", "inf"],
    ["run", "--time", "nan"],
    ["run", "--time", "9" * 5000],
    ["run", "--programs", "0"],
    ["run", "--programs", "1.5"],
    ["run", "--programs", "9" * 5000],
    ["run", "--vms", "-3"],
    ["run", "--seed", "x"],
    ["run", "--kernel", "none"],
    ["run", "--kernel-version", "../x"],
    ["run", "--kernel-source", "/nonexistent"],
    ["run", "--kernel-build", "/dev/null"],
    ["run", "--accel", "xen"],
    ["run", "--bug", "../../etc/passwd"],
    ["run", "--params", "a=\x01"],
    ["run", "--target", "/dev/null"],
    ["run", "--target", "/dev/zero"],
    ["run", "--target", "/nonexistent"],
    ["run", "--unknown"],
    ["replay"],
    ["replay", "/nonexistent"],
    ["replay", "/dev/null"],
    ["replay", "/dev/zero"],
    ["replay", str(STORED), "--times", "0"],
    ["triage"],
    ["triage", "/dev/mem\udcff"],
    ["triage", "/proc/self/mem"],
    ["convert", "/dev/zero"],
    ["convert", "/nonexistent"],
    ["convert", "/"],
    ["corpus"],
    ["corpus", "show", "/nonexistent"],
    ["corpus", "show", "/dev/null"],
    ["corpus", "import", "/nonexistent", "/dev/zero"],
    ["crashes", "/dev/null"],
    ["cache", "import", "/dev/zero"],
    ["cache", "clean", "--size", "x"],
    ["cache", "clean", "--older", "-5"],
    ["target", "check", "/"],
    ["target", "check", "/dev/zero"],
    ["bugs", "--target", "/dev/zero"],
    ["nonsense"],
    [],
]


@pytest.mark.parametrize("arguments", OPTIONS, ids=lambda each: " ".join(each)[:60])
def test_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert DEFECT not in told.err
    assert "Traceback" not in told.err
    assert told.err.splitlines() or told.out
