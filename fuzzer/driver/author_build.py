# SPDX-License-Identifier: Apache-2.0
"""A driver built as its author builds it, in a sandbox, for one of our kernels.

Public drivers come with Makefiles of every kind. They are tried in turn until
modules come out: the author's default target, ``modules``, the command in
``dkms.conf``, and the kernel's own build system, which in the end is given
the modules one by one, without those that do not compile.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.atomic import write_whole
from fuzzer.driver.modinfo import read_modinfo
from fuzzer.errors import BadInputError
from fuzzer.sandbox import Finished, Sandbox
from fuzzer.target.target import module_name

_MAKEFILES = ("Kbuild", "Makefile", "makefile", "GNUmakefile")
_TIMEOUT_S, _QUERY_SECONDS = 900.0, 60.0
# The beginning of an answer of make's.
_SAID = "pkvfuzz-said "
# Values of ARCH that leave a build for this one.
_MACHINES = ("", "x86_64", "x86")
_COMPILERS = ("cc", "gcc")
# Objects of modules have whole paths, those of programs beside them have not.
_FAILED_OBJECT = re.compile(r"\*\*\* \[[^\]]*?(/[^\s\]:]+\.o)\] Error")
_ERROR = re.compile(r"^(\S+?:\d+(?::\d+)?: (?:fatal )?error: .*|.*\bundefined reference\b.*)$")
_EXPANSION = re.compile(r"(\S+?:\d+:\d+): note: in expansion of macro ")
# Lines below an error that name the place of a macro in it.
_MOST_NOTES = 30
_MAKE_ERROR = re.compile(r"\*\*\*|: No rule|not found|No such file|^\(killed: ")
_MODPOST_ERROR = re.compile(r"ERROR: modpost: (?!.* undefined!$)")
_LICENCE = "GPL-incompatible module"
_LICENCE_HINT = (
    "The kernel's checks of locks are for modules under the GPL alone, and it does not know the "
    'licence of this one as such ("GPL", "GPL v2", "Dual BSD/GPL", "Dual MIT/GPL" and "Dual '
    'MPL/GPL" are, written so). Where that is a slip of MODULE_LICENSE, correct it in a copy'
)
# Messages of shells, and of make where it needs no shell.
_NO_TOOL = re.compile(
    r"(?:\S*sh: (?:line )?(?:\d+: )?|make(?:\[\d+\])?: )([\w.+-]+): "
    r"(?:command |)(?:not found|No such file or directory)$"
)
_UNDEFINED = re.compile(r'modpost: "([^"]+)" \[(\S+?)(?:\.ko)?\] undefined!')
_MODULE_CODE = re.compile(r"^\s*(?:MODULE_LICENSE|module_init)\s*\(", re.MULTILINE)
_DIRECTORY_VARIABLE = re.compile(r"-C\s*['\"]?\$[({](\w+)[)}]['\"]?\s")
_PLACEHOLDER = re.compile(r"@(\w+)@")
# Written by modpost beside each module that is linked.
_LINKED = ".mod.c"
_DKMS_MAKE = "${MAKE[0]:-$MAKE}"
# The directory in which dkms would have put the driver.
_DKMS_PLACE = (
    'tree="$dkms_tree/$PACKAGE_NAME/$PACKAGE_VERSION"; mkdir -p "$tree"; '
    'ln -s "$PWD" "$tree/build"; ln -s "$PWD" "$source_tree/$PACKAGE_NAME-$PACKAGE_VERSION"'
)
# The suffix of a warning that is an error because the Makefile's author wants it so.
_STRICT = "[-Werror="
_QUERY, _AUTHORS = ".pkvfuzz-query.mk", ".pkvfuzz-author.mk"


@dataclass(frozen=True, slots=True)
class AuthorBuild:
    """The result of a build: the modules made, and facts on those that were not.

    ``modules`` are paths of ``.ko`` files. ``undefined`` are, by the name of a
    module, the symbols that the kernel does not have. ``failed`` are the names of
    objects that did not compile. ``how`` is the command that made the modules.
    """

    modules: tuple[Path, ...]
    undefined: dict[str, tuple[str, ...]]
    failed: tuple[str, ...]
    how: str
    output: str


class BuildFailedError(BadInputError):
    """No module came out of a driver's directory.

    ``output`` is what the builds printed, ``unlinked`` are the symbols that its compiled
    objects call and the kernel lacks, ``kconfig`` is the text of its own Kconfig.
    """

    def __init__(
        self, message: str, output: str, unlinked: Collection[str] = (), kconfig: str = ""
    ) -> None:
        super().__init__(message)
        self.output = output
        self.unlinked = frozenset(unlinked)
        self.kconfig = kconfig


class MissingToolError(BadInputError):
    """A driver's build runs a program that this host does not have; no kernel helps."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    how: str
    argv: tuple[str, ...]
    environment_flags: bool = False


