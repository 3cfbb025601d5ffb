# SPDX-License-Identifier: Apache-2.0
"""Makefiles as strangers write them, for a toy of a kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.driver.author_build import (
    BuildFailedError,
    MissingToolError,
    first_error,
    missing_tool,
)
from fuzzer.driver.source_build import SourceBuild, build_source
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from tests.unit.linking_kernel import SOURCE, toy_kernel

Build = Callable[[str], SourceBuild]
_MODULE = "obj-m := toy.o\nall:\n\t{}\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    return toy_kernel(tmp_path / "kernel")


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return a driver's directory that is without a Makefile."""
    directory = tmp_path / "driver"
    directory.mkdir()
    (directory / "toy.c").write_text(SOURCE)
    return directory


@pytest.fixture
def build(driver: Path, kernel: Kernel) -> Build:
    """Return what builds the driver with a Makefile of the given text."""

    def with_makefile(text: str) -> SourceBuild:
        (driver / "Makefile").write_text(text)
        return build_source(driver, kernel)

    return with_makefile


def _flags(build: SourceBuild) -> list[str]:
    return (build.modules[0].path.parent / "flags").read_text().split()


def test_a_module_that_is_renamed_has_its_own_name_again(build: Build) -> None:
    made = build(_MODULE.format("$(MAKE) -C $(KDIR) M=$(CURDIR) modules; mv toy.ko toy-6.1.ko"))
    assert [(module.name, module.path.name) for module in made.modules] == [("toy", "toy.ko")]
    assert made.how == "make"


def test_a_module_that_is_moved_is_taken_where_it_was_linked(build: Build) -> None:
    made = build(
        _MODULE.format("$(MAKE) -C $(KDIR) M=$(CURDIR) modules; mkdir out; mv toy.ko out/x.ko")
    )
    assert [module.path.parent.joinpath("toy.mod.c").exists() for module in made.modules] == [True]


def test_a_copy_of_a_module_is_no_other_module(build: Build) -> None:
    made = build(
        _MODULE.format("$(MAKE) -C $(KDIR) M=$(CURDIR) modules; mkdir out; cp toy.ko out/")
    )
    assert len(made.modules) == 1
    assert made.modules[0].path.with_suffix(".mod.c").exists()


@pytest.mark.parametrize("target", ["toy.ko", "-o out.ko toy.ko", "-R .comment toy.ko"])
def test_a_module_keeps_the_names_that_its_makefile_strips(build: Build, target: str) -> None:
    made = build(
        _MODULE.format(f"$(MAKE) -C $(KDIR) M=$(CURDIR) modules; strip --strip-unneeded {target}")
    )
    symbols = subprocess.check_output(["nm", made.modules[0].path], text=True)
    assert " r magic" in symbols
    assert made.how == "make"


def test_a_driver_is_built_for_this_machine_whatever_its_makefile_is_for(build: Build) -> None:
    text = "ARCH = arm\nCROSS_COMPILE ?= arm-linux-gnueabihf-\nKERN_DIR = ~/boards/linux\n"
    command = "make ARCH=$(ARCH) CROSS_COMPILE=$(CROSS_COMPILE) -C $(KERN_DIR) M=$(PWD) modules"
    made = build(text + _MODULE.format(f"test -n '$(ARCH)'; {command}"))
    assert made.how == "make"
    assert {"ARCH=x86_64", "CROSS_COMPILE="} <= set(_flags(made))


def test_a_kernel_that_an_included_makefile_names_is_found(build: Build, driver: Path) -> None:
    (driver / "rules.mk").write_text("all:\n\tmake -C $(LINUX) M=$(PWD) modules\n")
    text = "obj-m := toy.o\nLINUX := /home/somebody/linux\n-include rules.mk\n"
    assert build(text).how == "make"


def test_what_a_makefile_says_rightly_stays(build: Build, driver: Path) -> None:
    (driver / "tool").mkdir()
    (driver / "tool" / "Makefile").write_text("all:\n\techo made > made\n")
    text = "TOOL := tool\nARCH := x86\n"
    made = build(text + _MODULE.format("$(MAKE) -C $(TOOL) && make -C $(KDIR) M=$(PWD) modules"))
    assert made.modules[0].path.parent.joinpath("tool", "made").exists()
    assert not [flag for flag in _flags(made) if flag.startswith(("ARCH=", "TOOL="))]


