# SPDX-License-Identifier: Apache-2.0
"""The interface of drivers as their source tells it, with headers that stand for the kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.driver.source.child import read_apart
from fuzzer.driver.source.interface import (
    DriverEntry,
    GivenMemory,
    GivenNumber,
    Interface,
    Ioctl,
    Length,
    from_json,
    to_json,
)
from fuzzer.driver.source.reading import read_interface
from fuzzer.driver.unit_commands import Unit
from fuzzer.errors import BadInputError
from fuzzer.paths import import_root

HEADERS = {
    "linux/uaccess.h": """\
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long u64;
typedef unsigned long size_t; typedef long ssize_t; typedef long long loff_t;
#define __user
#define NULL ((void *)0)
unsigned long copy_from_user(void *to, const void *from, unsigned long n);
unsigned long copy_to_user(void *to, const void *from, unsigned long n);
int copy_struct_from_user(void *to, size_t size, const void *from, size_t given);
void *memdup_user(const void *from, size_t size);
void *memdup_array_user(const void *from, size_t n, size_t size);
char *strndup_user(const char *from, long n);
long strncpy_from_user(char *to, const char *from, long n);
#define get_user(to, from) ({ (to) = *(from); 0; })
#define put_user(from, to) ({ *(to) = (from); 0; })
static inline void *u64_to_user_ptr(u64 at) { return (void *)at; }
""",
    "linux/fs.h": """\
