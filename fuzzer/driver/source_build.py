# SPDX-License-Identifier: Apache-2.0
"""Drivers built from their sources, once for each content, with a check of the modules.

A build makes one module or forty. Each is looked at: whether it is one for
this kernel, whether it reports coverage and is checked by the sanitizer, and
which others have to be loaded before it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.cache import build_once, content_key, lookup
from fuzzer.driver.author_build import (
    AuthorBuild,
    Builder,
    BuildFailedError,
    MissingToolError,
    is_of_compiler,
)
from fuzzer.driver.blocks import read_blocks
from fuzzer.driver.driver_tree import DriverTree, read_tree, refuse_home, repository_of
from fuzzer.driver.licences import foreign_licences, put_under_gpl
from fuzzer.driver.modinfo import ModuleInfo, read_modinfo
from fuzzer.errors import BadInputError
from fuzzer.kernel.kbuild import CLANG, compiler_of, parse_config, toolchain_of
from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.includes import included, missing_includes
from fuzzer.kernel.needs.objects import missing_symbols
from fuzzer.kernel.source import compiler_version
from fuzzer.progress import say
from fuzzer.sandbox import KernelView, Sandbox
from fuzzer.target.target import module_name
from fuzzer.untrusted import read_text

_RESULT, _LOG = "build.json", "build.log"
# Kind of the entries that say which trees do not build without the rest of their repository.
_WHOLE = "whole"
# Changes when a build of the same files makes something else.
_FORMAT = "5"
_MISSING_FILE = re.compile(r"No such file or directory|No rule to make target")
_DECLARES_MODULES = re.compile(r"^\s*obj-(?:m|\$[({]\w+[)}])\s*[:+?]*=", re.MULTILINE)
_DECLARATIONS = ("Kbuild", "Makefile", "Kbuild.in", "Makefile.in")
_USUAL_PLACES = ("src", "driver", "drivers", "kernel", "module", "modules", "kmod", "linux")
_MOST_DEPTH = 3
# Attempts: gcc may stop at the first missing header, and report others in the next attempt.
_MOST_ROUNDS = 4
# Errors that a file may have which was not read to the end.
_UNREAD = 1000
# Of more modules than these, those that do not compile are left out.
_FEW = 8


@dataclass(frozen=True, slots=True)
class BuiltModule:
    """A module that a build made.

    ``name`` is what the kernel calls it. ``needs`` are names of modules of the
    same build to be loaded before it, in order. ``undefined`` are symbols that the
    kernel does not have. ``blocks`` is how many instrumented blocks it has.
    """

    path: Path
    name: str
    needs: tuple[str, ...] = ()
    undefined: tuple[str, ...] = ()
    blocks: int = 0


@dataclass(frozen=True, slots=True)
class SourceBuild:
    """A driver's build: ``directory`` is the private copy in which ``modules`` were made.

    ``failed`` are objects that did not compile; ``how`` is the command that made
    the modules; ``key`` names all that went into it. ``licences`` are the author's, where
    the copy says GPL instead. ``source`` is the directory that was copied, which may lie below
    the one that was given.
    """

    directory: Path
    key: str
    modules: tuple[BuiltModule, ...]
    failed: tuple[str, ...]
    how: str
    licences: tuple[str, ...] = ()
    source: Path | None = None

    def module(self, name: str) -> BuiltModule | None:
        """Return the module of a name, with ``-`` or ``_`` in it; None if there is none."""
        wanted = module_name(name)
        return next((module for module in self.modules if module.name == wanted), None)

    def log(self) -> str:
        """Return all that the builds printed."""
        return (self.directory / _LOG).read_text(errors="replace")


def build_source(
    source: Path,
    kernel: Kernel,
    *,
    patch: Path | None = None,
    variables: Sequence[str] = (),
) -> SourceBuild:
    """Build a driver's directory for a kernel; from the cache when nothing changed.

    ``patch`` is applied to the copy; ``variables`` are given to make as well.

    Raises:
        BuildFailedError: no module came out; the message has the first error.
        BadInputError: the directory holds no driver, or the patch does not apply.
        InfrastructureError: builds cannot be run on this host.
    """
    directory = driver_directory(source)
    try:
        return _build_directory(directory, kernel, patch, variables)
    except BuildFailedError as error:
        # Its Makefile may be for something else, and the module further down.
        below = set() if _declares(directory) else _outermost(_declaring(directory))
        if not (below or _declares(directory) or _has_module_source(directory)):
            raise BadInputError(
                f"{directory} makes no kernel module: no Makefile in it names one (obj-m), and "
                "no C file is one (MODULE_LICENSE). Give the driver's own directory"
            ) from None
        if len(below) != 1:
            raise
        try:
            return _build_directory(below.pop(), kernel, patch, variables)
        except BuildFailedError as other:
            # Without the Makefile above it, it may fail for nothing but that.
            raise (error if is_of_compiler(error.output) else other) from None


def _build_directory(
    directory: Path, kernel: Kernel, patch: Path | None, variables: Sequence[str]
) -> SourceBuild:
    tree = read_tree(directory)
    key = _key(tree, kernel, patch, variables)
    is_alone = repository_of(directory) in {None, directory}
    if is_alone or not lookup(_WHOLE, key):
        try:
            return _build_tree(tree, key, kernel, patch, variables)
        except BuildFailedError as error:
            if is_alone or not _MISSING_FILE.search(error.output):
                raise
    # It refers to files in ways that cannot be read off: all of its repository, then.
    whole = read_tree(directory, whole=True)
    build = _build_tree(whole, _key(whole, kernel, patch, variables), kernel, patch, variables)
    build_once(_WHOLE, key, lambda _directory: None, keep=80)
    return build


def _key(tree: DriverTree, kernel: Kernel, patch: Path | None, variables: Sequence[str]) -> str:
    return content_key(
        _FORMAT,
        kernel.key,
        compiler_version(kernel.compiler_name()),
        "\0".join([*instrumentation(kernel), *variables]),
        patch.read_bytes() if patch else b"",
        *tree.content(),
    )


def _build_tree(
    tree: DriverTree, key: str, kernel: Kernel, patch: Path | None, variables: Sequence[str]
) -> SourceBuild:
    def build(directory: Path) -> None:
        say(f"building {tree.directory.name} for the {kernel.name} kernel, in a sandbox")
        made, licences = _Copies(tree, kernel, patch, variables).build(directory)
        modules = _inspect(made, kernel, tree.directory)
        write_whole(directory / _LOG, made.output)
        result = {
            "how": made.how,
            "failed": made.failed,
            "licences": licences,
            "modules": [
                {
                    "path": str(module.path.relative_to(directory)),
                    "needs": module.needs,
                    "undefined": module.undefined,
                    "blocks": module.blocks,
                }
                for module in modules
            ],
        }
        write_whole(directory / _RESULT, json.dumps(result))

    result = _read_result(build_once("driver", key, build, keep=80), key)
    return replace(result, source=tree.directory)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The result of building a copy with further ``flags`` for gcc.

    ``licences`` are those of it that a kernel with lock checks does not take.
    """

    flags: tuple[str, ...]
    made: AuthorBuild | None
    error: BuildFailedError | None = None
    licences: tuple[str, ...] = ()

    @property
    def output(self) -> str:
        return self.made.output if self.made else self.error.output if self.error else ""

    @property
    def faults(self) -> tuple[bool, int]:
        """A sort key of outcomes, the best first."""
        if self.made:
            return False, len(self.made.failed)
        # gcc looks no further than the first header that is not there.
        unread = self.output.count(" fatal error: ")
        return True, _UNREAD * unread + self.output.count(" error: ")

    @property
    def can_be_better(self) -> bool:
        return self.made is None or bool(self.made.failed and len(self.made.modules) <= _FEW)


