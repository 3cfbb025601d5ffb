# SPDX-License-Identifier: Apache-2.0
"""Programs as C: what a compiler takes without a warning, and always the same."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fuzzer.paths import project_root
from fuzzer.program.csource.literals import c_string
from fuzzer.program.csource.source import MAPPED_PAGE, c_source
from fuzzer.program.text import load_program, parse_program
from fuzzer.splat.rules.sanitizers import KASAN
from fuzzer.splat.title import make_title
from fuzzer.target.header import read_headers
from fuzzer.target.target import Target, load_target

PROGRAMS = sorted((project_root() / "module" / "bugs").glob("*.prog")) + sorted(
    (project_root() / "crashes").glob("*/program.prog")
)

FORMS = """\
write(f0, "a=1\\n") split=2
write(f0, "a=1\\n") split=2 cut=1
write(f0, "??=\\x001") null
read(f0, 64) split=8
read(f0, 64) split=8 readonly
read(f0, 64) null fail=2
read(f0, 0xffffffffffffffff)
pread(f0, 0xffffffffffffffff, 4294967295)
pread(f0, 64, 0x300000000)
pread(f0, 64, -1)
pread(f0, 4294967295, 0x7fffffffffffffff)
pwrite(f0, "a=1\\n", 8) readonly
pwrite(f0, "a=1\\n", 0x8000000000000000) count=2
write(f0, "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00pointed to") @0->8 count=8
write(f0, "a=1\\n") split=1 count=2
lseek(f0, -1, SEEK_END)
lseek(f0, 8, 0x80000000)
open(f1, O_RDONLY|O_NONBLOCK)
open(f1, 0x3|O_DSYNC)
dup(f1, f0)
dup(f2, f0)
poll(f0, 0xffff)
mmap(f0, 8192, 1)
mmap(f0, 8192, 1) fail=3
map(f0, 8192, 1)
fork()
unmap(f0, 4096, 1)
store(f0, 7, 0)
epoll(f0, EPOLL_ADD, 0x1)
epoll(f0, EPOLL_WAIT, 0x1) fail=3
fcntl(f0, F_GETFL, 0)
fcntl(f0, F_SETFL, O_NONBLOCK|O_DSYNC|O_ASYNC|0x3)
fcntl(f0, F_SETOWN, 0) fail=1
fcntl(f0, F_SETSIG, 1)
fcntl(f0, F_SETLK, F_WRLCK|0x80010)
fcntl(f0, F_OFD_SETLK, 3)
fcntl(f0, F_GETLK, F_RDLCK)
fcntl(f0, F_SETLEASE, F_UNLCK)
flock(f0, LOCK_EX)
flock(f0, 0x80000041)
fsync(f0, 0)
fsync(f0, 1)
getdents(f0, 0xffffffffffffffff) cut=3
getdents(f0, 0)
fdinfo(f0)
splice_read(f0, 0xffffffffffffffff, SPLICE)
splice_read(f0, 64, SPLICE_KEEP)
splice_read(f0, 64, SENDFILE)
splice_write(f0, "", SPLICE_KEEP)
splice_write(f0, "a\\nb", SPLICE) fail=2
splice_write(f0, "0123456789012345678901234567890123456789012345678901234567890123456789", SENDFILE)
create(f2, EVENTFD)
create(f3, PIPE)
create(f4, MEMFD)
create(f4, TIMERFD)
create(f5, SOCKET)
create(f6, DMA_BUF)
[1] create(f5, NULL_DEVICE)
[2] splice_write(f0, "ab", SPLICE)
ioctl(f0, 0x1234, f2)
child()
open(f6)
write(f6, "a=1\\n") cut=1
[1] read(f6, 4) waits
child()
unload()
exit()
h0 = ioctl(f0, 0x1234)
adopt(f2, h0)
ioctl(f0, 0x1234, next(h0))
read(f0, 16) h1=@8:8
write(f0, "abcd") @0=h1
map(f2, 4096, h1)
ioctl(f0, PKV_IOC_DELETE, {key_len: 32, key: "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"})
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) compat readonly
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) cut=1
ioctl(f0, PKV_IOC_LIST, {room: 1}) null compat
ioctl(f0, PKV_IOC_CLEAR, 0xffff888000000000) compat
ioctl(f0, 0x4008b001, "0123456789abcdef") @0->8 cut=3
ioctl(f0, 0x4008b001, "")
[1] close(f0)
[1] wait(1600)
[2] open(f0)
[2] dup(f1, f0)
[3] read(f0, 4) cut=2 fail=1
read(f0, 4) waits
read(f1, 4) cut=2 waits fail=1
open(f3) waits
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) waits
sleep(5)
close(f3) waits
flip(4, 80)
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) fail=2
flip(0, 80)
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) compat
flip(1:1, 0xff)
write(f0, "a=1\\n")
flip(0:2, 80)
pwrite(f0, "a=1\\n", 8) cut=1
flip(4, 80)
write(f0, "a=1\\n")
flip(0:2, 80)
write(f0, "a=1\\n") split=2
flip(24:8, 80)
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) readonly
flip(8, 80)
h1 = ioctl(f0, PKV_IOC_LIST, {buf: &"abcdefgh", room: 1})
flip(0, 80)
read(f0, 4)
[1] flip(0, 80)
[1] write(f0, "a=1\\n")
[2] flip(0, 80)
[2] write(f0, "a=1\\n") cut=1
unload()
load("lock=rcu") fail=3
"""

MAPPED_FORMS = """\
open(f2)
read(f0, 16) h1=@8:8
map(f2, 4096, h1)
map(f2, 4096, 1, PROT_READ|MAP_PRIVATE)
remap(f2, 8192, 1) fail=1
remap(f2, 8192, 0, REMAP_MOVE)
protect(f2, 4096, 1, PROT_NONE)
advise(f2, 4096, 0, MADV_DONTNEED)
advise(f2, 4096, 0, 63)
store(f2, 0, 0) readonly
store(f2, 0, 0) readonly fail=1
store(f2, 0, 1) fail=1
read(f0, 64) in=f2
read(f0, 0x100000) split=16 in=f2
pread(f0, 64, 1) in=f2
write(f0, "\\x00\\x00") in=f2 fail=1
write(f0, "abc") split=1 in=f2
write(f0, "abcd") in=f2 @0=h1
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) in=f2
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) in=f2
h1 = ioctl(f0, 0x4008b001, "") in=f2
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) points=f2
ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) compat points=f2
write(f0, "0123456789abcdef") count=8 points=f2 @0->8
"""

REQUEST_FORMS = """\
h0 = ioctl(f0, 0x1234)
read(f0, 64) uring
read(f0, 0xffffffffffffffff) uring=LEAVE readonly cut=1
pread(f0, 8, -1) uring=ASYNC
write(f0, "a\\n") uring fail=1 split=1
pwrite(f0, "abcd", 8) uring=ASYNC|LEAVE
write(f0, "\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00pointed to") @0->8 count=8 uring
poll(f0, POLLIN|POLLOUT) uring=LEAVE
ioctl(f0, 0x7) uring=ASYNC
h1 = ioctl(f0, 0x7, h0) uring
ioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"}) uring compat
ioctl(f0, 0x7, "") uring
ioctl(f0, 0x7, "0123456789abcdef") @0->8 uring
child()
read(f0, 8) uring
exit()
[1] write(f0, "ab") uring
[2] ioctl(f0, PKV_IOC_LIST, {buf: &"ab", room: 1}) uring
uring_close()
"""


def check(source: str, target: Target, directory: Path) -> None:
    """Compile without a warning, with what a bundle has and no more."""
    for header in target.headers:
        shutil.copy(header, directory)
    (directory / "repro.c").write_text(source)
    done = subprocess.run(
        ["gcc", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-pthread", "repro.c"],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.returncode, done.stderr + source


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_program_compiles_without_a_warning(
    path: Path, pkv_target: Target, tmp_path: Path
) -> None:
    program = load_program(path, pkv_target)
    source = c_source(program, pkv_target, "a title")
    assert source == c_source(program, pkv_target, "a title")
    assert str(project_root()) not in source
    check(source, pkv_target, tmp_path)


@pytest.mark.parametrize(
    "forms", [FORMS, MAPPED_FORMS, REQUEST_FORMS], ids=["plain", "mapped", "requests"]
)
def test_every_form_of_a_call_compiles_without_a_warning(
    forms: str, pkv_target: Target, tmp_path: Path
) -> None:
    check(c_source(parse_program(forms, pkv_target, "x"), pkv_target), pkv_target, tmp_path)


def test_calls_that_wait_are_ended_where_the_executor_ends_them(pkv_target: Target) -> None:
    text = (
        'read(f0, 4) waits\nwrite(f0, "a")\n[1] write(f0, "b") waits\n'
        "read(f0, 4) waits\nread(f0, 4) waits\nclose(f0)\nunload()\nread(f0, 4) waits\n"
    )
    source = c_source(parse_program(text, pkv_target, "x"), pkv_target)
    run = source[source.index("static void run(void)") :]
    made = re.findall(r"leave_waiting|end_waiting|write|run_threads|close|unload", run)
    assert made[:9] == [
        *("leave_waiting", "write", "end_waiting", "run_threads"),
        *("leave_waiting", "leave_waiting", "close", "end_waiting", "unload"),
    ]
    assert made[9:11] == ["leave_waiting", "end_waiting"]


def test_names_that_are_not_for_user_space_are_written_out(
    pkv_target: Target, tmp_path: Path
) -> None:
    target = replace(pkv_target, prelude=None)
    source = c_source(parse_program(FORMS, target, "x"), target)
    assert "#define PKV_IOC_DELETE\t0x4028bb01\n" in source
    assert "pkv_delete" not in source
    assert '#include "' not in source
    check(source, replace(target, headers=()), tmp_path)


def test_a_header_stands_behind_what_it_needs(pkv_target: Target, tmp_path: Path) -> None:
    header = tmp_path / "bare" / "pkv.h"
    header.parent.mkdir()
    text = pkv_target.headers[0].read_text()
    header.write_text(re.sub(r"#include <.*>\n", "", text).replace("__u32", "u32"))
    assert header.read_text() != text
    prelude = read_headers([header], constants=["PKV_IOC_LIST"], structs=["pkv_list"]).prelude
    target = replace(pkv_target, headers=(header,), prelude=prelude)
    source = c_source(parse_program(FORMS, target, "x"), target)
    assert "struct pkv_delete" in source
    check(source, target, tmp_path)


def test_calls_have_the_headers_names(pkv_target: Target) -> None:
    text = 'write(f0, "a=1\\n")\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\n'
    source = c_source(parse_program(text, pkv_target, "x"), pkv_target)
    assert '\twrite(f0, "a=1\\n", 4);\n' in source
    assert "ioctl(f0, PKV_IOC_DELETE, &(struct pkv_delete){ .key_len = 1, .key = " in source
    assert "thread" not in source.split("int main")[1]


def test_a_number_is_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "numbers.yaml"
    path.write_text(
        "version: 1\nname: numbers\ndevice: /dev/numbers\nmodule: {source: ., name: numbers}\n"
        "calls:\n"
        "  - {ioctl: 1, struct: __u64, fields: {value: {gives: cookie}}}\n"
        "  - {ioctl: 2, struct: __u64, fields: {value: {takes: cookie}}}\n"
        "  - {ioctl: 3, struct: __be32}\n"
        "  - ioctl: LOT\n"
        "    struct: lot\n"
        "    fields:\n"
        "      ids: {struct: __u32, count: [1, 4], fields: {value: {takes: cookie}}}\n"
        "      n: {count_of: ids}\n"
        "header: lot.h\n"
    )
    (tmp_path / "lot.h").write_text(
        "#include <linux/ioctl.h>\n#include <linux/types.h>\n"
        "struct lot { __u64 ids; __u32 n, pad; };\n#define LOT _IOW('l', 1, struct lot)\n"
    )
    target = load_target(path)
    text = (
        "ioctl(f0, 0x1, {value: ->h0})\nioctl(f0, 0x2, {value: h0})\n"
        "ioctl(f0, 0x3, {value: 7})\nioctl(f0, 0x2, {value: 5}) in=f0\n"
        "ioctl(f0, 0x2, {value: 6}) cut=2\n"
        "ioctl(f0, LOT, {ids: &[__u32 {value: h0}, __u32 {value: 3}], n: 2})\n"
    )
    source = c_source(parse_program(text, target, "x"), target)
    assert "\t\t__u64 arg = 0;\n" in source
    assert "cookie_1 = arg;\n" in source
    assert "ioctl(f0, 0x2, &(__u64){ cookie_1 });" in source
    assert "ioctl(f0, 0x3, &(__be32){ htobe32(7) });" in source
    assert "fill(0, &(__u64){ 5 }, sizeof(__u64));" in source
    assert "((__u32 *)((char *)arg + 16))[1] = (__u32){ 3 };" in source
    (tmp_path / "build").mkdir()
    check(source, target, tmp_path / "build")


def test_a_string_is_what_the_compiler_reads_back() -> None:
    assert c_string(b"a\x001??=\xff") == [r'"a\0001?\?=\377"']


def test_a_load_that_fails_is_tried_at_the_next_allocations_as_well(
    pkv_target: Target, tmp_path: Path
) -> None:
    source = c_source(parse_program('unload()\nload("") fail=7\n', pkv_target, "x"), pkv_target)
    check(source, pkv_target, tmp_path)
    assert "\tfail_nth(7 + shift);\n" in source
    assert "\tfor (shift = 0; shift < SHIFTS; shift++)\n\t\trun();\n" in source


def test_what_several_programs_load_is_loaded_once(pkv_target: Target, tmp_path: Path) -> None:
    load = 'close(f0)\nunload()\nload("ttl_ms=1000")\nopen(f0)\n'
    history = [parse_program(load + "read(f0, 8)\n", pkv_target, "x")]
    program = parse_program(load + 'write(f0, "a=1\\n")\n', pkv_target, "x")
    source = c_source(program, pkv_target, "", history)
    check(source, pkv_target, tmp_path)
    assert source.count('load("ttl_ms=1000");') == source.count("\tunload();") == 1
    assert source.index("\tpreload();\n\tbefore_1();\n\trun();") > 0
    # Alone it is loaded and put back, and with threads once for all rounds.
    assert c_source(program, pkv_target).count("\tunload();") == 2
    racing = parse_program(load + '[1] write(f0, "a=1\\n")\n[2] read(f0, 8)\n', pkv_target, "x")
    assert c_source(racing, pkv_target).count("\tunload();") == 1
    # What loads it again is put back to that.
    again = [*history, parse_program(load + "unload()\n", pkv_target, "x")]
    source = c_source(program, pkv_target, "", again)
    check(source, pkv_target, tmp_path)
    assert source.count('load("ttl_ms=1000");') == 2


def test_programs_before_one_compile_without_a_warning(pkv_target: Target, tmp_path: Path) -> None:
    forms = parse_program(FORMS, pkv_target, "x")
    history = [forms, (), forms, forms]
    source = c_source(forms, pkv_target, "a title", history)
    assert source == c_source(forms, pkv_target, "a title", history)
    check(source, pkv_target, tmp_path)


def test_a_flip_is_of_the_next_call_of_its_thread(pkv_target: Target) -> None:
    text = (
        'flip(0, 80)\nioctl(f0, PKV_IOC_DELETE, {key_len: 1, key: "a"})\nwrite(f0, "a=1\\n")\n'
        '[1] flip(0:2, 7)\n[2] write(f0, "b=1\\n")\n[1] write(f0, "c=1\\n")\nflip(0, 1)\n'
    )
    source = c_source(parse_program(text, pkv_target, "test"), pkv_target)
    assert (
        """
		flip(&arg.key_len, sizeof(arg.key_len), 80);
		ioctl(f0, PKV_IOC_DELETE, &arg);
		end_flip();
	}
	write(f0, "a=1\\n", 4);
