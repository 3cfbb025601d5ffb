# SPDX-License-Identifier: Apache-2.0
"""Batches that follow each other, in a channel whose guest is the test itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from fuzzer.engine.candidate import Candidate
from fuzzer.engine.pipeline import Pipeline
from fuzzer.errors import BadInputError
from fuzzer.machine import channel_layout as layout
from fuzzer.machine.channel import Channel
from fuzzer.program.batch import pack

FIRST = [Candidate(b"a", 1.0), Candidate(b"bb", 1.0)]
SECOND, THIRD = [Candidate(b"ccc", 1.0)], [Candidate(b"d", 1.0)]


@pytest.fixture
def link() -> Iterator[Channel]:
    """Return a channel without a guest."""
    made = Channel()
    yield made
    made.close()


def at(link: Channel, half: int, length: int) -> bytes:
    start = layout.BULK + half * layout.BATCH_SIZE
    return bytes(link.memory[start : start + length])


def take_next(link: Channel) -> None:
    """Act as a guest that has nothing to look at, and goes on with the next batch."""
    assert link.header.next_length
    link.header.next_length = 0
    begin_next(link)


def begin_next(link: Channel) -> None:
    link.header.batches += 1


def test_the_next_batch_is_left_in_the_other_half(link: Channel) -> None:
    pipeline = Pipeline(link)
    pipeline.begin(FIRST, until_new=True)
    assert link.header.flags & layout.FLAG_NEW
    first, second, third = (pack([p for p, _ in each]) for each in (FIRST, SECOND, THIRD))
    assert (link.header.command, link.header.length) == (layout.Command.BATCH, len(first))
    pipeline.follow(SECOND)
    assert at(link, 0, len(first)) == first
    assert at(link, 1, len(second)) == second
    assert link.header.next_length == len(second)
    take_next(link)
    assert pipeline.is_over()
    assert pipeline.advance() == SECOND
    assert not pipeline.is_over()
    pipeline.follow(THIRD)
    assert at(link, 0, len(third)) == third


def test_what_the_guest_did_not_begin_is_taken_back(link: Channel) -> None:
    pipeline = Pipeline(link)
    pipeline.begin(FIRST, until_new=False)
    pipeline.follow(SECOND)
    link.header.done_seq = link.header.req_seq
    assert not pipeline.is_over()
    assert pipeline.take_back() == SECOND
    assert pipeline.take_back() == []
    # The next request does not begin with it, nor with numbers of the one before.
    link.header.batches = 7
    pipeline.begin(THIRD, until_new=False)
    assert (link.header.next_length, link.header.batches) == (0, 0)
    assert not pipeline.is_over()


def test_calls_are_those_since_the_last_look_and_not_what_a_bug_wrote(link: Channel) -> None:
    pipeline = Pipeline(link)
    pipeline.begin(FIRST, until_new=False)
    link.header.loop_calls = 5
    assert pipeline.calls(2) == 5
    link.header.loop_calls = 9
    assert pipeline.calls(2) == 4
    link.header.loop_calls = 1 << 60
    assert pipeline.calls(2) == 2 * layout.MAX_CALLS
    link.header.loop_calls = 0
    assert pipeline.calls(2) == 0


def test_waiting_ends_with_a_batch_or_with_the_answer(link: Channel) -> None:
    pipeline = Pipeline(link)
    pipeline.begin(FIRST, until_new=False)
    pipeline.follow(SECOND)
    assert not link.wait(0.01, batch=0)
    take_next(link)
    assert link.wait(0.01, batch=0)
    assert not link.wait(0.01, batch=1)
    assert not link.wait(0.01)
    link.header.done_seq = link.header.req_seq
    assert link.wait(0.01, batch=1)
    assert link.wait(0.01)


def test_a_host_that_hears_the_bell_does_not_look_before_it_rings(link: Channel) -> None:
    link.without_bell = 60.0
    link.post_batch([b"a", b"b"])
    link.header.rings = 1
    # Rung before, and heard once it is waited for.
    os.write(link.bell, b"\0\0\0")
    assert not link.wait(0.01, batch=0)

    def begin_and_ring() -> None:
        begin_next(link)
        os.write(link.bell, b"\0")

    ring = threading.Timer(0.05, begin_and_ring)
    ring.start()
    assert link.wait(50.0, batch=0)
    ring.join()


def test_a_batch_that_ends_without_the_bell_is_noticed_as_well(link: Channel) -> None:
    link.post_batch([b"a"])
    link.header.rings = 1
    end = threading.Timer(0.05, lambda: setattr(link.header, "done_seq", link.header.req_seq))
    end.start()
    assert link.wait(50.0)
    end.join()


def test_what_does_not_fit_is_refused(link: Channel) -> None:
    long = bytes(layout.BATCH_SIZE)
    link.post_batch([long])
    with pytest.raises(BadInputError, match="at most 4194304 fit"):
        link.post_next([long], 1)
    assert link.header.next_length == 0
