# SPDX-License-Identifier: Apache-2.0
"""Tables of operations, read from objects that are compiled here, with structs of our own."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fuzzer.driver.blocks import read_blocks
from fuzzer.driver.imports import files_taken, looks_at_callers, read_imports
from fuzzer.driver.operations import OperationTable, operation_names, read_operations
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.target.calls import FileKind
from tests.unit.toy_kernel import write_files

_MAKEFILE = "%.o:\n\tgcc -c -Iinclude -o $(M)/$@ $(M)/$*.c\n"


def struct(name: str, members: Sequence[str]) -> str:
    """Return a struct of functions, with a member in front that is none."""
    functions = ", ".join(f"(*{each})(void)" for each in members)
    return f"struct {name} {{ void *owner; void {functions}; }};\n"


# Sizes differ, and orders are not those of the kernel.
_FILE = [
    "open",
    "unlocked_ioctl",
    "compat_ioctl",
    "mmap",
    "poll",
    "llseek",
    "read_iter",
    "write_iter",
]
_FILE += ["release", "read", "write", "fasync", "check_flags", "lock", "setlease", "flock"]
_FILE += ["fsync", "iterate_shared", "show_fdinfo", "splice_read", "splice_write", "flush"]
_FILE += ["uring_cmd"]
_V4L2 = ["read", "write", "poll", "unlocked_ioctl", "mmap", "open"]
_PROC = [
    f"proc_{each}" for each in ("lseek", "read", "read_iter", "write", "poll", "ioctl", "mmap")
]
_PROC += ["proc_open", "proc_release"]
_HEADERS = {
    "include/linux/fs.h": struct("file_operations", _FILE),
    "include/linux/proc_fs.h": struct("proc_ops", _PROC),
    "include/media/v4l2-dev.h": struct("v4l2_file_operations", _V4L2),
    "include/uapi/linux/io_uring.h": "#define IORING_SETUP_SQE128 1024\n",
    "include/linux/module.h": "#define offsetof __builtin_offsetof\n#define MODULE_LICENSE(x)\n",
}
_START = """\
#include <linux/fs.h>
#include <linux/proc_fs.h>
#include <media/v4l2-dev.h>
extern void elsewhere(void);
static void here(void) {}
static int number;
"""


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel that has the structs."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    directory = write_files(tmp_path / "kernel", {"Makefile": _MAKEFILE, **_HEADERS})
    return Kernel(Flavour.FAST, directory, directory, "key")


def compiled(kernel: Kernel, text: str, *flags: str) -> Path:
    path = kernel.directory.parent / "x.ko"
    command = ["gcc", "-c", "-x", "c", "-", "-o", str(path), f"-I{kernel.directory}/include"]
    subprocess.run([*command, *flags], input=_START + text, text=True, check=True, timeout=60)
    return path


def tables(kernel: Kernel, text: str, *flags: str) -> Mapping[str, tuple[str, set[str]]]:
    found = read_operations(compiled(kernel, text, *flags), kernel)
    assert [table.name for table in found] == sorted(table.name for table in found)
    return {table.name: (table.struct, set(table.operations)) for table in found}


@pytest.mark.parametrize("flags", [(), ("-fdata-sections",), ("-O2", "-fno-pic")])
def test_tables_are_read_with_what_is_filled_in(kernel: Kernel, flags: Sequence[str]) -> None:
    text = """\
        const struct file_operations first = {
            .owner = &number, .read = here, .unlocked_ioctl = here, .release = here,
        };
        static struct file_operations second __attribute__((used)) = {
            .write_iter = elsewhere, .llseek = here, .mmap = here, .poll = here, .open = here,
        };
        const struct proc_ops third = { .proc_read = here, .proc_write = here };
        struct v4l2_file_operations fourth = { .unlocked_ioctl = elsewhere };
    """
    assert tables(kernel, text, *flags) == {
        "first": ("file_operations", {"read", "ioctl"}),
        "second": ("file_operations", {"write_iter", "write", "lseek", "mmap", "poll", "open"}),
        "third": ("proc_ops", {"read", "write"}),
        "fourth": ("v4l2_file_operations", {"ioctl"}),
    }


def test_an_entry_of_its_own_for_32_bit_programs_is_told(kernel: Kernel) -> None:
    text = """\
        struct file_operations own = { .unlocked_ioctl = here, .compat_ioctl = here };
        struct file_operations passed_on = { .unlocked_ioctl = here, .compat_ioctl = elsewhere };
    """
    assert tables(kernel, text) == {
        "own": ("file_operations", {"ioctl", "compat"}),
        "passed_on": ("file_operations", {"ioctl"}),
    }


def test_operations_beside_reading_and_writing_are_told(kernel: Kernel) -> None:
    text = """\
        struct file_operations one = { .check_flags = here, .iterate_shared = here };
        struct file_operations two = { .lock = here, .flock = here, .show_fdinfo = here };
        struct file_operations kernels = { .fsync = elsewhere, .splice_read = elsewhere };
        struct file_operations flushed = { .flush = here };
        struct file_operations ringed = { .uring_cmd = here };
        struct file_operations own = { .fsync = here, .splice_write = here, .fasync = here };
    """
    assert tables(kernel, text) == {
        "one": ("file_operations", {"fasync", "getdents"}),
        "two": ("file_operations", {"lock", "flock", "fdinfo"}),
        "kernels": ("file_operations", {"splice_read"}),
        "flushed": ("file_operations", {"child"}),
        "ringed": ("file_operations", {"uring_cmd"}),
        "own": ("file_operations", {"fsync", "splice_write", "fasync"}),
    }


def test_a_kernel_without_an_operation_has_the_others(kernel: Kernel) -> None:
    older = {
        "include/uapi/linux/io_uring.h": "",
        "include/linux/fs.h": struct("file_operations", _FILE[:-1]),
    }
    write_files(kernel.directory, older)
    text = "struct file_operations flushed = { .flush = here };"
    assert tables(kernel, text) == {"flushed": ("file_operations", {"child"})}


def test_files_that_a_module_takes_are_told_by_what_it_calls(kernel: Kernel) -> None:
    text = """\
        extern void eventfd_ctx_fdget(void), memfd_fcntl(void), fget_of_ours(void);
        extern void dma_buf_get(void);
        static void fget(void) {}
        void *used[] = { eventfd_ctx_fdget, memfd_fcntl, fget_of_ours, fget, dma_buf_get };
    """
    module = compiled(kernel, text)
    assert read_imports(module) >= {"eventfd_ctx_fdget", "memfd_fcntl", "fget_of_ours"}
    assert files_taken([module]) == (FileKind.EVENTFD, FileKind.MEMFD, FileKind.DMA_BUF)
    assert not files_taken([compiled(kernel, "")])


@pytest.mark.parametrize(
    ("name", "looks"), [("pcpu_hot", True), ("current_task", True), ("x", False)]
)
def test_a_driver_that_uses_the_current_task_looks_at_callers(
    kernel: Kernel, name: str, looks: bool
) -> None:
    module = compiled(kernel, f"extern int {name}; int *used = &{name};")
    assert looks_at_callers([module]) is looks


def test_what_is_no_table_is_passed_over(kernel: Kernel) -> None:
    text = """\
        const struct file_operations empty, only_owner = { .owner = &number };
        const struct file_operations only_release = { .release = here };
        void *data[12] = { &number, &number, &number, &number };
        struct { void (*call)(void); } other = { here };
        void (*reader)(void) = here;
    """
    assert tables(kernel, text) == {}


def test_tables_side_by_side_are_kept_apart(kernel: Kernel) -> None:
    text = """\
        struct file_operations array[2] = { { .read = here }, { .write = here } };
        static struct file_operations a __attribute__((used)) = { .read = here };
        static struct file_operations b __attribute__((used)) = { .owner = &number };
        static struct file_operations c __attribute__((used)) = { .write = elsewhere };
    """
    assert tables(kernel, text) == {
        "a": ("file_operations", {"read"}),
        "c": ("file_operations", {"write"}),
    }


def test_operations_of_all_tables_are_joined() -> None:
    one = OperationTable("a", "file_operations", frozenset({"read", "open"}))
    other = OperationTable("b", "proc_ops", frozenset({"write", "open"}))
    assert operation_names((one, other)) == {"read", "write", "open"}
    assert operation_names(()) == frozenset()


def test_the_structs_are_those_of_the_kernel(kernel: Kernel, tmp_path: Path) -> None:
    text = "struct file_operations f = { .read = here };\n"
    assert tables(kernel, text) == {"f": ("file_operations", {"read"})}
    larger = struct("file_operations", ["before", *_FILE])
    directory = write_files(tmp_path / "other", {"Makefile": _MAKEFILE, **_HEADERS})
    write_files(directory, {"include/linux/fs.h": larger})
    other = Kernel(Flavour.FAST, directory, directory, "other")
    assert tables(other, text) == {"f": ("file_operations", {"read"})}
    assert read_operations(compiled(kernel, text), other) == ()


def test_what_is_no_module_is_an_error(kernel: Kernel, tmp_path: Path) -> None:
    for content in (b"", b"text", b"\177ELF"):
        (tmp_path / "x.ko").write_bytes(content)
        with pytest.raises(BadInputError, match=r"x\.ko: not a kernel module"):
            read_operations(tmp_path / "x.ko", kernel)
    with pytest.raises(BadInputError, match=r"none\.ko: not a kernel module"):
        read_operations(tmp_path / "none.ko", kernel)


def test_a_damaged_module_is_an_error_or_read(kernel: Kernel) -> None:
    path = compiled(kernel, "struct file_operations f = { .read = here };\n")
    whole = path.read_bytes()
    refused = 0
    # The header, and the headers of sections at the end.
    for at in (*range(16, 64, 2), *range(len(whole) - 700, len(whole), 8)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        for read in (lambda path: read_operations(path, kernel), read_blocks):
            try:
                read(path)
            except BadInputError:
                refused += 1
    assert refused > 20


def test_a_kernel_whose_structs_cannot_be_read_is_told(kernel: Kernel) -> None:
    path = compiled(kernel, "struct file_operations f = { .read = here };\n")
    write_files(kernel.directory, {"include/linux/fs.h": "#error of ours\n"})
    with pytest.raises(InfrastructureError, match=r"for the fast kernel in .*Error 1"):
        read_operations(path, kernel)
    (kernel.directory / "Makefile").write_text("%.o:\n\ttrue\n")
    with pytest.raises(InfrastructureError, match=r"for the fast kernel in .*failed"):
        read_operations(path, kernel)
