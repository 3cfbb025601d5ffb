# SPDX-License-Identifier: Apache-2.0
"""Driver builds for a toy of a kernel, and planted bugs."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest

import fuzzer.driver.loadable
from fuzzer.driver import modinfo
from fuzzer.driver.driver import (
    Difficulty,
    Driver,
    Needed,
    PlantedBug,
    build_driver,
    find_bug,
    list_bugs,
)
from fuzzer.driver.loadable import loadable
from fuzzer.driver.modinfo import read_modinfo
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.target.target import Target, load_target
from tests.unit.linking_kernel import SOURCE, toy_kernel
from tests.unit.made_module import make_module

_YAML = """\
version: 1
name: toy
device: /dev/toy
module: {source: ., name: toy}
calls:
  - read: [1]
"""

_PATCH = """\
SPDX-License-Identifier: GPL-2.0
Bug: {name}
Class: use-after-free
CWE: 416
Expect: KASAN: slab-use-after-free Read in toy_read
Description: reads: too late.

--- a/toy.c
+++ b/toy.c
@@ -1,2 +1,2 @@
-{old};
+int x, bug;
 int toy(void) {{ return x; }}
"""

_RICH_PATCH = """\
SPDX-License-Identifier: GPL-2.0
Bug: rich
Class: use-after-free
CWE: 416
Level: hard
Needs: sequence, race,expiry
Expect: KASAN: slab-use-after-free Read in toy_read
Oracle: a read returns bytes
 that nobody wrote
Description:
	The table is unlocked: too early.

	Write a key, DELETE it, read.

{separator}--- a/toy.c
+++ b/toy.c
@@ -1 +1,2 @@
 int x;
