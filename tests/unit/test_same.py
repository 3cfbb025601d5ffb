# SPDX-License-Identifier: Apache-2.0
"""Which splats are one bug."""

from __future__ import annotations

import pytest

from fuzzer.crash.judge import first_impression
from fuzzer.crash.same import akin, same_bug
from fuzzer.crash.sighting import Sighting
from fuzzer.splat.find import Splat
from fuzzer.splat.silence import Silence, silent_splat


def splat(kind: str, function: str | None, text: str = "", title: str = "") -> Splat:
    return Splat(title or f"{kind} in {function}", kind, function, function is not None, text)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (splat("kasan", "f"), splat("fault", "f"), True),
        (splat("kasan", "f"), splat("kfence", "f"), True),
        (splat("kasan", "f"), splat("kasan", "g"), False),
        (splat("kasan", "f"), splat("lockdep", "f"), False),
        (splat("kasan", "f"), splat("kasan", None), False),
        (splat("kcsan", "f", " f+0x1/0x2"), splat("kcsan", "g", " g+0x1/0x2\n f+0x1/0x2"), True),
        (splat("kcsan", "f", " f+0x1/0x2"), splat("kcsan", "g", " g+0x1/0x2"), False),
        (splat("hang", None, title="x"), splat("hang", None, title="x"), True),
        (splat("hang", None, title="x"), splat("hang", None, title="y"), False),
    ],
)
def test_a_bug_is_a_family_and_a_function(a: Splat, b: Splat, same: bool) -> None:
    assert same_bug(a, b) is same_bug(b, a) is same


@pytest.mark.parametrize(
    ("seen", "shown", "is_akin"),
    [
        (splat("kasan", "outer"), splat("kasan", "inner", " inner+0x1/0x2\n outer+0x3/0x4"), True),
        (splat("kasan", "outer", " outer+0x3/0x4"), splat("kasan", "router", " r+0x1/0x2"), False),
        (splat("kasan", None), splat("fault", "f"), True),
        (splat("kasan", None), splat("lockdep", "f"), False),
        (splat("hang", None), splat("lockdep", "f"), True),
        (splat("reboot", None), splat("fault", "f"), True),
        (splat("kasan", "f"), splat("lockdep", "f"), False),
    ],
)
def test_another_flavour_may_put_it_differently(seen: Splat, shown: Splat, is_akin: bool) -> None:
    assert akin(seen, shown) is is_akin


@pytest.mark.parametrize("silence", Silence)
def test_a_silent_end_that_is_replayed_is_the_bug_that_was_seen(silence: Silence) -> None:
    sighting = Sighting(silence, silence.kind, b"", (), b"", "worker")
    assert same_bug(first_impression(sighting), silent_splat(silence, []))
    assert akin(first_impression(sighting), silent_splat(silence, []))
