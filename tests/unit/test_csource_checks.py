# SPDX-License-Identifier: Apache-2.0
"""The driver's C checks, with a make that is a shell script."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.headers import Headers
from fuzzer.selftest.csource_checks import check_module

# Compiles each file that differs from what was compiled last; as the kernel's own, it
# takes a file in another directory for another file.
_MAKE = """\
#!/bin/sh
echo "$@" >> {calls}
status=0
for argument; do
	case $argument in
	M=*) cd "${{argument#M=}}";;
	CONFIG_*=y) grep -l "$argument" *.c | sed 's/$/:1:1: warning: of an option/';;
	*/old) grep -l new *.c | sed 's/$/:1:1: error: not in this kernel/';;
	esac
done
for file in *.c; do
	{{ pwd; cat "$file"; }} | cmp -s - "$file.o" && continue
	{{ pwd; cat "$file"; }} > "$file.o"
	echo "$PWD $file" >> {compiled}
	grep -q odd "$file" && echo "$PWD/$file:1:5: warning: odd"
	grep -q unlinked "$file" && echo "WARNING: modpost: unlinked is undefined"
	grep -q broken "$file" && echo "$PWD/$file:1:5: error: broken" && status=2
	grep -q silent "$file" && echo "collect2: ld returned 1" && status=1
