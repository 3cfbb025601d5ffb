# SPDX-License-Identifier: Apache-2.0
"""Archives of the cache: written, read elsewhere, and refused when something is wrong with them."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fuzzer.archive import reading, writing
from fuzzer.archive.manifest import CACHE, MANIFEST, Manifest, rest_digest, write_head
from fuzzer.archive.reading import Imported, read_archive
from fuzzer.archive.writing import Packing, write_archive
from fuzzer.cache import build_once, list_entries, lookup
from fuzzer.errors import BadInputError, InfrastructureError

KEY, OTHER = "0123456789abcdef", "fedcba9876543210"
BASE = f"base-{KEY}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache."""
    directory = tmp_path / "cache"
    monkeypatch.setenv("PKVFUZZ_CACHE", str(directory))
    return directory


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Return what goes on with another empty cache, and returns it."""

    def move(name: str = "elsewhere") -> Path:
        monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / name))
        return tmp_path / name

    return move


def _kernel(cache: Path) -> tuple[Path, Path]:
    """Return a kernel's build directory and its source, with what make leaves in them."""

    def source(directory: Path) -> None:
        for name in ("Makefile", "include/linux/fs.h", "fs/open.c", "fs/Kconfig", "scripts/a.sh"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(name)
        (directory / "scripts/a.sh").chmod(0o755)
        (directory / "include" / "link.h").symlink_to("linux/fs.h")
        (directory / "include" / "outside").symlink_to("/etc/passwd")

    tree = build_once("source", OTHER, source)

    def build(directory: Path) -> None:
        for name in ("vmlinux", "vmlinux.o", "arch/x86/boot/bzImage", "arch/x86/boot/setup.elf"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(name)
        for name in ("drivers/part.o", "drivers/other.o", ".vmlinux.cmd"):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(name)
        (directory / "include" / "config").mkdir(parents=True)
        (directory / "Makefile").write_text(f"include {tree}/Makefile\n")
        (directory / "source").symlink_to(tree)

    return build_once("kernel-fast", KEY, build), tree


def _base(directory: Path) -> None:
    with (directory / "ram").open("wb") as file:
        file.seek(8 << 20)
        file.write(b"a page")
        file.truncate(64 << 20)


def _packing(*entries: Path, **more: Any) -> Packing:
    return Packing(entries, "8.2", "tcg", "gcc 12", "1", **more)


def _read(path: Path, workdir: Path = Path("work"), digest: str = "") -> Imported:
    return read_archive(path, lambda target: workdir / target, digest)


def _names(directory: Path) -> list[str]:
    found = (path.relative_to(directory).as_posix() for path in directory.rglob("*"))
    return sorted(name for name in found if name != ".complete")


def test_a_kernel_moves_with_what_modules_are_built_with(
    cache: Path, tmp_path: Path, elsewhere: Callable[[str], Path]
) -> None:
    kernel, tree = _kernel(cache)
    archive = tmp_path / "a"
    packing = _packing(kernel, tree, parts=(kernel / "drivers" / "part.o",))
    manifest, digest = write_archive(archive, packing)
    assert manifest.entries == (f"devel-{OTHER}", f"kernel-fast-{KEY}")
    new = elsewhere("b")
    done = _read(archive, digest=digest)
    assert done.added == manifest.entries
    there, devel = new / kernel.name, new / f"devel-{OTHER}"
    assert lookup("kernel-fast", KEY) == there
    assert _names(there) == [
        *("Makefile", "arch", "arch/x86", "arch/x86/boot", "arch/x86/boot/bzImage", "drivers"),
        *("drivers/part.o", "include", "include/config", "source", "vmlinux"),
    ]
    assert f"include {devel}/Makefile" in (there / "Makefile").read_text()
    assert (there / "source").resolve() == devel
    assert _names(devel) == [
        *("Makefile", "fs", "fs/Kconfig", "include", "include/link.h", "include/linux"),
        *("include/linux/fs.h", "scripts", "scripts/a.sh"),
    ]
    assert os.access(devel / "scripts" / "a.sh", os.X_OK)
    assert (devel / "include" / "link.h").read_text() == "include/linux/fs.h"


def test_what_was_imported_can_be_exported_again_and_gives_the_same_bytes(
    cache: Path, tmp_path: Path, elsewhere: Callable[[str], Path]
) -> None:
    kernel, tree = _kernel(cache)
    driver = build_once("driver", KEY, lambda path: (path / "x.ko").touch())
    write_archive(tmp_path / "a", _packing(kernel, tree, driver))
    new = elsewhere("b")
    _read(tmp_path / "a")
    entries = [new / name for name in (driver.name, kernel.name, f"devel-{OTHER}")]
    write_archive(tmp_path / "b.cache", _packing(*entries))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b.cache").read_bytes()


def test_guest_memory_stays_full_of_holes(
    cache: Path, tmp_path: Path, elsewhere: Callable[[str], Path]
) -> None:
    base = build_once("base", KEY, _base)
    write_archive(tmp_path / "a", _packing(base))
    new = elsewhere("b")
    assert (tmp_path / "a").stat().st_size < 64 << 10
    _read(tmp_path / "a")
    assert (new / base.name / "ram").read_bytes() == (base / "ram").read_bytes()
    (entry,) = list_entries()
    assert entry.size < 1 << 20


def test_a_corpus_goes_along_and_what_is_there_stays(
    cache: Path, tmp_path: Path, elsewhere: Callable[[str], Path]
) -> None:
    work = tmp_path / "work"
    for name in ("corpus/one", "corpus/two", "crashes/crash/program.prog", "log"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).write_text(name)
    base = build_once("base", KEY, _base)
    write_archive(tmp_path / "a", _packing(base, workdir=work, target="pkv"))
    elsewhere("b")
    mine = tmp_path / "mine"
    (mine / "pkv" / "corpus").mkdir(parents=True)
    (mine / "pkv" / "corpus" / "one").write_text("my own")
    done = _read(tmp_path / "a", mine)
    assert (done.workdir, done.programs) == (mine / "pkv", 1)
    assert (mine / "pkv" / "corpus" / "one").read_text() == "my own"
    assert (mine / "pkv" / "crashes" / "crash" / "program.prog").is_file()
    assert not (mine / "pkv" / "log").exists()


def test_an_entry_that_is_there_stays(cache: Path, tmp_path: Path) -> None:
    base = build_once("base", KEY, _base)
    write_archive(tmp_path / "a", _packing(base))
    (base / "ram").write_text("mine")
    assert _read(tmp_path / "a").added == ()
    assert (base / "ram").read_text() == "mine"


@pytest.mark.parametrize("at", [60, -10])
def test_a_damaged_archive_changes_nothing(
    cache: Path, tmp_path: Path, elsewhere: Callable[[str], Path], at: int
) -> None:
    write_archive(tmp_path / "a", _packing(build_once("base", KEY, _base)))
    data = bytearray((tmp_path / "a").read_bytes())
    data[at] ^= 1
    (tmp_path / "a").write_bytes(data)
    new = elsewhere("b")
    with pytest.raises(BadInputError, match="is damaged"):
        _read(tmp_path / "a")
    assert not new.exists()


def test_what_is_no_archive_or_another_one_is_refused(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "no").write_bytes(b"PK" * 100)
    with pytest.raises(BadInputError, match="is no file that pkvfuzz cache export wrote"):
        _read(tmp_path / "no")
    _, digest = write_archive(tmp_path / "a", _packing(build_once("base", KEY, _base)))
    with pytest.raises(BadInputError, match=f"its hash is {digest}"):
        _read(tmp_path / "a", digest="00" * 32)


def _forged(
    path: Path, members: list[tarfile.TarInfo], manifest: dict[str, Any] | None = None
) -> None:
    """Write an archive of anything, with the right hash."""
    plain: dict[str, Any] = {
        "entries": (BASE,), "sources": {}, "size": sum(each.size for each in members),
        "files": len(members), "qemu": "", "accel": "", "compiler": "", "pkvfuzz": "",
    }  # fmt: skip
    content = Manifest(**plain | (manifest or {})).to_json()
    packed = io.BytesIO()
    with tarfile.open(mode="w", fileobj=packed) as tar:
        head = tarfile.TarInfo(MANIFEST)
        head.size = len(content)
        tar.addfile(head, io.BytesIO(content))
        for member in members:
            tar.addfile(member, io.BytesIO(bytes(member.size)))
    small = subprocess.run(
        ["zstd", "-q", "-c"], input=packed.getvalue(), capture_output=True, check=True, timeout=20
    ).stdout
    with path.open("w+b") as file:
        write_head(file, bytes(32))
        file.write(small)
        file.seek(0)
        write_head(file, bytes(32))
        digest = rest_digest(file)
        write_head(file, digest)


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


INSIDE = f"{CACHE}/{BASE}"


@pytest.mark.parametrize(
    ("members", "manifest", "told"),
    [
        ([_member("../evil")], {}, "does not belong"),
        ([_member("/etc/evil")], {}, "does not belong"),
        ([_member(f"{INSIDE}/../../evil")], {}, "does not belong"),
        ([_member(f"{CACHE}/base-{OTHER}/ram")], {}, "does not belong"),
        ([_member("workdir/other/x")], {}, "does not belong"),
        ([_member(f"{INSIDE}/a", tarfile.SYMTYPE, "/etc")], {}, "is a link to '/etc'"),
        ([_member(f"{INSIDE}/a", tarfile.SYMTYPE, "../../x")], {}, "is a link to"),
        ([_member(f"{INSIDE}/a/b", tarfile.SYMTYPE, "../../x")], {}, "is a link to"),
        ([_member(f"{INSIDE}/a", tarfile.LNKTYPE, f"{INSIDE}/b")], {}, "neither a file nor"),
        ([_member(f"{INSIDE}/a", tarfile.CHRTYPE)], {}, "neither a file nor"),
        ([_member(f"{INSIDE}/a", tarfile.FIFOTYPE)], {}, "neither a file nor"),
        ([_member(f"{INSIDE}/a", size=5)], {"size": 4}, "more than it says"),
        ([_member(f"{INSIDE}/a"), _member(f"{INSIDE}/b")], {"files": 1}, "more than it says"),
        ([_member(f"{INSIDE}/a")], {"files": 2}, "less than it says"),
        ([_member(f"{INSIDE}/a")], {"size": 1 << 60}, "more than 16 GiB"),
        ([_member(f"{INSIDE}/a")], {"entries": (f"venv-{KEY}",)}, "no entry of a cache"),
        ([_member(f"{INSIDE}/a")], {"entries": ("base-x/../y",)}, "no entry of a cache"),
        ([_member(f"{INSIDE}/a")], {"sources": {BASE: "/etc"}}, "as the source of"),
    ],
)
def test_what_does_not_belong_into_a_cache_is_refused(
    cache: Path, tmp_path: Path, members: list[Any], manifest: dict[str, Any], told: str
) -> None:
    _forged(tmp_path / "a", members, manifest)
    with pytest.raises(BadInputError, match=told):
        _read(tmp_path / "a")
    assert [path for path in cache.rglob("*") if path.name != ".lock"] == []
    assert not (tmp_path / "evil").exists()


def test_nothing_is_written_through_a_link(cache: Path, tmp_path: Path) -> None:
    members = [_member(f"{INSIDE}/a", tarfile.SYMTYPE, "b"), _member(f"{INSIDE}/a/c", size=3)]
    _forged(tmp_path / "x", members)
    # Files are there before links, so the name is taken.
    with pytest.raises(InfrastructureError, match="File exists"):
        _read(tmp_path / "x")
    assert lookup("base", KEY) is None


def test_a_full_disk_is_told_and_leaves_nothing(
    cache: Path,
    tmp_path: Path,
    elsewhere: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_archive(tmp_path / "a", _packing(build_once("base", KEY, _base)))

    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    new = elsewhere("b")
    monkeypatch.setattr(reading, "_copy_sparse", full)
    with pytest.raises(InfrastructureError, match="is full; nothing was imported"):
        _read(tmp_path / "a")
    assert list(new.iterdir()) == []
    monkeypatch.setattr(writing, "_write_members", full)
    before = (tmp_path / "a").read_bytes()
    with pytest.raises(InfrastructureError, match="the disk is full"):
        write_archive(tmp_path / "a", _packing(cache / BASE))
    assert (tmp_path / "a").read_bytes() == before
    assert not list(tmp_path.glob(".a.*"))
