# SPDX-License-Identifier: Apache-2.0
"""Kernel configurations, keys and build directories that were given; nothing is built."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel import kbuild, kernel, source
from fuzzer.kernel.kbuild import (
    Recipe,
    compile_kernel,
    kconfig_symbols,
    lost_options,
    parse_config,
    patch_copies,
    recipe_key,
)
from fuzzer.kernel.kernel import (
    NEEDED,
    Flavour,
    KernelOptions,
    ensure_kernel,
    kernel_key,
    ready_kernel,
)
from fuzzer.kernel.source import prepare_source, source_key
from fuzzer.kernel.versions import find_tarball
from fuzzer.progress import Progress


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache and a small project of its own."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "project"
    directory = root / "vm" / "kernel"
    (directory / "patches").mkdir(parents=True)
    (directory / "base.config").write_text("CONFIG_A=y\n")
    (directory / "sanitizers.config").write_text("CONFIG_KASAN=y\n")
    (directory / "fast.config").write_text("CONFIG_B=n\n")
    (directory / "full.config").write_text("CONFIG_B=y\n")
    (directory / "fast.kasan").write_text("# comment\nusercopy.o\n")
    for module in (kbuild, kernel, source):
        monkeypatch.setattr(module, "project_root", lambda: root)
    monkeypatch.setattr(kbuild, "compiler_version", lambda *_: "gcc 12")
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory that looks like a kernel's source."""
    directory = tmp_path / "linux"
    (directory / "kernel").mkdir(parents=True)
    (directory / "Kconfig").write_text("config A\n")
    (directory / "kernel" / "fork.c").write_text("int x;\n")
    return directory


def test_a_config_is_read() -> None:
    text = '# comment\nCONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C="a=b"\nCONFIG_D=0x10\nother\n'
    assert parse_config(text) == {
        "CONFIG_A": "y",
        "CONFIG_B": "n",
        "CONFIG_C": '"a=b"',
        "CONFIG_D": "0x10",
    }


def test_requests_that_were_not_honoured_are_named() -> None:
    requested = {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "5", "CONFIG_D": "n"}
    final = {"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": "3"}
    assert lost_options(requested, final) == [
        "CONFIG_B=n became y",
        "CONFIG_C=5 became 3",
    ]
    assert lost_options({"CONFIG_A": "y"}, {}) == ["CONFIG_A=y became n"]


def test_a_kernel_key_changes_with_all_that_goes_into_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = project / "vm" / "kernel"
    keys = [kernel_key(Flavour.FAST, "1")]
    assert kernel_key(Flavour.FAST, "1") == keys[0]
    keys.append(kernel_key(Flavour.FULL, "1"))
    keys.append(kernel_key(Flavour.FAST, "2"))
    (directory / "fast.kasan").write_text("usercopy.o\nlibfs.o\n")
    keys.append(kernel_key(Flavour.FAST, "1"))
    (directory / "base.config").write_text("CONFIG_A=n\n")
    keys.append(kernel_key(Flavour.FAST, "1"))
    (directory / "fast.config").write_text("CONFIG_B=m\n")
    keys.append(kernel_key(Flavour.FAST, "1"))
    (directory / "sanitizers.config").write_text("CONFIG_KASAN=n\n")
    keys.append(kernel_key(Flavour.FAST, "1"))
    monkeypatch.setattr(kbuild, "compiler_version", lambda *_: "gcc 13")
    keys.append(kernel_key(Flavour.FAST, "1"))
    assert len(set(keys)) == len(keys)


def test_what_is_asked_for_beside_the_fragments_is_in_the_key() -> None:
    recipes = [
        Recipe("a", ("base.config",)),
        Recipe("a", ("base.config",), options={"CONFIG_C": "y"}),
        Recipe("a", ("base.config",), options={"CONFIG_C": "m"}),
        Recipe("a", ("base.config", "sanitizers.config")),
        Recipe("a", ("base.config",), patch="sanitizers.config"),
    ]
    assert len({recipe_key(recipe, "1") for recipe in recipes}) == len(recipes)