class Builder:
    """Builds the driver in ``directory``, a private copy, for the sandbox's kernel.

    ``flags`` are make variables that each build gets on its command line, where
    they overrule what Makefiles say. ``timeout`` is in seconds, for each attempt.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        directory: Path,
        flags: Sequence[str],
        timeout: float = _TIMEOUT_S,
    ) -> None:
        assert sandbox.kernel is not None
        self._sandbox = sandbox
        self._kernel = sandbox.kernel
        self._directory = directory
        # A symbol that one module lacks must not keep the others from being made.
        self._flags = ("KBUILD_MODPOST_WARN=1", *flags)
        self._timeout = timeout
        self._said: list[str] = []
        self._found: list[str] | None = None

    def build(self) -> AuthorBuild:
        """Return the build of the first attempt that made modules.

        Raises:
            BuildFailedError: none did.
            InfrastructureError: there is no sandbox.
        """
        self._fill_in_templates()
        output = ""
        for attempt in self._attempts():
            if is_of_compiler(output) and not attempt.environment_flags:
                continue  # It would fail there again.
            done = self._run(attempt)
            output = done.output
            if modules := self._modules():
                return self._result(modules, attempt.how, output)
        return self._build_what_compiles(output)

    def _attempts(self) -> Iterator[_Attempt]:
        if any((self._directory / name).is_file() for name in _MAKEFILES[1:]):
            yield _Attempt("make", self._make())
            yield _Attempt("make modules", self._make("modules"))
        if command := self._dkms_command():
            script = f'{self._dkms_variables()}; {_DKMS_PLACE}; eval "{_DKMS_MAKE}"'
            yield _Attempt(command, ("bash", "-c", script), environment_flags=True)
        if any((self._directory / name).is_file() for name in _MAKEFILES):
            yield _Attempt("make -C KERNEL M=DRIVER modules", self._kbuild())

    def _make(self, *targets: str) -> tuple[str, ...]:
        jobs = f"-j{os.cpu_count() or 1}"
        return ("make", "-k", jobs, *self._variables(), *self._flags, *targets)

    def _kbuild(self) -> tuple[str, ...]:
        place = ("-C", str(self._kernel.build), f"M={self._directory}")
        return (*self._make(), *place, "modules")

    def _variables(self) -> list[str]:
        """Return variables with the kernel's directory and machine, for Makefiles with others.

        Public ones look below ``/lib/modules`` mostly, which the sandbox provides. Others
        name a directory of their author's, and the machine that its kernel was for.
        """
        if self._found is None:
            self._found = self._ask_make()
        return self._found

    def _ask_make(self) -> list[str]:
        said = self._values("$(MAKEFILE_LIST)", "$(ARCH)", "$(CROSS_COMPILE)", "$(CC)")
        files, machine, prefix, compiler = said or ("", "", "", "")
        names = self._kernel_names(files.split())
        missing = [f"$(if $(wildcard $({name})/Makefile),,missing)" for name in names]
        there = self._values(*missing) or ["missing"] * len(names)
        build = self._kernel.build
        variables = [f"{name}={build}" for name, how in zip(names, there, strict=True) if how]
        if machine not in _MACHINES:
            variables.append("ARCH=x86_64")
        if prefix:
            variables.append("CROSS_COMPILE=")
        # The kernel's build system reads the Makefile as well.
        if compiler and not is_native_compiler(compiler):
            variables.append("CC=gcc")
        return variables

    def _values(self, *expressions: str) -> list[str] | None:
        """Return the values of expressions in the author's Makefile; None if make cannot tell."""
        shown = "".join(f"$(info {_SAID}{expression})" for expression in expressions)
        rule = f"pkvfuzz-query: ; @:{shown}"
        argv = ("make", "--no-print-directory", f"--eval={rule}", "pkvfuzz-query")
        done = self._query(argv)
        said = [line for line in done.output.splitlines() if line.startswith(_SAID)]
        if len(said) != len(expressions):
            return None
        return [line.removeprefix(_SAID).strip() for line in said]

    def _kernel_names(self, files: Iterable[str]) -> list[str]:
        """Return the names of variables that Makefiles use as the directory of ``make -C``."""
        found: dict[str, None] = {}
        for name in (*_MAKEFILES[1:], *files):
            path = self._directory / name
            if path.is_file() and path.resolve().is_relative_to(self._sandbox.writable):
                for match in _DIRECTORY_VARIABLE.finditer(path.read_text(errors="replace")):
                    found[match[1]] = None
        return [name for name in found if name not in {"PWD", "CURDIR", "MAKE", "M"}]

    def _run(self, attempt: _Attempt) -> Finished:
        sandbox = self._sandbox
        if attempt.environment_flags:
            flags = " ".join(flag.replace(" ", r"\ ") for flag in self._flags)
            makeflags = f"k -j{os.cpu_count() or 1} -- {flags}"
            sandbox = Sandbox(
                sandbox.writable,
                sandbox.readable,
                sandbox.kernel,
                {**sandbox.environment, "MAKEFLAGS": makeflags},
            )
        done = sandbox.run(attempt.argv, self._directory, self._timeout)
        self._said.append(f"$ {shlex.join(attempt.argv)}\n{done.output}")
        if done.timed_out:
            self._said.append(f"(killed: it did not end within {self._timeout:.0f} s)\n")
        return done

    def _query(self, argv: Sequence[str]) -> Finished:
        """Run a command that only prints something."""
        return self._sandbox.run(argv, self._directory, min(self._timeout, _QUERY_SECONDS))

    def _modules(self) -> tuple[Path, ...]:
        """Return the modules that are there, each once, where the kernel's build system put it.

        Makefiles rename modules and copy them elsewhere, but the files that tell how one was
        made lie where it was linked.
        """
        homes = {
            module_name(path.name.removesuffix(_LINKED)): path.with_name(
                path.name.removesuffix(_LINKED) + ".ko"
            )
            for path in sorted(self._directory.rglob(f"*{_LINKED}"))
        }
        found: dict[Path, None] = {}
        for path in sorted(self._directory.rglob("*.ko")):
            if path.is_symlink() or not path.is_file():
                continue
            home = path if path.with_suffix(_LINKED).exists() else homes.get(_name_of(path), path)
            if not home.exists():
                path.rename(home)
            found[home] = None
        # Of copies of one that was linked in some other way, the one beside its object.
        by_name: dict[str, Path] = {}
        for path in sorted(found, key=lambda p: (not p.with_suffix(".o").is_file(), len(p.parts))):
            by_name.setdefault(path.name, path)
        return tuple(sorted(by_name.values()))

    def _result(
        self, modules: tuple[Path, ...], how: str, output: str, failed: Sequence[str] = ()
    ) -> AuthorBuild:
        # With -k a build goes on without some of the modules.
        failed = failed or sorted({Path(name).name for name in _FAILED_OBJECT.findall(output)})
        undefined: dict[str, list[str]] = {}
        for symbol, module in _UNDEFINED.findall(output):
            undefined.setdefault(Path(module).name, []).append(symbol)
        return AuthorBuild(
            modules,
            {name: tuple(dict.fromkeys(symbols)) for name, symbols in undefined.items()},
            tuple(dict.fromkeys((*failed, *_failed_objects(output)))),
            how,
            "".join(self._said),
        )

    # What is needed before make: files that configure would have made.

    def _fill_in_templates(self) -> None:
        for name in ("Kbuild", "Makefile"):
            template = self._directory / f"{name}.in"
            if template.is_file() and not any((self._directory / n).exists() for n in _MAKEFILES):
                text = template.read_text(errors="replace")
                write_whole(
                    self._directory / name, _PLACEHOLDER.sub(self._placeholder, text), sync=False
                )

    def _placeholder(self, match: re.Match[str]) -> str:
        top = os.path.relpath(self._sandbox.writable, self._directory)
        return {"srcdir": ".", "builddir": ".", "top_srcdir": top, "top_builddir": top}.get(
            match[1], ""
        )

    def _dkms_command(self) -> str:
        """Return the command by which dkms.conf makes the module; empty if there is none."""
        if not (self._directory / "dkms.conf").is_file():
            return ""
        done = self._query(("bash", "-c", f'{self._dkms_variables()}; printf "%s" "{_DKMS_MAKE}"'))
        command = done.output.strip()
        return command if done.status == 0 and "make" in command else ""

    def _dkms_variables(self) -> str:
        """Return a command that reads dkms.conf as dkms does.

        The file is a shell script, so it is the sandbox that runs it.
        """
        return (
            f"kernelver={shlex.quote(self._kernel.release)} arch=x86_64 dkms_tree=/tmp "
            f"kernel_source_dir={shlex.quote(str(self._kernel.build))} source_tree=/tmp; "
            ". ./dkms.conf >/dev/null 2>&1"
        )

    # The kernel's build system, told which modules to make.

    def _build_what_compiles(self, output: str) -> AuthorBuild:
        """Build the modules that can be built, leaving out those that cannot.

        ``output`` is that of the last build.
        """
        wanted = self._declared() or self._guessed()
        # Warnings are no errors in a Kbuild file of ours.
        failed = [] if _STRICT in output else self._broken(wanted, output)
        while wanted := {name: each for name, each in wanted.items() if name not in failed}:
            self._choose(wanted)
            done = self._run(_Attempt("make -C KERNEL M=DRIVER modules", self._kbuild()))
            if modules := self._modules():
                how = f"make -C KERNEL M=DRIVER modules, with {len(wanted)} in obj-m"
                return self._result(modules, how, done.output, failed)
            broken = self._broken(wanted, done.output)
            if not broken:
                break
            failed += broken
        raise self._failure("".join(self._said))

    def _failure(self, output: str) -> BadInputError:
        tool = missing_tool(output)
        if tool and not any(map(_ERROR.match, output.splitlines())):
            return MissingToolError(
                f"it runs {tool}, which this host does not have. Install it; if its package is "
                f"of the same name: apt-get install {tool}"
            )
        return BuildFailedError(first_error(output, self._directory), output)

    def _choose(self, objects: Iterable[str]) -> None:
        """Write a Kbuild file by which the kernel's build system makes these modules.

        It is found before a Makefile. On a command line obj-m could not be given: it would
        not be changed into paths.
        """
        kbuild, kept = self._directory / "Kbuild", self._directory / _AUTHORS
        if kbuild.is_file() and not kept.exists():
            kbuild.rename(kept)
        author = kept if kept.is_file() else self._makefile()
        text = f"include {author}\n" if author is not None else ""
        text += f"obj-y :=\nobj-m := {' '.join(objects)}\nccflags-y += -Wno-error\n"
        write_whole(kbuild, text, sync=False)

    def _makefile(self) -> Path | None:
        """Return the file that the kernel's build system reads, or would but for its name."""
        paths = (self._directory / name for name in _MAKEFILES)
        return next((path for path in paths if path.is_file()), None)

    def _broken(self, wanted: dict[str, tuple[str, ...]], output: str) -> list[str]:
        """Return the modules of which an object did not compile."""
        objects = set(_failed_objects(output))
        return [
            name
            for name, parts in wanted.items()
            if objects & {Path(name).name, *(Path(part).name for part in parts)}
        ]

    def _declared(self) -> dict[str, tuple[str, ...]]:
        """Return the modules that the Makefile declares, each with its objects, as make says.

        Empty if some are in directories of their own: obj-m would mean those as well.
        """
        makefile = self._makefile()
        if makefile is None:
            return {}
        config = self._kernel.build / "include" / "config" / "auto.conf"
        write_whole(
            self._directory / _QUERY,
            f"KERNELRELEASE := {self._kernel.release}\n"
            f"src := {self._directory}\nobj := {self._directory}\nM := {self._directory}\n"
            f"srctree := {self._kernel.source}\nobjtree := {self._kernel.build}\n"
            f"-include {config}\ninclude {makefile}\n"
            "pkvfuzz-query:\n"
            "\t@:$(foreach each,$(obj-m),$(info obj-m $(each) "
            "$($(each:.o=-objs)) $($(each:.o=-y))))\n",
            sync=False,
        )
        argv = ("make", "-f", _QUERY, "--no-print-directory", "pkvfuzz-query")
        done = self._query(argv)
        (self._directory / _QUERY).unlink()
        found = [line.split()[1:] for line in done.output.splitlines() if line.startswith("obj-m ")]
        if any(words and words[0].endswith("/") for words in found):
            return {}
        return {words[0]: tuple(words[1:]) for words in found if words}

    def _guessed(self) -> dict[str, tuple[str, ...]]:
        """Return a module for each C file that is one by itself, if the Makefile names none."""
        return {
            f"{path.stem}.o": ()
            for path in sorted(self._directory.glob("*.c"))
            if _MODULE_CODE.search(path.read_text(errors="replace"))
            and not path.name.endswith(".mod.c")
        }


