# SPDX-License-Identifier: Apache-2.0
"""The headers beside a stored program in C: all that it takes to compile it, in one directory."""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Sequence
from pathlib import Path

from fuzzer.crash.bundle import write_bundle
from fuzzer.crash.headers import stored_headers
from fuzzer.program.ops import Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode
from fuzzer.target.target import Target, load_target
from tests.unit.test_store import crash
from tests.unit.toy_kernel import write_files

_DESCRIPTION = """\
version: 1
name: toy
device: /dev/toy
module: {source: ., name: toy}
header: HEADER
include: INCLUDE
calls:
  - ioctl: TOY_SET
    struct: toy_set
"""
_SET = "#define TOY_SET _IOW('t', 1, struct toy_set)\n"
_STRUCT = "struct toy_set { unsigned int n; };\n"
_SYSTEM = "#include <linux/ioctl.h>\n"


def made(
    directory: Path, files: dict[str, str], headers: str, include: Sequence[str] = ()
) -> Target:
    """Return the target of a description in ``directory/drv``."""
    text = _DESCRIPTION.replace("HEADER", headers).replace("INCLUDE", f"[{', '.join(include)}]")
    write_files(directory / "drv", {"toy.yaml": text, **files})
    return load_target(directory / "drv" / "toy.yaml")


def bundled(target: Target, directory: Path, *, load: bool = False) -> dict[str, str]:
    """Return what is stored of a crash, after compiling it with nothing but its directory."""
    directory.mkdir()
    calls = [Call(Op.IOCTL, cmd=target.constants["TOY_SET"], data=bytes(4))]
    if load:
        calls = [Call(Op.CLOSE), Call(Op.UNLOAD), Call(Op.LOAD), Call(Op.OPEN), *calls]
    write_bundle(directory, crash(program=encode(tuple(calls)), history=()), target)
    command = ["cc", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "repro.c"]
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=60, check=False
    )
    assert not done.returncode, done.stderr
    assert "struct toy_set" in (directory / "repro.c").read_text()
    files = [path for path in directory.rglob("*") if path.is_file()]
    return {str(path.relative_to(directory)): path.read_text() for path in files}


def test_what_a_header_includes_is_stored_wherever_it_is(tmp_path: Path) -> None:
    files = {
        "uapi/toy.h": f'{_SYSTEM}#include "../common/base.h"\n# include <toy/more.h>\n{_SET}',
        "common/base.h": '#include "deep/base.h"\n',
        "common/deep/base.h": '#pragma once\n#include "../base.h"\n#define DEEP 1\n',
        "inc/toy/more.h": f'#include "inner.h" /* beside it */\n{_STRUCT}',
        "inc/toy/inner.h": "#ifndef DEEP\n#error DEEP\n#endif\n",
        "inc/toy/unused.h": "",
    }
    target = made(tmp_path, files, "uapi/toy.h", ["inc"])
    stored = bundled(target, tmp_path / "crash")
    beside = {name for name in stored if name.endswith(".h") and "/" not in name}
    assert beside == {"toy.h", "base.h", "base-2.h", "more.h", "inner.h"}
    assert stored["toy.h"] == f'{_SYSTEM}#include "base.h"\n# include "more.h"\n{_SET}'
    # The description finds what it names.
    assert stored["uapi/toy.h"] == files["uapi/toy.h"]
    assert stored["common/deep/base.h"] == files["common/deep/base.h"]
    assert "MODULE.ko" in bundled(target, tmp_path / "load", load=True)["repro.c"]


def test_a_path_does_not_leave_the_directory(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("#define SECRET 1\n")
    (tmp_path / "above.h").write_text(_STRUCT)
    files = {
        "toy.h": f'{_SYSTEM}#include "../above.h"\n#include "../secret"\n'
        f'#include "{secret}"\n#include "link.h"\n{_SET}',
    }
    (tmp_path / "drv").mkdir()
    (tmp_path / "drv" / "link.h").symlink_to(secret)
    target = made(tmp_path, files, "../drv/toy.h", [".."])
    stored = {header.name: header.text for header in stored_headers(target)}
    assert stored.keys() == {"toy.h", "above.h"}
    assert b'#include "above.h"\n#include "../secret"\n' in stored["toy.h"]
    write_files(tmp_path / "drv", {"toy.h": f'{_SYSTEM}#include "../above.h"\n{_SET}'})
    before = {*tmp_path.rglob("*")}
    kept = bundled(load_target(target.path), tmp_path / "store")
    new = {*tmp_path.rglob("*")} - before
    assert all(path.is_relative_to(tmp_path / "store") for path in new)
    assert kept["above.h"] == _STRUCT


def test_headers_of_one_name_are_both_stored(tmp_path: Path) -> None:
    files = {"a/toy.h": _SYSTEM + _STRUCT, "b/toy.h": _SET, "repro.c": "", "toy.h": "#define T 1\n"}
    target = made(tmp_path, files, "[a/toy.h, b/toy.h, repro.c, toy.h]")
    stored = bundled(target, tmp_path / "crash")
    assert stored["toy.h"] == "#define T 1\n"
    assert {"toy-2.h", "toy-3.h", "repro-2.c"} < set(stored)
    included = [line for line in stored["repro.c"].splitlines() if line.startswith('#include "')]
    names = ["toy-2.h", "toy-3.h", "repro-2.c", "toy.h"]
    assert included == [f'#include "{name}"' for name in names]


def test_a_header_that_has_gone_keeps_no_crash_from_being_stored(tmp_path: Path) -> None:
    target = made(tmp_path, {"toy.h": _SYSTEM + _STRUCT + _SET}, "toy.h")
    (tmp_path / "drv" / "toy.h").unlink()
    gone = dataclasses.replace(target, include=(tmp_path / "nowhere",))
    (tmp_path / "crash").mkdir()
    write_bundle(tmp_path / "crash", crash(history=()), gone)
    assert '#include "toy.h"' in (tmp_path / "crash" / "repro.c").read_text()
