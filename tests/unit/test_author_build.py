# SPDX-License-Identifier: Apache-2.0
"""Drivers built as their authors do, for a toy of a kernel: Makefiles of many kinds."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fuzzer.driver.author_build import Builder, BuildFailedError, first_error
from fuzzer.driver.driver import MissingSymbolsError, pick_module
from fuzzer.driver.source_build import SourceBuild, build_source, driver_directory
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Kernel
from fuzzer.sandbox import KernelView, Sandbox
from tests.unit.toy_kernel import RELEASE, code, make_toy_kernel, write_files

CODE = code()
MODULE = f"{CODE}#define MODULE_LICENSE(x) int licence_##x\n  MODULE_LICENSE (GPL);\n"
BROKEN = "int x;\nint y = nothing;\n"
ALL = "all:\n\tmake -C /lib/modules/$(shell uname -r)/build M=$(CURDIR) modules\n"


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel to build for."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    return make_toy_kernel(tmp_path / "kernel")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the directory of a driver, of which nothing is there yet."""
    return tmp_path / "source"


def names(build: SourceBuild) -> list[str]:
    return [module.name for module in build.modules]


# Of each: its files, by what its author did.
KINDS: Mapping[str, Mapping[str, str]] = {
    "a variable": {"Makefile": f"NAME = mini\nobj-m := $(NAME).o\n{ALL}", "mini.c": CODE},
    "objects": {
        "Makefile": f"OBJS := mini.o\nobj-m += $(OBJS)\nmini-objs := a.o b.o\n{ALL}",
        "a.c": CODE,
        "b.c": code(defines="other"),
    },
    "an option": {
        "Makefile": "obj-$(CONFIG_MINI) += mini.o\n"
        "all:\n\tmake -C $(KDIR) M=$(CURDIR) CONFIG_MINI=m modules\n",
        "mini.c": CODE,
    },
    "another name of the kernel": {
        "Makefile": "ifneq ($(KERNELRELEASE),)\nobj-m := mini.o\nelse\n"
        "default:\n\t$(MAKE) -C $(LINUX_DIR) M=$(PWD) modules\nendif\n",
        "mini.c": CODE,
    },
    "what is exported": {
        "Makefile": "export KSRC ?= /usr/src/linux-headers-$(shell uname -r)\nobj-m := mini.o\n"
        'modules:\n\tmake -C "$(KSRC)" M=$(PWD) modules\n',
        "mini.c": CODE,
    },
    "Kbuild alone": {"Kbuild": "obj-m := mini.o\n", "mini.c": CODE},
    "no targets": {"Makefile": "obj-m := mini.o\n", "mini.c": CODE},
    "lower case": {
        "makefile": f"obj-m := mini.o\n{ALL}",
        "Kbuild": "obj-m := mini.o\n",
        "mini.c": CODE,
    },
    "configure": {
        "src/Kbuild.in": "ccflags-y := -I$(src)/@top_srcdir@/include @EXTRA@\nobj-m := mini.o\n",
        "src/mini.c": f'#include "mini.h"\n{CODE}',
        "include/mini.h": "",
        "src/Makefile.in": "",
        ".git/config": "",
    },
    "a header that is made": {
        "Makefile": f"all: made.h mod\nmade.h:\n\techo '#define MADE 1' > $@\n"
        f"obj-m := mini.o\n{ALL.replace('all:', 'mod:')}",
        "mini.c": f'#include "made.h"\n{CODE}int made = MADE;\n',
    },
    "clean first": {
        "Makefile": f"obj-m := mini.o\nclean:\n\trm -f *.ko\n{ALL.replace('all', 'modules')}",
        "mini.c": CODE,
    },
    "a program that does not compile": {
        "Makefile": f"obj-m := mini.o\n{ALL}\tgcc -o test test.c\n\tsudo insmod mini.ko\n",
        "mini.c": CODE,
        "test.c": BROKEN,
    },
    "a directory of modules": {
        "Makefile": f"obj-m := sub/\n{ALL}",
        "sub/Makefile": "obj-m := m.o\n",
        "sub/m.c": CODE,
    },
    "another machine's compiler": {
        "Makefile": "CROSS := no-such-machine-\nCC := $(CROSS)gcc\nobj-m := mini.o\n"
        f"{ALL.rstrip()} ARCH=arm CROSS_COMPILE=$(CROSS)\n\t$(CC) -o test test.c\n",
        "mini.c": CODE,
    },
    "a shell": {
        "Makefile": "all:\n\t./build.sh\n",
        "build.sh": "#!/bin/sh\nmake -C /lib/modules/$(uname -r)/build M=$PWD/src modules\n",
        "src/Kbuild": "obj-m := mini.o\n",
        "src/mini.c": CODE,
    },
    "a directory that is made by name": {
        "Makefile": "obj-m := mini.o\nKDIR := $(wildcard /lib/modules/*/build)\n"
        "all: ; $(MAKE) -C $(KDIR) M=$(shell pwd)\n",
        "mini.c": CODE,
    },
    "dkms": {
        "dkms.conf": 'PACKAGE_NAME="mini"\n'
        'MAKE="make -C src KERN=/lib/modules/${kernelver}/build"\n',
        "src/Makefile": "obj-m := mini.o\nall:\n\tmake -C $(KERN) M=$(CURDIR) modules\n",
        "src/mini.c": CODE,
    },
    "dkms, by its tree": {
        "dkms.conf": "PACKAGE_NAME=mini\nPACKAGE_VERSION=1.0\n"
        "MAKE[0]='make -C ${kernel_source_dir} "
        "M=${dkms_tree}/${PACKAGE_NAME}/${PACKAGE_VERSION}/build/src'\n",
        "src/Kbuild": "obj-m := mini.o\n",
        "src/mini.c": CODE,
    },
    "no Makefile": {"mini.c": MODULE, "user.c": BROKEN},
    "no Makefile that says what": {"Makefile": "all:\n\ttrue\n", "mini.c": MODULE, "u.c": BROKEN},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_driver_is_built_whatever_its_makefile(kind: str, source: Path, kernel: Kernel) -> None:
    write_files(source, KINDS[kind])
    for script in source.rglob("*.sh"):
        script.chmod(0o755)
    before = sorted(source.rglob("*"))
    place = source / "src" if kind == "configure" else source
    build = build_source(place, kernel)
    assert len(build.modules) == 1
    (module,) = build.modules
    assert module.blocks == len(list(source.rglob("[ab].c"))) or module.blocks == 1
    assert module.path.suffix == ".ko"
    assert sorted(source.rglob("*")) == before
    assert build.log()


@pytest.mark.parametrize(
    ("kinds", "how"),
    [
        (
            (
                *("a variable", "objects", "an option", "another name of the kernel"),
                *("what is exported", "lower case", "a header that is made", "a shell"),
                *("a program that does not compile", "a directory of modules"),
                "a directory that is made by name",
            ),
            "make",
        ),
        (("clean first",), "make modules"),
        (("Kbuild alone", "no targets"), "make -C KERNEL M=DRIVER modules"),
        (
            ("no Makefile", "no Makefile that says what"),
            "make -C KERNEL M=DRIVER modules, with 1 in obj-m",
        ),
    ],
)
def test_the_makefile_of_the_author_is_tried_first(
    kinds: Sequence[str], how: str, source: Path, kernel: Kernel
) -> None:
    for kind in kinds:
        place = write_files(source / kind, KINDS[kind])
        for script in place.rglob("*.sh"):
            script.chmod(0o755)
        assert build_source(place, kernel).how == how, kind


@pytest.mark.parametrize("place", ["src", "driver", "kernel", "a/b/linux"])
def test_a_driver_may_be_further_down(source: Path, kernel: Kernel, place: str) -> None:
    write_files(source, {f"{place}/Makefile": "obj-m := mini.o\n", f"{place}/mini.c": CODE})
    write_files(source, {"tools/Makefile": "all:\n\tgcc tool.c\n", "README": "obj-m\n"})
    assert driver_directory(source) == source / place
    assert names(build_source(source, kernel)) == ["mini"]


def test_a_makefile_for_something_else_does_not_hide_the_driver(
    source: Path, kernel: Kernel
) -> None:
    write_files(source, {"Makefile": "all:\n\techo documentation\n"})
    write_files(source, {"driver/Kbuild": "obj-m := mini.o\n", "driver/mini.c": CODE})
    build = build_source(source, kernel)
    assert (names(build), build.source) == (["mini"], source / "driver")


def test_of_several_drivers_all_are_listed(source: Path, kernel: Kernel) -> None:
    for name in ("one", "two", "three/x"):
        write_files(source, {f"{name}/Makefile": "obj-m := a.o\n", f"{name}/a.c": CODE})
    with pytest.raises(BadInputError, match="holds 3 drivers; give one of\n") as caught:
        build_source(source, kernel)
    listed = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert listed == [str(source / name) for name in ("one", "three/x", "two")]
    write_files(source, {"src/Makefile": "obj-m := a.o\n", "src/a.c": CODE})
    assert driver_directory(source) == source / "src"


def test_a_directory_without_a_driver_is_told(source: Path, kernel: Kernel) -> None:
    write_files(source, {"main.c": "int main;\n", "docs/x.md": "obj-m := x.o\n"})
    with pytest.raises(BadInputError, match="holds no driver: neither a Kbuild file"):
        build_source(source, kernel)


def test_what_does_not_compile_is_left_out_and_told(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": f"obj-m := a.o bad.o c.o worse.o\nworse-y := w.o x.o\n{ALL}"}
    files |= {"a.c": CODE, "bad.c": BROKEN, "c.c": CODE, "w.c": CODE, "x.c": BROKEN}
    write_files(source, files)
    build = build_source(source, kernel)
    assert names(build) == ["a", "c"]
    assert set(build.failed) == {"bad.o", "worse.o"}
    assert build_source(source, kernel) == build


def test_what_fails_in_a_loop_over_directories_is_told(source: Path, kernel: Kernel) -> None:
    makefile = "all: a b\na b:\n\tmake -C /lib/modules/$(shell uname -r)/build M=$(PWD)/$@\n"
    write_files(source, {"Makefile": f"{makefile}.PHONY: a b\n"})
    for name, text in (("a", BROKEN), ("b", CODE)):
        write_files(source, {f"{name}/Kbuild": f"obj-m := {name}m.o\n", f"{name}/{name}m.c": text})
    build = build_source(source, kernel)
    assert names(build) == ["bm"]
    assert build.failed == ("am.o",)


def test_a_module_that_is_copied_elsewhere_is_one(source: Path, kernel: Kernel) -> None:
    copy = "\tmkdir -p bin z; cp mini.ko bin; cp mini.ko z\n"
    write_files(source, {"Makefile": f"obj-m := mini.o\n{ALL}{copy}", "mini.c": CODE})
    build = build_source(source, kernel)
    assert [module.path for module in build.modules] == [build.directory / "mini.ko"]


def test_the_first_error_is_the_compilers(source: Path, kernel: Kernel) -> None:
    write_files(source, {"Makefile": f"obj-m := mini.o\n{ALL}", "mini.c": f"{CODE}{BROKEN}"})
    with pytest.raises(BuildFailedError) as caught:
        build_source(source, kernel)
    lines = str(caught.value).splitlines()
    assert lines[0] == f"the driver in {source} does not build:"
    assert lines[1].startswith("mini.c:5:9: error: ‘nothing’ undeclared") or lines[1].startswith(
        "mini.c:5:9: error: 'nothing' undeclared"
    )
    assert lines[2:] == ["    5 | int y = nothing;", "      |         ^~~~~~~"]
    assert "make: ***" in caught.value.output
    assert not list((source.parent / "cache").glob("driver-*"))


def test_without_a_compilers_error_it_is_makes(source: Path, kernel: Kernel) -> None:
    write_files(source, {"Makefile": "obj-m := mini.o\nall: none.h\n"})
    with pytest.raises(BuildFailedError, match=r"No rule to make target 'none\.h'"):
        build_source(source, kernel)


def test_errors_are_read_of_many_kinds() -> None:
    place = Path("/copy")
    assert first_error("x\n/copy/a.c:1:2: fatal error: x.h: No such file\ny\n", place) == (
        "a.c:1:2: fatal error: x.h: No such file"
    )
    assert first_error("a.c:1: warning: x\nb.c:3: error: y\n  3 | z\n", place).splitlines() == [
        "b.c:3: error: y",
        "  3 | z",
    ]
    assert first_error("ld: a.o: undefined reference to `x'\n", place).startswith("ld: a.o")
    assert first_error("sh: 1: flex: not found\n", place) == "sh: 1: flex: not found"
    assert first_error("1\n2\n3\n4\n5\n6\n", place) == "2\n3\n4\n5\n6"
    assert first_error("", place) == ""


def test_symbols_that_nobody_has_are_told_by_module(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": f"obj-m := good.o bad.o\n{ALL}", "good.c": CODE}
    write_files(source, {**files, "bad.c": code(calls="crypto_alloc_shash")})
    build = build_source(source, kernel)
    bad, good = build.modules
    assert (good.undefined, bad.undefined) == ((), ("crypto_alloc_shash",))
    assert pick_module(build, "good", source).name == "good"
    with pytest.raises(MissingSymbolsError, match=r"bad\.ko needs.*: crypto_alloc_sh") as e:
        pick_module(build, "bad", source)
    assert 'modpost: "crypto_alloc_shash" [' in e.value.output


def test_what_a_module_needs_comes_before_it(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": f"obj-m := front.o mid-dle.o core.o alone.o\n{ALL}"}
    files |= {"core.c": code(defines="core"), "mid-dle.c": code(defines="mid", calls="core")}
    files |= {"front.c": code(calls="mid"), "alone.c": code(defines="alone")}
    write_files(source, files)
    build = build_source(source, kernel)
    assert {module.name: module.needs for module in build.modules} == {
        "alone": (),
        "core": (),
        "front": ("core", "mid_dle"),
        "mid_dle": ("core",),
    }
    driver = pick_module(build, "front", source)
    assert [each.path.name for each in driver.needs] == ["core.ko", "mid-dle.ko"]


def test_modules_that_need_each_other_have_an_order_all_the_same(
    source: Path, kernel: Kernel
) -> None:
    files = {"Makefile": "obj-m := a.o b.o\n", "a.c": code(defines="a", calls="b")}
    write_files(source, {**files, "b.c": code(defines="b", calls="a")})
    build = build_source(source, kernel)
    assert [module.needs for module in build.modules] == [("b",), ("a",)]


@pytest.mark.parametrize("asked", ["my-mini", "my_mini"])
def test_a_name_may_have_a_hyphen(source: Path, kernel: Kernel, asked: str) -> None:
    write_files(source, {"Makefile": "obj-m += my-mini.o\n", "my-mini.c": CODE})
    build = build_source(source, kernel)
    assert names(build) == ["my_mini"]
    driver = pick_module(build, asked, source)
    assert (driver.name, driver.object.name) == ("my_mini", "my-mini.ko")
    assert driver.blocks()


def info(vermagic: str) -> str:
    """Return C that makes an object look like a module of a kernel."""
    return f'const char i[] __attribute__((used, section(".modinfo"))) = "vermagic={vermagic}";\n'


def test_a_module_for_another_kernel_is_refused_with_both(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": "all:\n\tgcc -c mini.c -fsanitize-coverage=trace-pc -o mini.ko\n"}
    write_files(source, {**files, "mini.c": f"{info('5.4.0-1 SMP ')}{CODE}"})
    with pytest.raises(BadInputError, match=rf"mini\.ko for another kernel.*'5\.4\.0.*{RELEASE}"):
        build_source(source, kernel)


@pytest.mark.parametrize(
    "files",
    [
        {"Makefile": f"override KCOV_INSTRUMENT := n\nobj-m := mini.o\n{ALL}", "mini.c": CODE},
        {
            "Makefile": "all:\n\tgcc -c mini.c -o mini.ko\n",
            "mini.c": f"{info(f'{RELEASE} SMP ')}{CODE}",
        },
    ],
)
def test_a_module_without_coverage_points_is_refused(
    files: Mapping[str, str], source: Path, kernel: Kernel
) -> None:
    write_files(source, files)
    with pytest.raises(BadInputError, match=r"mini\.ko without coverage points.*by: make"):
        build_source(source, kernel)


def test_a_module_that_is_none_is_refused(source: Path, kernel: Kernel) -> None:
    write_files(source, {"Makefile": "all:\n\techo no module > mini.ko\n"})
    with pytest.raises(BadInputError, match=r"mini\.ko"):
        build_source(source, kernel)


def test_links_to_modules_are_none(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": f"obj-m := mini.o\n{ALL}\tln -s /etc/passwd a.ko; ln -s mini.ko b.ko\n"}
    write_files(source, {**files, "mini.c": CODE})
    assert names(build_source(source, kernel)) == ["mini"]


def test_files_that_no_text_refers_to_are_looked_for_in_the_repository(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    makefile = "DOT := .\nUP := .$(DOT)\nccflags-y := -I$(abspath $(M)/$(UP)/$(UP))/include\n"
    files = {"a/mini/Makefile": f"{makefile}obj-m := mini.o\n"}
    files |= {"a/mini/mini.c": f'#include "mini.h"\n{CODE}', "include/mini.h": "", "a/x.c": ""}
    write_files(tmp_path / "repo", {**files, ".git/config": ""})
    build = build_source(tmp_path / "repo" / "a" / "mini", kernel)
    assert [module.path for module in build.modules] == [build.directory / "a/mini/mini.ko"]
    assert capsys.readouterr().err.count("building mini") == 2
    # What is known to fail is not tried again.
    assert build_source(tmp_path / "repo" / "a" / "mini", kernel) == build
    assert "building" not in capsys.readouterr().err
    (tmp_path / "repo" / ".git" / "config").unlink()
    (tmp_path / "repo" / ".git").rmdir()
    write_files(tmp_path / "repo", {"a/mini/new.c": ""})
    with pytest.raises(BuildFailedError, match=r"mini\.h: No such file"):
        build_source(tmp_path / "repo" / "a" / "mini", kernel)


def builder(kernel: Kernel, place: Path, timeout: float) -> Builder:
    view = KernelView(kernel.release(), kernel.directory, kernel.source)
    return Builder(Sandbox(place, kernel=view), place, ("KCOV_INSTRUMENT=y",), timeout=timeout)


def test_a_makefile_that_hangs_is_ended_and_what_it_made_is_taken(
    source: Path, kernel: Kernel
) -> None:
    write_files(source, {"Makefile": f"obj-m := mini.o\n{ALL}\tsleep 300\n", "mini.c": CODE})
    begun = time.monotonic()
    made = builder(kernel, source, 4.0).build()
    assert [path.name for path in made.modules] == ["mini.ko"]
    assert "(killed: it did not end within 4 s)" in made.output
    assert time.monotonic() - begun < 60


def test_a_makefile_that_hangs_and_makes_nothing_is_told(source: Path, kernel: Kernel) -> None:
    files = {"Makefile": "$(shell sleep 300)\nobj-m := mini.o\nall:\n\ttrue\n", "mini.c": CODE}
    write_files(source, files)
    with pytest.raises(BuildFailedError, match="did not end within 1 s"):
        builder(kernel, source, 1.0).build()


def test_a_build_sees_neither_the_driver_nor_a_home_directory(
    source: Path, kernel: Kernel, tmp_path: Path
) -> None:
    write_files(tmp_path, {"secret": "secret"})
    look = f"\ttest ! -e {tmp_path}/secret && test ! -e {source} && test ! -e {Path.home()}\n"
    write_files(source, {"Makefile": f"obj-m := mini.o\nall: look mod\nlook:\n{look}"})
    write_files(source, {"mini.c": CODE})
    (source / "Makefile").write_text(
        (source / "Makefile").read_text() + ALL.replace("all:", "mod: look")
    )
    assert build_source(source, kernel).how == "make"


def test_a_makefile_gets_what_is_asked_for_in_the_end(source: Path, kernel: Kernel) -> None:
    say = "\techo '$(MAKEFLAGS) $(GCOV_PROFILE)' > said\n"
    write_files(source, {"Makefile": f"GCOV_PROFILE := n\nobj-m := mini.o\n{ALL}{say}"})
    write_files(source, {"mini.c": CODE})
    build = build_source(source, kernel, variables=("GCOV_PROFILE=y",))
    said = (build.directory / "said").read_text()
    assert said.rstrip().endswith(" y")
    assert {"KCOV_INSTRUMENT=y", "KASAN_SANITIZE=y", "KBUILD_MODPOST_WARN=1"} <= set(said.split())


def test_by_dkms_the_flags_are_given_as_well(source: Path, kernel: Kernel) -> None:
    write_files(source, KINDS["dkms"])
    build = build_source(source, kernel)
    assert build.how == f"make -C src KERN=/lib/modules/{RELEASE}/build"
    assert build.modules[0].blocks


def test_a_dkms_finds_the_driver_in_its_tree(source: Path, kernel: Kernel) -> None:
    write_files(source, KINDS["dkms, by its tree"])
    build = build_source(source, kernel)
    assert build.how.startswith("make -C ${kernel_source_dir} M=")
    assert [module.path for module in build.modules] == [build.directory / "src" / "mini.ko"]


def test_a_dkms_that_says_nothing_is_passed_over(source: Path, kernel: Kernel) -> None:
    for text in ("exit 1\n", "MAKE='rm -rf /'\n", "", "while :; do :; done &\nexit\n"):
        write_files(source, {"dkms.conf": text, "Kbuild": "obj-m := mini.o\n", "mini.c": CODE})
        assert build_source(source, kernel).how == "make -C KERNEL M=DRIVER modules"


def test_warnings_that_a_makefile_makes_errors_are_warnings(source: Path, kernel: Kernel) -> None:
    unused = "void unused(void);\nvoid unused(void) { int x; }\n"
    makefile = f"ccflags-y := -Wall -Werror\nobj-m := mini.o\n{ALL}"
    write_files(source, {"Makefile": makefile, "mini.c": CODE + unused})
    build = build_source(source, kernel)
    assert (names(build), build.failed) == (["mini"], ())
