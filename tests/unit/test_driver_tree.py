# SPDX-License-Identifier: Apache-2.0
"""The files that a build of a driver takes: its own, and those that they refer to."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fuzzer.cache import content_key
from fuzzer.driver import driver_tree
from fuzzer.driver.driver_tree import DriverTree, read_tree, repository_of
from fuzzer.driver.source_build import driver_directory
from fuzzer.errors import BadInputError
from tests.unit.toy_kernel import write_files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home directory with some of a user's files."""
    path = write_files(tmp_path / "home", {"private.h": "", ".ssh/key": "", "Makefile": ""})
    monkeypatch.setenv("HOME", str(path))
    return path


def names(tree: DriverTree, below: Path | None = None) -> set[str]:
    """Return the names of a tree's files, in a directory: by default its root."""
    return {os.path.relpath(file, below or tree.root) for file in tree.files}


def key(tree: DriverTree) -> str:
    return content_key(*tree.content())


@pytest.mark.parametrize(
    ("makefile", "code"),
    [
        ("ccflags-y := -I$(PWD)/../include\n", ""),
        ("ccflags-y := -I$(src)/../include\n", ""),
        ("ccflags-y := -I${M}/../include/\n", ""),
        ("EXTRA_CFLAGS += -I../include -DX\n", ""),
        ("TOP := $(shell cd $(src)/.. && pwd)\nccflags-y := -I$(TOP)/include\n", ""),
        ("", '#include "../include/common.h"\n'),
    ],
)
def test_what_files_refer_to_is_taken_in_its_place(
    tmp_path: Path, makefile: str, code: str
) -> None:
    files = {"mini/Makefile": f"obj-m := mini.o\n{makefile}", "mini/mini.c": code}
    files |= {"include/common.h": "int x;\n", "other/other.c": "", "README": "../mini\n"}
    write_files(tmp_path / "repo", {**files, ".git/config": ""})
    tree = read_tree(tmp_path / "repo" / "mini")
    assert tree.root == tmp_path / "repo"
    assert names(tree) == {"mini/Makefile", "mini/mini.c", "include/common.h"}
    place = tree.copy(tmp_path / "copy")
    assert place == tmp_path / "copy" / "mini"
    assert (place / "../include/common.h").read_text() == "int x;\n"


def test_what_a_directory_beside_a_driver_builds_comes_with_it(tmp_path: Path) -> None:
    files = {"linux/Kbuild": "mini-y := ../core/a.o ../core/fast.o\n", "linux/mini.c": ""}
    files |= {"core/a.c": "", "core/fast.asm": "", "core/notes.txt": "", "core/b.o_shipped": ""}
    write_files(tmp_path / "repo", {**files, ".git/config": ""})
    (tmp_path / "repo/linux/Makefile").write_text("SOURCES := $(wildcard ../core/*.asm)\n")
    found = names(read_tree(tmp_path / "repo" / "linux"))
    assert {"core/a.c", "core/fast.asm", "core/b.o_shipped"} < found
    assert "core/notes.txt" not in found


def test_a_driver_that_refers_to_nothing_is_its_directory(tmp_path: Path) -> None:
    write_files(tmp_path, {"mini/Makefile": "all: ...\n", "mini/a.c": "// x..y ...\n", "x.h": ""})
    tree = read_tree(tmp_path / "mini")
    assert (tree.root, tree.directory) == (tmp_path / "mini", tmp_path / "mini")
    assert names(tree) == {"Makefile", "a.c"}
    assert tree.copy(tmp_path / "copy") == tmp_path / "copy"


def test_what_is_referred_to_may_refer_further(tmp_path: Path) -> None:
    write_files(
        tmp_path / "repo",
        {
            ".git/config": "",
            "a/mini/Makefile": "include ../common.mk\n",
            "a/common.mk": "ccflags-y := -I$(src)/../../lib/include\n",
            "lib/include/l.h": '#include "../private/p.h"\n',
            "lib/private/p.h": "",
            "lib/private/not.h": "",
        },
    )
    tree = read_tree(tmp_path / "repo" / "a" / "mini")
    assert names(tree) == {
        *("a/mini/Makefile", "a/common.mk", "lib/include/l.h", "lib/private/p.h"),
    }


def test_of_a_directory_above_only_makefiles_and_code_are_taken(tmp_path: Path) -> None:
    write_files(
        tmp_path / "repo",
        {
            ".git/config": "",
            "mini/Makefile": "ccflags-y := -I$(src)/..\n",
            "common.h": "",
            "Makefile": "",
            "Kbuild": "",
            "notes.txt": "",
            "photo.bin": "",
            "elsewhere/e.h": "",
        },
    )
    tree = read_tree(tmp_path / "repo" / "mini")
    assert names(tree) == {"mini/Makefile", "common.h", "Makefile", "Kbuild"}


