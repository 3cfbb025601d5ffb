# SPDX-License-Identifier: Apache-2.0
"""A git repository with a driver's past, made for a test."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from fuzzer.paths import project_root

CMDP = project_root() / "tests" / "drivers" / "cmdp"
BUG = "load-overflow"
PROGRAM = CMDP / "bugs" / f"{BUG}.prog"
TITLE = "KASAN: slab-out-of-bounds Read in cmdp_load"
_FILES = ("Kbuild", "*.c", "*.h", "*.yaml")


class DriverRepository:
    """A repository with a driver in ``drivers/NAME``, a good one in the first commit."""

    def __init__(self, directory: Path, origin: Path = CMDP, bug: str = BUG) -> None:
        self.root = directory
        self._patch = origin / "bugs" / f"{bug}.patch"
        (self._described,) = origin.glob("*.yaml")
        self.name = self._described.stem
        self.driver = directory / "drivers" / self.name
        self.driver.mkdir(parents=True)
        self.git("init", "--quiet", "--initial-branch=main")
        for pattern in _FILES:
            for path in origin.glob(pattern):
                shutil.copy(path, self.driver)
        self.source = min(self.driver.glob("*.c"))
        self.first = self.commit(f"{self.name}: import")

    @property
    def description(self) -> Path:
        """The description of the driver, in the working tree."""
        return self.driver / self._described.name

    def git(self, *arguments: str) -> str:
        """Run git there and return what it printed."""
        environment = {name: text for name, text in os.environ.items() if "GIT_" not in name}
        environment |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
        who = ("-c", "user.name=A. Tester", "-c", "user.email=tester@example.org")
        command = ["git", "-C", str(self.root), *who, *arguments]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        return done.stdout.strip()

    def commit(self, subject: str) -> str:
        """Commit all that lies there, and return the commit's hash."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", subject)
        return self.git("rev-parse", "HEAD")

    def note(self, text: str) -> str:
        """Commit a comment in the driver's source, which changes nothing but lines."""
        with self.source.open("a") as file:
            file.write(f"\n/* {text} */\n")
        return self.commit(f"{self.name}: {text}")

    def document(self, text: str) -> str:
        """Commit what no build takes."""
        (self.driver / "NOTES").write_text(f"{text}\n")
        return self.commit(f"docs: {text}")

    def break_build(self, subject: str) -> str:
        """Commit a driver that does not compile."""
        with self.source.open("a") as file:
            file.write("\nint broken(void) { return nothing_of_that_name; }\n")
        return self.commit(subject)

    def mend_build(self, subject: str) -> str:
        """Take back what break_build() did."""
        self.source.write_text(
            self.source.read_text().replace(
                "\nint broken(void) { return nothing_of_that_name; }\n", "\n/* mended */\n"
            )
        )
        return self.commit(subject)

    def plant(self, subject: str) -> str:
        """Commit the planted bug."""
        patch = ["patch", "-p1", "--batch", "--silent", "-i", str(self._patch)]
        subprocess.run(patch, cwd=self.driver, check=True, timeout=60)
        for left in self.driver.glob("*.orig"):
            left.unlink()
        return self.commit(subject)

    def state(self) -> str:
        """Return what a user would miss if it changed: branch, index, files, refs."""
        return "\n".join(
            self.git(*command)
            for command in (
                ("status", "--porcelain=v2", "--branch", "--untracked-files=all"),
                ("for-each-ref",),
                ("diff",),
                ("stash", "list"),
                ("worktree", "list"),
            )
        )
