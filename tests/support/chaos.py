# SPDX-License-Identifier: Apache-2.0
"""Chaos: a campaign whose processes are killed and stopped and whose disk is filled at random.

It fails when a crash, a program of the corpus or a row of the history that was there once is
there no more, when the campaign ends for another reason than these, or when anything is left
running. As root, with a small disk of its own for an hour::

    unshare --mount python -m tests.support.chaos --time 3600 --disk 256 DIR
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from fuzzer.engine.import_queue import import_directory
from fuzzer.errors import ExitCode
from fuzzer.state.schema import state_file
from tests.e2e.pkvfuzz_process import COMMAND, environment, family, wait_gone, wait_until

_QEMU, _WORKER, _JUDGE = "qemu-system", "fuzzer.engine.worker", "fuzzer.campaign.judging"
# Seconds between two acts, and those for which a process is stopped or the disk is full.
_PAUSE, _STOPPED, _FULL = (1.0, 5.0), (0.5, 4.0), (1.0, 3.0)
# Seconds in which a campaign has to be fuzzing again.
_START = 180.0
# Rows of the history that stay whatever they hold, see fuzzer/state/writer.py.
_RECENT = 500


class LostError(AssertionError):
    """Something that was stored is gone, damaged or left running."""


@dataclass(slots=True)
class Ledger:
    """A list of all that a campaign has stored so far, checked to be still there with each look."""

    workdir: Path
    programs: set[str] = field(default_factory=set)
    crashes: set[str] = field(default_factory=set)
    rows: set[tuple[int, float, float]] = field(default_factory=set)

    def look(self) -> None:
        """Check that all that was seen before is there, and take note of what is new.

        Raises:
            LostError: something is not, or is damaged.
        """
        self._look_at_corpus()
        self._look_at_crashes()
        self._look_at_history()

    def _look_at_corpus(self) -> None:
        directories = [self.workdir / "corpus", import_directory(self.workdir)]
        found: dict[str, Path] = {}
        for directory in directories:
            with contextlib.suppress(FileNotFoundError):
                # What begins with a dot is still being written.
                found |= {path.name: path for path in directory.iterdir()
                          if not path.name.startswith(".")}  # fmt: skip
        # One that the disk had no room for, or whose writer was killed, is none yet.
        whole = {name for name, path in found.items() if _is_named_by_content(path)}
        self._compare("programs of the corpus", self.programs, whole)
        self.programs |= whole

    def _look_at_crashes(self) -> None:
        titles, known = set(), set()
        for path in (self.workdir / "crashes").glob("*/crash.json"):
            if path.parent.name.startswith("."):
                continue
            try:
                record = json.loads(path.read_text())
            except FileNotFoundError:
                # It is being replaced; the next look finds it.
                known |= self.crashes
                continue
            titles.add(record["title"])
            known |= {record["title"], *record.get("also_titles", ()), *record["sighted_as"]}
        self._compare("crashes", self.crashes, known)
        self.crashes |= titles

    def _look_at_history(self) -> None:
        path = state_file(self.workdir)
        if not path.exists():
            return
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
        with contextlib.closing(database):
            query = "SELECT run, at, wall, kept, programs FROM history ORDER BY id"
            rows = database.execute(query).fetchall()
        counts = [row[4] for row in rows]
        if counts != sorted(counts):
            raise LostError("the number of programs in the history goes back")
        self._compare("rows of the history", self.rows, {row[:3] for row in rows})
        recent = rows[-_RECENT // 2 :]
        self.rows |= {row[:3] for row in rows if row[3]}
        # Others are thinned out once they are old.
        self.rows -= {row[:3] for row in rows[:-_RECENT] if not row[3]}
        self.rows |= {row[:3] for row in recent}

    @staticmethod
    def _compare(what: str, before: set[Any], now: set[Any]) -> None:
        if lost := before - now:
            raise LostError(f"{len(lost)} {what} of {len(before)} are lost: {sorted(lost)[:3]}")


def _is_named_by_content(path: Path) -> bool:
    content = path.read_bytes()
    return hashlib.sha1(content, usedforsecurity=False).hexdigest() == path.name


class Chaos:
    """A campaign in a directory, and what is done to it."""

    def __init__(self, directory: Path, seed: int, arguments: Sequence[str]) -> None:
        self._directory = directory
        self._random = random.Random(seed)
        self._arguments = arguments
        self._runs = 0
        self._process: subprocess.Popen[str] | None = None
        self._output = directory / "output"
        self.ledger = Ledger(directory / "work")
        self.acts: dict[str, Callable[[], None]] = {
            "kill a machine": lambda: self._kill(_QEMU),
            "kill a worker": lambda: self._kill(_WORKER),
            "kill the judge": lambda: self._kill(_JUDGE),
            "kill the supervisor": self._kill_supervisor,
            "stop a machine": lambda: self._stop(_QEMU),
            "stop a worker": lambda: self._stop(_WORKER),
            "stop the judge": lambda: self._stop(_JUDGE),
            "stop the supervisor": self._stop_supervisor,
            "fill the disk": self._fill_disk,
        }

    def run(self, seconds: float) -> None:
        """Do all acts in turn, in an order by chance, for so many seconds; then end in peace.

        Raises:
            LostError: something was lost, or is left running.
        """
        deadline = time.monotonic() + seconds
        deck: list[str] = []
        self._start()
        while time.monotonic() < deadline:
            time.sleep(self._random.uniform(*_PAUSE))
            if not deck:
                deck = self._random.sample(sorted(self.acts), len(self.acts))
            name = deck.pop()
            self._tell(name)
            self.acts[name]()
            self._go_on()
            self.ledger.look()
        self._end()

    def _tell(self, text: str) -> None:
        ledger = self.ledger
        print(
            f"{time.strftime('%H:%M:%S')} {text} ({len(ledger.programs)} programs, "
            f"{len(ledger.crashes)} crashes, {len(ledger.rows)} rows)",
            flush=True,
        )

    @property
    def _campaign(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def _start(self) -> None:
        """Start the campaign, or go on with it, and wait until it fuzzes."""
        self._runs += 1
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [*COMMAND, "run", *self._arguments, "--workdir", "work", "--seed", str(self._runs)],
                cwd=self._directory,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                text=True,
                start_new_session=True,
            )
        wait_until(lambda: self._is_fuzzing() or self._campaign.poll() is not None, _START)

    def _said(self) -> str:
        return self._output.read_text(errors="replace")

    def _is_fuzzing(self) -> bool:
        return "after the start" in self._said()

    def _go_on(self) -> None:
        """Start the campaign anew if it has ended, which it may on a full disk only."""
        while self._campaign.poll() is not None:
            code, said = self._campaign.returncode, self._said()
            full = code == ExitCode.INFRASTRUCTURE and ("the disk" in said)
            if "Traceback" in said or not (full or code == -signal.SIGKILL):
                raise LostError(f"the campaign ended with {code}: {said}")
            self._start()

    def _victims(self, kind: str) -> list[psutil.Process]:
        found = []
        for each in family(self._campaign)[1:]:
            with contextlib.suppress(psutil.Error):
                if kind in " ".join(each.cmdline()):
                    found.append(each)
        return found

    def _choose(self, kind: str) -> psutil.Process | None:
        victims = self._victims(kind)
        return self._random.choice(victims) if victims else None

    def _kill(self, kind: str) -> None:
        victim = self._choose(kind)
        if victim:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()

    def _kill_supervisor(self) -> None:
        processes = family(self._campaign)
        self._campaign.kill()
        self._campaign.wait()
        self._check_gone(processes)

    def _stop(self, kind: str) -> None:
        victim = self._choose(kind)
        if victim:
            self._stop_process(victim)

    def _stop_supervisor(self) -> None:
        self._stop_process(psutil.Process(self._campaign.pid))

    def _stop_process(self, victim: psutil.Process) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            time.sleep(self._random.uniform(*_STOPPED))
            victim.resume()

    def _fill_disk(self) -> None:
        """Take all space, for a while; the campaign may end by that."""
        path = self._directory / "fill"
        try:
            with contextlib.suppress(OSError), path.open("wb", buffering=0) as file:
                for size in (1 << 20, 1 << 10):
                    self._fill(file.write, size)
            time.sleep(self._random.uniform(*_FULL))
        finally:
            path.unlink(missing_ok=True)
        # It notices within a moment, or not at all.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._campaign.wait(timeout=2.0)
        if self._campaign.poll() is None:
            return
        wait_until(lambda: not self._left(), 20)

    @staticmethod
    def _fill(write: Callable[[bytes], int], size: int) -> None:
        try:
            while True:
                write(bytes(size))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise

    def _left(self) -> list[psutil.Process]:
        """Return the processes of the campaign's session."""
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                alive = each.status() != psutil.STATUS_ZOMBIE
                if alive and os.getsid(each.pid) == self._campaign.pid:
                    found.append(each)
        return found

    def _check_gone(self, processes: list[psutil.Process]) -> None:
        try:
            wait_gone(processes, timeout=20)
        except AssertionError as error:
            raise LostError(str(error)) from error

    def _end(self) -> None:
        """End the campaign as a user does, and go on with it once more to its end."""
        processes = family(self._campaign)
        self._campaign.send_signal(signal.SIGTERM)
        code = self._campaign.wait(timeout=60)
        self._check_gone(processes)
        self.ledger.look()
        if code not in {ExitCode.NOTHING_FOUND, ExitCode.FOUND, ExitCode.UNJUDGED}:
            raise LostError(f"the campaign ended with {code}: {self._said()}")
        self._tell("the last run")
        self._arguments = [*self._arguments, "--programs", "2000"]
        self._start()
        code = self._campaign.wait(timeout=600)
        if code not in {ExitCode.NOTHING_FOUND, ExitCode.FOUND}:
            raise LostError(f"the last run ended with {code}: {self._said()}")
        self.ledger.look()
        if waiting := list((self._directory / "work" / "pending").iterdir()):
            raise LostError(f"{len(waiting)} sightings were not judged")
        if left := self._left():
            raise LostError(f"left running: {left}")
        self._tell("all is there")

    def close(self) -> None:
        """End what still runs."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def main() -> int:
    """Run a campaign under chaos; return 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--time", type=float, default=180.0, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vms", type=int, default=2)
    parser.add_argument("--bug", default="stale-last")
    parser.add_argument("--disk", type=int, metavar="MIB", help="mount one so small there")
    options = parser.parse_args()
    if options.disk:
        size = f"size={options.disk}m"
        mount = ["mount", "-t", "tmpfs", "-o", size, "small", str(options.directory)]
        subprocess.run(mount, check=True, timeout=10)
    arguments = ["--bug", options.bug, "--vms", str(options.vms)]
    chaos = Chaos(options.directory.resolve(), options.seed, arguments)
    if not options.disk:
        # The disk of everybody is not filled.
        del chaos.acts["fill the disk"]
    try:
        chaos.run(options.time)
    except LostError as error:
        print(f"lost: {error}", file=sys.stderr)
        return 1
    finally:
        chaos.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
