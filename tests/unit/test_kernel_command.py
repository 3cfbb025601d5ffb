# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz kernel``, with kernels that are directories with a few files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuzzer.cli import kernel as kernel_command
from fuzzer.cli.main import main
from fuzzer.driver.kerneltree import build_tree
from fuzzer.driver.modinfo import ModuleInfo, read_modinfo
from fuzzer.driver.source_build import instrumentation
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions
from tests.unit.made_module import SIZE, VERMAGIC, make_module


@pytest.fixture
def fast(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel that is built, of which nothing but its configuration is known."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    directory = tmp_path / "fast"
    (directory / "include").mkdir(parents=True)
    (directory / ".config").write_text("CONFIG_KASAN=y\n")
    symbols = ("memcpy", "__asan_memcpy")
    lines = [f"0x00000000\t{symbol}\tvmlinux\tEXPORT_SYMBOL\t\n" for symbol in symbols]
    (directory / "Module.symvers").write_text("".join(lines))
    (directory / ".complete").touch()
    (directory / "Makefile").write_text(
        "modules:\n\t@echo $(KCOV_INSTRUMENT) $(KASAN_SANITIZE) $(KCFLAGS)\n"
    )
    return Kernel("fast", directory, tmp_path, "1")


def test_path_prints_a_directory_like_the_kernels_with_another_makefile(
    fast: Kernel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Flavour, KernelOptions]] = []

    def ensure(flavour: Flavour, options: KernelOptions) -> Kernel:
        asked.append((flavour, options))
        return fast

    monkeypatch.setattr(kernel_command, "ensure_kernel", ensure)
    assert main(["kernel", "--path", "fast", "--config", "BLOCK=y"]) == 0
    output = capsys.readouterr().out
    tree = Path(output.removesuffix("\n"))
    assert (tree / ".config").resolve() == fast.directory / ".config"
    assert (tree / "include").is_dir()
    makefile = (tree / "Makefile").read_text()
    assert "export KCOV_INSTRUMENT := y\n" in makefile
    assert "export KASAN_SANITIZE := y\n" in makefile
    assert makefile.endswith(f"include {fast.directory}/Makefile\n")
    ((flavour, options),) = asked
    assert flavour is Flavour.FAST
    assert options.variant.config == ("BLOCK=y",)


def test_a_build_in_that_directory_has_instrumentation_turned_on(fast: Kernel) -> None:
    done = subprocess.run(
        ["make", "-s", "-C", str(build_tree(fast)), "modules"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    # With a compiler whose memcpy() goes unchecked, KCFLAGS name the checking one.
    assert done.stdout.split()[:3] == ["y", "y", "-Dmemcpy=__asan_memcpy"]


def test_where_memcpy_itself_is_checked_it_is_left_alone(fast: Kernel) -> None:
    symbols = fast.directory / "Module.symvers"
    symbols.write_text("0x00000000\tmemcpy\tvmlinux\tEXPORT_SYMBOL\t\n")
    assert instrumentation(fast) == ["KCOV_INSTRUMENT=y", "KASAN_SANITIZE=y"]


def test_the_same_kernel_has_one_such_directory(fast: Kernel) -> None:
    assert build_tree(fast) == build_tree(fast)


def test_the_overview_tells_what_a_module_must_have(
    fast: Kernel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = make_module(tmp_path / "probe.ko")

    def ready(flavour: Flavour, _options: KernelOptions) -> Kernel | None:
        return fast if flavour is Flavour.FAST else None

    def expected(_kernel: Kernel) -> ModuleInfo:
        return read_modinfo(module)

    monkeypatch.setattr(kernel_command, "ready_kernel", ready)
    monkeypatch.setattr(kernel_command, "expected_modinfo", expected)
    assert main(["kernel"]) == 0
    _, first, *others = capsys.readouterr().out.splitlines()
    assert first.split()[0] == "fast"
    assert f"{SIZE} bytes" in first
    assert VERMAGIC.strip() in first
    assert "full   not built yet: kernel --path full" in others[0]
    assert [line.split()[0] for line in (first, *others)] == list(Flavour)


@pytest.mark.parametrize("option", ["BLOCK", "CONFIG_BLOCK=y", "BLOCK=", "=y", "BLOCK=y z"])
def test_an_option_in_another_form_is_refused(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernel", "--config", option]) == 2
    assert "NAME=y, without CONFIG_, is allowed" in capsys.readouterr().err


def test_a_given_build_that_is_none_is_told_for_each_flavour(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["kernel", "--kernel-build", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count(".config is missing") == len(Flavour)
    assert main(["kernel", "--path", "fast", "--kernel-build", str(tmp_path)]) == 2
    assert ".config is missing" in capsys.readouterr().err