def test_a_makefile_that_asks_for_root_is_built_without(build: Build) -> None:
    made = build(_MODULE.format("sudo -E KIND=toy $(MAKE) -C $(KDIR) M=$(CURDIR) modules"))
    assert made.how == "make"


def test_a_makefile_may_ask_which_distribution_it_is_on(build: Build) -> None:
    text = "ifeq ($(wildcard /etc/os-release),)\n$(error no distribution)\nendif\n"
    assert build(text + _MODULE.format("$(MAKE) -C $(KDIR) M=$(CURDIR) modules")).how == "make"


def test_the_error_is_of_the_module_rather_than_of_a_program_beside_it() -> None:
    output = (
        "tool.c:6:10: fatal error: lib/lib.h: No such file or directory\n"
        "/b/toy.c:3:1: error: unknown type name 'u33'\n"
        "    3 | u33 x;\n"
        "      | ^~~\n"
        "make: *** [Makefile:2: all] Error 2\n"
    )
    expected = "toy.c:3:1: error: unknown type name 'u33'\n    3 | u33 x;\n      | ^~~"
    assert first_error(output, Path("/b")) == expected
    assert first_error(output.split("/b/", maxsplit=1)[0], Path("/b")).startswith("tool.c:6:10: ")


def test_an_error_in_a_macro_is_told_where_the_driver_has_it() -> None:
    output = (
        "/k/init.h:180:22: error: passing argument 1 of 'make' from a pointer\n"
        "  180 | #define THIS (&this)\n"
        "      |              ~^~~~~\n"
        "/b/toy.c:9:8: note: in expansion of macro 'THIS'\n"
        "    9 |   make(THIS);\n"
        "      |        ^~~~\n"
    )
    expected = "toy.c:9:8: error: passing argument 1 of 'make' from a pointer\n    9 |   make(THIS)"
    assert first_error(output, Path("/b")).startswith(expected)


def test_a_driver_that_does_not_compile_is_compiled_once(build: Build, driver: Path) -> None:
    (driver / "toy.c").write_text("broken\n")
    with pytest.raises(BuildFailedError) as caught:
        build(_MODULE.format("$(MAKE) -C $(KDIR) M=$(CURDIR) modules"))
    assert caught.value.output.count("toy.c:1:1: error") == 1


@pytest.mark.parametrize("goals", ["all:\n\t$(MAKE) -C $(KDIR) M=$(CURDIR) modules\n", ""])
def test_modules_that_do_not_compile_are_told_beside_those_that_do(
    build: Build, driver: Path, goals: str
) -> None:
    (driver / "other.c").write_text("broken\n")
    made = build("obj-m := toy.o other.o\n" + goals)
    assert ([module.name for module in made.modules], made.failed) == (["toy"], ("other.o",))


@pytest.mark.parametrize(
    "line",
    [
        "/bin/sh: 1: asmtool: not found",
        "bash: line 1: asmtool: command not found",
        "make[2]: asmtool: No such file or directory",
    ],
)
def test_a_tool_that_is_missing_is_told_as_that(line: str) -> None:
    assert missing_tool(f"{line}\nmake[3]: *** [Makefile:43: a.o] Error 127\n") == "asmtool"


def test_a_tool_that_is_missing_is_no_matter_of_kernels(build: Build) -> None:
    text = _MODULE.format("asmtool && $(MAKE) -C $(KDIR) M=$(CURDIR) modules")
    with pytest.raises(MissingToolError, match=r"does not build: it runs asmtool, which"):
        build(text.replace("toy.o", "part.o") + "$(M)/part.o:\n\tasmtool\n")
    assert build(text).modules


def test_an_error_of_the_whole_is_told_where_a_part_fails_for_want_of_it(
    build: Build, driver: Path
) -> None:
    (driver / "src").mkdir()
    (driver / "src" / "part.c").write_text("broken\n")
    (driver / "src" / "Kbuild").write_text("obj-m += $(NAME).o\n")
    with pytest.raises(BuildFailedError, match=r"does not build:\nsrc/part\.c:1:1: error: "):
        build("export NAME := part\nall:\n\tmake -C $(KDIR) M=$(CURDIR)/src modules\n")


def test_a_directory_that_holds_no_module_is_told_so(build: Build, driver: Path) -> None:
    (driver / "toy.c").write_text("int main(void) { return 0; }\n")
    with pytest.raises(BadInputError, match="makes no kernel module"):
        build("all:\n\tgcc toy.c -o toy\n")