"""
        in source
    )
    assert (
        """
		char data[] = "c=1\\n";

		flip(data, 2, 7);
		write(f0, data, 4);
		end_flip();
"""
        in source
    )
    assert source.count("\tflip(") == 2
    assert "taint() == before" in source


def test_calls_of_another_process_are_made_behind_a_fork(pkv_target: Target) -> None:
    text = (
        "child()\nopen(f1)\nunload()\n[1] read(f1, 4) waits\nexit()\nclose(f1)\n"
        "child()\nclose(f0)\nchild()\n"
    )
    source = c_source(parse_program(text, pkv_target, "test"), pkv_target)
    first = (
        "\tif (!fork()) {\n\t\tf1 = open(DEVICE, O_RDWR);\n\t\tread(f1, buffer, 4);\n"
        "\t\t_exit(0);\n\t}\n\twait(NULL);\n\tclose(f1);\n"
    )
    assert first in source
    # What the second one does lasts to its end, and leaves the file open here.
    second = "\tif (!fork()) {\n\t\tclose(f0);\n\t\tf0 = -1;\n\t\t_exit(0);\n\t}\n\twait(NULL);\n"
    assert second in source
    assert source.count("fork()") == 2
    assert source.index(second) < source.rindex("\tclose(f0);\n")
    assert "unload" not in source
    assert "pthread_create" not in source


def test_a_buffer_in_a_mapping_is_filled_before_the_call(pkv_target: Target) -> None:
    text = (
        'map(f1, 4096, 1)\nread(f0, 8) in=f1\nwrite(f0, "ab") in=f1 fail=2\n'
        'write(f0, "\\x00\\x00") in=f1\nprotect(f1, 4096, 1, PROT_READ|PROT_WRITE)\n'
    )
    source = c_source(parse_program(text, pkv_target, "test"), pkv_target)
    assert (
        """
	map(1, f1, 1, 4096, PROT_READ | PROT_WRITE, MAP_SHARED);
	read(f0, maps[1].base, 8);
	fill(1, "ab", 2);
	fail_nth(2);
	write(f0, maps[1].base, 2);
	fail_nth(0);
	write(f0, maps[1].base, 2);
	mprotect(maps[1].base + 4096, 4096, PROT_READ | PROT_WRITE);
