# SPDX-License-Identifier: Apache-2.0
"""The stored crashes are what this version makes of them, and name no place of any machine."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from fuzzer.campaign.subject import description_of
from fuzzer.crash.bundle import write_bundle
from fuzzer.crash.crash import Crash
from fuzzer.crash.store import CrashStore, read_crash, slug_of
from fuzzer.paths import cache_dir, project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import ResetKind, ResetSpec, Target, load_target

BUNDLES = sorted(path.parent for path in (project_root() / "crashes").glob("*/crash.json"))
# The first directories of places that differ between machines, not of /dev, /proc and /sys.
ABSOLUTE = re.compile(rb"/(?:home|root|tmp|var|usr|opt|srv|mnt|work|build|Users)/[\w.+~-]+")


@pytest.fixture(params=BUNDLES, ids=lambda path: path.name)
def bundle(request: pytest.FixtureRequest) -> Path:
    """Return each stored crash's directory in turn."""
    path: Path = request.param
    return path


def target_of(crash: Crash, bundle: Path) -> Target:
    path = description_of(crash.identity, bundle)
    assert path is not None
    return load_target(path)


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_storing_it_again_gives_the_same_bytes(bundle: Path, tmp_path: Path) -> None:
    crash = read_crash(bundle)
    target = target_of(crash, bundle)
    again = CrashStore(tmp_path).put(crash, target)
    assert again.name == bundle.name == slug_of(crash.title)
    assert contents(again) == contents(bundle)


def test_what_is_for_people_and_tools_follows_from_the_record(bundle: Path, tmp_path: Path) -> None:
    crash = read_crash(bundle)
    write_bundle(tmp_path, crash, target_of(crash, bundle))
    made = contents(tmp_path)
    assert {"README.md", "report.json", "repro.c"} < set(made)
    stored = contents(bundle)
    assert made == {name: stored[name] for name in made}


def test_it_names_no_place_of_the_machine_that_made_it(bundle: Path) -> None:
    for name, content in contents(bundle).items():
        assert not ABSOLUTE.search(content), name
        for place in (project_root(), Path.home(), cache_dir()):
            assert f"{place}/".encode() not in content, name


def test_what_a_warning_tells_of_the_build_is_not_stored(
    bundle: Path, tmp_path: Path, pkv_target: Target
) -> None:
    crash = read_crash(bundle)
    warned = f"WARNING: CPU: 0 PID: 1 at {cache_dir()}/driver-0123456789abcdef/pkv_main.c:9 f+0x1\n"
    spoilt = dataclasses.replace(crash, report=warned + crash.report, first_log=warned)
    made = CrashStore(tmp_path).put(spoilt, pkv_target)
    for name, content in contents(made).items():
        assert str(cache_dir()).encode() not in content, name
    expected = "WARNING: CPU: 0 PID: 1 at pkv_main.c:9 f+0x1\n"
    assert (made / "first-seen.txt").read_text() == expected
    assert (made / "report.txt").read_text() == expected + crash.report


def history_of(count: int) -> tuple[bytes, ...]:
    return tuple(encode((Call(Op.WRITE, data=b"%d=1\n" % number),)) for number in range(count))


def test_the_c_file_runs_the_history_first(
    bundle: Path, tmp_path: Path, pkv_target: Target
) -> None:
    crash = read_crash(bundle)
    first, second = history_of(2)
    needy = dataclasses.replace(crash, history=(first, *[second] * 70, first))
    write_bundle(tmp_path, needy, pkv_target)
    source = (tmp_path / "repro.c").read_text()
    assert source.count("static void before_") == 2
    expected = (
        "\tbefore_1();\n\tfor (int i = 0; i < 70; i++)\n\t\tbefore_2();\n\tbefore_1();\n\trun();\n"
    )
    assert source.endswith(f"\n{{\n{expected}\treturn 0;\n}}\n")
    assert "lacks" not in (tmp_path / "README.md").read_text()


def test_a_history_that_is_too_long_for_c_is_left_out_and_told(
    bundle: Path, tmp_path: Path, pkv_target: Target
) -> None:
    crash = read_crash(bundle)
    write_bundle(tmp_path, dataclasses.replace(crash, history=history_of(65)), pkv_target)
    assert (tmp_path / "repro.c").read_bytes() == (bundle / "repro.c").read_bytes()
    readme = (tmp_path / "README.md").read_text()
    assert "needs the 65 programs in `history.bin`" in readme
    assert "`repro.c` lacks them" in readme
    write_bundle(tmp_path, dataclasses.replace(crash, history=history_of(64)), pkv_target)
    assert "lacks" not in (tmp_path / "README.md").read_text()


def test_a_readme_says_when_the_c_file_takes_the_module(
    bundle: Path, tmp_path: Path, pkv_target: Target
) -> None:
    crash = read_crash(bundle)
    loads = encode((Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD)))
    said = "-- ./repro pkv.ko\n\nIts argument is the driver's .ko"
    write_bundle(tmp_path, crash, pkv_target)
    assert said not in (tmp_path / "README.md").read_text()
    write_bundle(tmp_path, dataclasses.replace(crash, history=(loads,)), pkv_target)
    assert said in (tmp_path / "README.md").read_text()
    reloaded = dataclasses.replace(pkv_target, reset=ResetSpec(ResetKind.RELOAD))
    write_bundle(tmp_path, dataclasses.replace(crash, history=history_of(1)), reloaded)
    assert said in (tmp_path / "README.md").read_text()


def test_a_readme_says_how_a_leak_shows(bundle: Path, tmp_path: Path, pkv_target: Target) -> None:
    crash = dataclasses.replace(read_crash(bundle), kind="leak")
    write_bundle(tmp_path, crash, pkv_target)
    readme = (tmp_path / "README.md").read_text()
    assert "kmemleak=on" in readme
    # The first scan never finds anything.
    assert readme.count("echo scan > ") == 2
