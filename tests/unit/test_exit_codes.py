# SPDX-License-Identifier: Apache-2.0
"""Exit codes: what happened, whatever becomes of standard input, output and error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.cli.main import main
from fuzzer.cli.parser import build_parser
from fuzzer.paths import project_root

STORED = project_root() / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"
PKVFUZZ = f"{sys.executable} -P -m fuzzer"
FOUND = f"triage {STORED}/report.txt"


def _shell(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a line of bash, in which ``$P`` starts us, with a time limit."""
    return subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "PYTHONPATH": str(project_root()), "P": PKVFUZZ, **environment},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code"),
    [
        # Output that nobody reads, in each way; a report was found.
        (f"$P {FOUND} | true; exit ${{PIPESTATUS[0]}}", 1),
        (f"$P {FOUND} --json | head -c1 >&2; exit ${{PIPESTATUS[0]}}", 1),
        (f"$P {FOUND} >&-", 1),
        (f"$P {FOUND} >/dev/full", 1),
        # Nothing was found.
        ("$P triage <(echo nothing) | true; exit ${PIPESTATUS[0]}", 0),
        ("$P triage <(echo nothing) >&-", 0),
        ("$P triage <(echo nothing) >/dev/full", 3),
        ("$P man | true; exit ${PIPESTATUS[0]}", 0),
        ("$P --help >/dev/full", 3),
        ("$P --help | true; exit ${PIPESTATUS[0]}", 0),
        # Messages that nobody reads.
        ("$P crashes /nonexistent 2>/dev/full", 2),
        ("$P crashes /nonexistent 2>&-", 2),
        ("$P crashes /nonexistent 2> >(true)", 2),
        (f"$P {FOUND} 2>/dev/full", 1),
        ("$P bugs 2>&- >&- <&-", 0),
        (f"$P {FOUND} 2>&- >&- <&-", 1),
        # Input that is closed, and a terminal's encoding that knows no é.
        ("$P triage - <&-", 0),
        ("LC_ALL=C PYTHONIOENCODING=ascii $P crashes /é", 2),
        ("PYTHONIOENCODING=ascii $P triage <(echo 'BUG: é') ", 0),
    ],
)
def test_the_code_tells_what_happened(line: str, code: int) -> None:
    done = _shell(line)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "defect" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_lost_output_is_told() -> None:
    done = _shell("$P bugs >/dev/full")
    assert done.returncode == 3
    assert done.stderr == (
        "pkvfuzz: standard output: No space left on device. Not all of it was written; "
        "write it elsewhere\n"
    )


def test_names_that_cannot_be_are_bad_input(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    (tmp_path / "file").touch()
    for argument in (f"triage {long}", f"crashes {long}", f"crashes {loop}", f"triage {tmp_path}",
                     f"crashes {tmp_path}/file/x", f"corpus show {long}", f"convert {long}",
                     f"target check {long}", f"target check {tmp_path}", f"convert {tmp_path}",
                     f"replay {long}", f"cache import {long}"):  # fmt: skip
        done = _shell(f"$P {argument}")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), (argument, done.stderr)


def _signalled(
    arguments: Sequence[str], number: signal.Signals, seconds: float, temporary: Path
) -> tuple[int, str]:
    """Start a command, send it a signal after a time, and return its end."""
    process = subprocess.Popen(
        [str(project_root() / "pkvfuzz"), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
        preexec_fn=_take_signals,
    )
    with process:
        time.sleep(seconds)  # the moment is what is tried, no synchronisation
        process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors


def _take_signals() -> None:
    """Undo what nohup and a shell's background jobs hand down."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0.03, 0.06, 0.1, 0.2, 0.35])
def test_a_signal_at_any_moment_leaves_neither_traceback_nor_files(
    tmp_path: Path, number: signal.Signals, seconds: float
) -> None:
    fifo = tmp_path / "log"
    os.mkfifo(fifo)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    code, errors = _signalled(["triage", "-", str(fifo)], number, seconds, temporary)
    assert "Traceback" not in errors
    assert code in {-number, 128 + number, 2}
    assert list(temporary.iterdir()) == []


def test_a_hangup_removes_temporary_directories(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys, tempfile; from fuzzer.cli import main as m\n"
        "def run(arguments):\n"
        "    with tempfile.TemporaryDirectory():\n"
        "        signal.raise_signal(signal.SIGHUP)\n"
        "m._run = run; sys.exit(m.main([]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(project_root()), "TMPDIR": str(tmp_path)},
        check=False,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    assert (done.returncode, list(tmp_path.iterdir())) == (129, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--bug", ""],
        ["run", "--workdir", ""],
        ["run", "--workdir="],
        ["run", "--target", ""],
        ["run", ""],
        ["replay", ""],
        ["corpus", "show", ""],
        ["convert", "x.prog", "-o", ""],
        ["cache", "export", ""],
        ["triage", ""],
        ["crashes", ""],
        ["run", "--kernel-version", ""],
    ],
)
def test_an_empty_value_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "an empty value" in line
    assert "COMMAND" not in line


def test_no_parameters_are_a_value() -> None:
    assert build_parser(["run"]).parse_args(["run", "--params", ""]).params == ""