def test_of_a_directory_beside_only_what_a_build_reads_is_taken(tmp_path: Path) -> None:
    write_files(
        tmp_path,
        {
            "mini/Makefile": "ccflags-y := -I$(src)/../include\n",
            "include/a.h": "",
            "include/generate.sh": "",
            "include/password.txt": "",
            "include/.cache/x.h": "",
        },
    )
    tree = read_tree(tmp_path / "mini")
    assert names(tree) == {"mini/Makefile", "include/a.h", "include/generate.sh"}


def test_without_a_repository_references_lead_not_far(tmp_path: Path) -> None:
    write_files(tmp_path / "far", {"1/2/3/4/mini/mini.c": '#include "../../../../../x.h"\n'})
    write_files(tmp_path / "far", {"x.h": "", "1/y.h": ""})
    directory = tmp_path / "far/1/2/3/4/mini"
    assert names(read_tree(directory)) == {"mini.c"}
    (directory / "mini.c").write_text('#include "../../../../y.h"\n')
    assert names(read_tree(directory)) == {"mini.c"}
    write_files(tmp_path / "far", {"1/2/y.h": ""})
    (directory / "mini.c").write_text('#include "../../../y.h"\n')
    assert names(read_tree(directory), directory) == {"mini.c", "../../../y.h"}


def test_a_reference_out_of_the_repository_is_not_followed(tmp_path: Path) -> None:
    write_files(tmp_path, {"secret.h": "", "repo/.git/config": ""})
    write_files(tmp_path / "repo", {"mini/mini.c": '#include "../../secret.h"\n'})
    assert names(read_tree(tmp_path / "repo" / "mini")) == {"mini.c"}


def test_links_that_lead_out_are_no_part_of_a_driver(tmp_path: Path) -> None:
    repo = write_files(tmp_path / "repo", {".git/x": "", "mini/mini.c": "", "common/c.h": "1"})
    write_files(tmp_path, {"secret.h": "", "outside/o.h": ""})
    mini = repo / "mini"
    (mini / "secret.h").symlink_to(tmp_path / "secret.h")
    (mini / "outside").symlink_to(tmp_path / "outside")
    (mini / "loop").symlink_to("loop")
    (mini / "around").symlink_to(".")
    (mini / "c.h").symlink_to("../common/c.h")
    tree = read_tree(mini)
    assert names(tree) == {"mini.c", "c.h"}
    place = tree.copy(tmp_path / "copy")
    assert (place / "c.h").read_text() == "1"
    assert not (place / "c.h").is_symlink()


def test_a_directory_that_is_linked_to_is_copied_in_its_place(tmp_path: Path) -> None:
    top = tmp_path / "top"
    driver, common = top / "driver", top / "common"
    (common / "deep").mkdir(parents=True)
    driver.mkdir()
    (top / ".git").mkdir()
    for path in (driver / "d.c", common / "x.h", common / "deep" / "y.h", common / "big.bin"):
        path.write_text("x\n")
    (driver / "inc").symlink_to("../common")
    (driver / "self").symlink_to("..")
    (common / "again").symlink_to("deep")
    (driver / "out").symlink_to("/usr/include")
    tree = read_tree(driver)
    names = {str(file.relative_to(driver)) for file in tree.files}
    assert names == {"d.c", "inc/x.h", "inc/deep/y.h"}
    place = tree.copy(tmp_path / "copy")
    assert (place / "inc" / "deep" / "y.h").read_text() == "x\n"


def test_what_is_no_file_is_no_source(tmp_path: Path) -> None:
    write_files(tmp_path / "mini", {"mini.c": ""})
    os.mkfifo(tmp_path / "mini" / "pipe.c")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "mini" / "socket.c"))
        assert names(read_tree(tmp_path / "mini")) == {"mini.c"}


def test_what_an_earlier_build_left_is_left_out(tmp_path: Path) -> None:
    left = [
        "mini.ko",
        "mini.o",
        "mini.mod",
        "mini.mod.c",
        "mini.mod.o",
        ".mini.ko.cmd",
        ".mini.o.d",
    ]
    left += [".mini.o.d", "modules.order", "Module.symvers", "mini.o.cmd", ".tmp_versions/x"]
    kept = ("mini.c", "Makefile", "blob.o", "Module.c", ".config")
    write_files(tmp_path / "mini", dict.fromkeys((*left, *kept), ""))
    assert names(read_tree(tmp_path / "mini")) == set(kept)


