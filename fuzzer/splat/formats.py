# SPDX-License-Identifier: Apache-2.0
"""Logs in a machine's format, made into plain lines as they are read.

The journal's ``-o json``, ``json-pretty``, ``json-sse``, ``json-seq``, ``export`` and ``verbose``,
``dmesg --json``, the problems of abrt and satyr, parts of pstore, which come in reversed
order, and mails that are quoted-printable. A log is told by how it begins. Memory does not grow
with the log but for pstore's, which are small.

In these the lines that are counted are those of the messages.
"""

from __future__ import annotations

import quopri
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from fuzzer.checked import parse_json
from fuzzer.splat.packed import decompressed

# A mail has that much before its text.
_SNIFFED = 16 * 1024
# Bytes of a line, of a record or of pstore's parts; what is longer is cut.
_MAX_RECORD = 8 << 20
_CHUNK = 64 * 1024

_ENCODINGS = ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be"))


def plain_chunks(name: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Return a log as chunks of plain lines; ``name`` is for the message when that cannot be.

    Raises:
        BadInputError: it is compressed, and damaged or in a form that is not read here.
    """
    start, chunks = _peeked(chunks)
    chunks = decompressed(name, start, chunks)
    start, chunks = _peeked(chunks)
    if encoding := _encoding_of(start):
        start, chunks = _peeked(_as_utf8(chunks, encoding))
    convert = _converter_of(start)
    return _joined(convert(_Reader(chunks))) if convert else chunks


def _peeked(chunks: Iterable[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """Return the first bytes of a log, and all of it."""
    source = iter(chunks)
    first: list[bytes] = []
    while sum(map(len, first)) < _SNIFFED and (chunk := next(source, None)) is not None:
        first.append(chunk)

    def everything() -> Iterator[bytes]:
        yield from first
        yield from source

    return b"".join(first)[:_SNIFFED], everything()


def _encoding_of(start: bytes) -> str | None:
    """Return which UTF-16 a log is in, None when it is in none."""
    for mark, encoding in _ENCODINGS:
        if start.startswith(mark):
            return encoding
    head = start[:64]
    if len(head) >= 16:
        if not any(head[1::2]) and all(head[::2]):
            return "utf-16-le"
        if not any(head[::2]) and all(head[1::2]):
            return "utf-16-be"
    return None


def _as_utf8(chunks: Iterable[bytes], encoding: str) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        data = rest + chunk
        whole = len(data) - len(data) % 2
        rest = data[whole:]
        yield data[:whole].decode(encoding, errors="replace").encode(errors="replace")


class _Reader:
    """Lines and bytes of chunks; a line or a count that is too long comes in pieces."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._data = b""
        self._at = 0

    def _more(self) -> bool:
        chunk = next(self._chunks, None)
        if chunk is None:
            return False
        self._data, self._at = self._data[self._at :] + chunk, 0
        return True

    def line(self) -> bytes | None:
        """Return the next line without its end, None at the end of the log."""
        searched = self._at
        while (end := self._data.find(b"\n", searched)) < 0:
            length = len(self._data) - self._at
            if length > _MAX_RECORD or not self._more():
                if not length:
                    return None
                line, self._data, self._at = self._data[self._at :], b"", 0
                return line
            searched = self._at + length
        line = self._data[self._at : end]
        self._at = end + 1
        return line

    def take(self, count: int) -> bytes:
        """Return the next bytes, fewer at the end of the log."""
        while len(self._data) - self._at < count and self._more():
            pass
        taken = self._data[self._at : self._at + count]
        self._at += len(taken)
        return taken

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        while count > 0 and (taken := self.take(min(count, _CHUNK))):
            count -= len(taken)

    def __iter__(self) -> Iterator[bytes]:
        while (line := self.line()) is not None:
            yield line


def _joined(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Return lines as chunks."""
    gathered: list[bytes] = []
    size = 0
    for line in lines:
        gathered.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield b"\n".join(gathered) + b"\n"
            gathered, size = [], 0
    if gathered:
        yield b"\n".join(gathered) + b"\n"


_JSON = re.compile(rb"\A[\s\x1e]*(?:data: *)?\[?\s*\{\s*(?:\"|\Z)")
_EXPORT = re.compile(rb"\A\s*(?:__CURSOR|__REALTIME_TIMESTAMP|__MONOTONIC_TIMESTAMP|_BOOT_ID)=")
_VERBOSE = re.compile(rb"^\S.* \[s=[0-9a-f]+;i=[0-9a-f]+;[^\]]*\]\r?$", re.MULTILINE)
_ENCODED = re.compile(rb"^Content-Transfer-Encoding: *([\w-]+)", re.MULTILINE | re.IGNORECASE)
_PART = re.compile(rb"^([A-Z][a-z]+#\d+) Part(\d+)\r?$", re.MULTILINE)

_Converter = Callable[[_Reader], Iterator[bytes]]


def _converter_of(start: bytes) -> _Converter | None:
    """Return what makes lines of a log that begins so, None when it has lines."""
    if _JSON.match(start):
        return _from_json
    if _EXPORT.match(start):
        return _from_export
    if _VERBOSE.search(start):
        return _from_verbose
    if _PART.search(start):
        return _from_pstore
    if any(each.lower() == b"quoted-printable" for each in _ENCODED.findall(start)):
        return _from_mail
    return None


# Where programs that keep logs as JSON have the message; of others it is the longest text.
_MESSAGE_KEYS = ("MESSAGE", "msg", "message", "log", "textPayload", "line", "raw_oops")
_KNOWN_KEYS = frozenset(_MESSAGE_KEYS)
_PROBLEM_KEYS = frozenset({"problem", "frames", "stacktrace", "reason"})
# Characters of the text of a record around another one, at most.
_SENTENCE = 24
_KERNEL_TAGS = frozenset({"kernel", "vmunix"})
_STAMPED = re.compile(r"^(?:<\d+>)?\[ *\d+\.\d{6}")


def _message_lines(record: dict[str, Any]) -> Iterator[bytes]:
    """Yield the lines of a record's message, stamped as the console would."""
    is_kernel = record.get("SYSLOG_IDENTIFIER") in _KERNEL_TAGS
    if not is_kernel and record.get("_TRANSPORT", "kernel") != "kernel":
        # Other programs' messages name the kernel's reports.
        return
    key = next((key for key in _MESSAGE_KEYS if key in record), None)
    text = _text(record[key]) if key else ""
    prefix = _stamp(record)
    for line in text.rstrip("\n").split("\n"):
        stamped = _STAMPED.match(line) is not None
        yield (line if stamped else prefix + line).encode(errors="replace")


def _text(value: object) -> str:
    """Return a message: the journal has one that is not text as a list of its bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        if all(isinstance(item, int) and 0 <= item < 256 for item in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(map(_text, value))
    return ""


def _stamp(record: dict[str, Any]) -> str:
    """Return what the console puts before a message's lines."""
    for key, unit in (
        ("time", 1.0),
        ("_SOURCE_MONOTONIC_TIMESTAMP", 1e6),
        ("__MONOTONIC_TIMESTAMP", 1e6),
    ):
        try:
            seconds = float(record[key]) / unit
        except (KeyError, TypeError, ValueError):
            continue
        if 0 <= seconds < 1e12:
            caller = record.get("caller")
            tail = f"[{caller:>6}] " if isinstance(caller, str) and len(caller) < 16 else " "
            return f"[{seconds:12.6f}]{tail}"
    return "kernel: " if "_TRANSPORT" in record or "SYSLOG_IDENTIFIER" in record else ""


def _from_json(reader: _Reader) -> Iterator[bytes]:
    """Yield the messages of JSON objects: one a line, or spread over several lines."""
    parts: list[bytes] = []
    size = 0
    for line in reader:
        text = line.strip(b" \t\r\x1e,")
        if text.startswith(b"data:"):
            text = text[5:].strip()
        if text.startswith((b"{", b"[{")) and text.endswith((b"}", b"}]")) and len(text) > 2:
            yield from _object_lines(text)
            parts, size = [], 0
        elif text.endswith((b"{", b"[")) and not text.startswith(b'"MESSAGE'):
            # What an array or an object around this one has before it says nothing.
            parts, size = [b"{"] if text.endswith(b"{") else [], 1
        elif parts:
            parts.append(line)
            size += len(line)
            if text == b"}" or size > _MAX_RECORD:
                yield from _object_lines(b"\n".join(parts).strip(b" \t\r\n,"))
                parts, size = [], 0
        elif text.startswith(b'"') and text.endswith(b'"'):
            # Of an array of lines.
            yield from _object_lines(text)


def _object_lines(raw: bytes) -> Iterator[bytes]:
    try:
        value = parse_json(raw, object)
    except (ValueError, RecursionError):
        # Cut, or no JSON: what it says is looked at all the same.
        yield from raw.replace(b"\\n", b"\n").split(b"\n")
        return
    yield from _value_lines(value)


def _value_lines(value: object) -> Iterator[bytes]:
    if isinstance(value, list):
        for item in value:
            yield from _value_lines(item)
    elif isinstance(value, dict):
        if isinstance(value.get("dmesg"), list):
            yield from _value_lines(value["dmesg"])
        elif any(isinstance(value.get(key), str | list) for key in _MESSAGE_KEYS):
            yield from _message_lines(value)
        elif not _PROBLEM_KEYS.isdisjoint(value):
            yield from _problem_lines(value)
        else:
            yield from _unknown_lines(value)
    elif isinstance(value, str) and not value.isdigit():
        yield from value.encode(errors="replace").rstrip(b"\n").split(b"\n")


def _unknown_lines(value: dict[str, Any]) -> Iterator[bytes]:
    """Yield the message of a record whose keys are not known."""
    inner = [each for each in value.values() if isinstance(each, dict)]
    texts = [each for each in value.values() if isinstance(each, str)]
    lists = [each for each in value.values() if isinstance(each, list) and each]
    if known := next((each for each in inner if not _KNOWN_KEYS.isdisjoint(each)), None):
        yield from _value_lines(known)
    elif lists:
        yield from _value_lines(max(lists, key=len))
    elif texts and not (inner and max(map(len, texts)) < _SENTENCE):
        yield from _value_lines(max(texts, key=len))
    else:
        # What says most, in one way or another.
        yield from _value_lines(max(inner, key=lambda each: len(str(each)), default=""))


def _problem_lines(value: dict[str, Any]) -> Iterator[bytes]:
    """Yield what a problem of satyr's says: its reason, and the report or its frames."""
    problem = value.get("problem")
    inner = problem if isinstance(problem, dict) else value
    if isinstance(inner.get("raw_oops"), str):
        yield from inner["raw_oops"].encode(errors="replace").split(b"\n")
        return
    if isinstance(value.get("reason"), str):
        yield value["reason"].encode(errors="replace")
    frames = inner.get("frames", inner.get("stacktrace"))
    if isinstance(frames, list):
        yield b"Call Trace:"
        for frame in frames:
            if isinstance(frame, dict) and isinstance(frame.get("function_name"), str):
                yield _frame_line(frame).encode(errors="replace")
        yield b""


def _frame_line(frame: dict[str, Any]) -> str:
    offset, size = (
        value if isinstance(value := frame.get(key), int) and value >= 0 else 0
        for key in ("function_offset", "function_length")
    )
    module = frame.get("module_name")
    guess = "? " if frame.get("reliable") is False else ""
    tail = f" [{module}]" if isinstance(module, str) and module != "vmlinux" else ""
    return f" {guess}{frame['function_name']}+{offset:#x}/{size:#x}{tail}"


def _from_export(reader: _Reader) -> Iterator[bytes]:
    """Yield the messages of the journal's export format (systemd's JOURNAL_EXPORT_FORMATS)."""
    record: dict[str, Any] = {}
    for line in reader:
        if not line.strip():
            yield from _message_lines(record) if "MESSAGE" in record else ()
            record = {}
            continue
        name, equals, value = line.partition(b"=")
        if not equals:
            # A field that is not text: eight bytes of length, the value, the end of the line.
            size = int.from_bytes(reader.take(8), "little")
            value = reader.take(min(size, _MAX_RECORD))
            reader.skip(size - len(value))
            reader.line()
        key = name.decode(errors="replace")
        if key == "MESSAGE" or not isinstance(record.get(key), str):
            record[key[:64]] = value.decode(errors="replace")
    if "MESSAGE" in record:
        yield from _message_lines(record)


_FIELD = re.compile(rb"^\s+([A-Z_][A-Z0-9_]*)=(.*)$")


def _from_verbose(reader: _Reader) -> Iterator[bytes]:
    """Yield the messages of ``journalctl -o verbose``."""
    record: dict[str, Any] = {}
    for line in reader:
        if line[:1].strip():
            yield from _message_lines(record) if "MESSAGE" in record else ()
            record = {}
        elif field := _FIELD.match(line):
            record[field[1].decode()[:64]] = field[2].rstrip(b"\r").decode(errors="replace")
        elif "MESSAGE" in record and len(record["MESSAGE"]) < _MAX_RECORD:
            record["MESSAGE"] += "\n" + line.strip().decode(errors="replace")
    if "MESSAGE" in record:
        yield from _message_lines(record)


def _from_pstore(reader: _Reader) -> Iterator[bytes]:
    """Yield the lines of pstore's parts, the first one first: it has the highest number."""
    dumps: dict[bytes, dict[int, list[bytes]]] = {}
    part: list[bytes] | None = None
    size = 0
    for line in reader:
        if header := _PART.match(line):
            part = dumps.setdefault(header[1], {}).setdefault(int(header[2][:6]), [])
        elif part is None or size > _MAX_RECORD:
            yield line
        else:
            part.append(line)
            size += len(line) + 1
    for parts in dumps.values():
        for number in sorted(parts, reverse=True):
            yield from parts[number]


def _from_mail(reader: _Reader) -> Iterator[bytes]:
    """Yield the lines of a mail, those that are quoted-printable (RFC 2045) as they were."""
    is_quoted = False
    rest = b""
    for line in reader:
        if encoded := _ENCODED.match(line):
            is_quoted = encoded[1].lower() == b"quoted-printable"
        if not is_quoted:
            yield line
            continue
        text = rest + line.rstrip()
        if text.endswith(b"=") and len(text) < _MAX_RECORD:
            rest = text[:-1]
            continue
        rest = b""
        yield quopri.decodestring(text).rstrip(b"\r\n")
    if rest:
        yield quopri.decodestring(rest)
