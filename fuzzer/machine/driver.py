# SPDX-License-Identifier: Apache-2.0
"""Building the driver under test, as it is or with a planted bug."""

from __future__ import annotations

import enum
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer import lifetime
from fuzzer.cache import build_once, content_key
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.machine.blocks import Block, read_blocks, read_builtin_blocks, read_functions
from fuzzer.machine.kernel import Kernel, parse_config
from fuzzer.machine.loadable import loadable
from fuzzer.machine.source import compiler_version
from fuzzer.target.target import Target, module_name

_SOURCES = {".c", ".h", ".S", ".mk"}
_NAMES = {"Kbuild", "Makefile", "Kconfig"}
_GENERATED = re.compile(r".*\.mod\.c$")
# Seconds.
_BUILD_TIMEOUT = 900.0
_DIFF_STARTS = ("--- ", "diff ", "Index: ")


@dataclass(frozen=True, slots=True)
class Driver:
    """A built module. ``key`` names its content.

    Built from source, it lies in its build directory: sources (with the bug,
    if one was planted), objects and, of a build for gcov, the ``.gcno`` files.
    Of a driver that is a part of the kernel, ``object`` is ``vmlinux`` and
    ``parts`` are the driver's own objects. ``needs`` are the .ko files to load
    before it, in this order.
    """

    name: str
    object: Path
    key: str
    parts: tuple[Path, ...] = ()
    needs: tuple[Path, ...] = ()

    def image(self) -> bytes:
        """Return the module's bytes; none if there is nothing to load."""
        return b"" if self.parts else loadable(self.object)

    def needed_images(self) -> tuple[tuple[bytes, str], ...]:
        """Return the bytes and the name of each module to load before it."""
        return tuple((loadable(path), path.stem) for path in self.needs)

    def blocks(self) -> tuple[Block, ...]:
        """Return the instrumented blocks, in order.

        Raises:
            BadInputError: it was not built for x86-64.
        """
        return (
            read_builtin_blocks(self.parts, self.object) if self.parts else read_blocks(self.object)
        )

    def frame_marks(self) -> tuple[str, ...]:
        """Return what a line of a stack trace has if it is one of the driver's."""
        if not self.parts:
            return (f" [{module_name(self.name)}]",)
        return tuple(f" {name}+0x" for part in self.parts for name in read_functions(part))


class Level(enum.StrEnum):
    """How hard a planted bug is to find."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Bug:
    """A planted bug: a patch for the driver, and what its header says.

    ``expect`` is the title it is reported with; where no report comes,
    ``oracle`` says how else it shows (empty: by its report). ``needs`` are the
    abilities that finding it takes: sequence, value, fault, race and so on.
    ``also`` are titles that it may come with instead: which side of a deadlock is
    told depends on which was first. ``kernel`` is the flavour that alone reports it;
    empty: fast, full or both.
    """

    name: str
    path: Path
    kind: str
    cwe: str
    expect: str
    level: Level = Level.EASY
    needs: tuple[str, ...] = ()
    oracle: str = ""
    description: str = ""
    kernel: str = ""
    also: tuple[str, ...] = ()

    @property
    def titles(self) -> tuple[str, ...]:
        """The titles that a report of it may have."""
        return (self.expect, *self.also)


def _read_header(text: str) -> dict[str, str]:
    """Return the fields that stand before a patch's diff.

    A field goes on in the lines below it that are indented.
    """
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if line.startswith(_DIFF_STARTS) or line == "---":
            break
        if line[:1] in (" ", "\t") and line.strip() and name:
            fields[name] = f"{fields[name]} {line.strip()}".strip()
        elif match := re.match(r"([A-Z][\w-]*):(?: (.*))?$", line):
            name = match[1]
            fields[name] = (match[2] or "").strip()
    return fields


def _read_bug(path: Path) -> Bug:
    fields = _read_header(path.read_text())
    level = fields.get("Level", Level.EASY)
    if level not in list(Level):
        raise BadInputError(f"{path}: Level: {level} is not known; it is one of {', '.join(Level)}")
    needs = [need.strip() for need in fields.get("Needs", "").split(",")]
    return Bug(
        path.stem,
        path,
        fields.get("Class", ""),
        fields.get("CWE", ""),
        fields.get("Expect", ""),
        Level(level),
        tuple(need for need in needs if need),
        fields.get("Oracle", ""),
        fields.get("Description", ""),
        fields.get("Kernel", ""),
        tuple(title.strip() for title in fields.get("Also", "").split(";") if title.strip()),
    )


def list_bugs(target: Target) -> list[Bug]:
    """Return the planted bugs beside a target's description, by name.

    Raises:
        BadInputError: a patch's header says what has no meaning.
    """
    patches = sorted((target.path.parent / "bugs").glob("*.patch"))
    return [_read_bug(path) for path in patches]


def find_bug(target: Target, name: str) -> Bug:
    """Return a planted bug.

    Raises:
        BadInputError: there is none of that name.
    """
    bugs = list_bugs(target)
    for bug in bugs:
        if bug.name == name:
            return bug
    allowed = ", ".join(bug.name for bug in bugs) or "none"
    raise BadInputError(
        f"--bug {name}: no such bug in {target.path.parent / 'bugs'}; there are: {allowed}"
    )


def source_files(directory: Path) -> list[Path]:
    """Return the files of a driver's directory that a build of it takes, sorted."""
    return sorted(
        path
        for path in directory.rglob("*")
        if path.is_file()
        and (path.suffix in _SOURCES or path.name in _NAMES)
        and not _GENERATED.match(path.name)
        and not any(part.startswith(".") for part in path.relative_to(directory).parts)
    )


