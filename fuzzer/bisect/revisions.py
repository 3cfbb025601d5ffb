# SPDX-License-Identifier: Apache-2.0
"""The past of a driver in its git repository, as directories to build from.

The user's working tree and index are never touched: everything happens in a
repository of our own that has the same objects.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzzer.cache import content_key
from fuzzer.checked import read_yaml
from fuzzer.driver.driver_tree import read_tree
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.target.target import SymbolSource, Target, load_target
from fuzzer.tools import run_tool
from fuzzer.untrusted import read_bytes

_TIMEOUT = 600.0
_SHORT = 10
# Options that keep the user's hooks, signature checks and colours out.
_CONFIG = ("core.hooksPath=/dev/null", "color.ui=false", "log.showSignature=false")
# Variables that git sets for a hook; they name another repository than ours.
_LOCAL = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)


@dataclass(frozen=True, slots=True)
class Commit:
    """A revision; ``author`` with the address, ``date`` as ISO 8601 has it."""

    hash: str
    subject: str
    author: str
    date: str

    def __str__(self) -> str:
        """Return what names it on a line of progress."""
        return f"{self.hash[:_SHORT]} {self.subject}"


def run_git(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git in a directory and return what came of it, in English.

    Raises:
        InfrastructureError: there is no git, or it takes for ever.
    """
    environment = {name: text for name, text in os.environ.items() if name not in _LOCAL}
    environment |= {"LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_LITERAL_PATHSPECS": "1"}
    settings = [part for setting in _CONFIG for part in ("-c", setting)]
    return run_tool(
        ["git", *settings, "-C", str(directory), *arguments],
        f"git {arguments[0]} in {directory}",
        timeout=_TIMEOUT,
        env=environment,
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return in one line what git said."""
    return " ".join((done.stderr.strip() or done.stdout.strip() or "no reason given").split())


def read_commit(directory: Path, name: str) -> Commit:
    """Return a commit of a repository by its hash, or another name that git knows.

    Raises:
        InfrastructureError: git fails, as where there is no such commit.
    """
    form = "--format=%H%x00%s%x00%an <%ae>%x00%aI"
    done = _checked(run_git(directory, "show", "--no-patch", form, name))
    return Commit(*done.stdout.rstrip("\n").split("\0"))


class Revisions:
    """The revisions of a target's driver.

    ``directory`` is an empty one for our own repository and for the sources of
    one revision at a time, laid out as on the disk so that a description finds them.
    ``symbols`` knows the names that a revision's headers do not explain.

    Raises:
        BadInputError: the driver has no source, or its source is in no git repository.
    """

    def __init__(
        self, target: Target, directory: Path, symbols: SymbolSource | None = None
    ) -> None:
        self._symbols = symbols
        source = target.module.source
        if source is None:
            raise BadInputError(
                f"{target.path}: bisect builds the driver of each revision: 'module' must name "
                "its 'source'"
            )
        self._description = target.path.resolve()
        include = _relative_includes(self._description)
        self._tree = directory / "tree"
        self.root = _root_of(source)
        self.git = directory / "git"
        self._share_objects()
        wanted = [source, self._description, *include]
        wanted += [header.parent for header in target.headers if not header.is_relative_to(source)]
        inside = [path for path in wanted if path.is_relative_to(self.root)]
        self.paths = tuple(dict.fromkeys(path.relative_to(self.root).as_posix() for path in inside))
        self._source = self.paths[0]
        # What has no past is the same for all revisions.
        self._outside = tuple(
            path for path in wanted if path not in inside and path != self._description
        )

    def _share_objects(self) -> None:
        def told(*arguments: str) -> str:
            return _checked(run_git(self.root, "rev-parse", *arguments)).stdout.strip()

        self.git.mkdir()
        form = told("--show-object-format")
        _checked(
            run_git(
                self.git, "init", "--quiet", "--bare", "--template=", f"--object-format={form}", "."
            )
        )
        objects = told("--path-format=absolute", "--git-path", "objects")
        (self.git / "objects" / "info").mkdir(exist_ok=True)
        (self.git / "objects" / "info" / "alternates").write_text(f"{objects}\n")
        shallow = Path(told("--path-format=absolute", "--git-path", "shallow"))
        if shallow.is_file():
            shutil.copyfile(shallow, self.git / "shallow")

    def resolve(self, option: str, name: str) -> Commit:
        """Return the revision that a user names with an option.

        Raises:
            BadInputError: there is none.
        """
        # What begins with a dash would be an option to git.
        asked = "" if name.startswith("-") else f"{name}^{{commit}}"
        done = run_git(self.root, "rev-parse", "--verify", "--quiet", asked)
        if done.returncode or not done.stdout.strip():
            raise BadInputError(
                f"{option} {name}: no such revision in {self.root}. "
                "Give a commit, a tag or a branch of the driver's repository"
            )
        return self.commit(done.stdout.strip())

    def commit(self, name: str) -> Commit:
        """Return a commit by its hash."""
        return read_commit(self.git, name)

    def changed(self, commit: Commit) -> tuple[str, ...]:
        """Return what a commit did to which files: ``M path``; a merge, to its first parent."""
        listing = ("--name-status", "--no-renames", "--first-parent", "-m", "--format=", "-z")
        done = _checked(run_git(self.git, "show", *listing, commit.hash))
        parts = done.stdout.rstrip("\0").split("\0")
        pairs = zip(parts[::2], parts[1::2], strict=False)
        return tuple(f"{what.strip()} {path}" for what, path in pairs)

    def is_before(self, earlier: Commit, later: Commit) -> bool:
        """Return whether a commit is another one's ancestor."""
        order = ("merge-base", "--is-ancestor", earlier.hash, later.hash)
        return run_git(self.git, *order).returncode == 0

    def target_at(self, commit: Commit) -> tuple[Target, str]:
        """Return the target of a revision, its sources in our directory; and its content's key.

        The description is the revision's own; where it has none, or one that does
        not fit, that of today.

        Raises:
            BadInputError: the revision has no driver, or no description fits it.
        """
        shutil.rmtree(self._tree, ignore_errors=True)
        top = self._tree / self.root.relative_to("/")
        top.mkdir(parents=True)
        present = [path for path in self.paths if self._has(commit, path)]
        if self._source not in present:
            raise BadInputError(f"it has no {self._source}/")
        checkout = ("checkout", "--force", "--quiet", commit.hash, "--", *present)
        (self.git / "index").unlink(missing_ok=True)
        _checked(run_git(self.git, f"--git-dir={self.git}", f"--work-tree={top}", *checkout))
        path = self._tree / self._description.relative_to("/")
        if not path.is_file():
            self._put_todays(path)
            target = self._load(path)
        else:
            try:
                target = self._load(path)
            except BadInputError:
                self._put_todays(path)
                target = self._load(path)
        return target, _key_of(target)

    def _has(self, commit: Commit, path: str) -> bool:
        name = f"{commit.hash}:{'' if path == '.' else path}"
        return run_git(self.git, "cat-file", "-e", name).returncode == 0

    def _put_todays(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._description, path)

    def _load(self, path: Path) -> Target:
        for outside in self._outside:
            copy = self._tree / outside.relative_to("/")
            shutil.copytree(outside, copy, dirs_exist_ok=True)
        target = load_target(path, self._symbols)
        for found in (target.module.source, *target.headers):
            if found is not None and not found.is_relative_to(self._tree.resolve()):
                raise BadInputError(f"{path}: {found} is outside of the repository {self.root}")
        return target

    def plain(self, text: str) -> str:
        """Return a message with the files' own names instead of those in our directory."""
        for tree in (self._tree.resolve(), self._tree):
            text = text.replace(f"{tree}/", "/")
        return text


def _checked(done: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str]:
    if done.returncode:
        raise InfrastructureError(f"git failed: {complaint(done)}")
    return done


def _root_of(source: Path) -> Path:
    done = run_git(source, "rev-parse", "--show-toplevel")
    if done.returncode:
        raise BadInputError(
            f"{source}: bisect needs the driver's history, and git finds none there: "
            f"{complaint(done)}. Give with --target a description whose source is in a repository"
        )
    return Path(done.stdout.rstrip("\n")).resolve()


def _relative_includes(description: Path) -> tuple[Path, ...]:
    """Return the directories with headers that a description names.

    Raises:
        BadInputError: it names a place that is the same for all revisions.
    """
    # It was loaded as a description before.
    document = read_yaml(description, dict[str, Any])
    headers = document.get("header", [])
    names = [
        document["module"]["source"],
        *(headers if isinstance(headers, list) else [headers]),
        *document.get("include", []),
    ]
    for name in names:
        if Path(str(name)).is_absolute():
            raise BadInputError(
                f"{description}: bisect needs names relative to the description, not {name}"
            )
    return tuple((description.parent / str(name)).resolve() for name in document.get("include", []))


def _key_of(target: Target) -> str:
    """Return a key of all that decides how a driver behaves."""
    assert target.module.source is not None
    tree = read_tree(target.module.source)
    parts: list[str | bytes] = [read_bytes(target.path), *tree.content()]
    parts += [read_bytes(header) for header in target.headers]
    return content_key(*parts)