def test_what_no_build_reads_makes_no_other_build(tmp_path: Path) -> None:
    mini = write_files(tmp_path / "mini", {"mini.c": "1", "README.md": "1", "mini.yaml": "1"})
    before = key(read_tree(mini))
    write_files(mini, {"README.md": "2", "mini.yaml": "2", "seeds/a.prog": "2", "mini.ko": "2"})
    assert key(read_tree(mini)) == before
    write_files(mini, {"mini.c": "2"})
    changed = key(read_tree(mini))
    write_files(mini, {"x.h": ""})
    assert len({before, changed, key(read_tree(mini))}) == 3


def test_the_same_files_in_other_places_make_another_build(tmp_path: Path) -> None:
    for place in ("a", "b"):
        files = {f"{place}/mini/mini.c": "#include <../x.h>\n", f"{place}/x.h": "", ".git/x": ""}
        write_files(tmp_path / place, files)
    assert key(read_tree(tmp_path / "a" / "a" / "mini")) != ""
    write_files(tmp_path / "b", {"b/x.h": "", "b/mini/y.h": ""})
    first, second = (key(read_tree(tmp_path / place / place / "mini")) for place in "ab")
    assert first != second


def test_names_may_be_of_any_bytes(tmp_path: Path) -> None:
    mini = write_files(tmp_path / "mini", {"mini.c": "", "with blank.h": ""})
    odd = os.fsdecode(b"caf\xe9.h")
    (mini / odd).touch()
    tree = read_tree(mini)
    assert key(tree)
    assert (tree.copy(tmp_path / "copy") / odd).is_file()


def test_a_copy_keeps_what_can_be_run(tmp_path: Path) -> None:
    mini = write_files(tmp_path / "mini", {"configure": "#!/bin/sh\n", "mini.c": ""})
    (mini / "configure").chmod(0o700)
    (mini / "mini.c").chmod(0o600)
    place = read_tree(mini).copy(tmp_path / "copy")
    assert (place / "configure").stat().st_mode & 0o777 == 0o755
    assert (place / "mini.c").stat().st_mode & 0o777 == 0o644


def test_a_directory_that_holds_too_much_is_no_drivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mini = write_files(tmp_path / "mini", {"a.c": "123", "b.c": "45", "c/d.h": ""})
    assert len(read_tree(mini).files) == 3
    for limit, value in (("_MOST_FILES", 2), ("_MOST_BYTES", 4), ("_LARGEST", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(driver_tree, limit, value)
            with pytest.raises(BadInputError, match=r"more than a driver's sources.*Give"):
                read_tree(mini)


def test_a_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="none: No such file"):
        read_tree(tmp_path / "none")


def test_a_file_that_is_gone_meanwhile_is_an_error(tmp_path: Path) -> None:
    mini = write_files(tmp_path / "mini", {"mini.c": ""})
    tree = read_tree(mini)
    (mini / "mini.c").unlink()
    with pytest.raises(BadInputError, match=r"mini\.c: No such file"):
        list(tree.content())
    with pytest.raises(BadInputError, match=r"mini\.c: No such file"):
        tree.copy(tmp_path / "copy")


def test_a_home_directory_is_never_the_root(home: Path) -> None:
    write_files(home, {"mini/mini.c": '#include "../private.h"\n'})
    assert names(read_tree(home / "mini")) == {"mini.c"}
    write_files(home, {"d/mini/mini.c": '#include "../x.h"\n#include "../../private.h"\n'})
    write_files(home, {"d/x.h": ""})
    tree = read_tree(home / "d" / "mini")
    assert names(tree, home) == {"d/mini/mini.c", "d/x.h"}


def test_a_home_directory_that_is_a_repository_is_not_taken_for_the_drivers(home: Path) -> None:
    write_files(home, {".git/config": "", "mini/mini.c": '#include "../private.h"\n'})
    assert repository_of(home / "mini") is None
    assert names(read_tree(home / "mini")) == {"mini.c"}
    assert names(read_tree(home / "mini", whole=True)) == {"mini.c"}


def test_a_home_directory_is_no_drivers(home: Path) -> None:
    with pytest.raises(BadInputError, match=r"^/ is a home directory, or has one in it"):
        driver_directory(Path("/"))
    for place in (home, home.parent):
        with pytest.raises(BadInputError, match=r"home directory.*Give the driver's own"):
            read_tree(place)


def test_all_of_a_repository_is_taken_when_asked(tmp_path: Path) -> None:
    files = dict.fromkeys(("mini/mini.c", "lib/l.h", "mk/x.mk", "doc/a.md", ".git/config"), "")
    write_files(tmp_path / "repo", files)
    tree = read_tree(tmp_path / "repo" / "mini", whole=True)
    assert names(tree) == {"mini/mini.c", "lib/l.h", "mk/x.mk"}
    assert tree.directory == tmp_path / "repo" / "mini"
    assert repository_of(tree.directory) == tmp_path / "repo"
