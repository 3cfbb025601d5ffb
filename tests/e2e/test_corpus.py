# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz corpus``: a campaign's corpus, minimized and merged on a machine."""

from __future__ import annotations

import re
import shutil
import signal
from pathlib import Path

import pytest

from fuzzer.campaign.corpus import n_calls, open_corpus
from tests.e2e.pkvfuzz_process import family, pkvfuzz, start, wait_gone, wait_until


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign's directory."""
    cwd = tmp_path_factory.mktemp("corpus")
    done = pkvfuzz("run", "--programs", 1500, "--seed", 1, "--workdir", "work", cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return cwd


def programs(path: Path) -> dict[str, bytes]:
    return open_corpus(path).programs()


def total_calls(path: Path) -> int:
    return sum(map(n_calls, programs(path).values()))


def test_a_minimized_corpus_is_smaller_and_misses_nothing(fuzzed: Path) -> None:
    work = fuzzed / "minimized"
    shutil.copytree(fuzzed / "work", work)
    before = programs(work)
    done = pkvfuzz("corpus", "minimize", work, cwd=fuzzed)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "flaky" in done.stdout
    assert programs(work / "corpus.old") == before
    assert total_calls(work) < 0.8 * total_calls(fuzzed / "work")
    shown = pkvfuzz("corpus", work, cwd=fuzzed).stdout
    match = re.search(r"(\d+) of (\d+) blocks covered", shown)
    assert match
    assert int(match[1]) > 0.5 * int(match[2])
    # By function: 1500 programs leave something, and nobody reads /proc/pkv.
    listed = pkvfuzz("corpus", work, "--functions", cwd=fuzzed)
    assert listed.returncode == 0, listed.stderr
    again_covered = re.search(r"^(\d+) of (\d+) blocks, (\d+) of", listed.stdout, re.MULTILINE)
    assert again_covered
    assert again_covered[2] == match[2]
    assert int(again_covered[1]) >= int(match[1])
    proc = r" 0/\d+  pkv_proc_show +never reached; called through a pointer that is set by\s+"
    assert re.search(proc + r"pkv_proc_create\s+\(pkv_proc\.c:\d+\)", listed.stdout)
    assert re.search(r"pkv_store_write +pkv_store\.c:\d", listed.stdout)
    assert max(map(len, listed.stdout.splitlines()[1:])) <= 100
    # Were anything missing, some of the old programs would be added.
    again = pkvfuzz("corpus", "merge", work, work / "corpus.old", cwd=fuzzed)
    assert again.returncode == 0, again.stderr
    assert "added: 0 programs" in again.stdout


def test_merging_adds_what_covers_something_new(fuzzed: Path) -> None:
    text = fuzzed / "read.prog"
    text.write_text("read(f0, 64)\n")
    (fuzzed / "new").mkdir()
    assert pkvfuzz("corpus", "import", "new", text, cwd=fuzzed).returncode == 0
    done = pkvfuzz("corpus", "merge", "new", "work", cwd=fuzzed)
    assert done.returncode == 0, done.stdout + done.stderr
    added, there = programs(fuzzed / "new"), programs(fuzzed / "work")
    assert 10 < len(added) < len(there)
    assert len(added.keys() - there.keys()) <= 1
    match = re.search(r"covered: (\d+), now (\d+) of", done.stdout)
    assert match
    assert int(match[1]) < int(match[2])


def test_ctrl_c_leaves_the_corpus_as_it_was(fuzzed: Path) -> None:
    work = fuzzed / "interrupted"
    shutil.copytree(fuzzed / "work", work)
    process = start("corpus", "minimize", work, cwd=fuzzed)
    try:
        # Until its machine runs.
        wait_until(lambda: len(family(process)) > 1 or process.poll() is not None)
        running = family(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130, (fuzzed / "output").read_text()
        wait_gone(running)
    finally:
        process.kill()
    assert programs(work) == programs(fuzzed / "work")
    assert {path.name for path in work.glob("corpus*")} == {"corpus", "corpus.json"}
    assert "Traceback" not in (fuzzed / "output").read_text()
