# SPDX-License-Identifier: Apache-2.0
"""A driver given by its path, and ``init``: nothing is built or booted."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts
from fuzzer.cli import init
from fuzzer.cli.drivers import choice_of, describe_driver
from fuzzer.cli.main import main
from fuzzer.cli.parser import build_parser
from fuzzer.errors import BadInputError
from fuzzer.machine.accel import Accel
from fuzzer.target.device import Device
from fuzzer.target.target import load_target


@pytest.fixture(autouse=True)
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a driver's directory; beside it is where commands run."""
    directory = tmp_path / "mini"
    directory.mkdir()
    (directory / "Makefile").write_text("obj-m := mini.o\n")
    (directory / "mini.ko").touch()
    (directory / "mini.yaml").touch()
    (directory / "mini.txt").touch()
    monkeypatch.chdir(tmp_path)
    return directory


def parsed(*arguments: str) -> argparse.Namespace:
    return build_parser().parse_args(arguments)


def run(*arguments: str) -> Choice | None:
    return choice_of(parsed("run", *arguments))


def test_a_directory_or_a_module_is_a_driver() -> None:
    assert run("mini") == Choice(Path("mini"))
    assert run("mini/mini.ko") == Choice(Path("mini/mini.ko"))
    given = run("mini", "--module", "other", "--device", "/dev/a", "--device", "/dev/b")
    assert given == Choice(Path("mini"), "other", ("/dev/a", "/dev/b"))
    assert run("mini", "--params", "a=1") == Choice(Path("mini"), params="a=1")


def test_the_old_form_still_works() -> None:
    assert run("--device", "/dev/x", "--module", "mini") == Choice(Path("mini"), "", ("/dev/x",))
    assert run("--module", "mini") == Choice(Path("mini"))
    assert run("--module", "mini/mini.ko") == Choice(Path("mini/mini.ko"))


@pytest.mark.parametrize("name", ["mini.yaml", "mini.yml"])
def test_a_description_is_a_target(driver: Path, name: str) -> None:
    (driver / name).touch()
    options = parsed("run", f"mini/{name}")
    assert choice_of(options) is None
    assert options.target == Path("mini") / name


