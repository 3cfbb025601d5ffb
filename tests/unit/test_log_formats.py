# SPDX-License-Identifier: Apache-2.0
"""Logs in formats of machines, compressed, or in another encoding."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import json
import lzma
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzzer.cli.main import main
from fuzzer.errors import BadInputError
from fuzzer.splat.analyse import analyse
from fuzzer.splat.formats import plain_chunks
from fuzzer.splat.scan import scan

TEXTS = """\
BUG: kernel NULL pointer dereference, address: 0000000000000010
#PF: supervisor write access in kernel mode
Oops: Oops: 0002 [#1] PREEMPT SMP
CPU: 1 UID: 0 PID: 321 Comm: meter Tainted: G           OE      6.12.10 #1
RIP: 0010:gauge_put+0x12/0x40 [gauge]
Call Trace:
 <TASK>
 gauge_ioctl+0x55/0x90 [gauge]
 </TASK>
---[ end trace 0000000000000000 ]---
""".splitlines()
RAW = "\n".join(TEXTS) + "\n"
FOUND = [("BUG: NULL pointer dereference in gauge_put", "meter")]


def _journal() -> list[dict[str, object]]:
    records: list[dict[str, object]] = [
        {
            "__CURSOR": f"s=1;i={number}",
            "_TRANSPORT": "kernel",
            "SYSLOG_IDENTIFIER": "kernel",
            "__MONOTONIC_TIMESTAMP": str(100_000_000 + number),
            "MESSAGE": text,
        }
        for number, text in enumerate(TEXTS)
    ]
    # A message that is not text comes as its bytes; other programs name the kernel's reports.
    records[4]["MESSAGE"] = list(TEXTS[4].encode())
    records.insert(
        3, {"_TRANSPORT": "stdout", "MESSAGE": "BUG: KASAN: use-after-free in app+0x1/0x2"}
    )
    return records


def _export(*, is_binary: bool) -> bytes:
    raw = b""
    for number, text in enumerate(map(str.encode, TEXTS)):
        raw += b"__CURSOR=s=1;i=%d\n_TRANSPORT=kernel\n" % number
        size = len(text).to_bytes(8, "little")
        raw += b"MESSAGE\n" + size + text + b"\n\n" if is_binary else b"MESSAGE=" + text + b"\n\n"
    return raw


def _pstore() -> str:
    parts = [TEXTS[:4], TEXTS[4:7], TEXTS[7:]]
    return "".join(
        f"Oops#1 Part{number}\n" + "".join(f"<4>[  100.000001] {text}\n" for text in part)
        for number, part in enumerate(reversed(parts), 1)
    )


DMESG = {"dmesg": [{"pri": 4, "time": 100 + i / 1e6, "msg": text} for i, text in enumerate(TEXTS)]}
VERBOSE = "".join(
    f"Sun 2026-03-22 18:58:13.{number:06} UTC [s=af;i={number};b=1;m=2;t=3;x=4]\n"
    f"    _TRANSPORT=kernel\n    MESSAGE={text}\n    _PID=1\n"
    for number, text in enumerate(TEXTS)
)
PROBLEM = {"ureport_version": 2, "problem": {"type": "kerneloops", "raw_oops": RAW}}

FORMS: dict[str, bytes] = {
    "plain": RAW.encode(),
    "journal json": "\n".join(map(json.dumps, _journal())).encode(),
    "journal json-pretty": "\n".join(json.dumps(each, indent="\t") for each in _journal()).encode(),
    "journal json-sse": "\n\n".join(f"data: {json.dumps(each)}" for each in _journal()).encode(),
    "journal json-seq": "\n".join(f"\x1e{json.dumps(each)}" for each in _journal()).encode(),
    "journal export": _export(is_binary=False),
    "journal export, binary": _export(is_binary=True),
    "journal verbose": VERBOSE.encode(),
    "a record of many lines": json.dumps(
        {"__CURSOR": "s=1", "_TRANSPORT": "kernel", "MESSAGE": RAW}
    ).encode(),
    "dmesg --json": json.dumps(DMESG, indent=3).encode(),
    "dmesg --json on one line": json.dumps(DMESG).encode(),
    "container": "\n".join(json.dumps({"log": f"{text}\n"}) for text in TEXTS).encode(),
    "problem": json.dumps(PROBLEM, indent=2).encode(),
    "pstore": _pstore().encode(),
    "gzip": gzip.compress(RAW.encode()),
    "gzip of two": gzip.compress(RAW[:200].encode()) + gzip.compress(RAW[200:].encode()),
    "gzip, cut": gzip.compress(RAW.encode() * 3)[:-20],
    "xz": lzma.compress(RAW.encode()),
    "bzip2": bz2.compress(RAW.encode()),
    "gzip of json": gzip.compress(json.dumps(DMESG).encode()),
    "UTF-16": RAW.encode("utf-16"),
    "UTF-16, no mark": RAW.encode("utf-16-be"),
    "UTF-8 with a mark": RAW.encode("utf-8-sig"),
    "no-break spaces": RAW.replace(" ", "\u00a0").encode(),
    "CR LF": RAW.replace("\n", "\r\n").encode(),
    "HTML": RAW.replace("<", "&lt;").replace(">", "&gt;").encode(),
    "Markdown": RAW.replace("_", "\\_").replace("[", "\\[").encode(),
    "fenced": f"```\n{RAW}```\n".encode(),
}


def titles(raw: bytes, size: int) -> list[tuple[str, str | None]]:
    chunks = (raw[start : start + size] for start in range(0, len(raw), size))
    found = map(analyse, scan(plain_chunks("log", chunks)))
    return [(each.title, each.task.name) for each in found]


@pytest.mark.parametrize("size", [7, 1000, 1 << 20])
@pytest.mark.parametrize("form", FORMS)
def test_a_report_is_found_in_each_form(form: str, size: int) -> None:
    assert titles(FORMS[form], size) == FOUND


@pytest.mark.parametrize("program", ["zstd", "lz4"])
def test_a_program_decompresses_what_python_does_not(program: str, tmp_path: Path) -> None:
    packed = subprocess.run(
        [program, "-c"], input=RAW.encode(), capture_output=True, check=True
    ).stdout
    assert titles(packed, 100) == FOUND


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"PK\x03\x04rest", "zip"),
        (b"LPKSHHRHrest", "journalctl"),
        (gzip.compress(RAW.encode(), mtime=0)[:-8] + bytes(8), "damaged"),
    ],
    ids=["zip", "journal", "damaged"],
)
def test_what_cannot_be_read_is_said(raw: bytes, word: str) -> None:
    with pytest.raises(BadInputError, match=word):
        list(plain_chunks("log", iter([raw])))


def test_the_command_reads_a_rotated_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "kern.log.2.gz"
    log.write_bytes(FORMS["gzip"])
    assert main(["triage", str(log)]) == 1
    assert "gauge_put" in capsys.readouterr().out


@settings(deadline=None)
@given(st.sampled_from(sorted(FORMS)), st.binary(max_size=40), st.floats(0, 1))
def test_a_damaged_log_raises_nothing_but_bad_input(form: str, noise: bytes, share: float) -> None:
    raw = FORMS[form]
    at = int(share * len(raw))
    with contextlib.suppress(BadInputError):
        titles(raw[:at] + noise + raw[at + len(noise) :], 64)


def test_what_comes_out_of_a_small_file_takes_little_memory() -> None:
    packed = gzip.compress(b"\0" * (64 << 20))
    assert max(map(len, plain_chunks("log", iter([packed])))) <= 1 << 20


@pytest.mark.parametrize(
    "wrap",
    [
        lambda line: {"ts": "2026-01-02T03:04:05Z", "host": "a", "data": line},
        lambda line: {"_index": "logs", "_source": {"host": {"name": "x"}, "message": line}},
        lambda line: {"preview": False, "result": {"_raw": line, "host": "x"}},
        lambda line: {"streams": [{"stream": {"job": "k"}, "values": [["1711", line]]}]},
        lambda line: {"timestamp": "1", "labels": {"app": "kernel"}, "payload": {"text": line}},
    ],
)
def test_messages_under_keys_that_are_not_known(wrap: Callable[[str], dict[str, object]]) -> None:
    lines = [json.dumps(wrap(f"[   12.000000] {line}")) for line in TEXTS]
    assert titles("\n".join(lines).encode(), 64) == [
        ("BUG: NULL pointer dereference in gauge_put", "meter")
    ]


def test_lines_as_an_array_of_texts() -> None:
    assert titles(json.dumps({"console": TEXTS}, indent=2).encode(), 64) == [
        ("BUG: NULL pointer dereference in gauge_put", "meter")
    ]