class _Copies:
    """Builds copies of a tree for a kernel: with headers that it leaves out, if that helps.

    And under the GPL, if it is not; see ``fuzzer.driver.licences``.
    """

    def __init__(
        self, tree: DriverTree, kernel: Kernel, patch: Path | None, variables: Sequence[str]
    ) -> None:
        self._tree = tree
        self._kernel = kernel
        self._patch = patch
        self._variables = variables

    def build(self, directory: Path) -> tuple[AuthorBuild, tuple[str, ...]]:
        """Build the tree in an empty directory; return also the licences that were changed.

        Raises:
            BuildFailedError: no module came out.
            BadInputError: the patch does not apply, or a tool is missing.
        """
        best = last = self._built(directory, ())
        for _ in range(_MOST_ROUNDS):
            more = missing_includes(last.output, self._kernel) if last.can_be_better else ()
            more = tuple(flag for flag in more if flag not in last.flags)
            if not more:
                break
            say(f"once more with {included(more)}, which {self._tree.directory.name} leaves out")
            last = self._built(directory, (*last.flags, *more))
            best = min(best, last, key=lambda outcome: outcome.faults)
        licences = best.licences
        if licences or (best.made and best is not last):
            best = self._built(directory, best.flags, under_gpl=bool(licences))
        if best.error:
            raise best.error
        assert best.made is not None
        return best.made, licences

    def _built(
        self, directory: Path, flags: tuple[str, ...], *, under_gpl: bool = False
    ) -> _Outcome:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        place = self._tree.copy(directory)
        if self._patch:
            _apply(self._patch, place, self._tree.directory)
        if under_gpl:
            put_under_gpl(directory)
        kernel = self._kernel
        view = KernelView(kernel.release() or "unknown", kernel.directory, kernel.source)
        # The last wins: whoever asks for something gets it.
        variables = [*instrumentation(kernel, flags), *self._variables]
        try:
            made = Builder(Sandbox(directory, kernel=view), place, variables).build()
            licences = foreign_licences(directory, made.modules, made.output)
            return _Outcome(flags, made, licences=licences)
        except BuildFailedError as error:
            kconfig = place / "Kconfig"
            failure = BuildFailedError(
                f"the driver in {self._tree.directory} does not build:\n{error}",
                error.output,
                missing_symbols(directory, kernel),
                _text(kconfig) if kconfig.is_file() else "",
            )
            licences = foreign_licences(directory, (), error.output)
            return _Outcome(flags, None, failure, licences)
        except MissingToolError as error:
            raise MissingToolError(
                f"the driver in {self._tree.directory} does not build: {error}"
            ) from None


