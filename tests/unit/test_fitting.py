# SPDX-License-Identifier: Apache-2.0
"""Kernels that fit a driver: options added, an older version taken; no kernel is built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fuzzer.driver.author_build import BuildFailedError
from fuzzer.driver.fitting import Means, fitted
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, Variant
from fuzzer.kernel.needs.needs import Needs, Unexplained

PLAIN = KernelOptions()


@dataclass
class Kernels:
    """Kernels that are never built. Of each it is noted that it was asked for.

    ``brings`` says which option a word in a failed build's output asks for; ``unhad``
    are versions whose source cannot be installed.
    """

    brings: Mapping[str, str] = field(default_factory=dict)
    older: tuple[str, ...] = ()
    ready: frozenset[str] = frozenset()
    unhad: frozenset[str] = frozenset()
    made: list[str] = field(default_factory=list)
    prepared: list[str] = field(default_factory=list)

    def means(self) -> Means:
        return Means(self._ensure, self._ready, self._prepare, self._needs, self._older, self._get)

    def _ensure(self, flavour: Flavour, options: KernelOptions) -> Kernel:
        self.made.append(label(options))
        return Kernel(flavour, Path("/kernel"), Path("/source"), label(options))

    def _ready(self, flavour: Flavour, options: KernelOptions) -> Kernel | None:
        there = label(options) in self.ready
        return Kernel(flavour, Path("/kernel"), Path("/source"), "") if there else None

    def _prepare(self, flavour: Flavour, options: KernelOptions) -> Kernel:
        self.prepared.append(label(options))
        return Kernel(flavour, Path("/kernel"), Path("/source"), label(options))

    def _needs(
        self, output: str, _kernel: Kernel, _kconfig: str, _unlinked: Collection[str]
    ) -> Needs:
        words = output.split()
        options = sorted({self.brings[word] for word in words if word in self.brings})
        unknown = [Unexplained(w, "nobody exports it") for w in words if w not in self.brings]
        return Needs(tuple(options), tuple(unknown))

    def _older(self) -> tuple[str, ...]:
        return self.older

    def _get(self, version: str) -> None:
        if version in self.unhad:
            raise InfrastructureError(f"{version} cannot be installed")


def label(options: KernelOptions) -> str:
    return " ".join([options.version or "default", *options.variant.config])


def driver(*needed: str, version: str = "default") -> Callable[[Kernel], str]:
    """Return what builds a driver that needs options of a kernel, one after the other seen."""

    def use(kernel: Kernel) -> str:
        has = kernel.key.split()
        if not has[0].startswith(version):
            raise BuildFailedError("mini.c:1:1: error: too new", "old_call")
        for option in needed:
            if f"{option}=y" not in has:
                raise BuildFailedError(f"lacks {option}", f"symbol_{option}")
        return kernel.key

    return use


def brings(*options: str) -> dict[str, str]:
    return {f"symbol_{option}": f"{option}=y" for option in options}


def test_a_driver_that_needs_nothing_gets_the_plain_kernel() -> None:
    kernels = Kernels()

    def confirm(_what: str) -> bool:
        raise AssertionError

    made = fitted(driver(), PLAIN, Flavour.FAST, confirm, driver(), means=kernels.means())
    assert made == ("default", PLAIN)
    assert kernels.made == ["default"]
    assert not kernels.prepared


def test_options_are_added_in_rounds(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = Kernels(brings("NET", "USB"))
    asked: list[str] = []

    def confirm(what: str) -> bool:
        asked.append(what)
        return True

    use = driver("NET", "USB")
    made, options = fitted(use, PLAIN, Flavour.FULL, confirm, means=kernels.means())
    assert made == "default NET=y USB=y"
    assert options == KernelOptions(variant=Variant(("NET=y", "USB=y")))
    assert kernels.made == ["default", "default NET=y", "default NET=y USB=y"]
    assert [what.split(" takes")[0] for what in asked] == [
        "building the full kernel with NET=y",
        "building the full kernel with NET=y, USB=y",
    ]
    said = capsys.readouterr().err
    assert "config: [NET=y]" in said


def test_the_line_that_makes_options_permanent_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    kernels = Kernels(brings("NET", "USB"))
    given = KernelOptions(variant=Variant(("PCI=y",)))
    fitted(driver("NET", "USB"), given, Flavour.FAST, means=kernels.means())
    # Who copies the last line has what is needed: with less it would not build.
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith("config: [NET=y, PCI=y, USB=y]")


def test_a_kernel_that_is_built_already_is_not_asked_for() -> None:
    kernels = Kernels(brings("NET"), ready=frozenset({"default NET=y"}))

    def confirm(_what: str) -> bool:
        raise AssertionError

    made, _ = fitted(driver("NET"), PLAIN, Flavour.FAST, confirm, means=kernels.means())
    assert made == "default NET=y"


def test_a_user_may_say_no() -> None:
    kernels = Kernels(brings("NET"))
    with pytest.raises(BadInputError, match=r"not built, as you said.*--kernel-build DIR"):
        fitted(driver("NET"), PLAIN, Flavour.FAST, lambda _what: False, means=kernels.means())
    assert kernels.made == ["default"]


def test_ever_more_needs_have_an_end() -> None:
    options = [f"O{number}" for number in range(50)]
    kernels = Kernels(brings(*options))
    with pytest.raises(BadInputError, match=r"needs ever more.*so far: O0=y, O1=y"):
        fitted(driver(*options), PLAIN, Flavour.FAST, means=kernels.means())
    assert len(kernels.made) < 10


def test_what_no_option_brings_is_told_with_its_reason() -> None:
    kernels = Kernels(brings("NET"))
    with pytest.raises(BuildFailedError) as caught:
        fitted(driver("NET", "NONE"), PLAIN, Flavour.FAST, means=kernels.means())
    assert str(caught.value) == "lacks NONE\nsymbol_NONE: nobody exports it"
    assert caught.value.output == "symbol_NONE"


def test_an_option_that_does_not_help_is_not_asked_for_again() -> None:
    kernels = Kernels({"symbol_X": "NET=y"})
    with pytest.raises(BuildFailedError, match="lacks X"):
        fitted(driver("X"), PLAIN, Flavour.FAST, means=kernels.means())
    assert kernels.made == ["default", "default NET=y"]


def test_an_older_kernel_is_taken_if_the_driver_compiles_there(
    capsys: pytest.CaptureFixture[str],
) -> None:
    kernels = Kernels(brings("NET"), older=("6.9", "6.1", "5.10", "5.4"), unhad=frozenset({"6.9"}))
    use = driver("NET", version="5.10")
    made, options = fitted(use, PLAIN, Flavour.FAST, compiles=use, means=kernels.means())
    assert made == "5.10 NET=y"
    assert options == KernelOptions(version="5.10", variant=Variant(("NET=y",)))
    # Only to compile something no kernel is built: it may lack options there.
    assert kernels.prepared == ["6.1", "5.10", "5.10 NET=y"]
    assert kernels.made == ["default", "5.10 NET=y"]
    said = capsys.readouterr().err
    assert "not for 6.9 either: 6.9 cannot be installed" in said
    assert "taking kernel 5.10; to say so at once: --kernel-version 5.10" in said


def test_if_no_kernel_will_do_the_first_failure_is_told() -> None:
    kernels = Kernels(older=("6.1", "5.10"))
    use = driver(version="2.6")
    with pytest.raises(BuildFailedError, match=r"error: too new(?s:.*), 6\.1, 5\.10\).*-source"):
        fitted(use, PLAIN, Flavour.FAST, compiles=use, means=kernels.means())
    assert kernels.prepared == ["6.1", "5.10"]
    assert kernels.made == ["default"]


@pytest.mark.parametrize(
    "options",
    [
        KernelOptions(version="6.1"),
        KernelOptions(source=Path("/s")),
        KernelOptions(build=Path("/b")),
    ],
)
def test_a_kernel_that_was_chosen_is_not_changed_for_another(options: KernelOptions) -> None:
    kernels = Kernels(older=("5.10",))
    use = driver(version="5.10")
    with pytest.raises(BuildFailedError, match="too new"):
        fitted(use, options, Flavour.FAST, compiles=use, means=kernels.means())
    assert not kernels.prepared
    with pytest.raises(BuildFailedError, match="too new"):
        fitted(use, replace(options), Flavour.FAST, means=kernels.means())


def test_a_build_of_ones_own_is_not_extended() -> None:
    kernels = Kernels(brings("NET"))
    build = KernelOptions(build=Path("/b"))
    with pytest.raises(BuildFailedError, match=r"\Alacks NET\Z"):
        fitted(driver("NET"), build, Flavour.FAST, means=kernels.means())
    assert kernels.made == ["default"]


def test_without_a_way_to_compile_only_no_other_version_is_tried() -> None:
    kernels = Kernels(older=("5.10",))
    with pytest.raises(BuildFailedError):
        fitted(driver(version="5.10"), PLAIN, Flavour.FAST, means=kernels.means())
    assert not kernels.prepared


@pytest.mark.parametrize(
    ("include", "told"),
    [
        ('"own.h"', r"own\.h is neither where the driver's build looks nor in a kernel"),
        ("<linux/own.h>", "compiles against no kernel that this distribution has"),
    ],
)
def test_a_header_that_the_drivers_author_wrote_is_no_matter_of_kernels(
    include: str, told: str
) -> None:
    error = f"mini.c:1:10: fatal error: {include[1:-1]}: No such file or directory"
    output = f"/copy/{error}\n    1 | #include {include}\n      |          ^~~~~\n"

    def use(_kernel: Kernel) -> str:
        raise BuildFailedError(f"the driver does not build:\n{error}", output)

    with pytest.raises(BuildFailedError, match=told):
        fitted(use, PLAIN, Flavour.FAST, compiles=use, means=Kernels().means())


def test_an_older_kernel_that_the_user_declines_ends_it() -> None:
    kernels = Kernels(older=("5.10", "5.4"))
    use = driver(version="5")
    with pytest.raises(BadInputError, match="as you said"):
        fitted(use, PLAIN, Flavour.FAST, lambda _what: False, use, means=kernels.means())
    assert kernels.prepared == ["5.10"]


def test_no_kernel_is_built_that_the_driver_would_not_compile_against() -> None:
    def use(kernel: Kernel) -> str:
        version, *has = kernel.key.split()
        if version == "5.10" and "PCI=y" in has:
            return kernel.key
        raise BuildFailedError("old", "/d/mini.c:1:1: error: no old_call\nsymbol_PCI")

    kernels = Kernels(brings("PCI"), older=("5.10",))
    made, _ = fitted(use, PLAIN, Flavour.FAST, compiles=use, means=kernels.means())
    assert made == "5.10 PCI=y"
    assert kernels.made == ["default", "5.10 PCI=y"]
    assert kernels.prepared == ["default PCI=y", "5.10", "5.10 PCI=y"]


def test_a_kernel_with_all_that_compiling_asks_for_is_built_once() -> None:
    kernels = Kernels(brings("NET", "USB", "PCI"))

    def use(kernel: Kernel) -> str:
        for option in ("NET", "USB", "PCI"):
            if f"{option}=y" not in kernel.key:
                raise BuildFailedError("lacks", f"/d/mini.c:1:1: error: none\nsymbol_{option}")
        return kernel.key

    fitted(use, PLAIN, Flavour.FAST, compiles=use, means=kernels.means())
    assert kernels.made == ["default", "default NET=y PCI=y USB=y"]
