# SPDX-License-Identifier: Apache-2.0
"""The shared memory between host and executor, see :mod:`fuzzer.machine.channel_layout`."""

from __future__ import annotations

import ctypes
import mmap
import os
import select
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass

from fuzzer.errors import BadInputError
from fuzzer.machine.channel_layout import (
    BATCH_SIZE,
    BULK,
    BULK_SIZE,
    CALL_COMPARISONS,
    COUNTERS,
    DEVICES,
    DEVICES_SIZE,
    FLAG_COMPARE,
    FLAG_HEARD,
    FLAG_NEW,
    FLAG_SETTLE,
    LAST,
    LOG,
    MAGIC,
    MAX_CALLS,
    NO_BATCH,
    OUTPUT,
    OUTPUT_SIZE,
    PROGRAM,
    RESULTS,
    SEEN,
    SIZE,
    VERSION,
    ChannelHeader,
    Command,
    Node,
    RawComparisons,
    RawDevice,
    RawResult,
    Status,
)
from fuzzer.program.batch import pack
from fuzzer.program.comparison import Comparison
from fuzzer.target.device import MAX_DEVICES, Device

# Where a result says whether a fault took place: nothing was stored there yet.
_UNTOUCHED = 0xFFFFFFFF
_COMPARISON = struct.Struct("<QQIHB?")

# Indices into the header as 32-bit words.
_REQUEST = ChannelHeader.req_seq.offset // 4
_COMMAND = ChannelHeader.command.offset // 4
_FLAGS = ChannelHeader.flags.offset // 4
_LENGTH = ChannelHeader.length.offset // 4
_BATCH_AT = ChannelHeader.batch_at.offset // 4
_NEXT_LENGTH = ChannelHeader.next_length.offset // 4
_BATCHES = ChannelHeader.batches.offset // 4
_DONE = ChannelHeader.done_seq.offset // 4
_RINGS = ChannelHeader.rings.offset // 4
# Of a result, and where it says whether a call failed.
_RESULT_WORDS = ctypes.sizeof(RawResult) // 4
_RUN, _BATCH = int(Command.RUN), int(Command.BATCH)

# Looks at the answer before the first sleep; about 2 µs.
_LOOKS = 32
# Seconds of a sleep, and its share of the time waited so far. A program takes 20 µs
# (KVM) to a millisecond; the kernel adds about 4 µs to a sleep.
_SHORTEST_SLEEP, _SLEEP_SHARE = 2e-6, 1 / 32
_CROWDED_SLEEP, _CROWDED_SHARE = 50e-6, 1 / 10
_LONGEST_SLEEP = 2e-3
# The first sleep's share of the least wait, which rises by so much a wait until undercut.
_FIRST_SLEEP, _FORGET = 0.75, 1.02
# A sleep this many seconds too long slows the looks down for so many waits.
_LATE, _CROWDED_WAITS = 300e-6, 500

# Seconds after which it looks although the bell did not ring, and rings heard as one.
_WITHOUT_BELL = 0.02
_RINGS_AT_ONCE = 4096

_PR_SET_TIMERSLACK = 29
_TIMER_SLACK_NS = 1000