@pytest.mark.parametrize(
    ("last", "told"),
    [
        ("x.c:3:1: error: no x", "failed: x.c:3:1: error: no x /"),
        ("make[1]: *** [Makefile:9: x.o] Terminated", r"failed: make\[1\]: \*\*\* .* Terminated"),
    ],
)
def test_a_failed_build_is_told_with_what_went_wrong(tmp_path: Path, last: str, told: str) -> None:
    (tmp_path / "cache").mkdir()
    lines = ("  CC lib/error.o", last, "  CC lib/last.o")
    rules = "".join(f"\t@echo '{line}'\n" for line in lines)
    (tmp_path / "Makefile").write_text(f"all:\n{rules}\t@exit 1\n")
    with pytest.raises(InfrastructureError, match=told):
        compile_kernel("fast", tmp_path, tmp_path, ["-s", "all"], Progress("making"))


def test_a_kernel_has_the_flavour_of_its_name(tmp_path: Path) -> None:
    found = ensure_kernel(Flavour.FULL, _given(tmp_path, _GOOD))
    assert found.flavour is Flavour.FULL
    assert found.name == "full"


def test_the_symbols_of_a_kconfig_file_are_read_with_their_types(tmp_path: Path) -> None:
    kconfig = tmp_path / "Kconfig"
    kconfig.write_text(
        '# config COMMENT\nconfig DRV\n\ttristate "A driver"\n\thelp\n\t  See config OTHER.\n\n'
        'config DRV_KUNIT_TEST\n\tbool "Tests" if !KUNIT_ALL_TESTS\n\tdepends on DRV && KUNIT\n'
        "config DRV_SIZE\n\tint\n\tdefault 3\n"
    )
    assert kconfig_symbols(kconfig) == {"DRV": "tristate", "DRV_KUNIT_TEST": "bool"}


def test_the_other_flavours_config_does_not_matter(project: Path) -> None:
    key = kernel_key(Flavour.FAST, "1")
    (project / "vm" / "kernel" / "full.config").write_text("CONFIG_Z=y\n")
    assert kernel_key(Flavour.FAST, "1") == key


_PATCH = """\
Provides: CONFIG_NEW

--- a/kernel/fork.c
+++ b/kernel/fork.c
@@ -1 +1 @@
-int {old};
+int {new};
"""


def test_a_given_tree_is_copied_and_patched(project: Path, tree: Path) -> None:
    patch = project / "vm" / "kernel" / "patches" / "0001-x.patch"
    patch.write_text(_PATCH.format(old="x", new="y"))
    first = prepare_source(tree)
    assert (first.directory / "kernel" / "fork.c").read_text() == "int y;\n"
    assert (tree / "kernel" / "fork.c").read_text() == "int x;\n"
    assert first.missing_options == frozenset()
    assert prepare_source(tree) == first
    assert source_key(tree) == first.key
    patch.write_text(_PATCH.format(old="x", new="z"))
    second = prepare_source(tree)
    assert second.key != first.key
    (tree / "kernel" / "fork.c").write_text("int x; \n")
    assert prepare_source(tree).key not in {first.key, second.key}


def test_a_patch_that_does_not_fit_is_left_out_with_its_options(
    project: Path, tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patch = project / "vm" / "kernel" / "patches" / "0001-x.patch"
    patch.write_text(_PATCH.format(old="other", new="y"))
    prepared = prepare_source(tree)
    assert prepared.missing_options == {"CONFIG_NEW"}
    assert (prepared.directory / "kernel" / "fork.c").read_text() == "int x;\n"
    assert "0001-x.patch does not fit" in capsys.readouterr().err


def test_what_is_no_kernel_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="not a kernel source tree"):
        prepare_source(tmp_path)
    with pytest.raises(BadInputError, match="not a kernel source tree"):
        ready_kernel(Flavour.FAST, KernelOptions(source=tmp_path))


def test_a_kernel_that_was_not_built_is_not_ready(tree: Path) -> None:
    assert ready_kernel(Flavour.FAST, KernelOptions(source=tree)) is None


