# SPDX-License-Identifier: Apache-2.0
"""The layout of the memory that host and executor share.

It is that of ``vm/channel.h``; a test compiles the header and compares every offset
here with it.
"""

from __future__ import annotations

import ctypes
import enum

MAGIC = 0x6B76667A7A756631
VERSION = 20
SIZE = 0x1000000
RESULTS = 0x1000
RESET, RESET_SIZE = 0x3000, 0x1000
PROGRAM, PROGRAM_SIZE = 0x4000, 0x10000
OUTPUT, OUTPUT_SIZE = 0x14000, 0x20000
LOG, LOG_SIZE = 0x34000, 0x40000
COUNTERS, COUNTERS_SIZE = 0x80000, 0x40000
SEEN, SEEN_SIZE = 0xC0000, 0x40000
LAST = 0x100000
DEVICES, DEVICES_SIZE = 0x141000, 0x4000
TABLE, TABLE_SIZE = 0x400000, 0x400000
BULK, BULK_SIZE = 0x800000, 0x800000
BATCH_SIZE = 0x400000
MAX_CALLS = 128
MAX_CONTEXTS, MAX_SLEEP_TOLD, PATH_COUNTERS = 48, 4, 16384
CALL_COMPARISONS = 512

NO_BATCH = 1 << 32
"""More than there are batches of one request."""

FLAG_TSC = 0x1
FLAG_COMPARE = 0x2
FLAG_NEW = 0x4
FLAG_TRACE = 0x8
FLAG_NAME = 0x10
FLAG_KEEP = 0x20

FLAG_WAITS = 0x40
"""While a serial call waits for something the next ones are made."""

FLAG_HEARD = 0x80
POISON = 0x100
"""Beside the byte that free stack is filled with when a function of the driver's is called."""

FLAG_NOBODY = 0x100
FLAG_NOBODY_OPENS = 0x200

FLAG_SETTLE = 0x400
"""The driver's deferred work is waited for."""

FLAG_OUTCOMES = 0x800
"""Outcomes of calls are coverage as well: their errors, and how often they succeeded."""

FLAG_STAY = 0x2000
"""A program has the files that the one before left open, and leaves its own open."""

COUNTER_DEFERRED = 16
"""The counter of a block that deferred work ran, and no call of the program."""

MARK = "pkvfuzz: call "
"""Begins what the executor writes to the kernel log before each call, with FLAG_TRACE."""


class Command(enum.IntEnum):
    """A request of the host to the executor (``enum ch_command``)."""

    PING = 1
    LOAD = 2
    UNLOAD = 3
    RUN = 4
    LOOP = 5
    SHELL = 6
    EXEC = 7
    BATCH = 8
    PRELOAD = 9


class Status(enum.IntEnum):
    """The end of a command (``enum ch_status``)."""

    OK = 0
    ERROR = 1
    TIMEOUT = 2
    STUCK = 3
    DIED = 4
    HELD = 5


class ChannelHeader(ctypes.Structure):
    """``struct ch_header``."""

    _fields_ = [
        ("magic", ctypes.c_uint64),
        ("version", ctypes.c_uint32),
        ("req_seq", ctypes.c_uint32),
        ("command", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("length", ctypes.c_uint32),
        ("call_timeout_ms", ctypes.c_uint32),
        ("reset_length", ctypes.c_uint32),
        ("reset_reload", ctypes.c_uint32),
        ("loop_count", ctypes.c_uint32),
        ("n_counters", ctypes.c_uint32),
        ("table_base", ctypes.c_uint64),
        ("table_length", ctypes.c_uint32),
        ("exec_argc", ctypes.c_uint32),
        ("n_devices", ctypes.c_uint32),
        ("module_name", ctypes.c_char * 64),
        ("module_params", ctypes.c_char * 512),
        ("exec_args", ctypes.c_char * 1024),
        ("exec_timeout_ms", ctypes.c_uint32),
        ("n_contexts", ctypes.c_uint32),
        ("contexts", ctypes.c_uint32 * MAX_CONTEXTS),
        ("next_length", ctypes.c_uint32),
        ("banner", ctypes.c_uint64),
        ("kasan_flags", ctypes.c_uint64),
        ("log_ring", ctypes.c_uint64),
        ("wait_ms", ctypes.c_uint32),
        ("poison", ctypes.c_uint32),
        ("sleep_told", ctypes.c_uint64 * MAX_SLEEP_TOLD),
        ("page_table", ctypes.c_uint64),
        ("pad", ctypes.c_char * (0x800 - 1912 - 8 * MAX_SLEEP_TOLD)),
        ("done_seq", ctypes.c_uint32),
        ("status", ctypes.c_uint32),
        ("error", ctypes.c_int32),
        ("n_results", ctypes.c_uint32),
        ("output_length", ctypes.c_uint32),
        ("log_length", ctypes.c_uint32),
        ("n_pcs", ctypes.c_uint32),
        ("stopped_call", ctypes.c_uint32),
        ("programs", ctypes.c_uint64),
        ("loop_ns", ctypes.c_uint64),
        ("loop_calls", ctypes.c_uint64),
        ("text_start", ctypes.c_uint64),
        ("progress", ctypes.c_uint64),
        ("tsc", ctypes.c_uint64),
        ("current_call", ctypes.c_uint32),
        ("exec_status", ctypes.c_int32),
        ("batch_at", ctypes.c_uint32),
        ("batch_new", ctypes.c_uint32),
        ("preloaded", ctypes.c_uint32),
        ("batches", ctypes.c_uint32),
        ("rings", ctypes.c_uint32),
        ("waited", ctypes.c_uint32),
        ("load_ms", ctypes.c_uint32),
        ("slowest", ctypes.c_uint32 * 2),
        ("pad2", ctypes.c_uint32),
        ("slowest_tsc", ctypes.c_uint64 * 2),
        ("message", ctypes.c_char * 256),
    ]


class Node(enum.IntEnum):
    """The node that is made of a device (``enum ch_node``)."""

    THERE = 0
    CHAR = 1
    BLOCK = 2


class RawDevice(ctypes.Structure):
    """``struct ch_device``."""

    _fields_ = [
        ("path", ctypes.c_char * 192),
        ("major_name", ctypes.c_char * 48),
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("node", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    ]


class RawResult(ctypes.Structure):
    """``struct ch_result``."""

    _fields_ = [
        ("ret", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("out_offset", ctypes.c_uint32),
        ("out_length", ctypes.c_uint32),
        ("tsc", ctypes.c_uint32),
        ("faulted", ctypes.c_uint32),
        ("waited", ctypes.c_uint16),
        ("handed", ctypes.c_uint16),
    ]


class RawComparison(ctypes.Structure):
    """``struct ch_comparison``."""

    _fields_ = [
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
        ("site", ctypes.c_uint32),
        ("call", ctypes.c_uint16),
        ("size", ctypes.c_uint8),
        ("constant", ctypes.c_uint8),
    ]


class RawComparisons(ctypes.Structure):
    """``struct ch_comparisons``; the comparisons themselves follow."""

    _fields_ = [
        ("able", ctypes.c_uint32),
        ("count", ctypes.c_uint32),
        ("dropped", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
        ("list", RawComparison * 0),
    ]
