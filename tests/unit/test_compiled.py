# SPDX-License-Identifier: Apache-2.0
"""Names of a driver as it was compiled, of a build directory that needs no kernel."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from fuzzer.driver.compiled import CompiledDriver, read_module
from fuzzer.driver.ioctls import Direction
from fuzzer.errors import BadInputError
from fuzzer.target.probe import UnknownSymbolError, run_compiler
from tests.unit.fake_build import build, note

_HEADER = """\
struct toy_arg { unsigned int a, b; };
typedef struct { unsigned short x; char name[6]; } toy_pair;
typedef struct toy_arg toy_alias;
union toy_any { int number; char bytes[12]; };
struct toy_kernel_only { struct list_head *head; SIZE_TYPE size; };
struct toy_hidden;
enum toy_mode { TOY_COLD = -1, TOY_HOT = 9 };
#define TOY_IOW(nr, type) _IOW('t', (nr), type)
#define TOY_SET TOY_IOW(1, struct toy_arg)
#define TOY_GET (_IOR('t', 2, toy_pair))
#define TOY_BOTH _IOWR('t', 3, struct toy_arg *)
#define TOY_COUNT _IOR('t', 4, int)
#define TOY_RESET _IO('t', 5)
#define TOY_NAME _IOC(_IOC_READ, 't', 6, sizeof(char[16]))
#define TOY_ANY _IOC(_IOC_READ | _IOC_WRITE, 't', 7, sizeof(union toy_any))
#define TOY_MOST _IOC_NR(TOY_ANY)
#define TOY_PAGES 4
#define TOY_GONE _IO('t', 8)
#undef TOY_GONE
/* TOY_SETS was _IO('t', 9): */
// #define TOY_OLD _IO('t', 9)
"""
_MAIN = """\
#include <linux/ioctl.h>
struct list_head { struct list_head *next; };
#include "toy.h"
#define TOY_PRIVATE _IO('t', 20)
#define TOY_PLAIN 0x1234
enum { TOY_ENUM = 77, TOY_INNER };
struct file;
struct operations { long (*unlocked_ioctl)(struct file *, unsigned int, unsigned long); };
static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case TOY_PLAIN: /* case TOY_OLD: */
		switch (arg) {
		case TOY_PAGES:
		case TOY_INNER:
			return 1;
		}
		return 2;
	case (TOY_ENUM):
		return 3;
	case TOY_SET:
		return ((struct toy_arg *)arg)->a;
	}
	return 0;
}
struct operations operations = { .unlocked_ioctl = toy_ioctl };
"""
_OTHER = """\
#include <linux/ioctl.h>
#include "toy.h"
#define TOY_ELSEWHERE _IOW('u', 1, struct toy_local)
#define TOY_PLAIN 1
struct toy_local { unsigned long long at; };
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a driver of two files; what its header needs is told by flags."""
    directory = tmp_path / "my driver"
    directory.mkdir()
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra" / "toy.h").write_text(_HEADER)
    (directory / "main.c").write_text(_MAIN)
    (directory / "other.c").write_text(_OTHER)
    plain = tmp_path / "plain"
    directory.rename(plain)
    build(plain, tmp_path / "kernel", flags="-I../extra -DSIZE_TYPE='unsigned long long'")
    return plain


@pytest.fixture
def driver(directory: Path, tmp_path: Path) -> CompiledDriver:
    """Return the driver, built."""
    return CompiledDriver(directory, tmp_path / "kernel", module="toy")


def test_constants_of_headers_and_c_files_are_known(driver: CompiledDriver) -> None:
    names = ["TOY_SET", "TOY_PRIVATE", "TOY_ELSEWHERE", "TOY_HOT", "TOY_COLD", "TOY_ENUM"]
    assert driver.constants(names) == {
        "TOY_SET": 0x40087401,
        "TOY_PRIVATE": 0x7414,
        "TOY_ELSEWHERE": 0x40087501,
        "TOY_HOT": 9,
        "TOY_COLD": -1,
        "TOY_ENUM": 77,
    }


def test_structs_are_known_by_tag_and_by_typedef(driver: CompiledDriver) -> None:
    names = ["toy_arg", "toy_pair", "toy_alias", "toy_any", "toy_kernel_only", "toy_local"]
    structs = driver.structs(names)
    assert {name: (each.c_type, each.size) for name, each in structs.items()} == {
        "toy_arg": ("struct toy_arg", 8),
        "toy_pair": ("toy_pair", 8),
        "toy_alias": ("toy_alias", 8),
        "toy_any": ("union toy_any", 12),
        "toy_kernel_only": ("struct toy_kernel_only", 16),
        "toy_local": ("struct toy_local", 8),
    }
    assert [member.name for member in structs["toy_pair"].members] == ["x", "name"]


def test_ioctls_are_found_with_their_types(driver: CompiledDriver, tmp_path: Path) -> None:
    found = {each.name: each for each in driver.ioctls()}
    shown = {
        name: (each.number, each.direction, each.size, each.struct and each.struct.c_type)
        for name, each in found.items()
    }
    assert shown == {
        "TOY_SET": (0x40087401, Direction.WRITE, 8, "struct toy_arg"),
        "TOY_GET": (0x80087402, Direction.READ, 8, "toy_pair"),
        "TOY_BOTH": (0xC0087403, Direction.BOTH, 8, "struct toy_arg"),
        "TOY_COUNT": (0x80047404, Direction.READ, 4, None),
        "TOY_RESET": (0x7405, Direction.NONE, 0, None),
        "TOY_NAME": (0x80107406, Direction.READ, 16, None),
        "TOY_ANY": (0xC00C7407, Direction.BOTH, 12, "union toy_any"),
        "TOY_PRIVATE": (0x7414, Direction.NONE, 0, None),
        "TOY_ELSEWHERE": (0x40087501, Direction.WRITE, 8, "struct toy_local"),
        "TOY_PLAIN": (0x1234, Direction.NONE, 0, None),
        "TOY_ENUM": (77, Direction.NONE, 0, None),
    }
    assert found["TOY_BOTH"].type == "struct toy_arg *"
    assert not found["TOY_PLAIN"].coded
    header = tmp_path / "extra" / "toy.h"
    assert (found["TOY_GET"].file.resolve(), found["TOY_GET"].line) == (header, 10)
    assert [each.name for each in driver.ioctls() if each.file.resolve() == header] == [
        *("TOY_SET", "TOY_GET", "TOY_BOTH", "TOY_COUNT", "TOY_RESET", "TOY_NAME", "TOY_ANY")
    ]


def test_an_unknown_name_is_told_with_one_that_is_defined(driver: CompiledDriver) -> None:
    with pytest.raises(UnknownSymbolError, match=r"no usable TOY_SETS, did you mean TOY_SET\?"):
        driver.constants(["TOY_SET", "TOY_SETS"])
    with pytest.raises(UnknownSymbolError, match=r"TOY_OLD, did you mean TOY_COLD\?") as caught:
        driver.constants(["TOY_OLD"])
    assert caught.value.symbol == "TOY_OLD"
    with pytest.raises(UnknownSymbolError, match="no struct, union or typedef"):
        driver.structs(["toy_hidden"])
    with pytest.raises(UnknownSymbolError, match=r"no usable toy_par, did you mean toy_pair\?"):
        driver.structs(["toy_par"])
    with pytest.raises(UnknownSymbolError, match="no usable TOY_GONE"):
        driver.constants(["TOY_GONE"])


def test_one_of_several_modules_is_chosen(directory: Path, tmp_path: Path) -> None:
    (directory / "third.c").write_text("#define TOY_SET 3\n")
    for path in directory.glob("[mo]*.c"):
        path.unlink()
    build(directory, tmp_path / "kernel", module="third")
    (directory / "main.c").write_text(_MAIN)
    driver = CompiledDriver(directory, tmp_path / "kernel", module="third")
    assert driver.constants(["TOY_SET"]) == {"TOY_SET": 3}
    driver = CompiledDriver(directory, tmp_path / "kernel", module="toy")
    assert driver.constants(["TOY_SET"]) == {"TOY_SET": 0x40087401}


def test_objects_can_be_named(directory: Path, tmp_path: Path) -> None:
    objects = [directory / "other.o"]
    driver = CompiledDriver(directory, tmp_path / "kernel", objects=objects)
    assert driver.constants(["TOY_PLAIN"]) == {"TOY_PLAIN": 1}
    assert "TOY_PRIVATE" not in {each.name for each in driver.ioctls()}


def test_the_compiler_is_run_as_one_says(directory: Path, tmp_path: Path) -> None:
    commands = []

    def run(
        command: Sequence[str], directory: Path, *, scratch: Path
    ) -> subprocess.CompletedProcess[bytes]:
        commands.append((command[0], directory))
        return run_compiler(command, directory, scratch=scratch)

    CompiledDriver(directory, tmp_path / "kernel", run=run).constants(["TOY_SET"])
    assert set(commands) == {("gcc", tmp_path / "kernel")}


def test_a_driver_that_does_not_compile_any_more_is_told_in_a_line(
    directory: Path, tmp_path: Path
) -> None:
    (directory / "main.c").write_text(f"{_MAIN}\nbroken here;\nand here;\n")
    with pytest.raises(BadInputError, match=r"main\.c:\d+:\d+: error: [^\n]*broken[^\n]*\Z"):
        CompiledDriver(directory, tmp_path / "kernel").constants(["TOY_SET"])


def test_a_directory_without_commands_is_told(tmp_path: Path) -> None:
    note(tmp_path / "a.o", "evil -c a.c")
    with pytest.raises(BadInputError, match="name the driver's headers with 'header'"):
        CompiledDriver(tmp_path, tmp_path).constants(["X"])


def test_of_an_object_alone_structs_and_enumerators_are_known(directory: Path) -> None:
    module = directory / "main.o"
    found = read_module(module, constants=["TOY_ENUM"], structs=["toy_arg"])
    assert found.constants == {"TOY_ENUM": 77}
    assert found.structs["toy_arg"].size == 8
    assert found.prelude is None
    with pytest.raises(UnknownSymbolError, match=r"main\.o has no usable TOY_SET \(of a \.ko"):
        read_module(module, constants=["TOY_SET"], structs=[])
    module.write_bytes(b"no ELF file")
    with pytest.raises(BadInputError, match="cannot read its debugging information"):
        read_module(module, constants=[], structs=["toy_arg"])
