# SPDX-License-Identifier: Apache-2.0
"""Options by Kconfig and Makefiles: those to ask for, and those that build a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.kernel.kbuild import TOP_KCONFIG
from fuzzer.kernel.needs.complaints import read_dependencies
from fuzzer.kernel.needs.conditions import ALWAYS, NEVER, Alternatives, Term, parse_preprocessor
from fuzzer.kernel.needs.kconfig import OptionTree
from fuzzer.kernel.needs.makefiles import Makefiles

KCONFIG = {
    "Kconfig": (
        'config MODULES\n\tbool "Modules"\n\tmodules\n'
        'config FAR_AWAY\n\tbool "Far away"\n\tselect HIDDEN\n'
        'config EXPENSIVE\n\tbool "Expensive"\n\tselect HAVE_SHARED\n'
        'config SHARED_TEST\n\tbool "Test"\n\tselect HAVE_SHARED\n'
        'config SHARED_PAIR\n\tbool "Pair"\n\tdepends on HELPER\n\tselect HAVE_SHARED\n'
        'config HELPER\n\tbool "Helper"\n'
        "config HAVE_SHARED\n\tbool\n"
        "config ORPHAN\n\tbool\n"
        'config FIRST\n\ttristate "First"\n\tdepends on LATER = HELPER && HELPER\n'
        'config LATER\n\ttristate "Later"\n\tdepends on HELPER\n'
        'config BIG\n\tbool "Big"\n\tselect SMALL\n'
        'config SMALL\n\tbool "Small"\n'
        "config LATE_DEFAULT\n\tbool\n\tdefault y if BIG\n"
        'choice\n\tprompt "One of"\n'
        'config ONE\n\tbool "One"\nconfig OTHER\n\tbool "Other"\nendchoice\n'
        'config STUBBORN\n\tbool "Stubborn"\n\tdepends on BIG && !SMALL\n'
        'config VISIBLE\n\tbool "Visible"\n\tdefault y\n'
        'source "lib/Kconfig"\n'
    ),
    "lib/Kconfig": (
        "config HIDDEN\n\tbool\n"
        'config NEAR\n\tbool "Near"\n\tdepends on NEAR_MENU\n\tselect HIDDEN\n'
        'config NEAR_MENU\n\tbool "Near menu"\n'
        "config DEEP\n\tbool\n\tdepends on NEAR_MENU\n"
        'config DEEPER\n\tbool "Deeper"\n\tdepends on NEAR\n\tselect DEEP\n'
    ),
    "Makefile": "VERSION = 6\nPATCHLEVEL = 12\n",
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source that has these options."""
    for name, text in KCONFIG.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / ".config").write_text("CONFIG_MODULES=y\n# CONFIG_SMALL is not set\n")
    return tmp_path


def settled(tree: Path, *wanted: str, avoided: tuple[str, ...] = ()) -> tuple[str, ...]:
    asked, lost = OptionTree(tree, tree / ".config", avoided).settle(wanted)
    assert not lost
    return tuple(sorted(asked))


def test_what_has_no_prompt_is_asked_for_itself_if_that_takes_less(tree: Path) -> None:
    # What selects it is in another part of the kernel, or depends on more.
    assert settled(tree, "HIDDEN") == ("HIDDEN",)
    # Nothing else is asked for when what selects it is wanted besides.
    assert settled(tree, "HIDDEN", "NEAR") == ("NEAR", "NEAR_MENU")


def test_what_an_option_without_a_prompt_depends_on_is_asked_for_as_well(tree: Path) -> None:
    assert settled(tree, "DEEP") == ("DEEP", "NEAR_MENU")


def test_what_an_architecture_can_do_is_not_asked_for(tree: Path) -> None:
    assert settled(tree, "HAVE_SHARED") == ("EXPENSIVE",)
    # Nothing would select this one.
    assert OptionTree(tree, tree / ".config").plan("ORPHAN") is None


def test_an_option_that_a_build_selects_is_on(tree: Path) -> None:
    assert not OptionTree(tree, tree / ".config").on("HIDDEN")
    selection = "config PKVFUZZ_HIDDEN\n\tdef_bool y\n\tselect HIDDEN\n"
    (tree / TOP_KCONFIG).write_text((tree / "Kconfig").read_text() + selection)
    assert OptionTree(tree, tree / ".config").builtin("HIDDEN")


def test_what_the_kernel_is_without_on_purpose_is_asked_for_last(tree: Path) -> None:
    assert settled(tree, "HAVE_SHARED") == ("EXPENSIVE",)
    # Nor is a driver of tests, which would make devices.
    assert settled(tree, "HAVE_SHARED", avoided=("EXPENSIVE",)) == ("HELPER", "SHARED_PAIR")
    assert settled(tree, "EXPENSIVE", avoided=("EXPENSIVE",)) == ("EXPENSIVE",)


