# SPDX-License-Identifier: Apache-2.0
"""Corpora on disk, and the commands that take care of them without a machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzzer.campaign import corpus as corpus_module
from fuzzer.campaign.corpus import (
    MAX_SIZE,
    Corpus,
    Coverage,
    open_corpus,
    read_program,
)
from fuzzer.campaign.workdir import Workdir, program_name
from fuzzer.cli.main import main
from fuzzer.engine.import_queue import import_directory, tried_file
from fuzzer.errors import BadInputError
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import Target

READ = encode((Call(Op.READ, arg=64),))
WRITE = encode((Call(Op.WRITE, data=b"a=1\n"), Call(Op.READ, arg=64)))


@pytest.fixture
def workdir(tmp_path: Path) -> Workdir:
    """Return a working directory whose corpus has two programs."""
    workdir = Workdir(tmp_path / "work")
    with workdir.opened("pkv", "stale-last"):
        workdir.add_program(READ)
        workdir.add_program(WRITE)
    return workdir


def test_a_corpus_is_found_by_its_working_directory_and_by_itself(workdir: Workdir) -> None:
    by_root, by_itself = open_corpus(workdir.root), open_corpus(workdir.corpus)
    assert by_root == by_itself == Corpus(workdir.corpus, workdir)
    assert by_root.bug == "stale-last"
    assert by_root.programs() == {program_name(data): data for data in (READ, WRITE)}


def test_any_directory_of_programs_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(READ)
    (tmp_path / ".partial").write_bytes(READ)
    corpus = open_corpus(tmp_path)
    assert corpus.programs() == {"one": READ}
    assert corpus.bug is None
    with corpus.locked():
        assert corpus.coverage() is None


def test_a_directory_of_text_is_not_taken_for_wire_form(tmp_path: Path) -> None:
    (tmp_path / "one.prog").write_text("read(f0, 64)\n")
    with pytest.raises(BadInputError, match="corpus import"):
        open_corpus(tmp_path)
    with pytest.raises(BadInputError, match="no such directory"):
        open_corpus(tmp_path / "none")


def test_the_import_queue_belongs_to_the_corpus(workdir: Workdir) -> None:
    name = program_name(READ)
    import_directory(workdir.root).mkdir()
    (workdir.corpus / name).rename(import_directory(workdir.root) / name)
    corpus = open_corpus(workdir.root)
    assert set(corpus.programs().values()) == {READ, WRITE}
    assert corpus.queued() == 1
    assert not corpus.add(READ)


def test_a_program_is_found_by_the_start_of_its_name(workdir: Workdir) -> None:
    corpus = open_corpus(workdir.root)
    assert corpus.find(program_name(READ)[:8]) == READ
    with pytest.raises(BadInputError, match="no program begins"):
        corpus.find("xyz")
    with pytest.raises(BadInputError, match="2 programs begin"):
        corpus.find("")


def test_a_corpus_in_use_is_not_changed(workdir: Workdir, tmp_path: Path) -> None:
    program = tmp_path / "new.prog"
    program.write_text("poll(f0, 0x1)\n")
    with workdir.opened("pkv", "stale-last"):
        assert main(["corpus", "import", str(workdir.root), str(program)]) == 2
        assert main(["corpus", "minimize", str(workdir.root)]) == 2
        assert main(["corpus", "merge", str(workdir.root), str(workdir.root)]) == 2
        # Looking is allowed.
        assert main(["corpus", "show", str(workdir.root)]) == 0
    assert len(open_corpus(workdir.root).names()) == 2
    assert main(["corpus", "import", str(workdir.root), str(program)]) == 0
    assert len(open_corpus(workdir.root).names()) == 3


@pytest.mark.parametrize("atomic", [True, False])
def test_a_corpus_is_replaced_and_the_old_one_stays_beside(
    workdir: Workdir, atomic: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not atomic:
        monkeypatch.setattr(corpus_module, "_RENAME_EXCHANGE", -1)
    queue = import_directory(workdir.root)
    queue.mkdir()
    (queue / "spare").write_bytes(READ + READ)
    tried_file(workdir.root).write_text("key\nspare\n")
    corpus = open_corpus(workdir.root)
    old = corpus.replace([READ])
    assert set(corpus.programs().values()) == {READ}
    assert {path.read_bytes() for path in old.iterdir()} == {READ, WRITE, READ + READ}
    assert not queue.exists()
    assert sorted(path.name for path in workdir.root.glob("corpus*")) == ["corpus", "corpus.old"]
    # Once more: the last old one gives way.
    corpus.replace([WRITE])
    assert {path.read_bytes() for path in old.iterdir()} == {READ}


def test_ctrl_c_while_a_corpus_is_written_leaves_the_old_one(workdir: Workdir) -> None:
    def programs() -> Iterator[bytes]:
        yield READ
        raise KeyboardInterrupt

    corpus = open_corpus(workdir.root)
    with pytest.raises(KeyboardInterrupt):
        corpus.replace(programs())
    assert set(corpus.programs().values()) == {READ, WRITE}
    assert [path.name for path in workdir.root.glob("corpus*")] == ["corpus"]


def test_coverage_is_known_until_the_corpus_changes(workdir: Workdir) -> None:
    corpus = open_corpus(workdir.root)
    assert corpus.coverage() is None
    corpus.note(Coverage(3, 10))
    assert corpus.coverage() == Coverage(3, 10)
    corpus.add(READ + READ)
    assert corpus.coverage() is None
    (workdir.root / "corpus.json").write_text("[]")
    assert corpus.coverage() is None


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("text.prog", b"write(f0\n", "text.prog:1"),
        ("empty.prog", b"# nothing\n", "no calls"),
        ("empty", b"", "no calls"),
        ("junk", b"no program at all, but long enough to be one", "not a program in wire form"),
        ("long", encode((Call(Op.WRITE, data=b"x" * MAX_SIZE),)), "at most"),
        ("gone", None, "No such file"),
    ],
)
def test_a_broken_program_is_told(
    name: str, content: bytes | None, message: str, tmp_path: Path, pkv_target: Target
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=message):
        read_program(tmp_path / name, pkv_target)


def test_programs_survive_export_and_import(
    workdir: Workdir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    assert main(["corpus", "export", str(workdir.root), str(texts)]) == 0
    names = {path.name for path in texts.iterdir()}
    assert names == {f"{program_name(data)[:16]}.prog" for data in (READ, WRITE)}
    other = tmp_path / "other"
    other.mkdir()
    assert main(["corpus", "import", str(other), str(texts)]) == 0
    assert open_corpus(other).programs() == open_corpus(workdir.root).programs()
    assert main(["corpus", "import", str(other), str(workdir.root)]) == 0
    assert "0 programs added, 2 were there already" in capsys.readouterr().out


def test_broken_programs_are_left_out_of_an_import_and_told(
    workdir: Workdir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    (texts / "a.prog").write_text("read(f0\n")
    (texts / "b.prog").write_text("poll(f0, 0x1)\n")
    (texts / "c").write_bytes(b"junk")
    assert main(["corpus", "import", str(workdir.root), str(texts)]) == 2
    captured = capsys.readouterr()
    assert "1 programs added, 0 were there already, 2 left out" in captured.out
    assert "a.prog:1" in captured.err
    assert "Traceback" not in captured.err


def test_show_tells_what_is_there(workdir: Workdir, capsys: pytest.CaptureFixture[str]) -> None:
    open_corpus(workdir.root).note(Coverage(3, 10))
    assert main(["corpus", str(workdir.root)]) == 0
    plain = capsys.readouterr().out
    assert f"2 programs, 3 calls, {len(READ + WRITE)} bytes" in plain
    assert "3 of 10 blocks covered" in plain
    assert main(["corpus", "show", str(workdir.root), "--programs"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:]
    assert [line.split()[0] for line in lines] == [program_name(d)[:16] for d in (READ, WRITE)]
    assert lines[1].endswith("write read")
    assert main(["corpus", "show", str(workdir.root), program_name(WRITE)[:12]]) == 0
    assert capsys.readouterr().out == 'write(f0, "a=1\\n")\nread(f0, 64)\n'


def test_a_corpus_of_another_target_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workdir = Workdir(tmp_path / "work")
    with workdir.opened("mydrv", None):
        workdir.add_program(READ)
    assert json.loads((workdir.root / "campaign.json").read_text())["target"] == "mydrv"
    assert main(["corpus", "export", str(workdir.root), str(tmp_path / "texts")]) == 2
    assert "mydrv" in capsys.readouterr().err
