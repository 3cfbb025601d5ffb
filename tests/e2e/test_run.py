# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz run`` and ``replay``, from the command line to the stored crash."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pexpect
import pytest

from fuzzer.campaign.subject import symbols_for
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel
from fuzzer.target.calls import IoctlSpec
from fuzzer.target.target import load_target
from tests.e2e.pkvfuzz_process import COMMAND, ROOT, environment, pkvfuzz

STALE_READ = "KASAN: slab-use-after-free Read in pkv_store_last"


@pytest.fixture(scope="module")
def stale_last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished campaign against the driver with the planted use-after-free."""
    cwd = tmp_path_factory.mktemp("stale-last")
    done = pkvfuzz("run", "--bug", "stale-last", "--programs", 10000, "--seed", 1, cwd=cwd)
    assert done.returncode == 1, done.stdout + done.stderr
    assert STALE_READ in done.stdout
    return cwd


def crash_directory(cwd: Path) -> Path:
    for record in (cwd / "work" / "pkv-stale-last" / "crashes").glob("*/crash.json"):
        if json.loads(record.read_text())["title"] == STALE_READ:
            return record.parent
    raise AssertionError("the crash was not stored")


def test_a_planted_use_after_free_is_found_judged_on_full_and_stored(stale_last: Path) -> None:
    directory = crash_directory(stale_last)
    record = json.loads((directory / "crash.json").read_text())
    assert (record["reproduced"], record["runs"]) == (3, 3)
    assert record["judged_on"] == "full"
    assert record["sightings"] >= 1
    assert record["identity"]["bug"] == "stale-last"
    assert record["identity"]["description"] == "module/pkv.yaml"
    report = (directory / "report.txt").read_text()
    assert "BUG: KASAN: slab-use-after-free in pkv_store_last" in report
    assert "Freed by task" in report
    text = (directory / "program.prog").read_text()
    assert "write(f0" in text
    assert "PKV_IOC_DELETE" in text
    # The raw log of the run is one that triage reads, and shows what is stored.
    done = pkvfuzz("triage", directory / "log.txt", cwd=stale_last)
    assert done.returncode == 1
    assert STALE_READ in done.stdout
    release = record["identity"]["release"]
    assert re.fullmatch(r"\d+\.\d+\S*", release)
    assert f"| kernel | {release} (full " in (directory / "README.md").read_text()


def test_a_stored_crash_replays_every_time(stale_last: Path) -> None:
    done = pkvfuzz("replay", crash_directory(stale_last), "--times", 5, cwd=stale_last)
    assert done.returncode == 1
    assert f"reproduced 5 of 5: {STALE_READ}" in done.stdout
    assert "verdict: still crashes" in done.stdout
    assert "Call Trace:" in done.stdout


def test_a_crash_does_not_reproduce_on_the_shipped_driver(stale_last: Path) -> None:
    program = crash_directory(stale_last) / "program.prog"
    done = pkvfuzz("replay", program, "--times", 2, cwd=stale_last)
    assert done.returncode == 0, done.stdout
    assert "not reproduced in 2 runs" in done.stdout


def test_a_finished_campaign_can_be_resumed_and_keeps_its_crashes(stale_last: Path) -> None:
    done = pkvfuzz("run", "--bug", "stale-last", "--programs", 300, "--seed", 4, cwd=stale_last)
    assert done.returncode == 1
    assert STALE_READ in done.stdout


def test_a_crash_that_is_known_is_said_to_be_and_does_not_count(stale_last: Path) -> None:
    # Another working directory; what the first one holds is known.
    stored = stale_last / "work" / "pkv-stale-last" / "crashes"
    run = ("run", "--bug", "stale-last", "--programs", 3000, "--seed", 3, "--workdir", "again")
    done = pkvfuzz(*run, "--known", stored, cwd=stale_last)
    assert STALE_READ in done.stdout
    assert "known: work/pkv-stale-last/crashes/kasan-" in done.stdout
    known = [json.loads(each.read_text()) for each in stored.glob("*/crash.json")]
    # A bug may have several titles.
    titles = {title for each in known for title in (each["title"], *each["sighted_as"])}
    found = (stale_last / "again" / "crashes").glob("*/crash.json")
    new = [each for each in found if json.loads(each.read_text())["title"] not in titles]
    assert done.returncode == bool(new), done.stdout + done.stderr
    assert f"{len(new)} of them new" in done.stdout


def test_the_shipped_driver_is_clean_and_coverage_is_told(tmp_path: Path) -> None:
    done = pkvfuzz("run", "--programs", 8000, "--seed", 1, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no crash" in done.stdout
    match = re.search(r"(\d+) of (\d+) blocks", done.stdout)
    assert match
    covered, total = map(int, match.groups())
    assert 0.6 * total < covered <= total


def test_the_same_seed_keeps_the_same_programs(tmp_path: Path) -> None:
    # Not those that load the module with a time to live: what the driver does
    # by the clock differs from run to run.
    command = ("run", "--programs", 3000, "--seed", 7, "--vms", 1, "--no-lifecycle")
    kept = []
    for name in ("first", "second"):
        done = pkvfuzz(*command, "--workdir", name, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        kept.append(sorted(path.name for path in (tmp_path / name / "corpus").iterdir()))
    assert kept[0] == kept[1]
    assert len(kept[0]) > 20


def test_two_machines_share_one_corpus(tmp_path: Path) -> None:
    done = pkvfuzz("run", "--programs", 2000, "--seed", 1, "--vms", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 VMs" in done.stderr


def test_without_a_kvm_device_it_works_and_says_so(tmp_path: Path) -> None:
    done = pkvfuzz("run", "--programs", 200, cwd=tmp_path, PKVFUZZ_KVM_DEVICE="/nonexistent/kvm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "/nonexistent/kvm does not exist" in done.stderr
    assert "using tcg" in done.stderr


def test_a_kernel_built_elsewhere_is_used_as_it_is(tmp_path: Path) -> None:
    done = pkvfuzz(
        "run",
        "--kernel-build",
        ensure_kernel(Flavour.FAST).directory,
        "--programs",
        200,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of fuzzing: 200 programs" in done.stdout


def test_the_stored_crashes_still_reproduce(tmp_path: Path) -> None:
    stored = sorted(path.parent for path in (ROOT / "crashes").glob("*/crash.json"))
    assert stored
    for original in stored:
        # From a copy elsewhere: what it takes is in the directory and the project.
        directory = tmp_path / original.name
        shutil.copytree(original, directory)
        done = pkvfuzz("replay", directory.name, cwd=tmp_path)
        assert done.returncode == 1, f"{directory}: {done.stdout}{done.stderr}"
        assert "reproduced 1 of 1" in done.stdout


def test_a_shell_has_the_device(tmp_path: Path) -> None:
    child = pexpect.spawn(
        COMMAND[0],
        [*COMMAND[1:], "shell", "--kernel", "fast"],
        cwd=str(tmp_path),
        env=environment(),
        timeout=60,
    )
    child.expect_exact("/ #")
    child.sendline("echo key=found > /dev/pkv; cat /dev/pkv")
    child.expect(r"\r\nfound")
    child.send("\x1d")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    # Through a pipe: more than a console takes at once, and a file beside it.
    content = os.urandom(3_000_000)
    (tmp_path / "tool").write_text("#!/bin/sh\nmd5sum; cat /tmp/second | wc -c\nexit 7\n")
    (tmp_path / "tool").chmod(0o755)
    (tmp_path / "second").write_bytes(bytes(9_000_000))
    command = [*COMMAND, "shell", "--kernel", "fast", "--put", "tool:/opt/", "--put", "second"]
    done = subprocess.run(
        [*command, "--", "/opt/tool"],
        cwd=tmp_path,
        env=environment(),
        input=content,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    assert done.stdout.decode() == f"{digest}  -\n9000000\n"
    said = done.stderr.decode()
    assert "pkv is loaded from /tmp/pkv.ko on the fast kernel" in said
    assert "exit status 7; the kernel reported nothing" in said


def test_the_readme_of_a_crash_says_how_its_c_program_shows_it(tmp_path: Path) -> None:
    stored = ROOT / "crashes" / "possible-deadlock-in-pkv-mutex-read-begin"
    shutil.copytree(stored, tmp_path / "DIRECTORY")
    readme = (stored / "README.md").read_text()
    compile_it, run_it = re.findall(r"^    (cc .*|\./pkvfuzz shell .*)$", readme, re.MULTILINE)
    subprocess.run(compile_it.split(), cwd=tmp_path / "DIRECTORY", check=True, timeout=60)
    done = pkvfuzz(*run_it.split()[1:], cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert f"the kernel reported: {readme.splitlines()[0][2:]}\n" in done.stderr
    assert "WARNING: possible circular locking dependency" in done.stdout


def test_a_seed_program_converts_to_wire_and_back(tmp_path: Path) -> None:
    source = ROOT / "seeds" / "pkv" / "two-files.prog"
    assert pkvfuzz("convert", source, "-o", "wire", cwd=tmp_path).returncode == 0
    text = pkvfuzz("convert", "wire", cwd=tmp_path).stdout
    (tmp_path / "again.prog").write_text(text)
    assert pkvfuzz("convert", "again.prog", "-o", "wire2", cwd=tmp_path).returncode == 0
    assert (tmp_path / "wire").read_bytes() == (tmp_path / "wire2").read_bytes()


def test_a_driver_without_a_description_is_fuzzed_and_described(tmp_path: Path) -> None:
    module = ROOT / "tests" / "drivers" / "cmdp"
    done = pkvfuzz(
        *("run", "--device", "/dev/cmdp", "--module", module, "--programs", 12000, "--seed", 1),
        *("--workdir", tmp_path),
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    match = re.search(r"(\d+) of (\d+) blocks", done.stdout)
    assert match
    covered, total = map(int, match.groups())
    assert covered > 0.35 * total
    learned = load_target(tmp_path / "learned.yaml", symbols_for(KernelOptions()))
    numbers = {spec.number for spec in learned.calls if isinstance(spec, IoctlSpec)}
    described = load_target(module / "cmdp.yaml")
    assert {s.number for s in described.calls if isinstance(s, IoctlSpec)} <= numbers
