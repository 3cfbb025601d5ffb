# SPDX-License-Identifier: Apache-2.0
"""Wrong usage and damaged files: exit code 2, a message that helps, no traceback."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.pkvfuzz_process import COMMAND, ROOT, environment, pkvfuzz


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "COMMAND"),
        (("frobnicate",), "invalid choice"),
        (("run", "--time", "soon"), "allowed are 90, 90s"),
        (("run", "--vms", "0"), "above 0"),
        (("run", "--time", "5s", "--programs", "5"), "exclude each other"),
        (("run", "--bug", "no-such-bug"), "stale-last"),
        (("run", "--target", "nowhere.yaml"), "nowhere.yaml"),
        (("run", "--accel", "warp"), "auto, kvm and tcg"),
        (("run", "--kernel-build", "nowhere"), "no such directory"),
        (("run", "--kernel-build", "."), "missing"),
        (("run", "--kernel-source", "."), "not a kernel source tree"),
        (("run", "--seeds", "nowhere"), "not a directory"),
        (("run", "--known", "nowhere"), "no such directory"),
        (("replay", "nowhere"), "no such file"),
        (("replay", "."), "crash.json is missing"),
        (("replay", "x", "--times", "none"), "above 0"),
        (("convert", "nowhere.prog"), "nowhere.prog"),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_is_allowed(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    done = pkvfuzz(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert words in done.stderr


def test_a_broken_description_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("version: 1\nname: x\ncalls: [\n")
    done = pkvfuzz("run", "--target", "broken.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "broken.yaml:" in done.stderr


def test_a_seed_that_cannot_be_parsed_is_told_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "seeds").mkdir()
    (tmp_path / "seeds" / "bad.prog").write_text('write(f0, "a=1\\n")\nexplode(f0)\n')
    done = pkvfuzz("run", "--seeds", "seeds", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.prog:2" in done.stderr


def test_a_damaged_crash_is_told(tmp_path: Path) -> None:
    (tmp_path / "crash.json").write_text('{"format": 1, "title": "x"')
    done = pkvfuzz("replay", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert "damaged" in done.stderr


def test_a_working_directory_of_another_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "campaign.json").write_text(
        json.dumps({"format": 1, "target": "other", "bug": None})
    )
    done = pkvfuzz("run", "--workdir", "w", "--programs", 10, cwd=tmp_path)
    assert done.returncode == 2
    assert "--workdir" in done.stderr


def test_a_driver_that_does_not_compile_shows_the_compilers_words(tmp_path: Path) -> None:
    for path in (ROOT / "module").glob("*"):
        if path.is_file():
            shutil.copy(path, tmp_path)
    with (tmp_path / "pkv_main.c").open("a") as file:
        file.write("int broken(void) { return nothing_of_that_name; }\n")
    done = pkvfuzz("run", "--target", "pkv.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert "nothing_of_that_name" in done.stderr


def test_closed_standard_files_are_no_matter(tmp_path: Path) -> None:
    crash = ROOT / "crashes" / "kasan-slab-use-after-free-read-in-pkv-store-last"
    shell = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *COMMAND, "replay", str(crash)]
    done = subprocess.run(
        shell, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, timeout=600, check=False
    )
    assert b"still crashes" in done.stdout
    assert done.returncode == 1
