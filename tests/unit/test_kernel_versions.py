# SPDX-License-Identifier: Apache-2.0
"""Versions of the kernel: which there are, which is chosen, and what is said; nothing is built."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.subject import kernels_for
from fuzzer.cli.given import stored_crash
from fuzzer.cli.parser import build_parser
from fuzzer.cli.setting import kernel_options
from fuzzer.crash.store import read_crash
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel import source, versions
from fuzzer.kernel.kconfig import fit_requests, unknown_requests
from fuzzer.kernel.kernel import KernelOptions
from fuzzer.kernel.source import prepare_source, source_key
from fuzzer.kernel.versions import (
    available_versions,
    default_version,
    ensure_source_package,
    find_tarball,
    installed_versions,
    older_versions,
    version_of,
)
from fuzzer.paths import project_root
from fuzzer.target.target import Target, load_target

Add = Callable[[str], Path]


@pytest.fixture(autouse=True)
def offered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of packages that apt offers, to be changed."""
    names: list[str] = []
    monkeypatch.setattr(versions, "apt_kernel_sources", lambda: names)
    return names


@pytest.fixture
def add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Add:
    """Return a function that adds a tarball to an empty /usr/src."""
    directory = tmp_path / "src"
    directory.mkdir()
    monkeypatch.setattr(versions, "SOURCES", directory)

    def add(version: str) -> Path:
        path = directory / f"linux-source-{version}.tar.xz"
        path.touch()
        return path

    return add


def test_the_source_of_a_version_is_found_whatever_the_default(add: Add) -> None:
    tarballs = {version: add(version) for version in ("6.1", "6.10", "6.12")}
    assert {version: find_tarball(version=version) for version in tarballs} == tarballs
    assert find_tarball() == tarballs["6.12"]


def test_a_third_number_need_not_be_said(add: Add) -> None:
    first, second = add("6.8.0"), add("6.8.3")
    assert find_tarball(version="6.8") == second
    assert find_tarball(version="6.8.0") == first
    assert installed_versions() == ("6.8",)


def test_a_version_without_source_is_told_with_the_command_for_it(
    add: Add, offered: list[str]
) -> None:
    add("6.10")
    with pytest.raises(InfrastructureError, match=r"no source of kernel 6\.1 in .*-source-6\.1$"):
        find_tarball(version="6.1")
    offered += ["linux-source-6.1.0", "linux-source-6.10.0"]
    with pytest.raises(InfrastructureError, match=r"linux-source-6\.1\.0$"):
        find_tarball(version="6.1")


@pytest.mark.parametrize("text", ["", "6", "6.", "6.x", "v6.1", "6.01", "6.1.2.3", "6.1\n", "../6"])
def test_what_is_no_version_is_refused(add: Add, text: str) -> None:
    add("6.1")
    with pytest.raises(BadInputError, match=r"X\.Y is expected, such as 6\.1"):
        ensure_source_package(text)


def test_versions_are_in_order_of_their_numbers(add: Add, offered: list[str]) -> None:
    add("6.1")
    add("6.12")
    offered += ["linux-source-6.9", "linux-source-6.10.0", "linux-source-6.12", "linux-source-7.0"]
    assert installed_versions() == ("6.12", "6.1")
    assert available_versions() == ("7.0", "6.12", "6.10", "6.9", "6.1")
    assert older_versions("6.12") == older_versions("6.12.90-rt1") == ("6.10", "6.9", "6.1")
    assert older_versions("6.1") == ()
    assert older_versions() == ("6.10", "6.9", "6.1")


def test_what_can_be_tried_of_a_host_without_sources(add: Add) -> None:
    assert default_version() == ""
    assert older_versions() == available_versions() == ()
    add("6.8.0")
    assert default_version() == "6.8"


def test_the_version_of_a_release() -> None:
    assert version_of("6.10.1-rc2+") == "6.10"
    assert version_of("6.1.192") == "6.1"
    assert version_of("") == ""