def test_what_another_request_brings_is_not_asked_for(tree: Path) -> None:
    assert settled(tree, "SMALL") == ("SMALL",)
    assert settled(tree, "SMALL", "BIG") == ("BIG",)
    assert settled(tree, "LATE_DEFAULT") == ("BIG",)


def test_options_that_are_equal_now_need_not_be_equal_then(tree: Path) -> None:
    assert settled(tree, "FIRST") == ("FIRST", "HELPER", "LATER")


def test_a_default_does_not_turn_on_what_comes_into_sight(tree: Path) -> None:
    assert settled(tree, "VISIBLE") == ("VISIBLE",)


def test_the_member_of_a_choice_can_be_asked_for(tree: Path) -> None:
    assert settled(tree, "OTHER") == ("OTHER",)
    assert settled(tree, "OTHER", "HIDDEN") == ("HIDDEN", "OTHER")
    options = OptionTree(tree, tree / ".config")
    options.settle(["OTHER"])
    assert options.builtin("ONE")


def test_what_cannot_be_had_is_told_and_leaves_the_rest(tree: Path) -> None:
    options = OptionTree(tree, tree / ".config")
    asked, lost = options.settle(["STUBBORN", "HIDDEN"])
    assert lost == {"STUBBORN"}
    assert asked == {"HIDDEN"}
    assert options.dependencies("STUBBORN") == "BIG && !SMALL"
    # Nothing of it stays.
    assert not options.on("HIDDEN")
    assert options.settle(["NEAR"])[0] == {"NEAR", "NEAR_MENU"}
    assert not options.on("HIDDEN")


def alternatives(*several: str) -> Alternatives:
    """Return ``"A !B"`` as a condition, each."""
    return tuple(
        frozenset(Term(word.lstrip("!"), not word.startswith("!")) for word in each.split())
        for each in several
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("defined(CONFIG_A) && !defined(CONFIG_B)", alternatives("A !B")),
        ("IS_ENABLED(CONFIG_A) || defined CONFIG_B", alternatives("A", "B")),
        ("!(defined(CONFIG_A) || defined(CONFIG_B))", alternatives("!A !B")),
        ("defined(CONFIG_A_MODULE)", alternatives("A")),
        ("LINUX_VERSION_CODE >= KERNEL_VERSION(6, 1, 0) && defined(CONFIG_A)", alternatives("A")),
        ("CONFIG_NR > 4 || __GNUC__ < 5", ALWAYS),
        ("defined(CONFIG_A) && !defined(CONFIG_A)", NEVER),
        ("((defined(CONFIG_A)", alternatives("A")),
        ("(" * 5000, ALWAYS),
        ("", ALWAYS),
    ],
)
def test_the_expression_of_an_if_is_read(expression: str, expected: Alternatives) -> None:
    assert parse_preprocessor(expression) == expected


MAKEFILE = """\
ifeq ($(CONFIG_A),y)
obj-y += with.o
else ifneq ($(CONFIG_B)$(CONFIG_C),)
obj-y += some.o
else
obj-$(CONFIG_D) += without.o
endif
ifdef CONFIG_E
ifndef CONFIG_F
obj-y += nested.o
endif
endif
# obj-y += comment.o
\t$(Q)obj-y += recipe.o
obj-$(subst m,y,$(CONFIG_G)) += substituted.o
obj-m += loop.o
loop-y := $(loop-y) inner.o
CFLAGS_with.o := flag.o
"""


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("with", alternatives("A")),
        ("some", alternatives("!A B", "!A C")),
        ("without", alternatives("!A !B !C D")),
        ("nested", alternatives("E !F")),
        ("comment", NEVER),
        ("recipe", NEVER),
        ("substituted", alternatives("G")),
        ("inner", ALWAYS),
        ("flag", NEVER),
    ],
)
def test_the_conditions_of_a_makefile_are_read(
    tmp_path: Path, name: str, expected: Alternatives
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "Kbuild").write_text("obj-y += lib/\n")
    (tmp_path / "lib" / "Makefile").write_text(MAKEFILE)
    found = Makefiles(tmp_path).conditions(f"lib/{name}.c")
    assert {frozenset(each) for each in found} == {frozenset(each) for each in expected}


def test_help_is_no_dependency() -> None:
    kconfig = (
        "config DRV\n\ttristate\n\tdepends on A && B # because\n\tselect C if D\n\thelp\n"
        "\t  depends on E\n\nconfig SUB\n\tbool\n\tdepends on $(shell,reboot)\n\tdepends on DRV\n"
    )
    assert read_dependencies(kconfig) == ("A && B", "C", "DRV")
