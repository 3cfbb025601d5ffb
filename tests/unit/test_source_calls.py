# SPDX-License-Identifier: Apache-2.0
"""Descriptions with what a driver's source tells: they can be loaded, whatever it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.auto_description import learned
from fuzzer.campaign.description import DriverFacts, describe, known_names
from fuzzer.campaign.source_fields import rule
from fuzzer.cli.drivers import write_checked
from fuzzer.driver.ioctls import IoctlMacro
from fuzzer.driver.source.interface import (
    NOTHING,
    DriverEntry,
    GivenMemory,
    GivenNumber,
    Interface,
    Ioctl,
    Length,
    Operand,
    Registered,
    Unread,
)
from fuzzer.target.calls import (
    AnyIoctlSpec,
    CallSpec,
    CountField,
    Field,
    GivesField,
    IoctlSpec,
    LenField,
    PointerField,
    PoolField,
    RangeField,
    StructsField,
    TakesField,
    ValuesField,
    WriteSpec,
)
from fuzzer.target.device import Device
from fuzzer.target.header import Header
from fuzzer.target.layout import Member, MemberKind, StructLayout
from fuzzer.target.target import Target, load_target

WHOLE = 0xFFFFFFFF
NUMBER = 0x40207401
ARG = ("arg", "*")
U32, U64 = (4, MemberKind.INTEGER), (8, MemberKind.INTEGER)
PART = StructLayout(
    "part",
    16,
    (
        Member("data", 0, *U64),
        Member("size", 8, *U32),
        Member("kind", 12, *U32),
    ),
)
TOY = StructLayout(
    "toy",
    48,
    (
        Member("head.magic", 0, *U32),
        Member("length", 4, *U32),
        Member("buffer", 8, *U64),
        Member("parts", 16, *U64),
        Member("n", 24, *U32),
        Member("flags", 28, *U32),
        Member("name", 32, 16, MemberKind.BYTES, 16, is_text=True),
    ),
)
KNOWN = Header({"TOY_SET": NUMBER}, {"toy": TOY, "part": PART}, None)


def ioctl(number: int = NUMBER, name: str = "", mask: int = WHOLE, **given: object) -> Ioctl:
    return Ioctl(number, mask, name, "toy.c", 1, Operand(**given))  # type: ignore[arg-type]


def entry(*ioctls: Ioctl, member: str = "unlocked_ioctl", is_whole: bool = True) -> DriverEntry:
    return DriverEntry(
        "fops", "file_operations", member, f"toy_{member}", ioctls, is_whole=is_whole
    )


def with_struct(*more: GivenMemory, numbers: tuple[GivenNumber, ...] = ()) -> Ioctl:
    memory = (GivenMemory(ARG, "toy", 48, is_read=True), *more)
    return ioctl(name="TOY_SET", memory=memory, numbers=numbers)


@pytest.fixture
def facts(tmp_path: Path) -> DriverFacts:
    """Return what is known of a driver."""
    (tmp_path / "toy").mkdir()
    return DriverFacts("toy", (Device("/dev/toy"),), source=tmp_path / "toy", known=KNOWN)


def loaded(facts: DriverFacts, directory: Path) -> Target:
    """Return the target of the description that is made."""
    path = directory / "made.yaml"
    assert write_checked(path, facts, "Made by a test.") is facts
    return load_target(
        path,
        lambda _target, *, constants, structs: known_names(facts, constants, structs),
    )


def calls(facts: DriverFacts, directory: Path, *entries: DriverEntry) -> tuple[CallSpec, ...]:
    return loaded(replace(facts, interface=Interface(entries)), directory).calls


def described(facts: DriverFacts, directory: Path, *entries: DriverEntry) -> dict[int, IoctlSpec]:
    """Return the ioctls of the description by number, those of 32-bit programs left out."""
    found = calls(facts, directory, *entries)
    return {each.number: each for each in found if isinstance(each, IoctlSpec) and not each.compat}


def fields_of(facts: DriverFacts, directory: Path, found: Ioctl) -> dict[str, Field]:
    (made,) = described(facts, directory, entry(found)).values()
    assert made.struct == TOY
    return {each.member: each for each in made.fields}


def test_an_ioctl_has_the_struct_that_is_copied(facts: DriverFacts, tmp_path: Path) -> None:
    plain = ioctl(0x1234, memory=(GivenMemory(ARG, "part", 16),))
    made = described(facts, tmp_path, entry(with_struct(), plain))
    assert {(each.name, each.number): each.struct for each in made.values()} == {
        ("TOY_SET", NUMBER): TOY,
        (None, 0x1234): PART,
    }


def test_members_have_what_they_are_compared_with(facts: DriverFacts, tmp_path: Path) -> None:
    numbers = (
        GivenNumber((*ARG, "magic"), required=((77, "MAGIC"),)),
        GivenNumber((*ARG, "length"), bounds=((">", 512), ("<", 4))),
        GivenNumber((*ARG, "flags"), masks=((~5, ""),)),
    )
    made = fields_of(facts, tmp_path, with_struct(numbers=numbers))
    assert made == {
        "head.magic": ValuesField("head.magic", (77,)),
        "length": RangeField("length", 4, 512),
        "flags": ValuesField("flags", (0, 1, 4, 5)),
    }


def test_what_has_to_be_aligned_is_mostly_a_multiple(facts: DriverFacts, tmp_path: Path) -> None:
    numbers = (GivenNumber((*ARG, "length"), masks=((0xFFF, ""),)),)
    made = fields_of(facts, tmp_path, with_struct(numbers=numbers))
    multiples = (0x1000, 0x2000, 0x3000, 0x10000)
    assert made == {"length": ValuesField("length", (0, 1, 2, 3, 0xFFF, *multiples))}


def test_addresses_have_lengths_and_arrays_counts(facts: DriverFacts, tmp_path: Path) -> None:
    made = fields_of(
        facts,
        tmp_path,
        with_struct(
            GivenMemory((*ARG, "buffer", "*"), length=Length((*ARG, "length"))),
            GivenMemory((*ARG, "parts", "*"), "part", 16, Length((*ARG, "n"), 16)),
            GivenMemory(
                (*ARG, "parts", "*", "data", "*"), length=Length((*ARG, "parts", "*", "size"))
            ),
        ),
    )
    inner = (PointerField("data", 256), LenField("size", "data"))
    parts = made.pop("parts")
    assert isinstance(parts, StructsField)
    assert parts == StructsField("parts", PART, inner, 1, 4)
    assert made == {
        "buffer": PointerField("buffer", 256),
        "length": LenField("length", "buffer"),
        "n": CountField("n", "parts"),
    }


@pytest.mark.parametrize(
    ("name", "is_time"),
    [
        ("delay_ms", True),
        ("timeout", True),
        ("arg.wait_us", True),
        ("items", False),
        ("bus", False),
    ],
)
def test_members_that_are_named_as_times_are_left_short(name: str, is_time: bool) -> None:
    number = GivenNumber((*ARG, name), bounds=((">", 20),))
    assert rule(number, Member(name, 0, *U32)) == ("" if is_time else "{range: [0, 20]}")


@pytest.mark.parametrize("name", ["y", "on", "no", "null", "true"])
def test_names_of_members_mean_themselves(name: str, facts: DriverFacts, tmp_path: Path) -> None:
    layout = StructLayout("toy", 8, (Member(name, 0, *U32), Member("x", 4, *U32)))
    facts = replace(facts, known=Header(KNOWN.constants, {"toy": layout}, None))
    found = with_struct(numbers=(GivenNumber((*ARG, name), required=((7, ""),)),))
    (made,) = described(facts, tmp_path, entry(found)).values()
    assert made.fields == (ValuesField(name, (7,)),)


def test_an_argument_that_is_compared_is_a_number_whatever_its_ioctl_is_called(
    facts: DriverFacts, tmp_path: Path
) -> None:
    compared = GivenNumber(("arg",), bounds=((">", 31),))
    coded = ioctl(0x40045564, numbers=(compared,), unclear=("set_bit",))
    (made,) = described(facts, tmp_path, entry(coded)).values()
    assert made.values == (0, 1, -1, 31, 32)
    assert made.struct is None


def test_handles_are_remarks(facts: DriverFacts) -> None:
    taken = (
        GivenNumber((*ARG, "length"), takes="fd"),
        GivenNumber((*ARG, "n"), takes="time", bounds=((">", 50),)),
        GivenNumber((*ARG, "flags"), gives="id"),
    )
    returned = ioctl(3, gives="fd")
    interface = Interface((entry(with_struct(numbers=taken), returned),))
    text = describe(replace(facts, interface=interface), "Made by a test.")
    assert "- ioctl: TOY_SET    # n takes a time; flags gives an id\n" in text
    assert "n: {range" not in text
    assert "- ioctl: 0x3    # returns a descriptor\n" in text


def test_an_address_of_so_many_bytes_has_these(facts: DriverFacts, tmp_path: Path) -> None:
    memory = GivenMemory((*ARG, "buffer", "*"), size=20)
    made = fields_of(facts, tmp_path, with_struct(memory))
    assert made == {"buffer": PointerField("buffer", 20)}


def test_an_address_of_a_number_has_what_the_number_is(facts: DriverFacts, tmp_path: Path) -> None:
    taken, given = (
        (GivenNumber(ARG, takes="id:things"),),
        (GivenNumber(ARG, gives="id:things"),),
    )
    bounded = (GivenNumber(ARG, bounds=((">", 7),)),)
    word = (GivenMemory(ARG, size=4),)
    made = described(
        facts,
        tmp_path,
        entry(
            ioctl(1, memory=(GivenMemory(ARG, size=8),), numbers=taken),
            ioctl(2, memory=word, numbers=given),
            ioctl(3, memory=word, numbers=bounded),
            ioctl(4, memory=(GivenMemory(ARG, size=12),), numbers=bounded),
        ),
    )
    assert {number: spec.struct and spec.struct.c_type for number, spec in made.items()} == {
        1: "__u64",
        2: "__u32",
        3: "__u32",
        4: None,
    }
    assert [field for number in (1, 2, 3) for field in made[number].fields] == [
        TakesField("value", "things"),
        GivesField("value", "things"),
        RangeField("value", 0, 7),
    ]


def test_an_address_of_several_numbers_has_their_count(facts: DriverFacts, tmp_path: Path) -> None:
    at = (*ARG, "parts", "*")
    memory = GivenMemory(at, size=4, length=Length((*ARG, "n"), 4))
    made = fields_of(
        facts, tmp_path, with_struct(memory, numbers=(GivenNumber(at, bounds=((">", 63),)),))
    )
    parts = made["parts"]
    assert isinstance(parts, StructsField)
    assert parts.struct.is_number
    assert parts.struct.c_type == "__u32"
    assert parts.fields == (RangeField("value", 0, 63),)
    assert parts.most > 1
    assert made["n"] == CountField("n", "parts")


def test_texts_are_words_and_fill_arrays(facts: DriverFacts, tmp_path: Path) -> None:
    name = GivenMemory((*ARG, "name"), is_text=True, texts=("left", 'ri"ght'))
    target = loaded(replace(facts, interface=Interface((entry(with_struct(name)),))), tmp_path)
    assert {b"left", b'ri"ght'} <= set(target.pools["word"])
    (made,) = (each for each in target.calls if isinstance(each, IoctlSpec))
    assert made.fields == (PoolField("name", "word"),)


def test_an_array_has_its_length(facts: DriverFacts, tmp_path: Path) -> None:
    name = GivenMemory((*ARG, "name"), length=Length((*ARG, "n")))
    numbers = (GivenNumber((*ARG, "n"), bounds=((">", 16),)),)
    made = fields_of(facts, tmp_path, with_struct(name, numbers=numbers))
    assert made == {"name": PoolField("name", "word"), "n": LenField("n", "name")}


def test_numbers_and_sizes_are_operands_too(facts: DriverFacts, tmp_path: Path) -> None:
    made = described(
        facts,
        tmp_path,
        entry(
            ioctl(1, memory=(GivenMemory(ARG, size=4),)),
            ioctl(2, numbers=(GivenNumber(("arg",), values=((7, ""),), bounds=((">", 100),)),)),
            ioctl(3),
        ),
    )
    assert made[1].sizes == (4,)
    assert {0, 7, 100, 101} <= set(made[2].values)
    assert not made[3].sizes


def test_ioctls_that_are_not_handled_are_left_out_if_all_was_read(
    facts: DriverFacts, tmp_path: Path
) -> None:
    unused = IoctlMacro("TOY_UNUSED", 0x7409, "", None, Path("toy.h"), 1)
    facts = replace(facts, ioctls=(unused,))
    assert set(described(facts, tmp_path, entry(with_struct()))) == {NUMBER}
    known = described(facts, tmp_path, entry(with_struct(), is_whole=False))
    assert set(known) == {NUMBER, 0x7409}
    assert set(described(facts, tmp_path)) == {0x7409}


def test_a_part_of_a_number_is_that_of_the_macros_that_have_it(
    facts: DriverFacts, tmp_path: Path
) -> None:
    macro = IoctlMacro("TOY_SET", NUMBER, "struct toy", TOY, Path("toy.h"), 1)
    part = entry(ioctl(1, mask=0xFF, memory=(GivenMemory(ARG, size=1),)))
    (made,) = described(replace(facts, ioctls=(macro,)), tmp_path, part).values()
    assert (made.number, made.name, made.struct) == (NUMBER, "TOY_SET", TOY)
    assert set(described(facts, tmp_path, part)) == {1}


def test_commands_in_a_ring_are_described_as_ioctls_are(facts: DriverFacts, tmp_path: Path) -> None:
    command = ioctl(0x1234, memory=(GivenMemory(ARG, "part", 16),))
    operations = frozenset({"ioctl", "compat", "uring_cmd"})
    facts = replace(facts, operations=operations)
    made = calls(facts, tmp_path, entry(with_struct()), entry(command, member="uring_cmd"))
    found = [each for each in made if isinstance(each, IoctlSpec)]
    assert [(each.number, each.uring, each.compat) for each in found] == [
        (NUMBER, False, False),
        (NUMBER, False, True),
        (0x1234, True, False),
    ]
    assert found[2].struct == PART
    assert AnyIoctlSpec((0, 8, 16, 80), uring=True) in made


def test_ioctls_of_32_bit_programs_are_those_of_their_own_handler(
    facts: DriverFacts, tmp_path: Path
) -> None:
    facts = replace(facts, operations=facts.operations | {"compat"})
    found = calls(facts, tmp_path, entry(with_struct()), entry(ioctl(5), member="compat_ioctl"))
    specs = [each for each in found if isinstance(each, IoctlSpec)]
    assert {(each.number, each.compat) for each in specs} == {(NUMBER, False), (5, True)}


def test_ioctls_of_any_number_are_few_where_all_are_known(
    facts: DriverFacts, tmp_path: Path
) -> None:
    def weight(*entries: DriverEntry) -> int:
        found = calls(facts, tmp_path, *entries)
        return next(each.weight for each in found if isinstance(each, AnyIoctlSpec))

    assert weight(entry(ioctl(1))) < weight() == weight(entry(ioctl(1), is_whole=False))


def test_writes_have_structs_and_formats(facts: DriverFacts, tmp_path: Path) -> None:
    memory = GivenMemory(("buf", "*"), "part", 16, formats=("set %d %s\n", "{%x}", "%i"))
    kind = GivenNumber(("buf", "*", "kind"), required=((3, ""),))
    write = replace(entry(member="write"), operand=Operand((memory,), (kind,)))
    found = calls(facts, tmp_path, write)
    records = [record for each in found if isinstance(each, WriteSpec) for record in each.records]
    assert [(each.struct, each.fields) for each in records] == [
        (PART, (ValuesField("kind", (3,)),))
    ]
    text = describe(replace(facts, interface=Interface((write,))), "")
    assert '"set {int:-1..4|255|65536} {word}\\n"' in text
    assert '"{{{hex:0..255|65536}}}"' in text


def test_what_was_not_read_is_a_comment_with_its_place(facts: DriverFacts) -> None:
    interface = Interface(
        (entry(with_struct()),),
        (Registered("misc_register", "toy", "fops"),),
        (Unread("/copy/main.c", 12, "a call through ops->go"),),
    )
    text = describe(replace(facts, interface=interface, root="/copy"), "Made by a test.")
    assert "#   main.c:12: a call through ops->go\n" in text
    assert "# file_operations fops (toy): unlocked_ioctl\n" in text


def test_what_makes_no_description_is_left_out_and_told(
    facts: DriverFacts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = replace(TOY, size=70_000)
    known = Header(KNOWN.constants, {"toy": huge}, None)
    path = tmp_path / "made.yaml"
    whole = replace(facts, known=known, interface=Interface((entry(with_struct()),)))
    assert write_checked(path, whole, "Made by a test.").interface == NOTHING
    assert load_target(path).name == "toy"
    assert "left out" in capsys.readouterr().err


def test_what_was_learned_has_what_the_source_tells(facts: DriverFacts) -> None:
    text = learned(replace(facts, interface=Interface((entry(with_struct()),))), [], {NUMBER, 9})
    assert text.count("TOY_SET") == 1