"""
        in source
    )


def test_requests_in_a_ring_are_of_one_ring_up_to_its_end(pkv_target: Target) -> None:
    text = (
        'read(f0, 8) uring\nwrite(f0, "ab") uring=ASYNC|LEAVE cut=1 split=1\n'
        'poll(f0, POLLIN) uring\nh0 = ioctl(f0, 0x7) uring\nioctl(f0, 0x7, "ab") uring\n'
        "uring_close()\nchild()\nioctl(f0, 0x7, h0) uring\nexit()\n"
    )
    source = c_source(parse_program(text, pkv_target, "test"), pkv_target)
    assert (
        """
	ring_request(f0, IORING_OP_READ, buffer, 8, -1, 0, RING_WAIT);
	ring_request(f0, IORING_OP_WRITE, "ab", 2, -1, IOSQE_ASYNC, RING_LEAVE);
	ring_request(f0, IORING_OP_POLL_ADD, NULL, 0, POLLIN, 0, RING_WAIT);
	give(&h0, ring_command(f0, 0x7, &(uint64_t){ 0 }, 8, 0, RING_WAIT));
	{
		char *data = before_gap(2);

		memcpy(data, "ab", 2);
		ring_command(f0, 0x7, data, 2, 0, RING_WAIT);
	}
	close_ring();
	if (!fork()) {
		close_ring();
		ring_command(f0, 0x7, &(uint64_t){ h0 }, 8, 0, RING_WAIT);
"""
        in source
    )
    assert source.rindex("close(f0);") < source.rindex("close_ring();")


def test_pages_that_were_freed_while_mapped_are_looked_for(pkv_target: Target) -> None:
    program = parse_program("map(f0, 4096, 0)\n", pkv_target, "test")
    freed = make_title(
        KASAN[2], cast(re.Match[str], re.match(r"(.*)", "use-after-free")), [], "write_mem"
    )
    assert freed.endswith(MAPPED_PAGE)
    assert "\tlook_through(0);" in c_source(program, pkv_target, freed)
    assert "look_through" not in c_source(program, pkv_target, "KASAN: another")
