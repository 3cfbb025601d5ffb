# SPDX-License-Identifier: Apache-2.0
"""Drivers of a kernel's own tree, found by its Makefiles in a tree of a few files."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe
from fuzzer.cli.drivers import choice_of
from fuzzer.cli.parser import build_parser
from fuzzer.errors import BadInputError
from fuzzer.kernel.in_tree import kernel_tree, same_in_distribution, tree_driver
from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.needs import options_that_build
from fuzzer.kernel.source import KernelSource
from fuzzer.kernel.versions import Tarball
from fuzzer.target.device import Device
from tests.unit.toy_kernel import write_files

FILES = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\n",
    "Kconfig": (
        'mainmenu "Linux"\nconfig MODULES\n\tbool "Modules"\n\tmodules\n'
        'config NET\n\tbool "Network"\n'
        'config ACME\n\ttristate "Acme"\n\tdepends on NET\n'
        'config ACME_DEBUG\n\tbool "Debug"\n\tdepends on ACME\n'
        'config ACME_TEST\n\ttristate "Test"\n\tdepends on ACME\n'
        "config BROKEN\n\tbool\n"
        'config LAME\n\ttristate "Lame"\n\tdepends on BROKEN\n'
    ),
    "Kbuild": "obj-y += drivers/\n",
    "kernel/fork.c": "",
    "drivers/Makefile": "obj-$(CONFIG_ACME) += acme/\nobj-y += misc/\n",
    "drivers/misc/Makefile": "obj-$(CONFIG_LAME) += lame.o\nobj-y += mem-ory.o\n",
    "drivers/misc/lame.c": "",
    "drivers/misc/mem-ory.c": "static const struct file_operations fops;\n",
    "drivers/acme/Makefile": (
        "obj-$(CONFIG_ACME) += acme.o\nacme-y := fops.o \\\n\tbuf.o\n"
        "acme-$(CONFIG_ACME_DEBUG) += debug.o\nobj-y += chips/\n"
    ),
    "drivers/acme/fops.c": "static const struct file_operations fops;\n",
    "drivers/acme/acme.h": "#define ACME 1\n",
    "drivers/acme/buf.c": "",
    "drivers/acme/debug.c": "",
    "drivers/acme/chips/Makefile": "obj-$(CONFIG_ACME_TEST) += acme_test.o\n",
    "drivers/acme/chips/acme_test.c": "int attach(void);\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return the source of a very small kernel."""
    return write_files(tmp_path / "linux", FILES)


@pytest.fixture
def kernel(tree: Path, tmp_path: Path) -> Kernel:
    """Return a build of it that has next to nothing."""
    directory = tmp_path / "build"
    (directory / "include" / "config").mkdir(parents=True)
    (directory / "include" / "config" / "kernel.release").write_text("6.12.7\n")
    (directory / ".config").write_text("CONFIG_MODULES=y\n# CONFIG_NET is not set\n")
    return Kernel("fast", directory, tree, "key")


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(["run", *arguments])


def test_a_path_tells_the_tree_that_it_lies_in(tree: Path, tmp_path: Path) -> None:
    assert kernel_tree(tree / "drivers" / "acme") == tree
    assert kernel_tree(tree / "drivers" / "acme" / "buf.c") == tree
    assert kernel_tree(tmp_path) is None
    (tree / "Makefile").unlink()
    assert kernel_tree(tree / "drivers" / "acme") is None


def test_a_file_of_a_driver_stands_for_all_of_its_files(tree: Path) -> None:
    found = tree_driver(tree, tree / "drivers" / "acme" / "buf.c")
    assert found.name == "acme"
    config = {"CONFIG_ACME": "y"}
    own = ("drivers/acme/buf.c", "drivers/acme/fops.c")
    assert found.sources(tree, {}, config) == own
    with_debug = config | {"CONFIG_ACME_DEBUG": "y"}
    assert found.sources(tree, {}, with_debug) == (own[0], "drivers/acme/debug.c", own[1])
    assert tree_driver(tree, tree / "drivers" / "misc" / "mem-ory.c").name == "mem_ory"


