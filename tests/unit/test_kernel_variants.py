# SPDX-License-Identifier: Apache-2.0
"""Variants of kernels: what makes two of them one, and how long one takes; nothing is built."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fuzzer.campaign.subject import kernels_for
from fuzzer.errors import BadInputError
from fuzzer.kernel import kernel as kernels
from fuzzer.kernel.kbuild import BUILD_SECONDS, Recipe, copy_build
from fuzzer.kernel.kernel import (
    NEEDED,
    Flavour,
    Kernel,
    KernelOptions,
    Variant,
    ensure_kernel,
    ready_kernel,
)
from fuzzer.kernel.needs import trial as trials
from fuzzer.kernel.needs.makefiles import Makefiles
from fuzzer.kernel.needs.rebuild import Rebuild
from fuzzer.kernel.needs.trial import try_options
from fuzzer.target.target import Target


def test_the_order_of_options_makes_no_other_variant() -> None:
    variant = Variant(("NET=y", "BLOCK=y", "NR=4", "NET=y"))
    assert variant == Variant(("NR=4", "BLOCK=y", "NET=y"))
    assert variant.config == ("BLOCK=y", "NET=y", "NR=4")
    assert variant.options == {"CONFIG_BLOCK": "y", "CONFIG_NET": "y", "CONFIG_NR": "4"}
    assert variant
    assert not Variant()


@pytest.mark.parametrize("config", [("NET=y", "NET=n"), ("NET",), ("CONFIG NET=y",)])
def test_options_that_make_no_sense_are_refused(config: tuple[str, ...]) -> None:
    with pytest.raises(BadInputError, match="config: "):
        Variant(config)


def test_a_kernel_with_options_is_named_by_some_of_them() -> None:
    assert Recipe("fast", ()).title == "fast kernel"
    few = Recipe("fast", (), options={"CONFIG_A": "y", "CONFIG_N": "4"})
    assert few.title == "fast kernel with A=y, N=4"
    many = Recipe("full", (), options={f"CONFIG_{name}": "y" for name in "ABCDEF"})
    assert many.title == "full kernel with A=y, B=y, C=y, 3 more"


def test_a_driver_of_any_kind_gets_its_options(pkv_target: Target) -> None:
    plain = KernelOptions(source=Path("/linux"))
    assert kernels_for(pkv_target, plain) == plain
    module = dataclasses.replace(pkv_target.module, config=("NET=y", "BLOCK=y"))
    target = dataclasses.replace(pkv_target, module=module)
    assert kernels_for(target, plain) == KernelOptions(
        source=Path("/linux"), variant=Variant(("BLOCK=y", "NET=y"))
    )


def test_a_copy_of_a_build_is_not_complete(tmp_path: Path) -> None:
    built, copy = tmp_path / "built", tmp_path / "copy"
    (built / "lib").mkdir(parents=True)
    copy.mkdir()
    for name in (".complete", ".config", "lib/a.o"):
        (built / name).write_text(name)
    (built / "source").symlink_to("/linux")
    copy_build(built, copy)
    assert sorted(path.name for path in copy.iterdir()) == [".config", "lib", "source"]
    assert (copy / "lib" / "a.o").read_text() == "lib/a.o"
    assert (copy / "source").readlink() == Path("/linux")


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small source tree; a plain kernel of it is "built" when it is asked for."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    tree = tmp_path / "linux"
    (tree / "kernel").mkdir(parents=True)
    (tree / "Kconfig").write_text("config A\n")

    def build(recipe: object, source: object, directory: Path, **_: object) -> None:
        (directory / ".config").write_text("CONFIG_A=y\n")

    monkeypatch.setattr(kernels, "build_kernel", build)
    monkeypatch.setattr(kernels, "build_configured", lambda *_, **__: None)
    monkeypatch.setattr(kernels, "estimate_rebuild", lambda *_: Rebuild(1, 1, 1.0))
    monkeypatch.setattr(kernels, "requests", lambda recipe, _: {"CONFIG_A": "y"} | recipe.options)
    return tree


@pytest.mark.parametrize("flavour", [Flavour.FAST, Flavour.FULL])
def test_a_variant_is_made_of_the_plain_kernel_and_kept(
    built: Path, monkeypatch: pytest.MonkeyPatch, flavour: Flavour
) -> None:
    found = {"CONFIG_A": "y", "CONFIG_NET": "y"}
    monkeypatch.setattr(kernels, "extend_config", lambda *_: found)
    options = KernelOptions(source=built, variant=Variant(("NET=y",)))
    assert ready_kernel(flavour, options) is None
    made = ensure_kernel(flavour, options)
    assert (made.directory / ".config").read_text() == "CONFIG_A=y\n"
    plain = ready_kernel(flavour, KernelOptions(source=built))
    assert plain is not None
    assert plain.directory != made.directory
    assert ready_kernel(flavour, options) == made


@pytest.mark.parametrize(
    ("final", "lost"),
    [
        ({"CONFIG_A": "y"}, "CONFIG_NET=y became n"),
        ({"CONFIG_A": "n", "CONFIG_NET": "y"}, "CONFIG_A=y became n"),
    ],
)
def test_a_variant_without_what_was_asked_for_is_refused(
    built: Path, monkeypatch: pytest.MonkeyPatch, final: dict[str, str], lost: str
) -> None:
    monkeypatch.setattr(kernels, "extend_config", lambda *_: final)
    options = KernelOptions(source=built, variant=Variant(("NET=y",)))
    with pytest.raises(BadInputError, match=f"cannot be configured with NET=y: {lost}"):
        ensure_kernel(Flavour.FAST, options)
    assert ready_kernel(Flavour.FAST, options) is None


def test_a_given_build_must_have_the_options(tmp_path: Path) -> None:
    (tmp_path / "arch" / "x86" / "boot").mkdir(parents=True)
    (tmp_path / "arch" / "x86" / "boot" / "bzImage").touch()
    (tmp_path / "Module.symvers").touch()
    config = "".join(f"CONFIG_{name}=y\n" for name in (*NEEDED, "KASAN", "NET"))
    (tmp_path / ".config").write_text(config)
    ensure_kernel(Flavour.FAST, KernelOptions(build=tmp_path, variant=Variant(("NET=y",))))
    lacking = KernelOptions(build=tmp_path, variant=Variant(("NET=y", "BLOCK=y")))
    with pytest.raises(
        BadInputError, match=r"needs BLOCK=y NET=y, and in this kernel CONFIG_BLOCK"
    ):
        ensure_kernel(Flavour.FAST, lacking)


MAKEFILES = {
    "Kbuild": "obj-y += lib/\nobj-$(CONFIG_NET) += net/\n",
    "Makefile": "VERSION = 6\n",
    "lib/Makefile": "obj-y += a.o b.o c.o\nc-y := c1.o c2.o\nc-$(CONFIG_NET) += c3.o\n",
    "net/Makefile": "obj-y += core.o\nobj-$(CONFIG_OTHER) += other.o\n",
}


def test_the_objects_to_compile_are_counted_without_compiling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, build = tmp_path / "linux", tmp_path / "build"
    for name, text in MAKEFILES.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (build / "lib").mkdir(parents=True)
    (build / ".config").write_text("CONFIG_A=y\n")
    (build / BUILD_SECONDS).write_text("308\n")
    for name, option in (("a", "NET"), ("b", "NETWORK"), ("c1", "A"), ("c2", "OTHER")):
        text = f"deps := $(wildcard include/config/{option}) lib/{name}.c\n"
        (build / "lib" / f".{name}.o.cmd").write_text(text)
    (build / "lib" / "unrelated.cmd").write_text("$(wildcard include/config/NET)\n")
    assert Makefiles(tree).objects({}) == {"lib/a.o", "lib/b.o", "lib/c1.o", "lib/c2.o"}

    after = {"CONFIG_A": "y", "CONFIG_NET": "y"}
    monkeypatch.setattr(trials, "extend_config", lambda *_: after)
    trial = try_options(Kernel("fast", build, tree, "key"), ["NET=y", "OTHER=y"])
    # a.c names the option; c3 and core come with it.
    assert trial.compiled == 3
    assert trial.objects == 6
    assert trial.seconds == pytest.approx(308 * 153 / 154)
    assert trial.lost == ("CONFIG_OTHER=y became n",)
