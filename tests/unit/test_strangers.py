# SPDX-License-Identifier: Apache-2.0
"""Crashes, corpora and working directories of strangers: what they can print, read and write."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.campaign.corpus import Coverage, open_corpus
from fuzzer.campaign.workdir import Workdir
from fuzzer.child import Child
from fuzzer.cli.main import main
from fuzzer.engine.statistics import WorkerStatistics
from fuzzer.errors import InfrastructureError
from fuzzer.paths import project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode

STORED = project_root() / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"
ESCAPE = "\x1b]0;owned\x07\x1b[2J\u202e"
PRIVATE = "the-secret-of-the-host"
READ = encode((Call(Op.READ, arg=64),))


@pytest.fixture
def crash(tmp_path: Path) -> Path:
    """Return a crash's directory, as it came from elsewhere."""
    return Path(shutil.copytree(STORED, tmp_path / "given" / "crash"))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a private file, outside of all that was given."""
    path = tmp_path / "secret"
    path.write_text(f"{PRIVATE}\n")
    return path


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    """Return a working directory with a program in its corpus."""
    workdir = Workdir(tmp_path / "given" / "work")
    with workdir.opened("pkv", None):
        workdir.add_program(READ)
    return workdir


def _change(crash: Path, **changed: object) -> None:
    record = json.loads((crash / "crash.json").read_text())
    (crash / "crash.json").write_text(json.dumps(record | changed))


def _titled(crash: Path) -> list[str]:
    _change(crash, title=f"KASAN: {ESCAPE}")
    return ["crashes", str(crash.parent)]


def _with_readme(crash: Path) -> list[str]:
    for name in ("README.md", "program.prog", "report.txt"):
        (crash / name).write_text(f"{ESCAPE}\n")
    return ["crashes", str(crash)]


def _without_readme(crash: Path) -> list[str]:
    (crash / "README.md").unlink()
    _change(crash, title=f"KASAN: {ESCAPE}")
    return ["crashes", str(crash)]


def _found_elsewhere(crash: Path) -> list[str]:
    record = json.loads((crash / "crash.json").read_text())
    _change(crash, identity=record["identity"] | {"description": f"x/{ESCAPE}.yaml"})
    return ["replay", str(crash)]


def _damaged(crash: Path) -> list[str]:
    place = crash.rename(crash.parent / ESCAPE)
    (place / "crash.json").write_text("{")
    return ["crashes", str(place)]


def _named_program(crash: Path) -> list[str]:
    corpus = crash.parent / "corpus"
    corpus.mkdir()
    (corpus / ESCAPE[:16]).write_bytes(READ)
    return ["corpus", "show", str(corpus), "--programs"]


def _log(crash: Path) -> list[str]:
    path = crash / "log"
    path.write_text(f"[    1.0] BUG: KASAN: slab-out-of-bounds in {ESCAPE} [x]\n")
    return ["triage", str(path)]


@pytest.mark.parametrize(
    "command",
    [
        _titled,
        _with_readme,
        _without_readme,
        _found_elsewhere,
        _damaged,
        _named_program,
        _log,
        lambda _: ["crashes", ESCAPE],
        lambda _: ["crashes", f"--{ESCAPE}"],
        lambda _: [ESCAPE],
        lambda _: ["run", "--bug", ESCAPE],
        lambda _: ["target", "check", ESCAPE],
    ],
)
def test_a_terminal_takes_nothing_of_a_stranger_for_a_command(
    crash: Path, command: Callable[[Path], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(crash)
    main(arguments)
    told = capsys.readouterr()
    assert told.out or told.err
    assert [c for c in told.out + told.err if not c.isprintable() and c not in "\n\t"] == []


@pytest.mark.parametrize(
    "name",
    ["README.md", "program.prog", "report.txt", "log.txt", "first-seen.txt", "crash.json"],
)
@pytest.mark.parametrize("is_deep", [False, True])
def test_a_link_to_a_private_file_is_not_shown(
    crash: Path, secret: Path, name: str, capsys: pytest.CaptureFixture[str], *, is_deep: bool
) -> None:
    (crash / name).unlink()
    target = secret
    if is_deep:
        (crash / "more").symlink_to(secret.parent)
        target = Path("more") / secret.name
    (crash / name).symlink_to(target)
    code = main(["crashes", str(crash)])
    told = capsys.readouterr()
    assert PRIVATE not in told.out + told.err
    # Without the text for people, the rest is shown.
    assert code == (0 if name in {"README.md", "program.prog"} else 2)
    assert "Traceback" not in told.err
    assert code == 0 or f"{crash / name}: it is a link that leads out of" in told.err


@pytest.mark.parametrize("name", ["crash.json", "program.bin", "report.txt", "log.txt"])
@pytest.mark.parametrize("kind", ["pipe", "device", "directory"])
def test_what_is_no_file_is_neither_waited_for_nor_read_to_its_end(
    crash: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = crash / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert main(["replay", str(crash)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pkvfuzz: {path}: ")


def test_a_corpus_is_its_regular_files(workdir: Workdir, secret: Path) -> None:
    os.mkfifo(workdir.corpus / "pipe")
    (workdir.corpus / "directory").mkdir()
    (workdir.corpus / "link").symlink_to(secret)
    (workdir.corpus / "zero").symlink_to("/dev/zero")
    assert list(open_corpus(workdir.root).programs().values()) == [READ]
    assert main(["corpus", "show", str(workdir.root), "--programs"]) == 0


def test_links_lead_no_writer_to_another_file(workdir: Workdir, secret: Path) -> None:
    root = workdir.root
    for name in ("worker-0.stats", "corpus.json", "log/worker-0.log", "judge.status", "sightings"):
        (root / name).unlink(missing_ok=True)
        (root / name).symlink_to(secret)
    WorkerStatistics(root / "worker-0.stats", 9)
    open_corpus(root).note(Coverage(1, 2))
    with pytest.raises((OSError, InfrastructureError)):
        Child("fuzzer.engine.worker", None, root / "log" / "worker-0.log")
    with pytest.raises(OSError, match="is a link"):
        workdir.spool.count("title")
    assert secret.read_text() == f"{PRIVATE}\n"


@pytest.mark.parametrize("name", ["corpus", "log", "pending", "crashes", ".lock"])
def test_a_working_directory_with_a_link_for_a_part_is_refused(
    workdir: Workdir, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    path = workdir.root / name
    if path.is_dir():
        path.rename(outside)
    else:
        path.unlink(missing_ok=True)
        outside.mkdir() if name != ".lock" else outside.write_text("untouched")
    before = sorted(outside.rglob("*")) if outside.is_dir() else outside.read_text()
    path.symlink_to(outside)
    with pytest.raises(InfrastructureError, match=name), workdir.opened("pkv", None):
        pass
    assert before == (sorted(outside.rglob("*")) if outside.is_dir() else outside.read_text())


@pytest.mark.parametrize("umask", [0, 0o22, 0o77])
def test_a_working_directory_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with Workdir(tmp_path / "work" / "pkv").opened("pkv", None):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "work" / "pkv").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "work").stat().st_mode & 0o022 == 0