done
echo "/usr/src/linux/include/linux/list.h:3:1: warning: not the driver's"
exit $status
"""
_CHECKPATCH = 'for (@ARGV) { print "$_:1: WARNING: style\\n" if /\\./ && `cat $_` =~ /ugly/; }\n'
_PATCH = """\
--- a/{name}.c
+++ b/{name}.c
@@ -1 +1 @@
-int {name};
+int {new};
"""


@dataclass(frozen=True)
class Checked:
    """A driver of two files, a kernel, and what make was asked for."""

    source: Path
    kernel: Path
    calls: Path
    compiled: Path

    def problems(self, *headers: Headers) -> list[str]:
        """Check the driver."""
        return check_module(self.source, self.kernel, self.kernel, headers)

    def plant(self, bug: str, name: str, new: str) -> None:
        """Add a patch that puts ``new`` for the variable in file ``name``."""
        (self.source / "bugs").mkdir(exist_ok=True)
        (self.source / "bugs" / f"{bug}.patch").write_text(_PATCH.format(name=name, new=new))


@pytest.fixture
def checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checked:
    """Return a driver without problems."""
    source, kernel, programs = tmp_path / "module", tmp_path / "kernel", tmp_path / "bin"
    for directory in (source, kernel / "scripts", programs):
        directory.mkdir(parents=True)
    (source / "Kbuild").write_text("obj-m := toy.o\n")
    (source / "toy.c").write_text("int toy;\n")
    (source / "part.c").write_text("int part;\n")
    (kernel / "Module.symvers").touch()
    (kernel / "scripts" / "checkpatch.pl").write_text(_CHECKPATCH)
    calls, compiled = tmp_path / "calls", tmp_path / "compiled"
    for name, script in (
        ("make", _MAKE.format(calls=calls, compiled=compiled)),
        ("sparse", "#!/bin/sh\n"),
    ):
        (programs / name).write_text(script)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return Checked(source, kernel, calls, compiled)


def test_a_clean_driver_has_no_problems_and_is_not_written_to(checked: Checked) -> None:
    assert checked.problems() == []
    (call,) = checked.calls.read_text().splitlines()
    assert " W=1 C=2 modules" in call
    assert sorted(path.name for path in checked.source.iterdir()) == ["Kbuild", "part.c", "toy.c"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("odd", "toy.c:1:5: warning: odd"),
        ("broken", "toy.c:1:5: error: broken"),
        ("unlinked", "WARNING: modpost: unlinked is undefined"),
        ("ugly", "checkpatch: toy.c:1: WARNING: style"),
    ],
)
def test_what_compiler_modpost_and_checkpatch_say_are_problems(
    checked: Checked, content: str, problem: str
) -> None:
    (checked.source / "toy.c").write_text(f"int {content};\n")
    assert checked.problems() == [problem]


def test_a_build_that_fails_without_a_word_on_the_driver_is_a_problem(checked: Checked) -> None:
    (checked.source / "toy.c").write_text("int silent;\n")
    assert "make W=1: collect2: ld returned 1" in checked.problems()


def test_another_module_in_its_directory_is_left_alone(checked: Checked) -> None:
    for name in ("parts", "other"):
        (checked.source / name).mkdir()
        (checked.source / name / "x.c").write_text("int ugly;\n")
    (checked.source / "other" / "Kbuild").write_text("obj-m := x.o\n")
    assert checked.problems() == ["checkpatch: parts/x.c:1: WARNING: style"]


def test_names_of_the_kernels_headers_are_known_to_checkpatch(checked: Checked) -> None:
    (checked.kernel / "scripts" / "checkpatch.pl").write_text(
        'print grep { s/^--root=// } @ARGV; print "\n"'
    )
    assert checked.problems() == [f"checkpatch: {checked.kernel}"]


def test_kconfig_and_kbuild_go_through_checkpatch(checked: Checked) -> None:
    (checked.kernel / "scripts" / "checkpatch.pl").write_text('print "@ARGV[-4..-1]\\n"')
    (checked.source / "Kconfig").write_text('config TOY\n\ttristate "Toy"\n')
    assert checked.problems() == ["checkpatch: Kbuild Kconfig part.c toy.c"]


def test_a_driver_is_built_with_its_options_as_well(checked: Checked) -> None:
    (checked.source / "Kconfig").write_text(
        'config TOY\n\ttristate "Toy"\n\nconfig TOY_TEST\n\tbool "Tests"\n'
    )
    (checked.source / "toy.c").write_text("int x; /* CONFIG_TOY_TEST=y */\n")
    assert checked.problems() == ["CONFIG_TOY_TEST=y: toy.c:1:1: warning: of an option"]
    plain, optional = checked.calls.read_text().splitlines()
    assert "CONFIG_" not in plain
    assert " W=1 C=2 CONFIG_TOY_TEST=y modules" in optional


def test_problems_with_other_headers_are_named_by_their_version(
    checked: Checked, tmp_path: Path
) -> None:
    (checked.source / "toy.c").write_text("int new;\n")
    old, newer = Headers("6.1.192", tmp_path / "old"), Headers("6.12.9", tmp_path / "newer")
    assert checked.problems(old, newer) == ["Linux 6.1.192: toy.c:1:1: error: not in this kernel"]
    assert "C=2" not in checked.calls.read_text().splitlines()[-1]


def test_each_bugs_patch_must_apply_and_build(checked: Checked) -> None:
    checked.plant("fine", "toy", "bug")
    checked.plant("odd", "part", "odd")
    checked.plant("elsewhere", "part", "bug")
    (checked.source / "bugs" / "elsewhere.patch").write_text(
        _PATCH.format(name="part", new="bug").replace("-int part", "-int other")
    )
    problems = checked.problems()
    assert "odd.patch: part.c:1:5: warning: odd" in problems
    others = [line for line in problems if not line.startswith("odd.patch")]
    assert others
    assert all(line.startswith("elsewhere.patch: does not apply: ") for line in others)


def test_of_a_patched_driver_only_what_the_patch_changes_is_compiled(checked: Checked) -> None:
    for number in range(20):
        checked.plant(f"bug{number}", "toy", f"bug{number}")
    assert checked.problems() == []
    compiled = checked.compiled.read_text().splitlines()
    shares = {line.split()[0] for line in compiled}
    assert len(compiled) == 2 * len(shares) + 20
    assert sum(line.endswith("part.c") for line in compiled) == len(shares)


def test_bugs_are_not_checked_in_a_driver_that_does_not_build(checked: Checked) -> None:
    checked.plant("fine", "part", "bug")
    (checked.source / "toy.c").write_text("int broken;\n")
    assert checked.problems() == [
        "toy.c:1:5: error: broken",
        "bugs/: not checked, as the driver itself does not build clean",
    ]


def test_a_missing_tool_is_named(
    checked: Checked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(
        InfrastructureError,
        match=r"a module: perl is not on PATH\. Install it: apt-get install perl$",
    ):
        checked.problems()


@pytest.mark.parametrize(
    ("missing", "what"),
    [
        ("module/Kbuild", "a module's source"),
        ("kernel/scripts/checkpatch.pl", "a kernel tree"),
        ("kernel/Module.symvers", "a kernel build that is ready for modules"),
    ],
)
def test_a_directory_that_is_something_else_is_refused(
    checked: Checked, tmp_path: Path, missing: str, what: str
) -> None:
    (tmp_path / missing).unlink()
    with pytest.raises(BadInputError, match=f"is not {what}: it has no "):
        checked.problems()