+int bug;
"""


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Return a driver with two planted bugs, one of which does not apply."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source"
    (source / "bugs").mkdir(parents=True)
    (source / "toy.yaml").write_text(_YAML)
    (source / "Kbuild").write_text("obj-m := toy.o\n")
    (source / "toy.c").write_text(SOURCE)
    (source / "bugs" / "late.patch").write_text(_PATCH.format(name="late", old="int x"))
    (source / "bugs" / "elsewhere.patch").write_text(_PATCH.format(name="elsewhere", old="int y"))
    return load_target(source / "toy.yaml")


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    """Return a kernel with nothing but a configuration and a build system."""
    return toy_kernel(tmp_path / "kernel")


def _flags(driver: Driver) -> str:
    return (driver.object.parent / "flags").read_text()


def test_bugs_are_listed_with_their_headers(target: Target) -> None:
    bugs = list_bugs(target)
    assert [bug.name for bug in bugs] == ["elsewhere", "late"]
    late = bugs[1]
    assert (late.kind, late.cwe) == ("use-after-free", "416")
    assert late.expect == "KASAN: slab-use-after-free Read in toy_read"
    assert find_bug(target, "late") == late


# The second is what git format-patch puts between.
@pytest.mark.parametrize("separator", ["", "---\n toy.c | 1 +\n\n"])
def test_a_header_may_say_more_over_several_lines(target: Target, separator: str) -> None:
    path = target.path.parent / "bugs" / "rich.patch"
    path.write_text(_RICH_PATCH.format(separator=separator))
    assert find_bug(target, "rich") == PlantedBug(
        "rich",
        path,
        "use-after-free",
        "416",
        "KASAN: slab-use-after-free Read in toy_read",
        Difficulty.HARD,
        ("sequence", "race", "expiry"),
        "a read returns bytes that nobody wrote",
        "The table is unlocked: too early. Write a key, DELETE it, read.",
    )


def test_a_header_may_say_less(target: Target) -> None:
    late = find_bug(target, "late")
    assert (late.level, late.needs, late.oracle) == (Difficulty.EASY, (), "")
    assert late.description == "reads: too late."


def test_a_level_that_does_not_exist_is_refused_with_those_that_do(target: Target) -> None:
    path = target.path.parent / "bugs" / "rich.patch"
    path.write_text(_RICH_PATCH.replace("hard", "tricky"))
    with pytest.raises(BadInputError, match=r"rich\.patch: Level: tricky .*easy, medium, hard"):
        list_bugs(target)


def test_the_shipped_bugs_say_what_they_are(pkv_target: Target) -> None:
    bugs = list_bugs(pkv_target)
    assert bugs
    for bug in bugs:
        assert bug.kind
        assert bug.cwe.isdigit()
        assert bug.expect or bug.oracle
        assert bug.description
        assert f"Bug: {bug.name}\n" in bug.path.read_text()


def test_an_unknown_bug_is_refused_with_those_that_exist(target: Target) -> None:
    with pytest.raises(BadInputError, match=r"--bug lat: no such bug .* elsewhere, late"):
        find_bug(target, "lat")


def test_a_target_without_bugs_has_none(target: Target, tmp_path: Path) -> None:
    elsewhere = dataclasses.replace(target, path=tmp_path / "elsewhere" / "toy.yaml")
    assert list_bugs(elsewhere) == []
    with pytest.raises(BadInputError, match="there are: none"):
        find_bug(elsewhere, "late")


def test_a_driver_is_built_once_for_its_content(target: Target, kernel: Kernel) -> None:
    driver = build_driver(target, kernel)
    assert driver.blocks()
    assert {"KCOV_INSTRUMENT=y", "KASAN_SANITIZE=y"} <= set(_flags(driver).split())
    built = driver.object.stat().st_mtime_ns
    assert build_driver(target, kernel) == driver
    assert driver.object.stat().st_mtime_ns == built
    buggy = build_driver(target, kernel, find_bug(target, "late"))
    assert buggy.image() != driver.image()
    assert (target.path.parent / "toy.c").read_text() == SOURCE
    (target.path.parent / "toy.c").write_text(SOURCE + "\n")
    edited = build_driver(target, kernel)
    other = build_driver(target, dataclasses.replace(kernel, key="other"))
    assert len({driver.key, buggy.key, edited.key, other.key}) == 4


def test_an_old_compiler_gets_checked_string_functions(target: Target, kernel: Kernel) -> None:
    (kernel.directory / ".config").write_text("")
    (kernel.directory / "Module.symvers").write_text("0x0\t__asan_memcpy\tvmlinux\n")
    assert "-Dmemcpy=__asan_memcpy" in _flags(build_driver(target, kernel))


def test_make_gets_further_variables_which_make_another_build(
    target: Target, kernel: Kernel
) -> None:
    plain = build_driver(target, kernel)
    covered = build_driver(target, kernel, variables=("CONFIG_TOY_TEST=y", "GCOV_PROFILE=y"))
    assert "CONFIG_TOY_TEST=y" in _flags(covered)
    assert covered.key != plain.key
    assert build_driver(target, kernel) == plain
    joined = build_driver(target, kernel, variables=("CONFIG_TOY_TEST=y GCOV_PROFILE=y",))
    assert joined.key != covered.key


def test_what_a_build_made_stays_beside_the_module(target: Target, kernel: Kernel) -> None:
    for _ in range(2):
        driver = build_driver(target, kernel, find_bug(target, "late"))
        assert (driver.object.parent / "flags").is_file()
        assert (driver.object.parent / "toy.c").read_text() != SOURCE


def test_nothing_is_written_into_the_drivers_directory(target: Target, kernel: Kernel) -> None:
    before = sorted(target.path.parent.rglob("*"))
    build_driver(target, kernel)
    assert sorted(target.path.parent.rglob("*")) == before


def test_a_patch_that_does_not_apply_is_an_error(
    target: Target, kernel: Kernel, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=r"elsewhere\.patch does not apply to .*source"):
        build_driver(target, kernel, find_bug(target, "elsewhere"))
    assert list((tmp_path / "cache").glob("driver-*")) == []


def test_a_driver_that_does_not_compile_is_an_error_with_the_compilers_words(
    target: Target, kernel: Kernel
) -> None:
    (target.path.parent / "toy.c").write_text("broken\n")
    with pytest.raises(BadInputError, match=r"does not build:\ntoy\.c:1:1: error: "):
        build_driver(target, kernel)


def test_a_build_that_makes_no_module_of_the_name_is_an_error(
    target: Target, kernel: Kernel
) -> None:
    module = dataclasses.replace(target.module, name="other")
    with pytest.raises(
        BadInputError, match=r"made no other\.ko but toy\. Name one of these in .*toy"
    ):
        build_driver(dataclasses.replace(target, module=module), kernel)


def test_a_ready_module_is_used_and_takes_no_bug(
    target: Target, kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = make_module(tmp_path / "ready.ko")
    monkeypatch.setattr(modinfo, "expected_modinfo", lambda _kernel: read_modinfo(built))
    module = dataclasses.replace(target.module, source=None, object=built)
    ready = dataclasses.replace(target, module=module)
    assert build_driver(ready, kernel).image() == built.read_bytes()
    with pytest.raises(BadInputError, match="source form"):
        build_driver(ready, kernel, find_bug(target, "late"))
    with pytest.raises(BadInputError, match=r"toy is built already.*GCOV_PROFILE=y"):
        build_driver(ready, kernel, variables=["GCOV_PROFILE=y"])


def test_a_bug_that_is_there_already_is_not_taken_out(target: Target, kernel: Kernel) -> None:
    assert target.module.source
    (target.module.source / "toy.c").write_text(SOURCE.replace("int x;", "int x, bug;"))
    with pytest.raises(BadInputError, match=r"late\.patch does not apply"):
        build_driver(target, kernel, find_bug(target, "late"))


def test_what_a_driver_needs_is_loaded_by_name(tmp_path: Path) -> None:
    for name in ("my-core.ko", "mini.ko"):
        (tmp_path / name).write_bytes(name.encode())
    needed = Needed(tmp_path / "my-core.ko", "a=1")
    driver = Driver("mini", tmp_path / "mini.ko", "key", needs=(needed,))
    assert driver.needed_images() == ((b"my-core.ko", "my-core", "a=1"),)
    assert driver.image() == b"mini.ko"


def test_a_frame_is_known_by_the_name_that_the_kernel_has_for_the_module(tmp_path: Path) -> None:
    assert Driver("my-mini", tmp_path / "my-mini.ko", "key").frame_marks() == (" [my_mini]",)


def test_a_module_that_is_too_large_is_loaded_without_debug_information(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.c").write_text("struct a { int b; } c; int d(void) { return c.b; }\n")
    command = ["gcc", "-g3", "-c", "x.c", "-o", "x.ko"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    path = tmp_path / "x.ko"
    whole = path.read_bytes()
    assert loadable(path) == whole
    monkeypatch.setattr(fuzzer.driver.loadable, "BULK_SIZE", len(whole) - 1)
    small = loadable(path)
    assert b".debug_info" not in small
    assert b".symtab" in small
    assert path.read_bytes() == whole
    path.write_bytes(bytes(len(whole)))
    with pytest.raises(BadInputError, match="its debug information cannot be taken out"):
        loadable(path)
    with pytest.raises(BadInputError, match="cannot read it: No such file"):
        loadable(tmp_path / "none.ko")


def test_what_a_description_needs_is_loaded_before_its_driver(
    target: Target, kernel: Kernel
) -> None:
    source = target.path.parent
    (source / "setup.c").write_text(SOURCE.replace("name=toy", "name=setup"))
    (source / "Kbuild").write_text("obj-m := toy.o setup.o\n")
    alone = build_driver(target, kernel)
    module = dataclasses.replace(target.module, needs=("setup",))
    after = build_driver(dataclasses.replace(target, module=module), kernel)
    assert (alone.needs, [each.path.name for each in after.needs]) == ((), ["setup.ko"])
    assert alone.key != after.key
    module = dataclasses.replace(module, needs=("other",))
    with pytest.raises(BadInputError, match=r"made no other\.ko but setup, toy"):
        build_driver(dataclasses.replace(target, module=module), kernel)