def test_a_driver_without_file_operations_is_reached_through_the_core(tree: Path) -> None:
    found = tree_driver(tree, tree / "drivers" / "acme" / "chips" / "acme_test.c")
    config = {"CONFIG_ACME": "y", "CONFIG_ACME_TEST": "y"}
    core = ("drivers/acme/buf.c", "drivers/acme/fops.c")
    own = "drivers/acme/chips/acme_test.c"
    assert found.sources(tree, {}, config) == (own, *core)
    # What the kernel had before is no part of it.
    assert found.sources(tree, {"CONFIG_ACME": "y"}, config) == (own,)


def test_a_directory_of_several_drivers_needs_a_name(tree: Path) -> None:
    misc = tree / "drivers" / "misc"
    with pytest.raises(BadInputError, match=r"2 drivers of the kernel's tree .*: lame, mem_ory\."):
        tree_driver(tree, misc)
    assert tree_driver(tree, misc, "mem-ory.ko").name == "mem_ory"
    with pytest.raises(BadInputError, match=r"no driver named other is made of this"):
        tree_driver(tree, misc, "other")
    with pytest.raises(BadInputError, match=r"no driver is made of this by the Makefile of kernel"):
        tree_driver(tree, tree / "kernel" / "fork.c")


def test_the_options_are_those_that_build_it_in(tree: Path, kernel: Kernel) -> None:
    test = tree_driver(tree, tree / "drivers" / "acme" / "chips" / "acme_test.c")
    needs = options_that_build(test.name, test.condition, kernel)
    assert needs.options == ("ACME=y", "ACME_TEST=y", "NET=y")
    always = tree_driver(tree, tree / "drivers" / "misc" / "mem-ory.c")
    needs = options_that_build(always.name, always.condition, kernel)
    assert (needs.options, needs.unexplained) == ((), ())
    lame = tree_driver(tree, tree / "drivers" / "misc" / "lame.c")
    needs = options_that_build(lame.name, lame.condition, kernel)
    assert needs.options == ()
    assert "LAME cannot be built in here; it depends on BROKEN" in needs.unexplained[0].reason


def test_the_same_driver_of_the_distribution_is_known(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_files(tmp_path / "distribution", FILES)
    tarball = Tarball((6, 12), tmp_path / "linux-source-6.12.tar.xz")
    monkeypatch.setattr("fuzzer.kernel.in_tree.tarballs", lambda: [tarball])
    source = KernelSource(other, "key", frozenset())
    monkeypatch.setattr("fuzzer.kernel.in_tree.prepare_source", lambda *, version: source)
    driver = tree_driver(tree, tree / "drivers" / "acme" / "fops.c")
    assert same_in_distribution(tree, driver) == "6.12"
    (tree / "drivers" / "acme" / "acme.h").write_text("#define ACME 2\n")
    assert same_in_distribution(tree, driver) == ""


def test_commands_take_files_and_directories_of_a_tree(tree: Path) -> None:
    path = tree / "drivers" / "acme" / "buf.c"
    assert choice_of(parsed(str(path))) == Choice(path, tree=tree)
    directory = path.parent
    assert choice_of(parsed(str(directory), "--module", "acme")) == Choice(
        directory, "acme", tree=tree
    )
    with pytest.raises(BadInputError, match="built into it: no --params"):
        choice_of(parsed(str(path), "--params", "a=1"))


def test_a_file_is_looked_for_in_the_kernel_source(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = KernelSource(tree, "key", frozenset())
    monkeypatch.setattr("fuzzer.kernel.in_tree.prepare_source", lambda *, version: source)
    path = tree / "drivers" / "acme" / "buf.c"
    assert choice_of(parsed("drivers/acme/buf.c")) == Choice(path, tree=tree)
    given = parsed("drivers/acme/buf.c", "--kernel-source", str(tree))
    assert choice_of(given) == Choice(path, tree=tree)
    for name in ("drivers/acme/none.c", "../linux/drivers/acme/buf.c", "acme.c"):
        with pytest.raises(BadInputError, match="there is no such file or directory"):
            choice_of(parsed(name, *(["--kernel-source", str(tree)] * (name != "acme.c"))))


def test_its_description_names_its_files() -> None:
    facts = DriverFacts(
        "acme",
        (Device("/dev/acme"),),
        config=("ACME=y",),
        builtin=("drivers/acme/buf.c", "drivers/acme/fops.c"),
    )
    text = describe(facts, "why")
    assert '  builtin:\n    - "drivers/acme/buf.c"\n    - "drivers/acme/fops.c"\n' in text
    assert "  config: [ACME=y]\n" in text
    assert "source:" not in text