def _name_of(module: Path) -> str:
    """Return a module's name as the kernel has it, whatever its file is called."""
    try:
        return read_modinfo(module).name
    except BadInputError:
        return module_name(module.stem)


def _failed_objects(output: str) -> Iterator[str]:
    return (Path(name).name for name in _FAILED_OBJECT.findall(output))


def first_error(output: str, directory: Path) -> str:
    """Return the first error as the compiler wrote it, or make's; paths relative to the driver.

    What Kbuild compiles has whole paths. Where there is an error of such, those of programs
    that the same Makefile builds do not count.
    """
    lines = output.splitlines()
    errors = [number for number, line in enumerate(lines) if _ERROR.match(line)]
    inside = f"{directory}/"
    for number in errors:
        if lines[number].startswith(inside):
            return _excerpt(lines, number, lines[number], inside)
        # In a macro of a header: the place in the driver is told below the error.
        for place in range(number + 1, min(number + _MOST_NOTES, len(lines))):
            note = _EXPANSION.match(lines[place])
            if note and note[1].startswith(inside):
                message = lines[number].partition(": ")[2]
                return _excerpt(lines, place, f"{note[1]}: {message}", inside)
    if errors:
        return _excerpt(lines, errors[0], lines[errors[0]], inside)
    if refused := sorted({line for line in lines if _MODPOST_ERROR.match(line)}):
        hint = [_LICENCE_HINT] * any(_LICENCE in line for line in refused)
        return "\n".join([*refused[:3], *hint])
    told = [line.replace(inside, "") for line in lines if _MAKE_ERROR.search(line)]
    return "\n".join(told[:3] or lines[-5:])


def _excerpt(lines: Sequence[str], number: int, error: str, inside: str) -> str:
    """Return an error with the source that gcc shows below line ``number``."""
    shown = [error.replace(inside, "")]
    for more in lines[number + 1 : number + 4]:
        if not re.match(r"\s+(?:\d+ )?\|", more):
            break
        shown.append(more)
    return "\n".join(shown)


def missing_tool(output: str) -> str:
    """Return the first program that a build did not find; empty if it found all."""
    found = (match[1] for line in output.splitlines() if (match := _NO_TOOL.match(line)))
    return next((name for name in found if shutil.which(name) is None), "")


def is_native_compiler(command: str) -> bool:
    """Tell whether a command is the compiler that kernels are built with."""
    return Path(command.split(maxsplit=1)[0]).name in _COMPILERS


def is_of_compiler(output: str) -> bool:
    """Tell whether a build failed in a module's source, rather than on the way to it."""
    return any(line.startswith("/") and _ERROR.match(line) for line in output.splitlines())
