# SPDX-License-Identifier: Apache-2.0
"""Program text: readable, located errors, and no loss in either direction."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzzer.errors import BadInputError
from fuzzer.paths import project_root
from fuzzer.program.ops import Op
from fuzzer.program.program import Call, Fixup, Program
from fuzzer.program.text import format_program, load_program, parse_program, reset_program
from fuzzer.program.wire import decode, encode
from fuzzer.target.target import ResetKind, ResetSpec, Target, load_target

TARGET = load_target(Path(__file__).parent / "data" / "demo" / "demo.yaml")
NUMBERS = {name: TARGET.constants[f"DEMO_IOC_{name}"] for name in ("CLEAR", "DELETE", "LIST")}

# Each line is written as it is printed.
LINES = [
    (r'write(f0, "a=1\n")', Call(Op.WRITE, data=b"a=1\n")),
    (r'write(f7, "\t\\\"\x00\xff~")', Call(Op.WRITE, 7, data=b'\t\\"\0\xff~')),
    ('write(f0, "# (no, comment)")', Call(Op.WRITE, data=b"# (no, comment)")),
    ("read(f0, 64)", Call(Op.READ, arg=64)),
    ("read(f0, 0xffffffffffffffff)", Call(Op.READ, arg=(1 << 64) - 1)),
    ("pread(f0, 64, 128)", Call(Op.PREAD, arg=64, cmd=128)),
    ('pwrite(f0, "x", 8)', Call(Op.PWRITE, data=b"x", cmd=8)),
    ("pread(f0, 1, 0x300000000)", Call(Op.PREAD, flags=0x20, arg=3 << 32 | 1)),
    ("pread(f0, 1, -1)", Call(Op.PREAD, 0, 0x20, 0xFFFFFFFF, 0xFFFFFFFF << 32 | 1)),
    (
        "pread(f0, 0xffffffff, 0x7fffffffffffffff) readonly",
        Call(Op.PREAD, 0, 0x28, 0xFFFFFFFF, 0x7FFFFFFFFFFFFFFF),
    ),
    ("pread(f0, 0x100000000, 0xffffffff)", Call(Op.PREAD, arg=1 << 32, cmd=0xFFFFFFFF)),
    ('pwrite(f0, "x", 0x100000008)', Call(Op.PWRITE, 0, 0x20, 8, 1 << 32, b"x")),
    ('write(f0, "ab") count=1 @0->1', Call(Op.WRITE, 0, 0x40, 0, 1, b"ab", (Fixup(0, 1),))),
    ('write(f0, "ab") split=1 count=1', Call(Op.WRITE, 0, 0x42, 1, 1, b"ab")),
    (
        'pwrite(f0, "ab", 0x100000008) null count=0',
        Call(Op.PWRITE, 0, 0x64, 8, 1 << 32, b"ab"),
    ),
    ("open(f1)", Call(Op.OPEN, 1, cmd=2)),
    ("open(f1, O_RDONLY|O_NONBLOCK)", Call(Op.OPEN, 1, cmd=0o4000)),
    ("open(f1, 0x3|O_APPEND|0x80000000)", Call(Op.OPEN, 1, cmd=0x80000403)),
    ("close(f1)", Call(Op.CLOSE, 1)),
    ("lseek(f0, -1, SEEK_END)", Call(Op.LSEEK, arg=(1 << 64) - 1, cmd=2)),
    ("lseek(f0, 8, 77)", Call(Op.LSEEK, arg=8, cmd=77)),
    ("poll(f0, 0x5)", Call(Op.POLL, cmd=5)),
    ("mmap(f0, 4096, 0)", Call(Op.MMAP, arg=4096)),
    ("mmap(f0, 4096, h1)", Call(Op.MMAP, arg=4096, fixups=(Fixup(0xFFFF, 0xF101),))),
    ("mmap(f0, 4096, 7) @arg=h1", Call(Op.MMAP, 0, 0, 7, 4096, b"", (Fixup(0xFFFF, 0xF101),))),
    ("map(f1, 8192, 1)", Call(Op.MAP, 1, cmd=1, arg=8192)),
    ("map(f1, 8192, h0)", Call(Op.MAP, 1, arg=8192, fixups=(Fixup(0xFFFF, 0xF100),))),
    ("unmap(f1, 4096, 1)", Call(Op.UNMAP, 1, cmd=1, arg=4096)),
    ("store(f1, 7, 1)", Call(Op.STORE, 1, cmd=1, arg=7)),
    ("map(f1, 8192, 0, PROT_READ)", Call(Op.MAP, 1, arg=8192, mode=2)),
    (
        "map(f1, 8192, h0, PROT_READ|PROT_WRITE|MAP_PRIVATE)",
        Call(Op.MAP, 1, arg=8192, fixups=(Fixup(0xFFFF, 0xF100),), mode=8),
    ),
    ("map(f1, 8192, 0, PROT_NONE)", Call(Op.MAP, 1, arg=8192, mode=3)),
    ("map(f1, 8192, 0, PROT_EXEC|0x10)", Call(Op.MAP, 1, arg=8192, mode=0x17)),
    ("store(f1, 0, 1) readonly", Call(Op.STORE, 1, 8, 1)),
    ("remap(f1, 8192, 1)", Call(Op.REMAP, 1, cmd=1, arg=8192)),
    ("remap(f1, 8192, 0, REMAP_MOVE) fail=1", Call(Op.REMAP, 1, arg=8192, mode=1, fault=1)),
    ("remap(f1, 8192, 0, 3)", Call(Op.REMAP, 1, arg=8192, mode=3)),
    ("protect(f1, 4096, 1, PROT_READ)", Call(Op.PROTECT, 1, cmd=1, arg=4096, mode=1)),
    ("protect(f1, 4096, 1, PROT_NONE)", Call(Op.PROTECT, 1, cmd=1, arg=4096)),
    ("advise(f1, 4096, 1, MADV_DONTNEED)", Call(Op.ADVISE, 1, cmd=1, arg=4096, mode=4)),
    ("advise(f1, 4096, 1, 100)", Call(Op.ADVISE, 1, cmd=1, arg=4096, mode=100)),
    ("read(f0, 64) in=f1", Call(Op.READ, arg=64, mode=2)),
    ('write(f0, "ab") fail=1 cut=1 in=f7', Call(Op.WRITE, data=b"ab", fault=1, cut=1, mode=8)),
    ('ioctl(f0, 0x1, "") readonly in=f0', Call(Op.IOCTL, cmd=1, flags=8, mode=1)),
    ("read(f0, 64) null !mode=0x1", Call(Op.READ, arg=64, flags=4, mode=1)),
    ("read(f0, 64) !mode=0x9", Call(Op.READ, arg=64, mode=9)),
    ("ioctl(f0, 0x1) !mode=0x1", Call(Op.IOCTL, cmd=1, flags=1, mode=1)),
    (
        'ioctl(f0, 0x1, "ab") points=f1 @0->1',
        Call(Op.IOCTL, 0, 0, 1, 0, b"ab", (Fixup(0, 1),), mode=0x42),
    ),
    ('write(f0, "ab") null points=f7', Call(Op.WRITE, 0, 4, data=b"ab", mode=0x48)),
    ('write(f0, "ab") !mode=0x49', Call(Op.WRITE, data=b"ab", mode=0x49)),
    ("read(f0, 64) !mode=0x41", Call(Op.READ, arg=64, mode=0x41)),
    ("close(f0) !mode=0xff", Call(Op.CLOSE, mode=255)),
    ("uring_close()", Call(Op.URING_CLOSE)),
    ("read(f1, 64) uring", Call(Op.READ, 1, arg=64, mode=0x80)),
    ("poll(f0, 0x1) uring=LEAVE", Call(Op.POLL, cmd=1, mode=0x82)),
    (
        'pwrite(f0, "ab", 8) fail=1 uring=ASYNC|LEAVE',
        Call(Op.PWRITE, 0, 0, 8, data=b"ab", fault=1, mode=0x83),
    ),
    ('ioctl(f0, 0x1, "ab") uring=ASYNC', Call(Op.IOCTL, cmd=1, data=b"ab", mode=0x81)),
    ("ioctl(f0, 0x1, 7) uring", Call(Op.IOCTL, flags=1, cmd=1, arg=7, mode=0x80)),
    ("read(f0, 64) !mode=0x84", Call(Op.READ, arg=64, mode=0x84)),
    ("read(f0, 64) !mode=0xc1", Call(Op.READ, arg=64, mode=0xC1)),
    ("fork()", Call(Op.FORK)),
    ("epoll(f1, EPOLL_DELETE, 0x1)", Call(Op.EPOLL, 1, cmd=1, arg=2)),
    ("epoll(f1, 4, 0x1)", Call(Op.EPOLL, 1, cmd=1, arg=4)),
    ("fcntl(f1, F_GETFL, 0)", Call(Op.FCNTL, 1)),
    ("fcntl(f1, F_SETFL, O_NONBLOCK|O_ASYNC)", Call(Op.FCNTL, 1, cmd=0o24000, arg=1)),
    ("fcntl(f1, F_SETFL, 0)", Call(Op.FCNTL, 1, arg=1)),
    ("fcntl(f1, F_SETOWN, 0)", Call(Op.FCNTL, 1, arg=2)),
    ("fcntl(f1, F_SETLK, F_WRLCK|0x80010)", Call(Op.FCNTL, 1, cmd=0x80011, arg=5)),
    ("fcntl(f1, F_SETLEASE, F_UNLCK)", Call(Op.FCNTL, 1, cmd=2, arg=7)),
    ("flock(f1, LOCK_EX)", Call(Op.FLOCK, 1, cmd=2)),
    ("fsync(f1, 1)", Call(Op.FSYNC, 1, cmd=1)),
    ("getdents(f1, 4096)", Call(Op.GETDENTS, 1, arg=4096)),
    ("fdinfo(f1)", Call(Op.FDINFO, 1)),
    ("splice_read(f1, 64, SPLICE_KEEP)", Call(Op.SPLICE_READ, 1, cmd=1, arg=64)),
    ('splice_write(f1, "a\\n", SENDFILE)', Call(Op.SPLICE_WRITE, 1, cmd=2, data=b"a\n")),
    ("child()", Call(Op.CHILD)),
    ("exit()", Call(Op.EXIT)),
    ("create(f1, MEMFD)", Call(Op.CREATE, 1, cmd=2)),
    ("create(f1, DMA_BUF)", Call(Op.CREATE, 1, cmd=6)),
    ("adopt(f1, h0)", Call(Op.ADOPT, 1, fixups=(Fixup(0xFFFF, 0xF100),))),
    ("adopt(f1, 3)", Call(Op.ADOPT, 1, arg=3)),
    ("h7 = ioctl(f0, 0x1)", Call(Op.IOCTL, 0, 1, 1, 0, b"", (Fixup(0xFFFF, 0xF007),))),
    ("[1] h7 = read(f0, 8)", Call(Op.READ, arg=8, fixups=(Fixup(0xFFFF, 0xF007),), thread=1)),
    ("ioctl(f0, 0x1, next(h2))", Call(Op.IOCTL, 0, 1, 1, 0, b"", (Fixup(0xFFFF, 0xF202),))),
    ("ioctl(f0, 0x1, last(f2))", Call(Op.IOCTL, 0, 1, 1, 0, b"", (Fixup(0xFFFF, 0xF342),))),
    ("read(f0, 8) h1=@4", Call(Op.READ, arg=8, fixups=(Fixup(4, 0xF001),))),
    ("read(f0, 8) h1=@0:8", Call(Op.READ, arg=8, fixups=(Fixup(0, 0xF081),))),
    ('write(f0, "abcd") @0=h1', Call(Op.WRITE, data=b"abcd", fixups=(Fixup(0, 0xF101),))),
    ('write(f0, "abcd") @0=f1:8', Call(Op.WRITE, data=b"abcd", fixups=(Fixup(0, 0xF1C1),))),
    # Bits that say nothing are kept.
    ("read(f0, 8) @0->61497", Call(Op.READ, arg=8, fixups=(Fixup(0, 0xF039),))),
    (
        "read(f0, 8) h1=ret @0->1",
        Call(Op.READ, 0, 0, 0, 8, b"", (Fixup(-1 & 0xFFFF, 0xF001), Fixup(0, 1))),
    ),
    ("ioctl(f0, DEMO_IOC_CLEAR)", Call(Op.IOCTL, flags=1, cmd=NUMBERS["CLEAR"])),
    ("ioctl(f0, 0x6404, 7)", Call(Op.IOCTL, flags=1, cmd=0x6404, arg=7)),
    ("ioctl(f0, 0x1)", Call(Op.IOCTL, flags=1, cmd=1)),
    ('ioctl(f0, 0x1, "")', Call(Op.IOCTL, cmd=1)),
    (
        'ioctl(f0, DEMO_IOC_DELETE, {key_len: 1, key: "a"})',
        Call(Op.IOCTL, cmd=NUMBERS["DELETE"], data=b"\1\0\0\0a".ljust(20, b"\0")),
    ),
    ("ioctl(f0, DEMO_IOC_DELETE, {})", Call(Op.IOCTL, cmd=NUMBERS["DELETE"], data=bytes(20))),
    (
        'ioctl(f0, DEMO_IOC_DELETE, "short")',
        Call(Op.IOCTL, cmd=NUMBERS["DELETE"], data=b"short"),
    ),
    (
        "ioctl(f0, DEMO_IOC_LIST, {buf: &[4], delta: -2})",
        Call(
            Op.IOCTL,
            cmd=NUMBERS["LIST"],
            data=bytes(16) + b"\xfe\xff\xff\xff" + bytes(8),
            fixups=(Fixup(0, 24),),
        ),
    ),
    (
        'ioctl(f0, DEMO_IOC_LIST, {buf: &"ab", size: 2})',
        Call(
            Op.IOCTL,
            cmd=NUMBERS["LIST"],
            data=bytes(8) + b"\2" + bytes(15) + b"ab",
            fixups=(Fixup(0, 24),),
        ),
    ),
    (
        'ioctl(f0, 0x4008b001, "raw\\x00bytes") @8->16',
        Call(Op.IOCTL, cmd=0x4008B001, data=b"raw\0bytes", fixups=(Fixup(8, 16),)),
    ),
    (
        'close(f0) @1->2 !flags=0x4 !cmd=0x1 !arg=0x2 !data="x"',
        Call(Op.CLOSE, 0, 4, 1, 2, b"x", (Fixup(1, 2),)),
    ),
    ("sleep(100)", Call(Op.SLEEP, arg=100)),
    ("unload()", Call(Op.UNLOAD)),
    ('load("ttl_ms=50")', Call(Op.LOAD, data=b"ttl_ms=50")),
    ('load("")', Call(Op.LOAD)),
    ("flip(8, 80)", Call(Op.FLIP, cmd=8, arg=80)),
    ("[1] flip(8:2, 80)", Call(Op.FLIP, cmd=0x20008, arg=80, thread=1)),
    ("flip(65535:8, 0xffffffffffffffff)", Call(Op.FLIP, cmd=0x3FFFF, arg=(1 << 64) - 1)),
    ("flip(0:1, 1) !cmd=0xfff10000", Call(Op.FLIP, cmd=0xFFF10000, arg=1)),
    ("[2] wait(160000)", Call(Op.WAIT, arg=160000, thread=2)),
    ("[1] read(f0, 64)", Call(Op.READ, arg=64, thread=1)),
    ("read(f0, 64) fail=3", Call(Op.READ, arg=64, fault=3)),
    ("read(f0, 64) cut=4", Call(Op.READ, arg=64, cut=4)),
    ("dup(f1, f0)", Call(Op.DUP, 1)),
    ("dup(f0, f7) fail=1", Call(Op.DUP, cmd=7, fault=1)),
    ("dup(f0, f1) !cmd=0x9", Call(Op.DUP, cmd=9)),
    ("read(f0, 64) split=8", Call(Op.READ, arg=64, cmd=8, flags=2)),
    ('write(f0, "a=1") split=0', Call(Op.WRITE, data=b"a=1", flags=2)),
    ("read(f0, 9) split=0xffffffff readonly", Call(Op.READ, arg=9, cmd=0xFFFFFFFF, flags=10)),
    ('write(f0, "a") split=1 null fail=2', Call(Op.WRITE, data=b"a", cmd=1, flags=6, fault=2)),
    ("pread(f0, 64, 128) null", Call(Op.PREAD, arg=64, cmd=128, flags=4)),
    ('pwrite(f0, "x", 8) readonly cut=1', Call(Op.PWRITE, data=b"x", cmd=8, flags=8, cut=1)),
    ("ioctl(f0, DEMO_IOC_CLEAR) compat", Call(Op.IOCTL, flags=0x11, cmd=NUMBERS["CLEAR"])),
    ("ioctl(f0, 0x6404, 7) compat", Call(Op.IOCTL, flags=0x11, cmd=0x6404, arg=7)),
    (
        '[1] ioctl(f0, 0x1, "ab") readonly compat cut=1 @0->1',
        Call(Op.IOCTL, 0, 0x18, 1, 0, b"ab", (Fixup(0, 1),), 0, 1, 1),
    ),
    (
        "ioctl(f0, DEMO_IOC_DELETE, {}) null compat",
        Call(Op.IOCTL, flags=0x14, cmd=NUMBERS["DELETE"], data=bytes(20)),
    ),
    # What no words tell: a flag that the operation ignores, or that another one makes void.
    ("read(f0, 64) !flags=0x1", Call(Op.READ, arg=64, flags=1)),
    ("read(f0, 64) split=2 waits", Call(Op.READ, arg=64, cmd=2, flags=0x82)),
    ("open(f1) waits", Call(Op.OPEN, 1, cmd=2, flags=0x80)),
    ("read(f0, 64) !flags=0x42 !cmd=0x8", Call(Op.READ, arg=64, cmd=8, flags=0x42)),
    ("pread(f0, 64, 8) !flags=0x2", Call(Op.PREAD, arg=64, cmd=8, flags=2)),
    ("pread(f0, 64, 8) !flags=0x20", Call(Op.PREAD, arg=64, cmd=8, flags=0x20)),
    ("pread(f0, 64, 8) !flags=0x24", Call(Op.PREAD, arg=64, cmd=8, flags=0x24)),
    ("pread(f0, 1, 0x100000000) !flags=0x21", Call(Op.PREAD, arg=1 << 32 | 1, flags=0x21)),
    ('write(f0, "") !flags=0x40 !arg=0x100000000', Call(Op.WRITE, flags=0x40, arg=1 << 32)),
    ('pwrite(f0, "x", 8) !arg=0x100000000', Call(Op.PWRITE, cmd=8, arg=1 << 32, data=b"x")),
    ('write(f0, "") !flags=0xc', Call(Op.WRITE, flags=0xC)),
    ("read(f0, 64) cut=4 !flags=0x4", Call(Op.READ, arg=64, flags=4, cut=4)),
    ("ioctl(f0, 0x1) !flags=0x9", Call(Op.IOCTL, cmd=1, flags=9)),
    ('load("") !flags=0x8', Call(Op.LOAD, flags=8)),
    (
        '[3] load("") fail=65535 cut=65535 @1->2 !file=0x7 !arg=0x1',
        Call(Op.LOAD, 7, 0, 0, 1, b"", (Fixup(1, 2),), 65535, 65535, 3),
    ),
    ("sleep(1) !file=0x1 !flags=0x2 !cmd=0x3", Call(Op.SLEEP, 1, 2, 3, 1)),
    (
        "ioctl(f0, DEMO_IOC_CLEAR) !flags=0x3",
        Call(Op.IOCTL, flags=3, cmd=NUMBERS["CLEAR"]),
    ),
]


@pytest.mark.parametrize(("line", "call"), LINES)
def test_a_line_is_a_call_and_back(line: str, call: Call) -> None:
    assert parse_program(line, TARGET, "x") == (call,)
    assert format_program((call,), TARGET) == line + "\n"


def test_comments_blank_lines_spaces_and_line_ends_do_not_matter() -> None:
    text = "# first\n\n  read ( f0 , 0x40 ) # sixty-four\r\n\tpoll(f0,POLLIN|POLLOUT)\n"
    assert parse_program(text, None, "x") == (Call(Op.READ, arg=64), Call(Op.POLL, cmd=5))


def test_suffixes_may_be_in_any_order() -> None:
    text = "[ 2 ] read(f0, 1) !cmd=1 cut=0x4 @1->2 fail=3"
    call = Call(Op.READ, cmd=1, arg=1, fixups=(Fixup(1, 2),), fault=3, cut=4, thread=2)
    assert parse_program(text, None, "x") == (call,)
    text = 'write(f0,"ab")cut = 1 readonly fail=2@1->2 split\t=\t0x3'
    call = Call(Op.WRITE, 0, 10, 3, 0, b"ab", (Fixup(1, 2),), 2, 1)
    assert parse_program(text, None, "x") == (call,)
    text = "ioctl(f0, 1) compat !arg=3"
    assert parse_program(text, None, "x") == (Call(Op.IOCTL, flags=0x11, cmd=1, arg=3),)


def test_text_beyond_ascii_is_utf8() -> None:
    assert parse_program('write(f0, "é")', None, "x") == (Call(Op.WRITE, data="é".encode()),)


def test_members_may_be_macros_and_are_cut_to_their_width() -> None:
    text = "ioctl(f0, DEMO_IOC_LIST, {flags: DEMO_F_DEEP|DEMO_F_FAST, delta: -1})"
    (call,) = parse_program(text, TARGET, "x")
    assert call.data[12:20] == b"\1\0\0\x80" + b"\xff" * 4


MISTAKES = [
    ("raed(f0, 1)", "no call 'raed'; did you mean read? allowed: open, close, read"),
    ("read(f8, 1)", "no file 'f8'; allowed: f0 to f7"),
    ("read(f0)", "')' where ',' is expected"),
    ("read(f0, )", "')' where a count of bytes, a number or a name, is expected"),
    ("read(f0, 1", "the end of the line where ')' is expected"),
    ("read(f0, 1) 2", "'2' after the call"),
    ("read(f0, 12ab)", "cannot read '12ab)'"),
    ("read(f0, 0x10000000000000000)", "a count of bytes is 18446744073709551616"),
    ('read(f0, "1")', "where a count of bytes, a number"),
    ("write(f0, 1)", "'1' where what to write, a string, is expected"),
    ('write(f0, "abc)', "cannot read '\"abc)'"),
    (r'write(f0, "\q")', r"unknown escape \q"),
    (r'write(f0, "\x1")', r"unknown escape \x"),
    ("lseek(f0, 0, SEEK_NOWHERE)", "no value for SEEK_NOWHERE; the description's are DEMO_IOC"),
    ("ioctl(f0, DEMO_IOC_NOPE)", "no value for DEMO_IOC_NOPE"),
    ("ioctl(f0, 0x1, {a: 1})", "no struct is described for ioctl 0x1"),
    ("ioctl(f0, DEMO_IOC_DELETE, {kay: 1})", "no member kay; did you mean key? it has key_len"),
    ("ioctl(f0, DEMO_IOC_DELETE, {key: 1})", "key takes a string of up to 16 bytes"),
    ('ioctl(f0, DEMO_IOC_DELETE, {key: "12345678901234567"})', "key is 17 bytes; 16 fit"),
    ('ioctl(f0, DEMO_IOC_DELETE, {key_len: "1"})', "key_len takes an integer of 4 bytes"),
    ("ioctl(f0, DEMO_IOC_DELETE, {key_len: 1, key_len: 2})", "key_len is given twice"),
    ("ioctl(f0, DEMO_IOC_DELETE, {key_len: 0x100000000})", "key_len is 4294967296"),
    ("ioctl(f0, DEMO_IOC_DELETE, {key: &[4]})", "key is not 64 or 32 bits wide"),
    ("ioctl(f0, DEMO_IOC_LIST, {buf: &[65536]})", "a buffer of 65536 bytes; 65535 is allowed"),
    ("ioctl(f0, DEMO_IOC_LIST, {buf: &[65535]})", "a payload of 65559 bytes; 65535 is allowed"),
    (
        "close(f0) !file=1",
        "'!file' after the call; allowed there: waits, fail=, cut=, !flags=",
    ),
    ("unload() !file=8", "file is 8; 0 to 7 is allowed"),
    ("unload() !file=1 !file=1", "!file is given twice"),
    ("unload() !fault=1", "allowed there: fail=, cut=, !file=, !flags=, !cmd=, !arg=, !mode="),
    ("unload(f0)", "'f0' where ')' is expected"),
    ("flip(8:3, 1)", "a flip of 3 bytes; 1, 2, 4 or 8 are allowed"),
    ("flip(8:9, 1)", "the bytes of a flip is 9; 1 to 8 is allowed"),
    ("flip(0x10000, 1)", "a place in the buffer is 65536, which does not fit in 16 bits"),
    ("flip(8)", "')' where ',' is expected"),
    ("protect(f0, 4096, 0)", "')' where ',' is expected"),
    ("protect(f0, 4096, 0, 256)", "a protection is 256; 0 to 255 is allowed"),
    ("read(f0, 1) in=f8", "no file 'f8'; allowed: f0 to f7"),
    ("read(f0, 1) in=f0 null", "null and in contradict each other; give one of them"),
    ('ioctl(f0, 1, "") compat in=f0', "compat and in contradict each other"),
    ("read(f0, 1) in=f0 !mode=2", "in and !mode contradict each other"),
    ('ioctl(f0, 1, "") in=f0 points=f0', "in and points contradict each other"),
    ("read(f0, 1) points=f0", "'points' after the call; allowed there: split=, null"),
    ("close(f0) in=f0", "'in' after the call; allowed there: waits, fail=, cut=, !flags="),
    ("sleep()", "')' where milliseconds, a number or a name, is expected"),
    ("load()", "')' where the module's parameters, a string, is expected"),
    ("[4] close(f0)", "the thread is 4; 1 to 3 is allowed"),
    ("[0] close(f0)", "the thread is 0; 1 to 3 is allowed"),
    ("[1 close(f0)", "'close' where ']' is expected"),
    ("[1]", "the end of the line where a call is expected"),
    ("close(f0) fail=0", "fail is 0; 1 to 65535 is allowed"),
    ("close(f0) fail=65536", "fail is 65536; 1 to 65535 is allowed"),
    ("close(f0) fail=1 fail=2", "fail is given twice"),
    ("close(f0) cut=-1", "cut is -1; 1 to 65535 is allowed"),
    ("close(f0) cut 1", "'1' where '=' is expected"),
    ("close(f0) fall=1", "'fall' after the call"),
    ("close(f0) !cmd=1 !cmd=2", "!cmd is given twice"),
    ("dup(f0)", "')' where ',' is expected"),
    ("dup(f0, 1)", "'1' where a file, f0 to f7, is expected"),
    ("dup(f0, f8)", "no file 'f8'; allowed: f0 to f7"),
    ("close(f0) null", "'null' after the call; allowed there: waits, fail=, cut=,"),
    (
        "read(f0, 1) compat",
        "'compat' after the call; allowed there: split=, null, readonly, waits",
    ),
    ('write(f0, "") compat', "'compat' after the call; allowed there: split=, null, readonly,"),
    (
        "pread(f0, 1, 0) split=1",
        "'split' after the call; allowed there: null, readonly, waits",
    ),
    ("ioctl(f0, 1) split=1", "'split' after the call; allowed there: compat, waits, fail="),
    ("ioctl(f0, 1) readonly", "'readonly' after the call; allowed there: compat, waits, fail="),
    ('ioctl(f0, 1, "") split=1', "allowed there: null, readonly, compat, waits, fail="),
    ('load("") readonly', "'readonly' after the call; allowed there: fail="),
    ("read(f0, 1) null null", "null is given twice"),
    ("read(f0, 1) null=1", "'=' after the call; allowed there: split="),
    ("read(f0, 1) null readonly", "null and readonly contradict each other; give one of them"),
    ("read(f0, 1) cut=1 null", "null and cut contradict each other"),
    ("read(f0, 1) !flags=4 null", "null and !flags contradict each other"),
    ("pread(f0, 0x100000000, 0x100000000)", "a count of 4294967296; 4294967295 fits beside an"),
    ("pread(f0, 1, 0x10000000000000000)", "an offset is 18446744073709551616"),
    ("read(f0, 1) count=1", "'count' after the call; allowed there: split=, null"),
    ('write(f0, "") count=1 !arg=1', "count and !arg contradict each other"),
    ("read(f0, 1) split=1 !cmd=1", "split and !cmd contradict each other"),
    ("read(f0, 1) split", "the end of the line where '=' is expected"),
    ("read(f0, 1) split=-1", "split is -1; 0 to 4294967295 is allowed"),
    ("read(f0, 1) split=0x100000000", "split is 4294967296; 0 to 4294967295 is allowed"),
    ("close(f0) !flags=256", "flags is 256, which does not fit in 8 bits"),
    ("close(f0)" + " @0->0" * 33, "33 fixups; 32 are allowed"),
    ("close(f0) @65536->0", "does not fit in 16 bits"),
    ("read(f0, " + "9" * 5000 + ")", "cannot read '999"),
    ("close(f0)\n" * 129, "the program is too long; 128 calls"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_a_mistake_is_located_and_explained(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as caught:
        parse_program("# one\n" + text, TARGET, "some.prog")
    line = 130 if "\n" in text else 2
    assert str(caught.value).startswith(f"some.prog:{line}: ")
    assert message in str(caught.value)


numbers = st.sampled_from([*NUMBERS.values(), 0x6404, 0]) | st.integers(0, 0xFFFFFFFF)
places = st.sampled_from([0, 8, 16, 20, 24, 25]) | st.integers(0, 0xFFFF)
calls = st.builds(
    Call,
    st.sampled_from([*Op, Op.IOCTL, Op.IOCTL, Op.IOCTL]),
    st.integers(0, 7),
    st.just(0) | st.integers(0, 255),
    numbers,
    st.just(0) | st.integers(0, (1 << 64) - 1),
    st.binary(max_size=40) | st.binary(max_size=8).map(lambda data: data.rjust(28, b"\0")),
    st.lists(st.builds(Fixup, places, places), max_size=8).map(tuple),
    st.just(0) | st.integers(0, 0xFFFF),
    st.just(0) | st.integers(0, 0xFFFF),
    st.just(0) | st.integers(0, 3),
    st.integers(0, 9) | st.integers(0, 255),
)


@given(st.lists(calls, max_size=8).map(tuple), st.sampled_from((TARGET, None)))
def test_any_program_survives_text(program: Program, target: Target | None) -> None:
    text = format_program(program, target)
    parsed = parse_program(text, target, "x")
    assert parsed == program
    assert format_program(parsed, target) == text


@given(st.binary(max_size=300))
def test_any_bytes_survive_text_in_their_canonical_form(data: bytes) -> None:
    canonical = encode(decode(data))
    assert encode(parse_program(format_program(decode(data), TARGET), TARGET, "x")) == canonical


@given(st.text())
def test_any_text_is_a_program_or_bad_input(text: str) -> None:
    with contextlib.suppress(BadInputError):
        format_program(parse_program(text, TARGET, "x"), TARGET)


def test_a_struct_with_a_flexible_array_and_pointers(tmp_path: Path) -> None:
    (tmp_path / "x.ko").touch()
    (tmp_path / "x.h").write_text("struct s { void *a; void *b; int n; int m; char tail[]; };\n")
    (tmp_path / "x.yaml").write_text(
        "version: 1\nname: x\ndevice: /dev/x\nmodule: {object: x.ko, name: x}\nheader: x.h\n"
        "calls: [{ioctl: 5, struct: s}]\n"
    )
    target = load_target(tmp_path / "x.yaml")
    text = 'ioctl(f0, 0x5, {a: &"one", b: &[2], m: 9, tail: "t\\x00"})\n'
    (call,) = parse_program(text, target, "x")
    assert call.data == bytes(20) + b"\x09\0\0\0" + b"t\0" + b"one" + b"\0\0"
    assert call.fixups == (Fixup(0, 26), Fixup(8, 29))
    assert format_program((call,), target) == text


def test_files_are_text_or_wire_by_their_name(tmp_path: Path) -> None:
    program = (Call(Op.READ, arg=3),)
    (tmp_path / "a.prog").write_text("read(f0, 3)\n")
    (tmp_path / "abcdef").write_bytes(encode(program) + b"tail")
    assert load_program(tmp_path / "a.prog", None) == program
    assert load_program(tmp_path / "abcdef", None) == program


def test_files_that_cannot_be_read_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No such file"):
        load_program(tmp_path / "none.prog", None)
    with pytest.raises(BadInputError, match="Is a directory"):
        load_program(tmp_path, None)
    (tmp_path / "bad.prog").write_bytes(b"\n\xff")
    with pytest.raises(BadInputError, match=r"bad\.prog:2: not UTF-8"):
        load_program(tmp_path / "bad.prog", None)


def test_reset_calls_are_parsed_with_the_descriptions_names() -> None:
    first, second = reset_program(TARGET)
    assert (first.cmd, first.arg) == (NUMBERS["CLEAR"], 0)
    assert second.arg == 1


def test_a_wrong_reset_call_is_located_in_the_description() -> None:
    reset = ResetSpec(ResetKind.CALLS, ("reed(f0, 1)",), (42,))
    with pytest.raises(BadInputError, match=r"demo\.yaml:42: reset call: no call 'reed'"):
        reset_program(dataclasses.replace(TARGET, reset=reset))


@pytest.mark.parametrize(
    "path", sorted((project_root() / "seeds" / "pkv").glob("*.prog")), ids=lambda p: p.stem
)
def test_seeds_survive_text(path: Path) -> None:
    target = load_target(project_root() / "module" / "pkv.yaml")
    program = load_program(path, target)
    assert program
    assert parse_program(format_program(program, target), target, "x") == program
    assert decode(encode(program)) == program