def _read_result(directory: Path, key: str) -> SourceBuild:
    result = json.loads((directory / _RESULT).read_text())
    modules = tuple(
        BuiltModule(
            directory / each["path"],
            module_name(Path(each["path"]).stem),
            tuple(each["needs"]),
            tuple(each["undefined"]),
            each["blocks"],
        )
        for each in result["modules"]
    )
    return SourceBuild(
        directory,
        key,
        modules,
        tuple(result["failed"]),
        result["how"],
        tuple(result["licences"]),
    )


def build_root(directory: Path) -> Path:
    """Return the private copy that a directory is a part of; itself if it is of none."""
    places = (directory, *directory.parents)
    return next((place for place in places if (place / _RESULT).is_file()), directory)


def instrumentation(kernel: Kernel, flags: Sequence[str] = ()) -> list[str]:
    """Return make variables that turn coverage and the sanitizer on for a driver.

    ``flags`` are further ones for the compiler. With a compiler that has no
    ``--param asan-kernel-mem-intrinsic-prefix`` (GCC before 13) the driver's own
    memcpy(), memset() and memmove() would go unchecked on x86: mm/kasan/shadow.c
    leaves the checking versions out. Kernels before 6.3 do not, and have no others.
    """
    config = parse_config((kernel.directory / ".config").read_text())
    flags = list(flags)
    variables = [*toolchain_of(config), "KCOV_INSTRUMENT=y"]
    if compiler_of(config) == CLANG:
        # Drivers have warnings of gcc in their flags.
        flags.insert(0, "-Wno-unknown-warning-option")
    if config.get("CONFIG_KCSAN", "n") == "y":
        variables.append("KCSAN_SANITIZE=y")
    elif config.get("CONFIG_KMSAN", "n") == "y":
        variables.append("KMSAN_SANITIZE=y")
    else:
        variables.append("KASAN_SANITIZE=y")
        prefixed = config.get("CONFIG_CC_HAS_KASAN_MEMINTRINSIC_PREFIX", "n") == "y"
        symbols = (kernel.directory / "Module.symvers").read_text()
        if not prefixed and "\t__asan_memcpy\t" in symbols:
            names = ("memcpy", "memset", "memmove")
            flags = [*(f"-D{name}=__asan_{name}" for name in names), *flags]
    return [*variables, f"KCFLAGS={' '.join(flags)}"] if flags else variables