def _compiler_flags(kernel: Kernel) -> list[str]:
    """Return make variables that turn coverage and the sanitizer on for the driver.

    With a compiler that has no ``--param asan-kernel-mem-intrinsic-prefix``
    (GCC before 13) the driver's own memcpy(), memset() and memmove() would go
    unchecked on x86: mm/kasan/shadow.c leaves the checking versions out.
    """
    config = parse_config((kernel.directory / ".config").read_text())
    if config.get("CONFIG_KCSAN", "n") == "y":
        return ["KCOV_INSTRUMENT=y", "KCSAN_SANITIZE=y"]
    variables = ["KCOV_INSTRUMENT=y", "KASAN_SANITIZE=y"]
    if config.get("CONFIG_CC_HAS_KASAN_MEMINTRINSIC_PREFIX", "n") == "n":
        names = ("memcpy", "memset", "memmove")
        variables.append("KCFLAGS=" + " ".join(f"-D{name}=__asan_{name}" for name in names))
    return variables


def _first_errors(output: str, directory: Path) -> str:
    lines = [line for line in output.splitlines() if re.search(r"error|Error|undefined", line)]
    text = "\n".join(lines[:10]) or "\n".join(output.splitlines()[-5:])
    return text.replace(f"{directory}/", "")


def build_driver(
    target: Target,
    kernel: Kernel,
    bug: Bug | None = None,
    variables: Sequence[str] = (),
) -> Driver:
    """Build a target's driver against a kernel; from the cache when nothing changed.

    ``variables`` are given to make as well, such as ``GCOV_PROFILE=y``.

    Raises:
        BadInputError: it does not compile, or the bug's patch does not apply;
            the message has the compiler's errors. Or the driver comes ready
            built, so that neither bug nor variables can have an effect.
    """
    module = target.module
    if module.builtin:
        if bug is not None or variables:
            raise BadInputError(f"{target.name} is built into the kernel: no --bug can be planted")
        parts = tuple((kernel.directory / name).with_suffix(".o") for name in module.builtin)
        for path in parts:
            if not path.is_file():
                raise BadInputError(
                    f"{target.path}: the kernel was built without {path.name}; "
                    "'config' must have the options that build it in"
                )
        key = content_key(kernel.key, *module.builtin)
        return Driver(module.name, kernel.directory / "vmlinux", key, parts)
    if module.object is not None:
        if bug is not None:
            raise BadInputError("--bug needs a driver in source form")
        if variables:
            raise BadInputError(
                f"{module.object} is built already, so it cannot be built with "
                f"{' '.join(variables)}; give the driver in source form"
            )
        return Driver(module.name, module.object, content_key(module.object.read_bytes()))
    assert module.source is not None
    source = module.source
    files = source_files(source)
    # The last wins: whoever asks for something gets it.
    flags = [*_compiler_flags(kernel), *variables]
    patch = bug.path.read_bytes() if bug else b""
    key = content_key(
        kernel.key,
        compiler_version(),
        "\0".join(flags),
        module.name,
        patch,
        *(part for file in files for part in (str(file.relative_to(source)), file.read_bytes())),
    )
    object_name = f"{module.name}.ko"

    def build(directory: Path) -> None:
        for file in files:
            copy = directory / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        if bug:
            # --batch would take out a bug that is there already, and say nothing.
            done = subprocess.run(
                ["patch", "-p1", "--force", "--silent", "-i", str(bug.path)],
                cwd=directory,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            if done.returncode:
                raise BadInputError(
                    f"{bug.path} does not apply to {source}: {done.stdout.strip()}. "
                    "The driver has changed; the patch must follow"
                )
        command = ["make", "-C", str(kernel.directory), f"M={directory}", *flags, "modules"]
        try:
            done = lifetime.run(
                command,
                signal.SIGTERM,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=_BUILD_TIMEOUT,
            )
        except OSError as error:
            raise InfrastructureError(
                f"running make: {error.strerror}. Install it: apt-get install make"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise InfrastructureError(
                f"the build of {source} did not end in {_BUILD_TIMEOUT:.0f} s and was killed. "
                f"Try it by hand: {shlex.join(command)}"
            ) from error
        if done.returncode:
            raise BadInputError(
                f"the driver in {source} does not build:\n{_first_errors(done.stdout, directory)}"
            )
        if not (directory / object_name).is_file():
            raise BadInputError(
                f"the build of {source} made no {object_name}; "
                f"module.name in {target.path} must be the name of the .ko"
            )

    directory = build_once("driver", key, build, keep=80)
    return Driver(module.name, directory / object_name, key)
