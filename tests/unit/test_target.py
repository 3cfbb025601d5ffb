# SPDX-License-Identifier: Apache-2.0
"""A target description that is right."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.paths import project_root
from fuzzer.sandbox import Sandbox
from fuzzer.target.calls import (
    CallTemplate,
    CreateSpec,
    FileKind,
    IoctlSpec,
    LenField,
    PlainKind,
    PlainSpec,
    PointerField,
    PoolField,
    PoolRef,
    RangeField,
    ReadSpec,
    ValuesField,
    WriteSpec,
)
from fuzzer.target.target import ModuleSpec, ResetKind, Target, load_target, with_params

DEMO = Path(__file__).parent / "data" / "demo" / "demo.yaml"


@pytest.fixture(scope="module")
def target() -> Target:
    return load_target(DEMO)


def test_plain_facts_are_read(target: Target) -> None:
    assert (target.name, target.device, target.call_timeout_ms) == ("demo", "/dev/demo", 250)
    assert target.path == DEMO
    assert target.headers == (DEMO.parent / "demo.h",)
    assert target.module == ModuleSpec(DEMO.parent, None, "demo", "slots=4")
    assert target.pools["key"] == (b"a", b"b", b"key0", b"\xff\x00")
    assert target.pools["value"] == (b"", b"1", b"hello")


def test_macros_have_the_values_the_compiler_gives_them(target: Target) -> None:
    assert target.constants["DEMO_IOC_CLEAR"] == ord("d") << 8
    assert target.constants["DEMO_IOC_DELETE"] == 1 << 30 | 20 << 16 | ord("d") << 8 | 1
    assert target.constants["DEMO_F_DEEP"] == 1 << 31
    assert target.constants["DEMO_COLD"] == -1


def test_macros_of_reset_calls_are_known_too(target: Target) -> None:
    assert target.reset.kind is ResetKind.CALLS
    assert target.reset.lines[1] == "ioctl(f0, DEMO_IOC_SEEN, 1)"
    assert target.constants["DEMO_IOC_SEEN"] == ord("d") << 8 | 3


def test_templates_have_pools_and_literal_braces(target: Target) -> None:
    key, value = PoolRef("key"), PoolRef("value")
    assert target.calls[0] == WriteSpec(
        (CallTemplate((key, b"=", value, b"\n")), CallTemplate((b"{", key, b"}\n"))), False, 4
    )


def test_counts_and_plain_calls_are_read(target: Target) -> None:
    assert target.calls[1] == ReadSpec((0, 1, 64, 4096), False)
    assert target.calls[2] == ReadSpec((64,), True)
    plain = {call.kind for call in target.calls if isinstance(call, PlainSpec)}
    assert plain == {PlainKind(name) for name in ("open", "close", "lseek", "poll", "mmap")}


def test_each_plain_call_can_be_named_and_so_can_files_to_create(tmp_path: Path) -> None:
    calls = "".join(f"  - {kind.value}: true\n" for kind in PlainKind)
    path = tmp_path / "x.yaml"
    (tmp_path / "x.ko").write_bytes(b"")
    path.write_text(
        "version: 1\nname: x\ndevice: /dev/x\nmodule: {object: x.ko, name: x}\n"
        f"calls:\n{calls}  - create: [eventfd, memfd]\n"
    )
    *plain, created = load_target(path).calls
    assert plain == [PlainSpec(kind) for kind in PlainKind]
    assert created == CreateSpec((FileKind.EVENTFD, FileKind.MEMFD))
    path.write_text(path.read_text().replace("memfd", "memory"))
    with pytest.raises(BadInputError, match="no kind of file 'memory'; allowed: eventfd"):
        load_target(path)


def test_ioctl_fields_are_read_with_macros_resolved(target: Target) -> None:
    delete, listing, clear, scalar = [c for c in target.calls if isinstance(c, IoctlSpec)]
    assert delete.fields == (PoolField("key", "key"), LenField("key_len", "key"))
    assert delete.struct == target.structs["demo_delete"]
    assert listing.fields == (
        PointerField("buf", 256),
        LenField("size", "buf"),
        ValuesField("flags", (0, 1, 1 << 31)),
        RangeField("delta", -1, 16),
        ValuesField("reserved", (0,)),
    )
    assert (clear.name, clear.struct, clear.values) == ("DEMO_IOC_CLEAR", None, (0,))
    assert (scalar.name, scalar.number, scalar.values) == (None, 0x6404, (0, 7, 1 << 31))


def test_a_target_can_be_sent_to_a_worker_process(target: Target) -> None:
    assert pickle.loads(pickle.dumps(target)) == target  # noqa: S301 - our own bytes


def test_the_compiler_runs_once(monkeypatch: pytest.MonkeyPatch) -> None:
    capture, commands = Sandbox.capture, []

    def counted(
        sandbox: Sandbox, argv: list[str], cwd: Path, timeout: float
    ) -> subprocess.CompletedProcess[bytes]:
        commands.append(argv)
        return capture(sandbox, argv, cwd, timeout)

    monkeypatch.setattr(Sandbox, "capture", counted)
    load_target(DEMO)
    assert [command[0] for command in commands] == ["gcc"]


def test_without_gcc_the_package_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(InfrastructureError, match="install gcc"):
        load_target(DEMO)


def test_a_target_without_header_and_reset(tmp_path: Path) -> None:
    (tmp_path / "x.ko").write_bytes(b"")
    path = tmp_path / "x.yaml"
    (tmp_path / "x.ko").write_bytes(b"")
    path.write_text(
        "version: 1\nname: x\ndevice: /dev/x\nmodule: {object: x.ko, name: x}\n"
        "pools: {p: [!!binary AP8=, é, '€']}\n"
        "calls: [{ioctl: 0x10, value: [8]}, {write: ['{p}']}]\n"
    )
    target = load_target(path)
    assert target.module == ModuleSpec(None, tmp_path / "x.ko", "x", "")
    assert target.reset.kind is ResetKind.NONE
    assert target.pools["p"] == (b"\x00\xff", b"\xe9", "€".encode())
    assert target.calls[0] == IoctlSpec(None, 0x10, values=(8,))


@pytest.mark.parametrize("kind", [ResetKind.RELOAD, ResetKind.RESTORE])
def test_other_resets(tmp_path: Path, kind: ResetKind) -> None:
    shutil.copytree(DEMO.parent, tmp_path / "demo")
    path = tmp_path / "demo" / "demo.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("reset:")] + f"reset: {{{kind.value}: true}}\n")
    assert load_target(path).reset.kind is kind


def test_the_shipped_description_loads() -> None:
    target = load_target(project_root() / "module" / "pkv.yaml")
    assert target.device == "/dev/pkv"
    assert {"PKV_IOC_DELETE", "PKV_IOC_LIST"} <= target.constants.keys()


def test_parameters_can_be_replaced(pkv_target: Target) -> None:
    assert with_params(pkv_target, "lock=rcu").module.params == "lock=rcu"


def test_parameters_the_kernel_cannot_be_handed_are_refused(pkv_target: Target) -> None:
    with pytest.raises(BadInputError, match="printable"):
        with_params(pkv_target, "lock=rcu\n")


def _builtin(tmp_path: Path, module: str) -> Path:
    path = tmp_path / "x.yaml"
    path.write_text(
        f"version: 1\nname: x\ndevice: /dev/x\nmodule: {module}\ncalls: [{{read: [1]}}]\n"
    )
    return path


def test_a_driver_of_the_kernels_own_tree(tmp_path: Path) -> None:
    text = "{builtin: [drivers/char/x.c, drivers/char/x-sub.c], config: [X=y, N_X=16], name: x}"
    target = load_target(_builtin(tmp_path, text))
    assert target.module == ModuleSpec(
        None, None, "x", "", ("drivers/char/x.c", "drivers/char/x-sub.c"), ("X=y", "N_X=16")
    )
    with pytest.raises(BadInputError, match="built into the kernel and takes no --params"):
        with_params(target, "a=1")


def test_any_kind_of_module_may_need_options_of_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "Kbuild").touch()
    (tmp_path / "x.ko").touch()
    for kind in ("source: .", "object: x.ko", "builtin: [x.c]"):
        target = load_target(_builtin(tmp_path, f"{{{kind}, config: [X=y, N_X=16], name: x}}"))
        assert target.module.config == ("X=y", "N_X=16")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("{builtin: [../x.c], name: x}", r"an entry of builtin is '../x.c'"),
        ("{builtin: [/x.c], name: x}", r"an entry of builtin is '/x.c'"),
        ("{builtin: [x.o], name: x}", r"a .c file of the kernel's tree is allowed"),
        ("{builtin: [x.c], config: [X], name: x}", r"NAME=y, without CONFIG_, is allowed"),
        ('{builtin: [x.c], config: ["X=$(id)"], name: x}', r"NAME=y"),
        ("{builtin: [x.c], params: a=1, name: x}", r"'params' goes without 'builtin'"),
        ("{builtin: [x.c], object: x.ko, name: x}", r"exactly one of"),
        ("{builtin: [x.c], needs: [y], name: x}", r"'needs' goes with 'source' only"),
    ],
)
def test_what_a_builtin_driver_cannot_be(tmp_path: Path, module: str, message: str) -> None:
    with pytest.raises(BadInputError, match=message):
        load_target(_builtin(tmp_path, module))