#include <linux/uaccess.h>
#define _IOC(dir, type, nr, size) (((dir) << 30) | ((size) << 16) | ((type) << 8) | (nr))
#define _IO(type, nr) _IOC(0U, type, nr, 0)
#define _IOW(type, nr, of) _IOC(1U, type, nr, sizeof(of))
#define _IOR(type, nr, of) _IOC(2U, type, nr, sizeof(of))
#define _IOWR(type, nr, of) _IOC(3U, type, nr, sizeof(of))
#define _IOC_NR(n) (((n) >> 0) & 0xff)
#define _IOC_TYPE(n) (((n) >> 8) & 0xff)
#define _IOC_SIZE(n) (((n) >> 16) & 0x3fff)
#define EINVAL 22
#define EFAULT 14
#define ENOTTY 25
struct io_uring_sqe { u32 opcode; u8 cmd[16]; };
struct io_uring_cmd { struct file *file; const struct io_uring_sqe *sqe; u32 cmd_op; };
static inline const void *io_uring_sqe_cmd(const struct io_uring_sqe *sqe) { return sqe->cmd; }
struct inode; struct idr; struct xarray; struct device; struct attribute;
struct file { void *private_data; };
struct file_operations {
	ssize_t (*read)(struct file *, char *, size_t, loff_t *);
	ssize_t (*write)(struct file *, const char *, size_t, loff_t *);
	long (*unlocked_ioctl)(struct file *, unsigned int, unsigned long);
	long (*compat_ioctl)(struct file *, unsigned int, unsigned long);
	int (*open)(struct inode *, struct file *);
	int (*uring_cmd)(struct io_uring_cmd *, unsigned int);
};
struct miscdevice { int minor; const char *name; const struct file_operations *fops; };
struct device_attribute {
	ssize_t (*show)(struct device *, struct device_attribute *, char *);
	ssize_t (*store)(struct device *, struct device_attribute *, const char *, size_t);
};
int misc_register(struct miscdevice *misc);
void *proc_create(const char *name, int mode, void *parent, const struct file_operations *ops);
void *kmalloc(size_t size, int flags);
void kfree(const void *at);
void *idr_find(struct idr *idr, unsigned long id);
int idr_alloc(struct idr *idr, void *of, int start, int end, int flags);
int anon_inode_getfd(const char *name, const struct file_operations *ops, void *of, int flags);
int fget(unsigned int fd);
unsigned long msecs_to_jiffies(unsigned int milliseconds);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
int sscanf(const char *text, const char *format, ...);
int kstrtoint(const char *text, unsigned int base, int *to);
int sysfs_streq(const char *a, const char *b);
""",
}
DEFINITIONS = """\
#include <linux/fs.h>
struct toy { u32 mode; u32 length; u64 buffer; char name[16]; };
struct part { u64 data; u32 size; u32 kind; };
struct parts { u64 parts; u32 n; u32 flags; };
#define TOY_SET _IOW('t', 1, struct toy)
#define TOY_GET _IOR('t', 2, struct toy)
#define TOY_RESET _IO('t', 3)
#define TOY_PLAIN 0x1234
#define TOY_PARTS _IOW('t', 4, struct parts)
enum { TOY_FAST = 5, TOY_SLOW = 9 };
#define TOY_FLAG_A 1
#define TOY_FLAG_B 4
static int set(unsigned long arg)
{
	struct toy toy;
	if (copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	return toy.mode;
}
static int get(void __user *at)
{
	struct toy toy = {};
	return copy_to_user(at, &toy, sizeof(toy)) ? -EFAULT : 0;
}
"""
FOPS = "static const struct file_operations fops = { .unlocked_ioctl = toy_ioctl };\n"
HANDLER = "static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)\n"
SET, GET, RESET, PLAIN, PARTS = 0x40207401, 0x80207402, 0x7403, 0x1234, 0x40107404


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """Return an empty directory for a driver, with headers outside."""
    for name, text in HEADERS.items():
        path = tmp_path / "include" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#pragma once\n{text}")
    (tmp_path / "driver").mkdir()
    return tmp_path / "driver"


def units(driver: Path) -> tuple[Unit, ...]:
    command = ("gcc", "-nostdinc", f"-I{driver.parent}/include", "-std=gnu11", "-m64")
    return tuple(
        Unit(path.with_suffix(".o"), path, command, driver, ("toy",))
        for path in sorted(driver.glob("*.c"))
    )


def read(driver: Path, text: str, **others: str) -> Interface:
    """Return what is read of a driver of one file, and of others."""
    (driver / "toy.c").write_text(DEFINITIONS + text)
    for name, more in others.items():
        (driver / f"{name}.c").write_text(DEFINITIONS + more)
    return read_interface(units(driver), (driver,))


def handler(driver: Path, body: str, before: str = "") -> DriverEntry:
    """Return the ioctl handler that has a body."""
    found = read(driver, f"{before}{HANDLER}{{\n{body}\n}}\n{FOPS}")
    (entry,) = (each for each in found.entries if each.member == "unlocked_ioctl")
    return entry


def ioctls(entry: DriverEntry) -> dict[int, str]:
    """Return the ioctls by number, with what is known of their arguments."""
    return {each.number: kind(each) for each in entry.ioctls}


def kind(ioctl: Ioctl) -> str:
    memory = at(ioctl, "arg", "*")
    if memory is not None:
        return f"{'r' * memory.is_read}{'w' * memory.is_written} {memory.record or memory.size}"
    return "number" if number(ioctl, "arg") else ""


def at(ioctl: Ioctl | DriverEntry, *path: str) -> GivenMemory | None:
    found = (each for each in ioctl.operand.memory if each.path == path)
    return next(found, None)


def number(ioctl: Ioctl | DriverEntry, *path: str) -> GivenNumber | None:
    found = (each for each in ioctl.operand.numbers if each.path == path)
    return next(found, None)


def only(entry: DriverEntry, wanted: int) -> Ioctl:
    (found,) = (each for each in entry.ioctls if each.number == wanted)
    return found


EXPECTED = {SET: "r toy", GET: "w toy", RESET: ""}
SWITCH = """
	switch (cmd) {
	case TOY_SET: return set(arg);
	case TOY_GET: return get((void __user *)arg);
	case TOY_RESET: return 0;
	default: return -ENOTTY;
	}"""
IFS = """
	if (cmd == TOY_SET)
		return set(arg);
	else if (cmd == TOY_GET)
		return get((void __user *)arg);
	if (TOY_RESET == cmd) { file->private_data = NULL; return 0; }
	return -ENOTTY;"""
HELPER = (
    """
static long inner(struct file *file, unsigned int number, void __user *at)
{
	switch (number) {
	case TOY_SET: { struct toy toy; return copy_from_user(&toy, at, sizeof(toy)); }
	case TOY_GET: return get(at);
	case TOY_RESET: break;
	}
	return 0;
}
static long outer(struct file *file, unsigned int cmd, unsigned long arg)
{
	return inner(file, cmd, (void __user *)arg);
}
""",
    "\treturn outer(file, cmd, arg);",
)
TABLE = (
    """
typedef long (*handler_t)(unsigned long);
static long row_set(unsigned long arg) { return set(arg); }
static long row_get(unsigned long arg) { return get((void __user *)arg); }
static long row_reset(unsigned long arg) { return 0; }
static const struct row { unsigned int number; handler_t handler; const char *name; } rows[] = {
	{ TOY_SET, row_set, "set" },
	{ .number = TOY_GET, .handler = row_get },
	{ TOY_RESET, row_reset },
};
""",
    """
	for (int i = 0; i < 3; i++)
		if (rows[i].number == cmd)
			return rows[i].handler(arg);
	return -ENOTTY;""",
)
INDEXED = (
    TABLE[0].replace("} rows[]", "} old[]")
    + """
#define ROW(name, handler) [_IOC_NR(name)] = { name, handler, #name }
static const struct row rows[] = {
	ROW(TOY_SET, row_set), ROW(TOY_GET, row_get), ROW(TOY_RESET, row_reset),
};
""",
    """
	const struct row *row;
	if (_IOC_TYPE(cmd) != 't' || _IOC_NR(cmd) > 3)
		return -ENOTTY;
	row = &rows[_IOC_NR(cmd)];
	return row->handler ? row->handler(arg) : -ENOTTY;""",
)
NUMBERS = """
	if (_IOC_TYPE(cmd) != 't')
		return -ENOTTY;
	switch (_IOC_NR(cmd)) {
	case _IOC_NR(TOY_SET): return set(arg);
	case _IOC_NR(TOY_GET): return get((void __user *)arg);
	case _IOC_NR(TOY_RESET): return 0;
	}
	return -ENOTTY;"""
EARLY = """
	if (cmd != TOY_SET && cmd != TOY_GET && cmd != TOY_RESET)
		return -ENOTTY;
	if (cmd == TOY_GET)
		return get((void __user *)arg);
	if (cmd != TOY_SET)
		return 0;
	return set(arg);"""
FALLING = """
	struct toy toy;
	switch (cmd) {
	case TOY_SET:
		if (copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
			return -EFAULT;
		break;
	case TOY_GET:
		return get((void __user *)arg);
	case TOY_RESET:
		file->private_data = NULL;
		break;
	}
	return 0;"""


@pytest.mark.parametrize(
    ("before", "body"),
    [
        ("", SWITCH),
        ("", IFS),
        HELPER,
        TABLE,
        INDEXED,
        ("", NUMBERS),
        ("", EARLY),
        ("", FALLING),
    ],
    ids=["switch", "ifs", "helper", "table", "indexed", "numbers", "early", "falling"],
)
def test_ioctls_are_found_however_they_are_told_apart(before: str, body: str, driver: Path) -> None:
    entry = handler(driver, body, before)
    assert ioctls(entry) == EXPECTED
    assert entry.is_whole


def test_the_names_of_ioctls_are_those_of_their_labels(driver: Path) -> None:
    entry = handler(driver, SWITCH)
    assert [each.name for each in entry.ioctls] == ["TOY_RESET", "TOY_SET", "TOY_GET"]
    assert {Path(each.file).name for each in entry.ioctls} == {"toy.c"}
    assert handler(driver, NUMBERS).ioctls[1].name == "TOY_SET"


def test_plain_numbers_and_ranges_are_ioctls(driver: Path) -> None:
    body = "switch (cmd) { case TOY_PLAIN: return set(arg); case 7 ... 9: return arg == 4; }"
    assert ioctls(handler(driver, f"{body} return 0;")) == {
        7: "number",
        8: "number",
        9: "number",
        PLAIN: "r toy",
    }


def test_of_a_label_that_is_masked_the_whole_number_is_known(driver: Path) -> None:
    body = """
	switch (cmd & ~(0x3fffU << 16)) {
	case TOY_SET & ~(0x3fffU << 16): return set(arg);
	}
	return 0;"""
    entry = handler(driver, body)
    assert ioctls(entry) == {SET: "r toy"}
    assert [each.name for each in entry.ioctls] == ["TOY_SET"]


def test_a_mask_leaves_the_number_that_is_compared(driver: Path) -> None:
    body = "switch (cmd & ~(0x3fffU << 16)) { case 0x40007401: return set(arg); } return 0;"
    assert ioctls(handler(driver, body)) == {0x40007401: "r toy"}


def test_of_a_part_that_is_copied_the_struct_is_known(driver: Path) -> None:
    body = """
	struct toy toy = {};
	if (cmd != TOY_SET)
		return -ENOTTY;
	return copy_from_user(&toy, (void __user *)arg, min(_IOC_SIZE(cmd), sizeof(toy)));"""
    assert ioctls(handler(driver, body)) == {SET: "r toy"}


def test_of_a_number_that_is_known_in_part_that_part_is_told(driver: Path) -> None:
    body = "if (_IOC_TYPE(cmd) != 't') return 0; switch (_IOC_NR(cmd)) { case 8: return set(arg); }"
    (found,) = handler(driver, f"{body} return 0;").ioctls
    assert (found.number, found.mask) == (0x7408, 0xFFFF)


def test_what_another_ioctl_left_in_a_variable_is_none_of_an_argument(driver: Path) -> None:
    body = """
	struct toy toy;
	switch (cmd) {
	case TOY_SET:
		if (copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
			return -EFAULT;
		kept = toy.mode;
		return 0;
	case TOY_PLAIN:
		return kept > 3 ? arg : 0;
	}
	return 0;"""
    entry = handler(driver, body, "static u32 kept;")
    assert only(entry, PLAIN).operand.numbers == ()
    assert ioctls(entry)[SET] == "r toy"


def test_of_two_structs_the_one_of_the_coded_size_is_taken(driver: Path) -> None:
    before = """
struct short_toy { u32 mode; };
static int is_short(void);
static long both(unsigned long arg)
{
	struct short_toy less;
	struct toy toy;

	if (is_short())
		return copy_from_user(&less, (void __user *)arg, sizeof(less)) || less.mode;
	return copy_from_user(&toy, (void __user *)arg, sizeof(toy));
}"""
    body = """
	switch (cmd) {
	case TOY_SET: case _IOW('t', 9, struct short_toy): return both(arg);
	}
	return 0;"""
    found = handler(driver, body, before).ioctls
    records = {each.number: each.operand.memory[0].record for each in found}
    assert records == {SET: "toy", 0x40047409: "short_toy"}


def test_what_all_ioctls_share_is_known_of_each(driver: Path) -> None:
    body = """
	struct toy toy;
	if (copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	switch (cmd) {
	case TOY_PLAIN: return toy.mode == TOY_FAST;
	case TOY_SET: return 0;
	}
	return 0;"""
    entry = handler(driver, body)
    assert ioctls(entry) == {PLAIN: "r toy", SET: "r toy"}
    found = number(only(entry, PLAIN), "arg", "*", "mode")
    assert found is not None
    assert found.values == ((5, "TOY_FAST"),)
    assert number(only(entry, SET), "arg", "*", "mode") is None


def test_numbers_behind_an_address_are_known_by_size(driver: Path) -> None:
    body = """
	int level;
	switch (cmd) {
	case 1: return get_user(level, (int __user *)arg);
	case 2: return put_user(level, (u64 __user *)arg);
	case 3: level = (int)arg; if (level > 100) return -EINVAL; return 0;
	}
	return 0;"""
    entry = handler(driver, body)
    assert ioctls(entry) == {1: "r 4", 2: "w 8", 3: "number"}
    found = number(only(entry, 3), "arg")
    assert found is not None
    assert found.bounds == ((">", 100),)


def test_of_a_number_behind_an_address_is_known_what_it_is_compared_with(driver: Path) -> None:
    body = """
	u32 level; u64 id; struct idr *things = NULL;
	switch (cmd) {
	case 1:
		if (get_user(level, (u32 __user *)arg) || level > 7) return -EINVAL;
		return 0;
	case 2:
		if (copy_from_user(&id, (void __user *)arg, sizeof(id))) return -EFAULT;
		return idr_find(things, id) != NULL;
	case 3:
		return get_user(level, (u32 __user *)arg);
	}
	return 0;"""
    entry = handler(driver, body)
    level, id_ = number(only(entry, 1), "arg", "*"), number(only(entry, 2), "arg", "*")
    assert level
    assert level.bounds == ((">", 7),)
    assert id_
    assert id_.takes.startswith("id")
    assert number(only(entry, 3), "arg", "*") is None


COPIES = {
    "memdup_user": "struct toy *toy = memdup_user((void __user *)arg, sizeof(*toy));",
    "copy_struct_from_user": "struct toy toy; copy_struct_from_user(&toy, sizeof(toy), "
    "(void __user *)arg, sizeof(toy));",
    "allocated": "struct toy *toy = kmalloc(sizeof(*toy), 0); "
    "copy_from_user(toy, (void __user *)arg, sizeof(struct toy));",
    "union": "union { struct toy toy; struct part part; } u; "
    "copy_from_user(&u.toy, (void __user *)arg, sizeof(u.toy));",
    "cast": "struct toy __user *to = (struct toy __user *)arg; u32 mode; "
    "get_user(mode, &to->mode);",
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
def test_a_struct_is_known_however_it_is_copied(copy: str, driver: Path) -> None:
    entry = handler(driver, f"switch (cmd) {{ case 5: {{ {copy} return 0; }} }} return 0;")
    memory = at(only(entry, 5), "arg", "*")
    assert memory is not None
    assert (memory.record, memory.size) == ("toy", 32)


NESTED = """
	struct toy toy;
	char *data;
	if (copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	data = kmalloc(toy.length, 0);
	if (copy_from_user(data, u64_to_user_ptr(toy.buffer), toy.length))
		return -EFAULT;
	return 0;"""


def test_an_address_in_a_struct_has_the_length_of_its_copy(driver: Path) -> None:
    entry = handler(driver, f"if (cmd == TOY_SET) {{ {NESTED} }} return 0;")
    memory = at(only(entry, SET), "arg", "*", "buffer", "*")
    assert memory is not None
    assert memory.length == Length(("arg", "*", "length"))
    assert memory.is_read


def test_arrays_of_structs_have_their_count_and_members(driver: Path) -> None:
    body = """
	struct parts parts;
	struct part *each;
	if (cmd != TOY_PARTS)
		return -ENOTTY;
	if (copy_from_user(&parts, (void __user *)arg, sizeof(parts)))
		return -EFAULT;
	each = memdup_array_user((void __user *)parts.parts, parts.n, sizeof(*each));
	for (u32 i = 0; i < parts.n; i++) {
		char buffer[64];
		if (each[i].kind != TOY_FAST)
			return -EINVAL;
		if (copy_from_user(buffer, (void __user *)each[i].data, each[i].size))
			return -EFAULT;
	}
	return 0;"""
    found = only(handler(driver, body), PARTS)
    memory = at(found, "arg", "*", "parts", "*")
    assert memory is not None
    assert (memory.record, memory.length) == ("part", Length(("arg", "*", "n"), 16))
    inner = at(found, "arg", "*", "parts", "*", "data", "*")
    assert inner is not None
    assert inner.length == Length(("arg", "*", "parts", "*", "size"))
    kind = number(found, "arg", "*", "parts", "*", "kind")
    assert kind is not None
    assert kind.required == ((5, "TOY_FAST"),)


def test_values_flags_and_bounds_of_members_are_known(driver: Path) -> None:
    body = """
	struct toy toy;
	if (cmd != TOY_SET || copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	if (toy.length > 512)
		return -EINVAL;
	if (toy.buffer & ~(u64)(TOY_FLAG_A | TOY_FLAG_B))
		return -EINVAL;
	switch (toy.mode) {
	case TOY_FAST: case TOY_SLOW: return 0;
	}
	return strcmp(toy.name, "left") && strcmp("right", toy.name);"""
    found = only(handler(driver, body), SET)
    mode, length = number(found, "arg", "*", "mode"), number(found, "arg", "*", "length")
    flags, name = number(found, "arg", "*", "buffer"), at(found, "arg", "*", "name")
    assert mode
    assert length
    assert flags
    assert name
    assert mode.values == ((5, "TOY_FAST"), (9, "TOY_SLOW"))
    assert length.bounds == ((">", 512),)
    assert [each for each, _ in flags.masks] == [~5]
    assert name.texts == ("left", "right")


def test_values_are_required_where_others_are_refused(driver: Path) -> None:
    body = """
	struct toy toy;
	if (cmd != TOY_SET || copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	switch (toy.mode) {
	case TOY_FAST: case TOY_SLOW: break;
	default: return -EINVAL;
	}
	if (toy.buffer != 7)
		return -EINVAL;
	if (toy.name[0] || toy.length > 99)
		return -EINVAL;
	if (toy.length > 200 || toy.mode & ~15)
		return -EINVAL;
	return toy.length == sizeof(toy) ? 0 : -EINVAL;"""
    found = only(handler(driver, body), SET)
    required = {
        each.path[-1]: [value for value, _ in each.required]
        for each in found.operand.numbers
        if each.required
    }
    assert required == {"mode": [5, 9], "buffer": [7], "length": [32], "[]": [0]}


def test_an_array_has_the_length_that_stands_beside_it_in_a_call(driver: Path) -> None:
    body = """
	struct toy toy;
	if (cmd != TOY_SET || copy_from_user(&toy, (void __user *)arg, sizeof(toy)))
		return -EFAULT;
	return strncmp(toy.name, "left", toy.length) || find(toy.name, toy.length);"""
    before = "int find(const char *name, size_t length);\n"
    name = at(only(handler(driver, body, before), SET), "arg", "*", "name")
    assert name is not None
    assert name.length == Length(("arg", "*", "length"))


def test_a_number_that_is_changed_is_handled_as_another(driver: Path) -> None:
    body = """
	switch (cmd) {
	case TOY_PLAIN: cmd = TOY_SET; break;
	case 5: cmd = TOY_GET; break;
	}
	return inner(file, cmd, (void __user *)arg);"""
    found = ioctls(handler(driver, body, HELPER[0]))
    assert found == {**EXPECTED, PLAIN: "r toy", 5: "w toy"}


VIDEO = """
struct v4l2_format { u32 type; u32 width; };
struct v4l2_ioctl_ops {
	int (*vidioc_enum_input)(struct file *, void *, struct v4l2_format *);
	int (*vidioc_s_fmt_vid_cap)(struct file *, void *, struct v4l2_format *);
};
struct drm_ioctl_desc { unsigned int cmd; int flags; int (*func)(void *, void *, struct file *); };
#include <linux/videodev2.h>
static int s_fmt(struct file *file, void *private, struct v4l2_format *format)
{
	return format->type == 2 ? 0 : -EINVAL;
}
static const struct v4l2_ioctl_ops video = {
	.vidioc_s_fmt_vid_cap = s_fmt, .vidioc_enum_input = s_fmt,
};
static int drm_set(void *device, void *data, struct file *file)
{
	struct toy *toy = data;
	return toy->mode == 3;
}
static const struct drm_ioctl_desc rows[] = { [4] = { .cmd = TOY_SET, .func = drm_set } };
long video_ioctl2(struct file *, unsigned int, unsigned long);
static const struct file_operations fops = { .unlocked_ioctl = video_ioctl2 };
"""


def test_tables_of_subsystems_have_ioctls(driver: Path) -> None:
    header = driver.parent / "include/linux/videodev2.h"
    header.write_text(
        "#define VIDIOC_S_FMT\t\t_IOWR('V', 5, struct v4l2_format)\n"
        "#define VIDIOC_ENUMINPUT\t_IOWR('V', 26, struct v4l2_format)\n"
    )
    found = read(driver, VIDEO)
    by_table = {each.table: each for each in found.entries}
    (video, inputs), (drm,) = by_table["video"].ioctls, by_table["rows"].ioctls
    assert inputs.name == "VIDIOC_ENUMINPUT"
    assert (video.name, video.number, drm.number) == ("VIDIOC_S_FMT", 0xC0085605, SET)
    formats, toy = at(video, "arg", "*"), at(drm, "arg", "*")
    assert formats
    assert toy
    assert (formats.record, toy.record) == ("v4l2_format", "toy")
    assert not found.unread


def test_handles_are_known_where_they_are_made_and_taken(driver: Path) -> None:
    body = """
	struct toy toy;
	switch (cmd) {
	case 1:
		toy.mode = idr_alloc(NULL, file, 0, 0, 0);
		return copy_to_user((void __user *)arg, &toy, sizeof(toy));
	case 2:
		return idr_find(NULL, arg) != NULL;
	case 3:
		return anon_inode_getfd("toy", NULL, file, 0);
	case 4:
		return fget(arg);
	case 5:
		return msecs_to_jiffies(arg);
	}
	return 0;"""
    entry = handler(driver, body)
    made, taken = number(only(entry, 1), "arg", "*", "mode"), number(only(entry, 2), "arg")
    descriptor, time = number(only(entry, 4), "arg"), number(only(entry, 5), "arg")
    assert made
    assert taken
    assert descriptor
    assert time
    assert time.takes == "time"
    assert (made.gives, taken.takes, descriptor.takes) == ("id", "id", "fd")
    assert only(entry, 3).operand.gives == "fd"


def test_texts_are_strings_of_the_caller(driver: Path) -> None:
    body = """
	char name[32];
	switch (cmd) {
	case 1: strncpy_from_user(name, (char __user *)arg, sizeof(name)); return strcmp(name, "on");
	case 2: return strncmp(strndup_user((char __user *)arg, 64), "off", 3);
	}
	return 0;"""
    entry = handler(driver, body)
    for wanted, text in ((1, "on"), (2, "off")):
        memory = at(only(entry, wanted), "arg", "*")
        assert memory is not None
        assert memory.is_text
        assert memory.texts == (text,)


def test_writes_have_formats_texts_and_records(driver: Path) -> None:
    text = """
static ssize_t toy_write(struct file *file, const char __user *buf, size_t count, loff_t *at)
{
	char line[64]; int a, b; struct part part;
	if (copy_from_user(line, buf, count))
		return -EFAULT;
	if (!strncmp(line, "reset", 5))
		return count;
	if (sscanf(line, "set %d %x", &a, &b) == 2)
		return count;
	return copy_from_user(&part, buf, sizeof(part));
}
static ssize_t level_store(struct device *dev, struct device_attribute *attr,
	const char *buf, size_t count)
{
	int level;
	if (sysfs_streq(buf, "max"))
		return count;
	return kstrtoint(buf, 0, &level);
}
static const struct file_operations fops = { .write = toy_write };
static struct device_attribute attributes[] = { { .show = NULL }, { .store = level_store } };
"""
    write, store = read(driver, text).entries
    written, stored = at(write, "buf", "*"), at(store, "buf", "*")
    assert written
    assert stored
    assert (written.texts, written.formats) == (("reset",), ("set %d %x",))
    assert written.record == "part"
    assert (stored.texts, stored.formats) == (("max",), ("%i",))


def test_operations_and_files_belong_to_their_tables(driver: Path) -> None:
    text = f"""
static int toy_open(struct inode *inode, struct file *file) {{ return 0; }}
{HANDLER} {{ return 0; }}
static const struct file_operations fops = {{ .unlocked_ioctl = toy_ioctl, .open = toy_open }};
static const struct file_operations proc_fops = {{ .open = toy_open }};
static struct miscdevice misc = {{ .minor = 255, .name = "toy", .fops = &fops }};
int start(void)
{{
	proc_create("toys", 0444, NULL, &proc_fops);
	return misc_register(&misc);
}}
"""
    found = read(driver, text)
    assert [(each.table, each.member) for each in found.entries] == [
        ("fops", "unlocked_ioctl"),
        ("fops", "open"),
        ("proc_fops", "open"),
    ]
    assert [(each.how, each.name, each.table) for each in found.files] == [
        ("misc_register", "toy", "fops"),
        ("proc_create", "toys", "proc_fops"),
    ]


def test_functions_of_other_files_are_followed(driver: Path) -> None:
    other = "long toy_other(unsigned int cmd, unsigned long arg)\n{" + SWITCH + "\n}\n"
    text = f"long toy_other(unsigned int, unsigned long);\n{HANDLER}"
    found = read(driver, f"{text}{{ return toy_other(cmd, arg); }}\n{FOPS}", other=other)
    assert ioctls(found.entries[0]) == EXPECTED


def test_tables_of_one_name_in_several_files_are_told_apart(driver: Path) -> None:
    other = HANDLER.replace("toy_ioctl", "other_ioctl") + "{ return cmd == TOY_PLAIN; }\n"
    register = 'void start(void) { proc_create("NAME", 0, NULL, &fops); }\n'
    found = read(
        driver,
        f"{HANDLER}{{{SWITCH}\n}}\n{FOPS}" + register.replace("NAME", "toy"),
        second=other
        + FOPS.replace("toy_ioctl", "other_ioctl")
        + register.replace("start", "start2").replace("NAME", "other"),
    )
    by_table = {each.table: set(ioctls(each)) for each in found.entries}
    assert by_table == {"fops": {PLAIN}, "fops#1": set(EXPECTED)}
    assert {(each.name, each.table) for each in found.files} == {
        ("other", "fops"),
        ("toy", "fops#1"),
    }


def test_what_cannot_be_followed_is_told_with_its_place(driver: Path) -> None:
    before = "long elsewhere(struct file *, unsigned int, unsigned long);\n"
    found = read(driver, f"{before}{HANDLER}{{\n\treturn elsewhere(file, cmd, arg);\n}}\n{FOPS}")
    (unread,) = found.unread
    line = DEFINITIONS.count("\n") + 4
    assert (Path(unread.file).name, unread.line) == ("toy.c", line)
    assert "elsewhere()" in unread.text
    assert not found.entries[0].is_whole


def test_a_number_that_is_stored_may_be_any(driver: Path) -> None:
    body = """
	struct toy *toy = file->private_data;
	toy->mode = cmd;
	return cmd == TOY_SET ? set(arg) : 0;"""
    entry = handler(driver, body)
    assert ioctls(entry) == {SET: "r toy"}
    assert not entry.is_whole


def test_of_many_files_those_with_callers_are_read(
    driver: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fuzzer.driver.source.reading._MOST_UNITS", 1)
    (driver / "aside.c").write_text("int aside;\n")
    (entry,) = read(driver, f"{HANDLER}{{{SWITCH}\n}}\n{FOPS}").entries
    assert ioctls(entry) == EXPECTED


def test_a_handler_that_is_not_there_is_told(driver: Path) -> None:
    before = "long elsewhere(struct file *, unsigned int, unsigned long);\n"
    fops = FOPS.replace("toy_ioctl", "elsewhere")
    found = read(driver, before + fops)
    assert "fops.unlocked_ioctl is elsewhere()" in found.unread[0].text


def test_errors_of_the_source_are_told_and_the_rest_is_read(driver: Path) -> None:
    broken = "static int broken(void) { return no_such_name; }\n"
    found = read(driver, f"{broken}{HANDLER}{{{SWITCH}\n}}\n{FOPS}")
    assert "no_such_name" in found.unread[0].text
    assert ioctls(found.entries[0]) == EXPECTED


def test_recursion_ends(driver: Path) -> None:
    before = """
static long again(unsigned int cmd, unsigned long arg);
static long one(unsigned int cmd, unsigned long arg) { return again(cmd, arg); }
static long again(unsigned int cmd, unsigned long arg)
{
	switch (cmd) { case TOY_SET: return set(arg); }
	return one(cmd, arg);
}
"""
    assert ioctls(handler(driver, "return one(cmd, arg);", before)) == {SET: "r toy"}


def test_the_json_form_is_the_same_interface(driver: Path) -> None:
    found = read(driver, f"{HANDLER}{{ if (cmd == TOY_SET) {{ {NESTED} }} return 0; }}\n{FOPS}")
    assert from_json(to_json(found)) == found


def test_it_is_read_in_a_process_of_its_own(driver: Path) -> None:
    text = f"{HANDLER}{{{SWITCH}\n}}\n{FOPS}"
    here = read(driver, text)
    assert read_apart(units(driver), (driver,)) == here


def test_a_reading_that_fails_says_why(driver: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(driver, FOPS.replace("toy_ioctl", "NULL"))
    broken = driver.parent / "broken"
    (broken / "clang").mkdir(parents=True)
    (broken / "clang/__init__.py").write_text("raise ImportError('no libclang here')\n")
    (broken / "fuzzer").symlink_to(import_root() / "fuzzer")
    monkeypatch.setattr("fuzzer.child.import_root", lambda: broken)
    with pytest.raises(BadInputError, match="no libclang here"):
        read_apart(units(driver), (driver,))


@pytest.mark.parametrize(
    "command", ["io_uring_sqe_cmd(toy->sqe)", "(const void *)toy->sqe->cmd"], ids=["call", "member"]
)
def test_commands_in_a_ring_are_read_as_ioctls_are(driver: Path, command: str) -> None:
    found = read(
        driver,
        f"""
static int run(const struct part *part)
{{
	if (part->kind != TOY_FAST)
		return -EINVAL;
	return 0;
}}
static int toy_uring_cmd(struct io_uring_cmd *toy, unsigned int flags)
{{
	switch (toy->cmd_op) {{
	case TOY_PLAIN: return run({command});
	case 7: return 0;
	}}
	return -ENOTTY;
}}
static const struct file_operations fops = {{ .uring_cmd = toy_uring_cmd }};
""",
    )
    (entry,) = (each for each in found.entries if each.member == "uring_cmd")
    assert [(each.number, each.name) for each in entry.ioctls] == [(7, ""), (PLAIN, "TOY_PLAIN")]
    memory = at(only(entry, PLAIN), "arg", "*")
    kind = number(only(entry, PLAIN), "arg", "*", "kind")
    assert (entry.is_whole, memory is not None and memory.record) == (True, "part")
    assert kind is not None
    assert dict(kind.required) == {5: "TOY_FAST"}
    assert at(only(entry, 7), "arg", "*") is None
