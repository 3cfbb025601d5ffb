# SPDX-License-Identifier: Apache-2.0
"""Known bugs set aside: what is learned of them, and when their programs run."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.engine.aside import (
    KNOWN,
    REPORT_COST,
    RESTORE_COST,
    Aside,
    PutBack,
    SetAside,
    put_back_file,
    read_aside,
    read_put_back,
    sample_of,
    write_aside,
    write_put_back,
)
from fuzzer.engine.culprit import culprit_of
from fuzzer.engine.learning import CrashRule, Sample, learn, rule_of
from fuzzer.engine.probing import Cause, CountedTrials, Programs, find_cause, patterns_of, shortest
from fuzzer.engine.siblings import siblings_of
from fuzzer.engine.traits import Condition, Pattern, kind_of, operands_of
from fuzzer.program.ops import FLAG_COUNT, FLAG_VALUE, Op
from fuzzer.program.program import Call
from fuzzer.program.wire import encode, encode_call, split

QUANTUM, OTHER = 0x40047301, 0x40047302
TITLE = "divide error in f"
THIRD = OTHER + 1
READ = encode_call(Call(Op.READ, arg=8))
WRITE = encode_call(Call(Op.WRITE, data=b"some bytes"))
ZERO = encode_call(Call(Op.IOCTL, cmd=QUANTUM, data=bytes(4)))


def setting(value: int, cmd: int = QUANTUM) -> bytes:
    return encode_call(Call(Op.IOCTL, cmd=cmd, data=value.to_bytes(4, "little")))


def crashes(programs: Programs) -> bool:
    """Tell whether a driver that divides a write by what was set before crashes."""
    quantum = 8
    for program in programs:
        for chunk in program:
            if kind_of(chunk) == kind_of(ZERO):
                quantum = operands_of(chunk).get("word0", quantum)
            if chunk[0] == Op.WRITE and not quantum:
                return True
    return False


def anything(rng: random.Random) -> tuple[bytes, ...]:
    calls = [READ, WRITE, setting(rng.randrange(3)), setting(rng.randrange(9), OTHER)]
    return tuple(rng.choice(calls) for _ in range(rng.randrange(1, 9)))


def test_operands_are_what_the_wire_form_says() -> None:
    call = Call(Op.PWRITE, file=2, cmd=7, arg=9, data=b"abcdef", fault=3, cut=1)
    operands = operands_of(encode_call(call))
    assert operands["file"] == 2
    assert operands["cmd"] == 7
    assert operands["arg"] == 9
    assert operands["length"] == 6
    assert operands["fault"] == 3
    assert operands["cut"] == 1
    assert operands["word0"].to_bytes(4, "little") == b"abcd"
    assert operands["word1"] == int.from_bytes(b"ef", "little")
    assert "word2" not in operands
    # The number of an ioctl is what kind of call it is.
    assert "cmd" not in operands_of(ZERO)
    assert kind_of(ZERO) != kind_of(setting(0, OTHER))


@pytest.mark.parametrize(
    ("condition", "value", "holds"),
    [
        (Condition("arg", least=4), 4, True),
        (Condition("arg", least=4), 3, False),
        (Condition("arg", most=4), 5, False),
        (Condition("arg", bits=6), 14, True),
        (Condition("arg", bits=6), 2, False),
        (Condition("word3", most=4), 0, False),
    ],
)
def test_a_condition_is_on_one_number(condition: Condition, value: int, holds: bool) -> None:
    assert condition.holds({"arg": value}) is holds


def test_trials_tell_which_calls_and_operands_a_crash_takes() -> None:
    before = (READ, ZERO, setting(5, OTHER))
    last = (READ, READ, WRITE, READ)
    trials = CountedTrials(crashes, 100)
    assert shortest((before, last), trials) == ((ZERO,), (WRITE,))
    found = find_cause(((READ,), before, last), CountedTrials(crashes, 100))
    assert found is not None
    assert found.lasts
    zero, write = found.patterns
    assert write == Pattern(kind_of(WRITE))
    assert zero.matches(ZERO)
    assert not zero.matches(setting(1))
    together = find_cause(((READ, ZERO, WRITE),), CountedTrials(crashes, 100))
    assert together is not None
    assert not together.lasts


def test_operands_are_tried_of_the_call_that_is_left_out_alone() -> None:
    before, last = (ZERO, READ), (encode_call(Call(Op.READ, arg=150)), WRITE)
    all_tried, few_tried = CountedTrials(crashes, 100), CountedTrials(crashes, 100)
    found = find_cause((before, last), all_tried)
    chosen = find_cause((before, last), few_tried, lambda kinds, lasts: 0 if lasts else None)
    assert found is not None
    assert chosen is not None
    assert chosen.patterns == (found.patterns[0], Pattern(kind_of(WRITE)))
    assert few_tried.made < all_tried.made


def test_the_least_that_a_number_has_to_be_is_found_out() -> None:
    def crashes_from(programs: Programs) -> bool:
        return any(operands_of(chunk)["arg"] >= 100 for chunk in programs[0])

    big = encode_call(Call(Op.READ, arg=150))
    assert patterns_of(((big,),), CountedTrials(crashes_from, 12)) == (
        Pattern(kind_of(READ), (Condition("arg", least=100),)),
    )


def test_arg_matters_only_where_a_call_looks_at_it() -> None:
    tried: set[int] = set()

    def crashes_from(programs: Programs) -> bool:
        arg = operands_of(programs[0][0])["arg"]
        tried.add(arg)
        return arg >= 100

    counted = Call(Op.WRITE, flags=FLAG_COUNT, arg=100, data=bytes(200))
    (pattern,) = patterns_of(((encode_call(counted),),), CountedTrials(crashes_from, 100))
    assert Condition("arg", least=100) in pattern.conditions
    for other in (Call(Op.LOAD, arg=100), Call(Op.DUP, arg=100), Call(Op.PWRITE, arg=100)):
        tried.clear()
        patterns_of(((encode_call(other),),), CountedTrials(crashes_from, 100))
        assert tried <= {100}


def test_of_a_text_only_the_bytes_that_matter_are_asked_for() -> None:
    def crashes_on_plus(programs: Programs) -> bool:
        return any(operands_of(chunk).get("byte0") == ord("+") for chunk in programs[0])

    text = encode_call(Call(Op.WRITE, data=b"+some"))
    (pattern,) = patterns_of(((text,),), CountedTrials(crashes_on_plus, 40))
    assert Condition("byte0", ord("+"), ord("+")) in pattern.conditions
    assert pattern.matches(encode_call(Call(Op.WRITE, data=b"+other text")))
    assert not pattern.matches(encode_call(Call(Op.WRITE, data=b"-some")))


def divides(programs: Programs) -> bool:
    """Tell whether a driver crashes that takes its quantum by pointer, by value and swapped."""
    quantum = 8
    for program in programs:
        for chunk in program:
            operands = operands_of(chunk)
            if chunk[0] == Op.IOCTL and operands["flags"] & FLAG_VALUE:
                if chunk[4:8] == THIRD.to_bytes(4, "little"):
                    quantum = operands["arg"]
            elif chunk[0] == Op.IOCTL and chunk[4:8] != THIRD.to_bytes(4, "little"):
                quantum = operands.get("word0", quantum)
            if chunk[0] == Op.WRITE and quantum < 3:
                return True
    return False


@pytest.mark.parametrize("by_value", [False, True])
def test_ioctls_that_do_as_one_does_are_found_in_its_place(by_value: bool) -> None:
    if by_value:
        known = encode_call(Call(Op.IOCTL, cmd=THIRD, flags=FLAG_VALUE, arg=1))
    else:
        known = setting(1)
    cause = find_cause(((READ, known, WRITE),), CountedTrials(divides, 100))
    assert cause is not None
    kinds = [kind_of(each) for each in (READ, setting(1), setting(1, OTHER), setting(1, THIRD))]

    trials = CountedTrials(divides, 8)
    pairs = siblings_of(cause, kind_of(known), kinds, trials.crashes)

    assert trials.made <= 4
    rule = rule_of(cause.patterns, [])
    rules = [rule, *(rule.replaced(pattern, other) for pattern, other in pairs)]
    set_by_value = Call(Op.IOCTL, cmd=THIRD, flags=FLAG_VALUE, arg=0)
    for chunk in (setting(1), setting(0, OTHER), encode_call(set_by_value)):
        assert any(each.matches([chunk, WRITE]) for each in rules)
    not_less = replace(set_by_value, arg=3)
    for chunk in (setting(3), setting(4, OTHER), setting(0, THIRD), encode_call(not_less)):
        assert not any(each.matches([chunk, WRITE]) for each in rules)


def test_siblings_are_looked_for_as_long_as_trials_are_left() -> None:
    cause = find_cause(((setting(1), WRITE),), CountedTrials(divides, 100))
    assert cause is not None
    kinds = [kind_of(setting(1, OTHER)), kind_of(setting(1, THIRD))]
    assert (
        len(siblings_of(cause, kind_of(setting(1)), kinds, CountedTrials(divides, 1).crashes)) == 1
    )
    assert siblings_of(cause, kind_of(WRITE), kinds, CountedTrials(divides, 9).crashes) == []


def test_too_few_trials_or_a_crash_that_does_not_come_again_tell_nothing() -> None:
    programs = ((READ, ZERO, READ), (READ, READ, WRITE))
    assert find_cause(programs, CountedTrials(crashes, 4)) is None
    assert find_cause(((READ,), (READ, WRITE)), CountedTrials(crashes, 100)) is None
    # What could not be tried any more has to be as it was.
    trials = CountedTrials(crashes, 0)
    assert patterns_of(((ZERO,),), trials)[0].conditions


def test_samples_tell_what_those_that_crashed_have_in_common() -> None:
    rng = random.Random(1)
    made = [anything(rng) for _ in range(400)]
    crashed = [Sample(each) for each in made if crashes((each,))]
    others = [Sample(each) for each in made if not crashes((each,))]
    rules = learn(crashed[:30], others)
    fresh = [anything(rng) for _ in range(400)]
    told = [any(rule.matches(each) for rule in rules) for each in fresh]
    right = [crashes((each,)) for each in fresh]
    hits = sum(a and b for a, b in zip(told, right, strict=True))
    assert hits > 0.6 * sum(right)
    assert sum(told) - hits < 0.15 * len(fresh)


def test_a_call_in_a_program_before_is_learned_too() -> None:
    rng = random.Random(2)
    write = kind_of(WRITE)
    crashed: list[Sample] = []
    others: list[Sample] = []
    for _ in range(300):
        before, chunks = anything(rng), (*anything(rng)[:2], WRITE)
        if any(kind_of(each) == kind_of(ZERO) for each in chunks):
            continue
        sample = Sample(chunks, before, write, last=True)
        (crashed if ZERO in before else others).append(sample)
    rule = learn(crashed[:20], others)[0]
    assert kind_of(ZERO) in {pattern.kind for pattern in rule.patterns}


def test_nothing_is_learned_where_nothing_tells_apart() -> None:
    rng = random.Random(3)
    made = [Sample(anything(rng)) for _ in range(200)]
    assert learn(made[:20], made[20:]) == ()


def test_what_prepares_a_crash_is_left_out_and_not_where_it_is() -> None:
    patterns = (Pattern(kind_of(ZERO), (Condition("word0", most=0),)), Pattern(kind_of(WRITE)))
    rare = rule_of(patterns, [Sample((WRITE,))] * 50)
    assert rare == CrashRule(patterns, patterns[0], enough=True)
    assert rare.matches([ZERO])
    # It is in too many other programs for what it may do to a later one.
    common = rule_of(patterns, [Sample((ZERO,))] * 50)
    assert not common.matches([ZERO])
    assert common.matches([ZERO, WRITE])


def sight(aside: Aside, total: float = 0.0, cost: float = 10 * RESTORE_COST) -> bool:
    return aside.sight(TITLE, sample_of(ZERO + WRITE, [], None, None), cost, total)


def learned() -> Aside:
    aside = Aside()
    for _ in range(KNOWN):
        sight(aside)
    aside.learn(TITLE, Cause((Pattern(kind_of(ZERO)),)), 0.0)
    return aside


def test_a_bug_is_looked_into_once_it_is_known_and_costs_something() -> None:
    aside = Aside()
    assert [sight(aside) for _ in range(KNOWN)] == [False] * (KNOWN - 1) + [True]
    assert aside.is_known(TITLE)
    rare = Aside()
    assert not any(sight(rare, total=1e9) for _ in range(KNOWN))
    assert rare.is_known(TITLE)


def test_a_bug_is_not_looked_into_before_it_has_cost_as_much_as_that_takes() -> None:
    aside = Aside()
    looked = [sight(aside, cost=RESTORE_COST) for _ in range(30)]
    assert 10 < looked.index(True) < 25


def test_its_calls_are_dropped_until_it_has_taken_less_than_its_share() -> None:
    aside = learned()
    chunks = [READ, ZERO, WRITE]
    assert aside.sightings() == {TITLE: KNOWN}
    assert aside.screen(chunks, 0.0) == [READ, WRITE]
    assert aside.screen(chunks, 1e7) is chunks
    # What does not lead there is left as it is.
    assert aside.screen([READ, WRITE], 0.0) == [READ, WRITE]


def test_a_bug_that_is_set_aside_and_takes_more_than_its_share_is_unavoidable() -> None:
    aside = Aside()
    for _ in range(KNOWN):
        sight(aside)
    assert not aside.is_unavoidable(TITLE, 0.0)
    aside = learned()
    assert aside.is_unavoidable(TITLE, 0.0)
    assert not aside.is_unavoidable(TITLE, 1e7)


def test_sightings_that_a_rule_tells_of_are_no_reason_to_learn_more() -> None:
    aside = learned()
    assert not any(sight(aside) for _ in range(20))
    other = sample_of(setting(0, OTHER) + WRITE, [], None, None)
    assert any(aside.sight(TITLE, other, RESTORE_COST, 0.0) for _ in range(50))


def test_what_else_leads_to_a_bug_is_looked_into_sooner() -> None:
    def sightings(aside: Aside, cmd: int) -> int:
        """Return how many programs with this ioctl crash before that is looked into."""
        sample = sample_of(setting(0, cmd) + WRITE, [], None, None)
        looked = (aside.sight(TITLE, sample, RESTORE_COST, 0.0) for _ in range(99))
        return [*looked].index(True) + 1

    aside = learned()
    assert sightings(aside, OTHER) < 20
    # The same once more, as it did not tell of them: what it is worth is not known.
    cause = Cause((Pattern(kind_of(setting(0, OTHER))), Pattern(kind_of(WRITE))))
    for _ in range(2):
        aside.learn(TITLE, cause, 45 * RESTORE_COST)
    assert sightings(aside, THIRD) >= 45


def test_a_rule_that_told_nothing_is_about_more_than_one_program() -> None:
    aside = Aside()
    for _ in range(KNOWN):
        sight(aside)
    for _ in range(30):
        aside.passed([ZERO + READ], [])
    patterns = (Pattern(kind_of(ZERO)), Pattern(kind_of(WRITE)))
    aside.learn(TITLE, Cause(patterns), 0.0)
    assert aside.screen([ZERO], 0.0) == [ZERO]
    aside.learn(TITLE, Cause(patterns), 0.0)
    assert aside.screen([ZERO], 0.0) == []


def test_a_machine_is_used_further_unless_that_ends_badly() -> None:
    aside = learned()
    assert aside.is_survived(TITLE)
    aside.end_badly([TITLE, "never seen"])
    assert aside.is_survived(TITLE)
    aside.end_badly([TITLE])
    assert not aside.is_survived(TITLE)
    for _ in range(20):
        sight(aside, cost=REPORT_COST)
    assert aside.is_survived(TITLE)


def test_a_sample_ends_with_the_call_that_crashed() -> None:
    program = encode((Call(Op.READ, arg=8), Call(Op.CLOSE), Call(Op.LSEEK)))
    sample = sample_of(program, [READ + READ, WRITE], 1, None)
    assert sample.chunks == tuple(split(program)[:2])
    assert sample.culprit == bytes((Op.CLOSE,))
    assert sample.before == (READ, WRITE)
    assert sample_of(program, [], None, None).chunks == tuple(split(program))


@pytest.mark.parametrize(
    ("registers", "kind"),
    [
        ((0, 0), bytes((Op.READ,))),
        ((0x12, 5), bytes((Op.PWRITE,))),
        ((0x10, 0xFFFFFFFF40047301), kind_of(ZERO)),
        ((0x33, 0), None),
    ],
)
def test_the_registers_tell_the_call(registers: tuple[int, int], kind: bytes | None) -> None:
    lines = [
        "BUG: KASAN: slab-use-after-free in f+0x1/0x2",
        f"RSP: 002b:00007ffcd5651260 EFLAGS: 00000246 ORIG_RAX: {registers[0]:016x}",
        "RAX: ffffffffffffffda RBX: 0000000000000000 RCX: 0000000000401234",
        f"RDX: 0000000000000001 RSI: {registers[1]:016x} RDI: 0000000000000003",
    ]
    assert culprit_of(lines) == kind
    assert culprit_of(lines[:1]) is None


def test_what_workers_set_aside_is_added_up_and_damaged_files_are_left_out(tmp_path: Path) -> None:
    write_aside(tmp_path, "worker-0", SetAside({TITLE: 3}))
    write_aside(tmp_path, "worker-1", SetAside({TITLE: 4, "other": 1}, ("new",)))
    (tmp_path / "worker-2.aside").write_text("{")
    (tmp_path / "worker-3.aside").write_text("[]")
    assert read_aside(tmp_path) == SetAside({TITLE: 7, "other": 1}, ("new",))


def test_a_bug_that_is_put_back_is_met_again_and_set_aside_no_more() -> None:
    aside = learned()
    chunks = [READ, ZERO, WRITE]
    assert aside.screen(chunks, 0.0) == [READ, WRITE]
    aside.put_back(PutBack((TITLE,)))
    assert aside.sightings() == {}
    assert aside.screen(chunks, 0.0) is chunks
    assert not any(sight(aside) for _ in range(20))
    # Its cause was being found out meanwhile.
    assert aside.learn(TITLE, Cause((Pattern(kind_of(ZERO)),)), 0.0) is None
    assert aside.screen(chunks, 0.0) is chunks
    other = [aside.sight("BUG in g", sample_of(WRITE, [], None, None), 1e6, 0.0)
             for _ in range(KNOWN)]  # fmt: skip
    assert other[-1]


def test_nothing_is_set_aside_where_everything_is_put_back() -> None:
    aside = Aside()
    aside.put_back(PutBack(everything=True))
    assert not any(sight(aside) for _ in range(20))
    assert aside.is_known(TITLE)


def test_what_is_put_back_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_put_back(tmp_path) == PutBack()
    for back in (PutBack((TITLE, "BUG")), PutBack(everything=True)):
        write_put_back(tmp_path, back)
        assert read_put_back(tmp_path) == back
    put_back_file(tmp_path).write_text('{"titles": 3}')
    assert read_put_back(tmp_path) == PutBack()