def test_the_preferred_source_is_found_then_the_newest(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match=r"apt-get install linux-source-6\.12"):
        find_tarball(tmp_path)
    (tmp_path / "linux-source-6.8.tar.xz").touch()
    (tmp_path / "linux-source-6.14.0").mkdir()
    newest = tmp_path / "linux-source-6.14.0" / "linux-source-6.14.0.tar.bz2"
    newest.touch()
    (tmp_path / "linux-source-notes.tar.gz").touch()
    assert find_tarball(tmp_path) == newest
    preferred = tmp_path / "linux-source-6.12.tar.xz"
    preferred.touch()
    assert find_tarball(tmp_path) == preferred


def _given(directory: Path, config: str) -> KernelOptions:
    (directory / "arch" / "x86" / "boot").mkdir(parents=True, exist_ok=True)
    (directory / "arch" / "x86" / "boot" / "bzImage").write_bytes(b"image")
    (directory / "Module.symvers").touch()
    (directory / ".config").write_text(config)
    return KernelOptions(build=directory)


_GOOD = "".join(f"CONFIG_{name}=y\n" for name in (*NEEDED, "KASAN"))


@pytest.mark.parametrize("missing", [".config", "Module.symvers", "arch/x86/boot/bzImage"])
def test_a_build_directory_that_is_not_whole_is_refused(tmp_path: Path, missing: str) -> None:
    options = _given(tmp_path / "build", _GOOD)
    (tmp_path / "build" / missing).unlink()
    with pytest.raises(BadInputError, match=rf"--kernel-build .*: {missing} is missing"):
        ensure_kernel(Flavour.FULL, options)


def test_a_build_without_what_is_needed_is_refused(tmp_path: Path) -> None:
    config = _GOOD.replace("CONFIG_KCOV=y", "# CONFIG_KCOV is not set")
    options = _given(tmp_path, config + "CONFIG_STRICT_DEVMEM=y\n")
    with pytest.raises(BadInputError, match=r"has not got them: KCOV, STRICT_DEVMEM=n"):
        ensure_kernel(Flavour.FULL, options)


def test_each_flavour_needs_its_sanitizer(tmp_path: Path) -> None:
    options = _given(tmp_path, _GOOD)
    with pytest.raises(BadInputError, match=r"has not got them: KCSAN"):
        ensure_kernel(Flavour.KCSAN, options)


def test_a_good_build_is_used_as_it_is(tmp_path: Path) -> None:
    options = _given(tmp_path, _GOOD)
    found = ensure_kernel(Flavour.FULL, options)
    assert found.directory == tmp_path
    assert found.image.read_bytes() == b"image"
    assert ready_kernel(Flavour.FULL, options) == found
    (tmp_path / ".config").write_text(_GOOD + "CONFIG_X=y\n")
    assert ensure_kernel(Flavour.FULL, options).key != found.key


PATCH = """What it is for.

--- a/lib/some/core.c
+++ b/lib/some/core.c
@@ -1,2 +1,3 @@
 one
+between
 two
"""


def patched(project: Path, source: str) -> Path:
    """Return the build directory of a kernel with such a file, and a patch for it."""
    (project / "vm" / "kernel" / "a.patch").write_text(PATCH)
    tree, build = project / "tree", project / "build"
    (tree / "lib" / "some").mkdir(parents=True)
    (tree / "lib" / "some" / "core.c").write_text(source)
    build.mkdir()
    patch_copies(Recipe("a", ("base.config",), patch="a.patch"), tree, build)
    assert (tree / "lib" / "some" / "core.c").read_text() == source
    return build


def test_a_patch_of_one_flavour_changes_a_copy_beside_the_objects(project: Path) -> None:
    build = patched(project, "one\ntwo\n")
    assert (build / "lib" / "some" / "core.c").read_text() == "one\nbetween\ntwo\n"


def test_a_patch_that_does_not_fit_leaves_the_kernel_as_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = patched(project, "three\nfour\n")
    assert not [path for path in build.rglob("*") if path.is_file()]
    assert "a.patch does not fit this kernel and is left out" in capsys.readouterr().err