def _apply(patch: Path, place: Path, source: Path) -> None:
    # --batch would take out a bug that is there already, and say nothing.
    done = subprocess.run(
        ["patch", "-p1", "--force", "--silent", "-i", str(patch)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise BadInputError(
            f"{patch} does not apply to {source}: {done.stdout.strip()}. "
            "The driver has changed; the patch must follow"
        )


def _inspect(made: AuthorBuild, kernel: Kernel, source: Path) -> list[BuiltModule]:
    """Return the modules that are for this kernel.

    Raises:
        BadInputError: none is, or none has coverage points.
    """
    infos = {module_name(path.stem): read_modinfo(path) for path in made.modules}
    release = kernel.release()
    modules, foreign = [], []
    for path in made.modules:
        vermagic = infos[module_name(path.stem)].vermagic
        if release and vermagic.split(" ", 1)[0] != release:
            foreign.append((path.name, vermagic))
            continue
        undefined = made.undefined.get(path.stem, ())
        modules.append(
            BuiltModule(
                path,
                module_name(path.stem),
                tuple(_order(module_name(path.stem), infos)),
                undefined,
                len(read_blocks(path)),
            )
        )
    if not modules:
        raise BadInputError(
            f"the build of {source} made {foreign[0][0]} for another kernel: its vermagic is "
            f"{foreign[0][1]!r}, the kernel's release is {release!r}. Its Makefile must "
            "take the kernel's directory from /lib/modules/$(uname -r)/build or a variable"
        )
    if not any(module.blocks for module in modules):
        raise BadInputError(
            f"the build of {source} made {modules[0].path.name} without coverage points: "
            "0 blocks. It was not compiled by the kernel's build system, or its Makefile takes "
            "flags out (CFLAGS_REMOVE, override KCOV_INSTRUMENT). "
            f"It was made by: {made.how}"
        )
    return modules


def _order(name: str, infos: Mapping[str, ModuleInfo]) -> Iterable[str]:
    """Return the modules of the build that ``name`` depends on, those first that others need."""
    ordered: dict[str, None] = {}
    active: set[str] = set()

    def add(each: str) -> None:
        if each in active or each not in infos:
            return
        active.add(each)
        for needed in infos[each].depends:
            add(module_name(needed))
        ordered[each] = None

    add(name)
    ordered.pop(name, None)
    return ordered


def driver_directory(source: Path) -> Path:
    """Return the directory of a driver: the one given, or the one below it that declares modules.

    Raises:
        BadInputError: there is none, or there are several to choose from.
    """
    refuse_home(source)
    if any((source / name).is_file() for name in (*_DECLARATIONS[:2], "dkms.conf")):
        return source
    found = sorted(_declaring(source))
    usual = [path for path in found if path.name in _USUAL_PLACES]
    if len(found) != 1 and len(usual) == 1:
        found = usual
    if len(found) == 1:
        return found[0]
    if not found and _has_module_source(source, below=False):
        return source
    if not found:
        raise BadInputError(
            f"{source} holds no driver: neither a Kbuild file, a Makefile nor dkms.conf, and no "
            "directory below it has one that names modules (obj-m). Give the driver's directory"
        )
    listed = "\n".join(f"    {path}" for path in found[:40])
    raise BadInputError(f"{source} holds {len(found)} drivers; give one of\n{listed}")


_MODULE_SOURCE = re.compile(r"^\s*MODULE_LICENSE\s*\(", re.MULTILINE)


def _has_module_source(source: Path, *, below: bool = True) -> bool:
    paths = source.rglob("*.c") if below else source.glob("*.c")
    return any(_MODULE_SOURCE.search(_text(path)) for path in paths)


def _text(path: Path) -> str:
    try:
        return read_text(path, errors="replace")
    except OSError:
        return ""


def _declares(directory: Path) -> bool:
    return any(_DECLARES_MODULES.search(_text(directory / name)) for name in _DECLARATIONS)


def _outermost(directories: set[Path]) -> set[Path]:
    """Return the directories that are in no other one: what is in one belongs to its build."""
    return {each for each in directories if not directories & set(each.parents)}


def _declaring(source: Path) -> set[Path]:
    """Return the directories below ``source`` with a Makefile that names modules."""
    found = set()
    pending = [(source, 0)]
    while pending:
        directory, depth = pending.pop()
        try:
            entries = list(os.scandir(directory))
        except OSError:
            continue
        for entry in entries:
            # Neither asks the entry itself, which may not be ours to look at.
            if entry.is_dir(follow_symlinks=False):
                if depth < _MOST_DEPTH and not entry.name.startswith("."):
                    pending.append((Path(entry.path), depth + 1))
            elif entry.name in _DECLARATIONS and _DECLARES_MODULES.search(_text(Path(entry.path))):
                found.add(directory)
    return found