@dataclass(frozen=True, slots=True)
class CallResult:
    """The results of one call.

    ``error`` is an errno or 0, ``output`` the bytes read (or an ioctl's buffer
    afterwards), ``tsc`` the TSC ticks it took if the program was timed.
    ``faulted`` tells that the fault the call asked for took place, ``waited``
    that the next calls were made while it waited, ``handed`` that it returned a
    descriptor that no file of the program has.
    """

    ret: int
    error: int
    output: bytes
    tsc: int
    faulted: bool = False
    waited: bool = False
    handed: bool = False


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Comparisons that a driver made in the serial calls of a program.

    The operands of those that it ``found`` differ; ``equal`` are those with a constant and an
    operand that is the same.
    ``able`` is false when the kernel cannot record that. ``dropped`` is the
    number of comparisons that were left out for want of room, at least: some
    of them may be the same, and a call that compared more than the kernel's
    buffer holds counts as one more.
    """

    able: bool
    found: tuple[Comparison, ...]
    dropped: int
    equal: tuple[Comparison, ...] = ()


class Channel:
    """One machine's channel: an anonymous shared memory file.

    It has no name in any file system, so nothing is left behind however the
    process ends. QEMU maps it through the inherited descriptor :attr:`fd`, and
    writes a byte to :attr:`bell` when the guest is done with a batch.
    """

    def __init__(self) -> None:
        # Linux lets each sleep last 50 µs longer unless told otherwise: half a program.
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, _TIMER_SLACK_NS, 0, 0, 0)
        self.fd = os.memfd_create("pkvfuzz-channel", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, SIZE)
        self._rung, self.bell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._await_bell = select.poll()
        self._await_bell.register(self._rung, select.POLLIN)
        self.map = mmap.mmap(self.fd, SIZE)
        self.memory = memoryview(self.map)
        self.header = ChannelHeader.from_buffer(self.map)
        self.header.magic = MAGIC
        self.header.version = VERSION
        # The header as plain indexable integers: many times faster than ctypes.
        self._words = words = self.memory[: ctypes.sizeof(ChannelHeader)].cast("I")
        self._request = words[_REQUEST : _REQUEST + 1]
        self._done = words[_DONE : _DONE + 1]
        self._over = words[_BATCHES : _BATCHES + 1]
        self._least_wait = 0.0
        self._crowded = 0
        self.without_bell = _WITHOUT_BELL
        """Seconds between two looks at a guest that rings."""
        self._results = (RawResult * MAX_CALLS).from_buffer(self.map, RESULTS)
        errors = RESULTS + RawResult.error.offset
        self._errors = self.memory[errors : errors + 4 * _RESULT_WORDS * MAX_CALLS].cast("i")

    def close(self) -> None:
        """Close the descriptors. The mapping goes with the process: libFuzzer may hold it."""
        if self.fd >= 0:
            for fd in (self.fd, self.bell, self._rung):
                os.close(fd)
            self.fd = -1

    def address(self, offset: int) -> int:
        """Return the address in this process of a byte of the channel."""
        return ctypes.addressof(self.header) + offset

    def save_header(self) -> bytes:
        """Return header and devices, which a frozen guest expects to find again."""
        devices = self.memory[DEVICES : DEVICES + DEVICES_SIZE]
        return bytes(self.memory[: ctypes.sizeof(ChannelHeader)]) + bytes(devices)

    def restore_header(self, saved: bytes) -> None:
        """Put what :meth:`save_header` returned back, before its guest continues."""
        size = ctypes.sizeof(ChannelHeader)
        self.memory[:size] = saved[:size]
        self.memory[DEVICES : DEVICES + DEVICES_SIZE] = saved[size:]

    def set_devices(self, devices: Sequence[Device]) -> None:
        """Set the devices that programs open by number; ValueError for too many.

        Nodes that have to be made are made when the module is loaded.
        """
        if len(devices) > MAX_DEVICES:
            raise ValueError(f"{len(devices)} devices; at most {MAX_DEVICES} fit")
        for number, device in enumerate(devices):
            raw = RawDevice.from_buffer(self.map, DEVICES + number * ctypes.sizeof(RawDevice))
            named = isinstance(device.major, str)
            raw.path = device.path.encode()
            raw.major_name = str(device.major).encode() if named else b""
            raw.major = device.major if isinstance(device.major, int) else 0
            raw.minor = device.minor
            made = Node.BLOCK if device.block else Node.CHAR
            raw.node = Node.THERE if device.major is None else made
        self.header.n_devices = len(devices)

    def post(self, command: Command, length: int = 0) -> None:
        """Start a command; its data must be in the channel already."""
        header = self.header
        header.command = command
        header.length = length
        self._request[0] = (self._request[0] + 1) & 0xFFFFFFFF

    def post_program(self, program: bytes) -> None:
        """Start a program. The fast path of the fuzzing loop."""
        length = len(program)
        self.memory[PROGRAM : PROGRAM + length] = program
        words = self._words
        words[_COMMAND] = _RUN
        words[_LENGTH] = length
        words[_REQUEST] = (words[_REQUEST] + 1) & 0xFFFFFFFF

    def post_batch(self, programs: Sequence[bytes], *, until_new: bool = False) -> None:
        """Start several programs, which run one after the other.

        They end with the first after which the kernel says something or a call
        was interrupted; with ``until_new`` also with the first that covers what
        :meth:`write_seen` does not know, for which all counters must be 0.
        ``header.batch_at`` is the number of the last that ran, whose results
        and counters are in the channel, ``header.batch_new`` whether it covered
        something new.

        Raises:
            BadInputError: they do not fit the channel.
        """
        length = self._put_batch(programs, 0, BULK_SIZE)
        words = self._words
        words[_FLAGS] = words[_FLAGS] & ~FLAG_NEW | (FLAG_NEW if until_new else 0)
        # Should the guest be gone already.
        words[_BATCH_AT] = words[_BATCHES] = words[_NEXT_LENGTH] = 0
        words[_COMMAND] = _BATCH
        words[_LENGTH] = length
        words[_REQUEST] = (words[_REQUEST] + 1) & 0xFFFFFFFF

    def post_next(self, programs: Sequence[bytes], number: int) -> None:
        """Hand over the programs that the guest goes on with when it is done with a batch.

        ``number`` counts the batches since :meth:`post_batch`, whose own is 0;
        the one before must have been begun. The guest does not begin with it
        if there is something to look at, or if it was done before.

        Raises:
            BadInputError: they do not fit the channel.
        """
        length = self._put_batch(programs, number % 2, BATCH_SIZE)
        # x86 keeps the order of stores.
        self._words[_NEXT_LENGTH] = length

    def _put_batch(self, programs: Sequence[bytes], half: int, room: int) -> int:
        packed = pack(programs)
        length = len(packed)
        if length > room:
            raise BadInputError(f"{length} bytes of programs, at most {room} fit")
        start = BULK + half * BATCH_SIZE
        self.memory[start : start + length] = packed
        return length

    def slowest(self, number: int) -> tuple[int, int]:
        """Return the index of the program of a batch that took longest, and its ticks.

        They are those of a batch that is over, and the next but one has not begun.
        """
        return self.header.slowest[number % 2], self.header.slowest_tsc[number % 2]

    def is_over(self, number: int) -> bool:
        """Tell whether a batch is done with nothing to look at, and the next one begun."""
        return self._words[_BATCHES] > number

    def post_preload(self, calls: bytes) -> None:
        """Start calls that load the module anew, by which it then stays loaded.

        Programs that begin with the same bytes, at most MAX_PRELOAD, skip these
        calls from then on, if ``header.preloaded`` tells that they loaded it.
        """
        self.memory[PROGRAM : PROGRAM + len(calls)] = calls
        self.post(Command.PRELOAD, len(calls))

    def write_seen(self, features: int, count: int) -> None:
        """Let the executor know what is not new: the features of ``count`` counters."""
        self.memory[SEEN : SEEN + count] = features.to_bytes(count, "little")

    def post_comparing(self, program: bytes) -> None:
        """Start a program whose comparisons are wanted, see :meth:`comparisons`.

        It leaves the coverage counters alone. Only this run is concerned.
        """
        self.memory[BULK : BULK + ctypes.sizeof(RawComparisons)] = bytes(
            ctypes.sizeof(RawComparisons)
        )
        self._words[_FLAGS] |= FLAG_COMPARE
        self.post_program(program)

    def comparisons(self) -> Comparisons:
        """Return what was compared in the program that :meth:`post_comparing` started."""
        start = BULK + ctypes.sizeof(RawComparisons)
        able, count, dropped = self.memory[BULK:start].cast("I")[:3]
        # The guest wrote these: a driver's bug may have, too.
        count = min(count, MAX_CALLS * CALL_COMPARISONS)
        records = _COMPARISON.iter_unpack(self.memory[start : start + count * _COMPARISON.size])
        made = [
            Comparison(a, b, call, size, constant, site)
            for a, b, site, call, size, constant in records
        ]
        found = tuple(each for each in made if each.a != each.b)
        equal = tuple(each for each in made if each.a == each.b)
        return Comparisons(bool(able), found, dropped, equal)

    def post_execution(self, argv: Sequence[str], image: bytes, timeout: float) -> None:
        """Start another program in the guest; ``timeout`` is in seconds.

        Raises:
            BadInputError: the image or the arguments do not fit.
        """
        arguments = b"".join([os.fsencode(argument) + b"\0" for argument in argv])
        room = ChannelHeader.exec_args.size
        if not argv or len(arguments) > room or arguments.count(b"\0") != len(argv):
            raise BadInputError(
                f"{len(argv)} arguments in {len(arguments)} bytes; "
                f"at least one, in at most {room} bytes and without NUL, is allowed"
            )
        if len(image) > BULK_SIZE:
            raise BadInputError(f"the program has {len(image)} bytes, at most {BULK_SIZE} fit")
        self.memory[BULK : BULK + len(image)] = image
        start = ChannelHeader.exec_args.offset
        self.memory[start : start + len(arguments)] = arguments
        self.header.exec_argc = len(argv)
        self.header.exec_timeout_ms = min(int(timeout * 1000), 0xFFFFFFFF)
        self.post(Command.EXEC, len(image))

    def finished(self) -> bool:
        """Tell whether the guest has answered the last command."""
        return self._done[0] == self._request[0]

    def wait(self, timeout: float, batch: int = NO_BATCH) -> bool:
        """Wait for the answer at most ``timeout`` seconds; tell whether it came.

        That the next batch after the one of number ``batch`` was begun will do as well.
        Of batches the guest says when they are done. For other commands, which
        are short, this looks at times.

        The first sleep is most of the least that recent waits took; further
        ones are a small part of the time waited so far, and so add no more
        than that part to it.

        A sleep that lasts far too long means that others want this core. Then
        the scheduler makes whoever has used much of it wait for milliseconds,
        at each sleep, so for a while this looks less often and stays below.
        """
        done, wanted, over = self._done, self._request[0], self._over
        for _ in range(_LOOKS):
            if done[0] == wanted or over[0] > batch:
                return True
        if self._words[_COMMAND] == _BATCH and self._words[_RINGS]:
            return self._wait_for_bell(timeout, batch)
        if self._crowded:
            self._crowded -= 1
            least, share = _CROWDED_SLEEP, _CROWDED_SHARE
        else:
            least, share = _SHORTEST_SLEEP, _SLEEP_SHARE
        now, sleep = time.monotonic, time.sleep
        start, waited = now(), 0.0
        rest = self._least_wait * _FIRST_SLEEP
        while done[0] != wanted and over[0] <= batch:
            if waited > timeout:
                return False
            rest = min(max(rest, least), _LONGEST_SLEEP)
            sleep(rest)
            before, waited = waited, now() - start
            if waited - before - rest > _LATE:
                self._crowded = _CROWDED_WAITS
            rest = waited * share
        self._least_wait = min(waited, self._least_wait * _FORGET + _SHORTEST_SLEEP)
        return True

    def _wait_for_bell(self, timeout: float, batch: int) -> bool:
        done, wanted, over = self._done, self._request[0], self._over
        end = time.monotonic() + timeout
        while done[0] != wanted and over[0] <= batch:
            left = end - time.monotonic()
            if left <= 0:
                return False
            # It is not rung for a program that was given up.
            if self._await_bell.poll(min(left, self.without_bell) * 1000):
                os.read(self._rung, _RINGS_AT_ONCE)
        return True

    @property
    def status(self) -> Status:
        """Status of the last finished command."""
        return Status(self.header.status)

    def set_settling(self, *, settles: bool) -> None:
        """Have programs wait for the driver's deferred work from now on, or not."""
        flags = self._words[_FLAGS] & ~FLAG_SETTLE
        self._words[_FLAGS] = flags | (FLAG_SETTLE if settles else 0)

    def note_heard(self, *, harmless: bool) -> None:
        """Let programs of batches print again what the last one did, if that is harmless."""
        flags = self._words[_FLAGS] & ~FLAG_HEARD
        self._words[_FLAGS] = flags | (FLAG_HEARD if harmless else 0)

    def log(self) -> bytes:
        """Return the kernel log records that came with the last answer."""
        length = self.header.log_length
        return bytes(self.memory[LOG : LOG + length]) if length else b""

    def results(self) -> list[CallResult]:
        """Return what each call of the last program returned."""
        return [self._result(i) for i in range(min(self.header.n_results, MAX_CALLS))]

    def waited(self) -> tuple[int, ...]:
        """Return the indices of the last program's calls that were left waiting.

        This can be asked after the guest died in it.
        """
        if not self.header.waited:
            return ()
        made = min(self.header.current_call + 1, MAX_CALLS)
        return tuple(index for index in range(made) if self._results[index].waited)

    def errors(self) -> list[int]:
        """Return the errno of each call of the last program, 0 for none."""
        count = min(self.header.n_results, MAX_CALLS)
        return list(self._errors[: count * _RESULT_WORDS : _RESULT_WORDS])

    def forget_results(self) -> None:
        """Clear the results, so that :meth:`results_so_far` has those of calls from now on."""
        for raw in self._results:
            raw.faulted = _UNTOUCHED

    def results_so_far(self) -> list[CallResult | None]:
        """Return what each call that has returned since :meth:`forget_results` returned.

        MAX_CALLS results, None for calls that did not return. This can be asked
        while the guest is running a program, and after it died in one.
        """
        return [
            None if raw.faulted == _UNTOUCHED else self._result(i)
            for i, raw in enumerate(self._results)
        ]

    def _result(self, index: int) -> CallResult:
        raw = self._results[index]
        # The guest wrote these: a driver's bug may have, too.
        offset = min(raw.out_offset, OUTPUT_SIZE)
        start, length = OUTPUT + offset, min(raw.out_length, OUTPUT_SIZE - offset)
        output = bytes(self.memory[start : start + length])
        return CallResult(
            raw.ret,
            raw.error,
            output,
            raw.tsc,
            bool(raw.faulted),
            waited=bool(raw.waited),
            handed=bool(raw.handed),
        )

    def last_counters(self, count: int) -> bytes:
        """Return the counters of the last program of the batch before the one that runs."""
        return bytes(self.memory[LAST : LAST + count])

    def counters(self, count: int) -> memoryview:
        """Return a view of the first ``count`` coverage counters."""
        return self.memory[COUNTERS : COUNTERS + count]

    def clear_counters(self, count: int) -> None:
        """Set the counters to zero; libFuzzer does this itself in the loop."""
        self.memory[COUNTERS : COUNTERS + count] = bytes(count)
