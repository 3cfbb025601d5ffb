# SPDX-License-Identifier: Apache-2.0
"""Shell completion: bash is asked what it offers, as a Tab asks it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuzzer.cli.commands import COMMANDS
from fuzzer.cli.completion import completion_script

# What bash sets when Tab is typed; compopt works in a real completion alone.
_ASK = """
compopt() { :; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_pkvfuzz
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "ask.bash"
    path.write_text(completion_script("bash") + _ASK)
    return path


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a directory with a description, a program, modules and a directory in it."""
    for name in ("x.yaml", "x.yml", "x.prog", "x.ko", "x.json", "x.txt"):
        (tmp_path / name).touch()
    (tmp_path / "xdir").mkdir()
    return tmp_path


def _offers(script: Path, directory: Path, *words: str) -> set[str]:
    done = subprocess.run(
        ["bash", str(script), "pkvfuzz", *words],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert not done.stderr
    return set(done.stdout.split())


def test_each_command_is_offered_by_its_first_word(script: Path, tmp_path: Path) -> None:
    assert _offers(script, tmp_path, "") == {command.name.split()[0] for command in COMMANDS}
    assert _offers(script, tmp_path, "tri") == {"triage"}


def test_second_words_are_offered_after_the_first(script: Path, tmp_path: Path) -> None:
    assert _offers(script, tmp_path, "bench", "") == {"bugs"}
    assert "merge" in _offers(script, tmp_path, "corpus", "")


@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        (("run", "--ti"), {"--time"}, {"--times"}),
        (("replay", "--ti"), {"--times"}, {"--time"}),
        (("bench", "--"), {"--json"}, {"--plot"}),
        (("bench", "bugs", "--"), {"--json", "--plot"}, {"--trace"}),
        (("run", "--kernel", ""), {"fast", "full", "kcsan"}, {"x.yaml"}),
        (("run", "--accel", ""), {"auto", "kvm", "tcg"}, {"x.yaml"}),
        (("run", "--target", "x"), {"x.yaml", "x.yml", "xdir"}, {"x.prog", "x.txt"}),
        (("run", "--known", "x"), {"xdir"}, {"x.yaml"}),
        (("replay", "x"), {"x.prog", "xdir"}, {"x.txt", "x.yaml"}),
        (("replay", "--leaks", "x"), {"x.prog", "xdir"}, {"x.txt"}),
        (("triage", "--module", "x"), {"x.ko", "xdir"}, {"x.txt"}),
        (("triage", "x"), {"x.txt", "x.ko", "xdir"}, set()),
        (("corpus", "merge", "x"), {"xdir"}, {"x.txt"}),
        (("kernel", "--path", "k"), {"kcsan"}, {"fast"}),
    ],
)
def test_options_values_and_files_of_the_right_kind_are_offered(
    script: Path, files: Path, words: tuple[str, ...], offered: set[str], not_offered: set[str]
) -> None:
    found = _offers(script, files, *words)
    assert offered <= found
    assert not not_offered & found


def test_a_directory_may_stand_where_a_second_word_may(script: Path) -> None:
    # ``corpus WORKDIR``: bash falls back to files.
    assert "complete -o bashdefault -o default -F _shtab_pkvfuzz pkvfuzz" in script.read_text()


@pytest.mark.parametrize(("shell", "start"), [("zsh", "#compdef pkvfuzz\n"), ("fish", "#")])
def test_other_shells_have_a_script_with_all_commands(shell: str, start: str) -> None:
    script = completion_script(shell)
    assert script.startswith(start)
    for command in COMMANDS:
        assert command.name.split()[-1] in script
    # Of one pattern in parentheses zsh makes a qualifier.
    assert "'(*.prog)'" not in script