def test_a_source_that_is_installed_is_not_installed_again(
    add: Add, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("6.8.0")
    monkeypatch.setenv("PATH", "/nowhere")
    ensure_source_package("6.8")


def test_a_version_that_the_distribution_does_not_have_is_told_with_those_it_has(
    add: Add, offered: list[str]
) -> None:
    add("6.1")
    offered += ["linux-source-6.1", "linux-source-6.12"]
    with pytest.raises(BadInputError, match=r"no source of kernel 6\.9 .* which has 6\.12, 6\.1\."):
        ensure_source_package("6.9")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory that is all of PATH, with env in it."""
    directory = tmp_path / "bin"
    directory.mkdir()
    env = shutil.which("env", path="/usr/bin:/bin")
    assert env
    (directory / "env").symlink_to(env)
    monkeypatch.setenv("PATH", str(directory))
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PKVFUZZ_NO_INSTALL", raising=False)
    return directory


def _program(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_source_is_installed_on_demand(
    add: Add, offered: list[str], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered += ["linux-source-6.1.0", "linux-source-6.12.0"]
    there = add("6.12").parent / "linux-source-6.1.0.tar.xz"
    _program(path / "apt-get", f'case "$*" in *"install -y"*source-6.1.0) : >{there};; esac')
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    ensure_source_package("6.1")
    assert find_tarball(version="6.1") == there


def test_without_root_the_command_that_installs_a_source_is_told(
    add: Add, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add("6.12")
    _program(path / "apt-get", "exit 9")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(InfrastructureError, match=r"sudo apt-get install .*linux-source-6\.1$"):
        prepare_source(version="6.1")


def _patches(root: Path, *, older: str) -> None:
    directory = root / "vm" / "kernel" / "patches"
    (directory / "older").mkdir(parents=True, exist_ok=True)
    change = "Provides: CONFIG_NEW\n\n--- a/kernel/x.c\n+++ b/kernel/x.c\n@@ -1 +1 @@\n"
    (directory / "0001-x.patch").write_text(f"{change}-new\n+patched new\n")
    (directory / "older" / "0001-x.patch").write_text(f"{change}-old\n+{older}\n")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project that has nothing but one patch, in two forms."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(source, "project_root", lambda: tmp_path)
    _patches(tmp_path, older="patched old")
    return tmp_path


@pytest.mark.parametrize("age", ["new", "old"])
def test_an_older_kernel_gets_the_patch_that_was_made_for_it(
    project: Path, tmp_path: Path, age: str
) -> None:
    tree = project / "linux"
    (tree / "kernel").mkdir(parents=True)
    (tree / "Kconfig").touch()
    (tree / "kernel" / "x.c").write_text(f"{age}\n")
    prepared = prepare_source(tree)
    assert (prepared.directory / "kernel" / "x.c").read_text() == f"patched {age}\n"
    assert prepared.missing_options == frozenset()


def test_what_older_kernels_alone_need_is_applied_where_it_fits(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = project / "linux"
    (tree / "kernel").mkdir(parents=True)
    (tree / "Kconfig").touch()
    (tree / "kernel" / "x.c").write_text("new\n")
    (tree / "kernel" / "y.c").write_text("waits\n")
    older = project / "vm" / "kernel" / "patches" / "older"
    for name, line in (("0003-y", "waits"), ("0004-z", "is not there")):
        change = f"--- a/kernel/y.c\n+++ b/kernel/y.c\n@@ -1 +1 @@\n-{line}\n+pauses\n"
        (older / f"{name}.patch").write_text(change)
    prepared = prepare_source(tree)
    assert (prepared.directory / "kernel" / "y.c").read_text() == "pauses\n"
    assert (prepared.directory / "kernel" / "x.c").read_text() == "patched new\n"
    assert "does not fit" not in capsys.readouterr().err


def test_patches_for_older_kernels_are_no_part_of_the_preferred_one(
    project: Path, add: Add
) -> None:
    add("6.12")
    add("6.1")
    before = source_key(), source_key(version="6.12"), source_key(version="6.1")
    assert before[0] == before[1] != before[2]
    _patches(project, older="patched otherwise")
    assert source_key() == before[0]
    assert source_key(version="6.1") != before[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a kernel's source, of which there is nothing but options."""
    for place, name in (("init", "KCOV"), ("arch/x86", "X86"), ("arch/arm", "ARM")):
        (tmp_path / "tree" / place).mkdir(parents=True)
        text = f'config {name}\n\tbool "x"\n\nif X\n  menuconfig {name}_MORE\nendif\n'
        (tmp_path / "tree" / place / "Kconfig").write_text(text)
    return tmp_path / "tree"


def test_options_that_a_kernel_does_not_have_are_left_out(tree: Path) -> None:
    asked = dict.fromkeys(("CONFIG_KCOV", "CONFIG_X86_MORE", "CONFIG_ARM", "CONFIG_NEW"), "y")
    asked |= {"CONFIG_GONE": "n"}
    assert unknown_requests(asked, tree) == ["CONFIG_ARM", "CONFIG_NEW"]
    assert fit_requests(asked, tree) == {
        "CONFIG_KCOV": "y",
        "CONFIG_X86_MORE": "y",
        "CONFIG_GONE": "n",
    }


def test_what_fuzzing_needs_is_asked_for_all_the_same(tree: Path) -> None:
    assert fit_requests({"CONFIG_KASAN": "y"}, tree) == {"CONFIG_KASAN": "y"}


def test_an_option_is_asked_for_by_the_name_that_it_has_in_a_kernel(tree: Path) -> None:
    assert fit_requests({"CONFIG_BASE_SMALL": "n"}, tree) == {"CONFIG_BASE_SMALL": "n"}
    older = tree.parent / "older"
    (older / "init").mkdir(parents=True)
    (older / "init" / "Kconfig").write_text("config BASE_FULL\n\tbool\nconfig BASE_SMALL\n\tint\n")
    assert fit_requests({"CONFIG_BASE_SMALL": "n"}, older) == {"CONFIG_BASE_FULL": "y"}


def test_the_options_of_a_tree_of_links_are_seen(tree: Path) -> None:
    links = tree.parent / "links"
    links.mkdir()
    (links / "init").symlink_to(tree / "init")
    (links / "source").symlink_to(links)
    assert unknown_requests({"CONFIG_KCOV_MORE": "y"}, links) == []


def _description(directory: Path, kernel: str) -> Path:
    (directory / "Kbuild").touch()
    path = directory / "x.yaml"
    path.write_text(
        "version: 1\nname: x\ndevice: /dev/x\n"
        f"module: {{source: ., name: x, kernel: {kernel}}}\ncalls: [{{read: [1]}}]\n"
    )
    return path


def test_a_description_says_what_kernel_a_driver_is_written_for(tmp_path: Path) -> None:
    target = load_target(_description(tmp_path, '"6.1"'))
    assert target.module.kernel == "6.1"
    assert kernels_for(target, KernelOptions()).version == "6.1"


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        ("6.10", r"x\.yaml:4: kernel .*'6\.10'; .*in quotes"),
        ('"6"', r"in quotes, such as \"6\.1\""),
    ],
)
def test_a_kernel_that_is_not_said_in_quotes_is_told(
    tmp_path: Path, kernel: str, message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        load_target(_description(tmp_path, kernel))


@pytest.mark.parametrize(
    ("given", "version"),
    [
        (KernelOptions(version="6.12"), "6.12"),
        (KernelOptions(source=Path("linux")), ""),
        (KernelOptions(build=Path("build")), ""),
    ],
)
def test_the_users_kernel_goes_before_the_descriptions(
    pkv_target: Target, given: KernelOptions, version: str
) -> None:
    target = replace(pkv_target, module=replace(pkv_target.module, kernel="6.1"))
    assert kernels_for(target, given).version == version


def _options(*words: str) -> argparse.Namespace:
    return build_parser().parse_args(words)


def test_the_version_on_the_command_line_is_taken() -> None:
    assert kernel_options(_options("run", "--kernel-version", "6.1")).version == "6.1"
    assert kernel_options(_options("run")).version == ""


@pytest.mark.parametrize("other", ["--kernel-source", "--kernel-build"])
def test_a_version_excludes_a_kernel_of_the_users_own(other: str) -> None:
    options = _options("run", "--kernel-version", "6.1", other, ".")
    with pytest.raises(BadInputError, match=f"--kernel-version and {other} exclude each other"):
        kernel_options(options)


@pytest.mark.parametrize("text", ["six", "6.1/../x"])
def test_a_wrong_version_on_the_command_line_is_told_with_the_option(text: str) -> None:
    with pytest.raises(BadInputError, match=r"--kernel-version .*: X\.Y is expected"):
        kernel_options(_options("run", "--kernel-version", text))


STORED = project_root() / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"


def _replayed(*words: str) -> KernelOptions:
    options = _options("replay", str(STORED), *words)
    stored_crash(options)
    return kernel_options(options)


def test_a_crash_is_replayed_on_the_version_that_it_was_found_on(
    add: Add, capsys: pytest.CaptureFixture[str]
) -> None:
    release = read_crash(STORED).identity.release
    found_on = version_of(release)
    add("6.1" if found_on != "6.1" else "6.0")
    assert _replayed().version == ""
    assert f"found on kernel {release}, of which there is no source" in capsys.readouterr().err
    add(found_on)
    assert _replayed().version == found_on
    assert _replayed("--kernel-version", "5.10").version == "5.10"
    assert _replayed("--kernel-source", "/").version == ""