def test_without_a_driver_the_target_stays() -> None:
    options = parsed("run", "--target", "x.yaml")
    assert choice_of(options) is None
    assert options.target == Path("x.yaml")
    options = parsed("run")
    assert choice_of(options) is None
    assert options.target is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: there is no such file or directory.*its .ko or its description"),
        (["mini/mini.txt"], "mini.txt: a driver's directory, a .ko or a .yaml is needed"),
        (["mini/Makefile"], "a driver's directory, a .ko or a .yaml is needed"),
        (["none.yaml"], "none.yaml: there is no such file"),
        (["mini", "--target", "x.yaml"], "mini and --target x.yaml: give one of them"),
        (["mini/mini.yaml", "--target", "x.yaml"], "give one of them"),
        (["mini/mini.yaml", "--device", "/dev/x"], "says which module and devices"),
        (["mini/mini.yaml", "--module", "x"], "says which module and devices"),
        (["--device", "/dev/x"], "--device goes with a driver: pkvfuzz run PATH --device"),
        (["--device", "/dev/x", "--target", "x.yaml"], "--device goes with a driver"),
        (["--module", "none"], "none: there is no such file"),
        (["--module", "mini", "--target", "x.yaml"], "give one of them"),
        (["mini", "--device", "dev/x"], "--device dev/x: /dev/..., /proc/... or /sys/..."),
        (["mini", "--device", "/etc/passwd"], "--device /etc/passwd: /dev/..., "),
    ],
)
def test_what_makes_no_sense_is_refused(
    arguments: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInputError, match=message):
        run(*arguments)
    assert main(["run", *arguments]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_path_that_a_description_cannot_name_is_refused(driver: Path) -> None:
    odd = os.fsdecode(b"caf\xe9")
    driver.rename(odd)
    with pytest.raises(BadInputError, match=r"'caf\\udce9': .* not UTF-8. Rename it"):
        run(odd)


@dataclass
class Finder:
    """Finds things out without a machine, and notes what it was asked."""

    facts: DriverFacts
    asked: list[Choice] = field(default_factory=list)

    def __call__(self, choice: Choice, options: argparse.Namespace, accel: Accel) -> DriverFacts:
        assert options.accel == str(accel)
        self.asked.append(choice)
        return self.facts


@pytest.fixture
def finder(driver: Path) -> Finder:
    """Return what knows a driver with a file and a parameter."""
    return Finder(DriverFacts("mini", (Device("/dev/mini"), Device("/proc/mini")), source=driver))


@pytest.fixture
def make(finder: Finder) -> Callable[..., int]:
    """Return what runs init."""

    def command(*arguments: str) -> int:
        return init.write_description(parsed("init", "--accel", "tcg", *arguments), finder)

    return command


def test_init_writes_a_description_and_seeds(
    make: Callable[..., int], finder: Finder, driver: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make("mini") == 0
    assert finder.asked == [Choice(Path("mini"))]
    target = load_target(Path("mini.yaml"))
    assert target.devices == finder.facts.devices
    assert target.module.source == driver
    # It can be moved along with the driver.
    assert 'source: "mini"' in Path("mini.yaml").read_text()
    assert len(list(Path("seeds").glob("*.prog"))) == 3
    printed = capsys.readouterr().out
    assert f"{Path('mini.yaml').absolute()}: 2 files, 0 ioctls; seeds in " in printed
    assert "pkvfuzz target check mini.yaml" in printed
    assert main(["target", "check", "mini.yaml"]) == 0


def test_init_writes_where_it_is_told_to(make: Callable[..., int], driver: Path) -> None:
    assert make("mini", "-o", "some/where/x.yaml", "--module", "mini", "--params", "a=1") == 0
    assert load_target(Path("some/where/x.yaml")).module.source == driver
    assert sorted(path.name for path in Path("some/where").iterdir()) == ["seeds", "x.yaml"]


def test_init_of_a_module(make: Callable[..., int], finder: Finder, driver: Path) -> None:
    finder.facts = replace(finder.facts, source=None, object=driver / "mini.ko")
    assert make("mini/mini.ko", "-o", "below/x.yaml") == 0
    assert 'object: "../mini/mini.ko"' in Path("below/x.yaml").read_text()
    assert load_target(Path("below/x.yaml")).module.object == driver / "mini.ko"


@pytest.mark.parametrize("there", ["x.yaml", "seeds/ioctls.prog"])
def test_init_replaces_nothing_unless_told_to(
    make: Callable[..., int], finder: Finder, there: str
) -> None:
    Path("seeds").mkdir()
    Path(there).write_text("mine")
    with pytest.raises(BadInputError, match=rf"{there} is there already.*-o, or --force"):
        make("mini", "-o", "x.yaml")
    # That is told before anything that takes a minute.
    assert not finder.asked
    assert Path(there).read_text() == "mine"
    assert make("mini", "-o", "x.yaml", "--force") == 0
    assert Path(there).read_text() != "mine"


def test_init_replaces_nothing_of_a_name_that_is_found_out(make: Callable[..., int]) -> None:
    Path("mini.yaml").write_text("mine")
    with pytest.raises(BadInputError, match=r"mini\.yaml is there already"):
        make("mini")
    assert Path("mini.yaml").read_text() == "mine"
    assert not Path("seeds").exists()


def test_init_needs_a_driver(make: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["mini/mini.yaml"]):
        with pytest.raises(BadInputError, match=r"init needs a driver: its directory, or its \.ko"):
            make(*arguments)
        assert main(["init", *arguments]) == 2
    assert main(["init", "none"]) == 2
    assert "there is no such file or directory" in capsys.readouterr().err


def test_run_leaves_the_description_in_its_directory(finder: Finder, driver: Path) -> None:
    options = parsed("run", "mini", "--params", "a=1", "--accel", "tcg")
    assert describe_driver(options, finder) == finder.facts
    assert options.workdir == Path("work/mini")
    assert options.target == Path("work/mini/target.yaml")
    # They are in the description now.
    assert options.params is None
    assert load_target(options.target).module.source == driver
    assert not list(driver.glob("target*"))
    options = parsed("run", "mini", "--workdir", "w", "--accel", "tcg")
    describe_driver(options, finder)
    assert options.target == Path("w/target.yaml")


def test_run_with_a_description_finds_nothing_out(finder: Finder) -> None:
    options = parsed("run", "mini/mini.yaml")
    assert describe_driver(options, finder) is None
    assert not finder.asked
    assert options.workdir is None
