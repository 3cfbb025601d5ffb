# SPDX-License-Identifier: Apache-2.0
"""Handles, files and unions of a driver's source: what is read of them, and what is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.description import DriverFacts, describe, known_names
from fuzzer.campaign.source_handles import HandleKinds
from fuzzer.driver.source.interface import GivenNumber, Interface, Operand
from fuzzer.target.calls import ElementsField, GivesField, IoctlSpec, TakesField, UnionField
from fuzzer.target.header import Header, read_headers
from fuzzer.target.target import load_target
from tests.unit.test_source_calls import ARG, entry, facts, ioctl
from tests.unit.test_source_reading import driver, only, read

__all__ = ["driver", "facts"]

TYPES = """\
struct new { unsigned int size; unsigned int id; };
struct draw {
	unsigned int id; unsigned int kind; unsigned int on : 1, gamma : 6;
	union { struct { unsigned int at; } dot; struct { unsigned short from, to; } line; } u;
	unsigned int n; struct new runs[4];
};
"""
BODY = """
static int view_release(struct inode *inode, struct file *file) { return 0; }
static long view_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	return cmd == _IO('t', 16) ? 0 : -ENOTTY;
}
static const struct file_operations view_fops = { .unlocked_ioctl = view_ioctl };
static struct idr *things;
static struct { u32 cookie; } slots[4];
static int draw(struct draw *draw)
{
	switch (draw->kind) {
	case 1:
		return draw->u.dot.at > 3;
	case 2:
		return draw->u.line.to > 3;
	}
	return 0;
}
static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct new new; struct draw d; int i;
	switch (cmd) {
	case 1:
		if (copy_from_user(&new, (void __user *)arg, sizeof(new)))
			return -EFAULT;
		new.id = idr_alloc(things, file, 0, 0, 0);
		return copy_to_user((void __user *)arg, &new, sizeof(new));
	case 2:
		return idr_find(things, arg) != NULL;
	case 3:
		return anon_inode_getfd("toy", &view_fops, file, 0);
	case 4:
		if (copy_from_user(&d, (void __user *)arg, sizeof(d)))
			return -EFAULT;
		if (!idr_find(things, d.id) || d.n > 4)
			return -EINVAL;
		if (d.on && d.gamma > 7)
			return -EINVAL;
		for (i = 0; i < d.n; i++)
			if (d.runs[i].size > 9)
				return -EINVAL;
		return draw(&d);
	case 5:
		if (copy_from_user(&new, (void __user *)arg, sizeof(new)))
			return -EFAULT;
		slots[0].cookie = new.size = slots[1].cookie * 7;
		return copy_to_user((void __user *)arg, &new, sizeof(new));
	case 6:
		if (copy_from_user(&new, (void __user *)arg, sizeof(new)))
			return -EFAULT;
		return slots[2].cookie == new.size;
	}
	return 0;
}
static const struct file_operations fops = { .unlocked_ioctl = toy_ioctl };
"""


@pytest.fixture
def interface(driver: Path) -> Interface:
    return read(driver, f"{TYPES}{BODY}")


def number(interface: Interface, command: int, *path: str) -> GivenNumber:
    table = next(each for each in interface.entries if each.table == "fops")
    (found,) = (n for n in only(table, command).operand.numbers if n.path == path)
    return found


def test_ids_are_told_by_what_they_are_in(interface: Interface) -> None:
    assert number(interface, 1, *ARG, "id").gives == "id:things"
    assert number(interface, 2, "arg").takes == "id:things"
    assert number(interface, 4, *ARG, "id").takes == "id:things"


def test_numbers_of_the_drivers_own_are_known_where_they_are_given_and_looked_up(
    interface: Interface,
) -> None:
    assert number(interface, 5, *ARG, "size").gives.startswith("made:")
    assert number(interface, 6, *ARG, "size").takes == "found:cookie"


def test_a_number_that_one_ioctl_gives_is_the_callers_in_another(driver: Path) -> None:
    text = """
static struct { u32 id; } t[8];
static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct new r; int i;
	if (copy_from_user(&r, (void __user *)arg, sizeof(r)))
		return -EFAULT;
	for (i = 0; i < 8; i++) {
		if (cmd == 1 && !t[i].id) {
			t[i].id = r.id = t[0].id * 7 | 1;
			return copy_to_user((void __user *)arg, &r, sizeof(r));
		}
		if (cmd == 1 || t[i].id != r.id)
			continue;
		if (cmd == 2)
			return 0;
		else if (cmd == 3)
			return 1;
	}
	return 0;
}
static const struct file_operations fops = { .unlocked_ioctl = toy_ioctl };
"""
    found = read(driver, f"{TYPES}{text}")
    kinds = HandleKinds(found)
    assert number(found, 1, *ARG, "id").gives == "made:"
    for command in (2, 3):
        taken = number(found, command, *ARG, "id")
        assert taken.takes == "found:id"
        assert kinds.taken(taken.path, taken.takes, taken.gives) == "id"


def test_what_is_compared_with_one_member_is_of_one_kind(driver: Path) -> None:
    text = """
static struct { u32 id; } job;
u32 submit(void);
static struct file *find(u32 id) { return job.id == id ? NULL : 0; }
static long toy_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct new r;
	switch (cmd) {
	case 1:
		return put_user(submit(), &((struct new __user *)arg)->id);
	case 2:
		if (copy_from_user(&r, (void __user *)arg, sizeof(r)))
			return -EFAULT;
		return find(r.id) ? 1 : 0;
	case 3:
		return find(arg) ? 1 : 0;
	}
	return 0;
}
static const struct file_operations fops = { .unlocked_ioctl = toy_ioctl };
"""
    found = read(driver, f"{TYPES}{text}")
    kinds = HandleKinds(found)
    assert number(found, 1, *ARG, "id").gives == "made:"
    for command, path in ((2, (*ARG, "id")), (3, ("arg",))):
        taken = number(found, command, *path)
        assert kinds.taken(taken.path, taken.takes, taken.gives) == "id"


def test_descriptors_are_of_the_table_of_their_file(interface: Interface) -> None:
    table = next(each for each in interface.entries if each.table == "fops")
    assert only(table, 3).operand.gives == "fd:view_fops"


def test_cases_tell_what_is_looked_at_where_a_number_has_a_value(interface: Interface) -> None:
    table = next(each for each in interface.entries if each.table == "fops")
    cases = {(path[2:], by[2:], value) for path, by, value in only(table, 4).operand.cases}
    assert (("u", "dot", "at"), ("kind",), 1) in cases
    assert (("u", "line", "to"), ("kind",), 2) in cases
    assert (("u", "line", "to"), ("kind",), 1) not in cases


def test_one_of_two_conditions_is_not_required(interface: Interface) -> None:
    table = next(each for each in interface.entries if each.table == "fops")
    numbers = [each for each in only(table, 4).operand.numbers if each.path == (*ARG, "on")]
    assert not any(each.required for each in numbers)


def test_the_description_says_all_that(
    interface: Interface, facts: DriverFacts, tmp_path: Path
) -> None:
    header = tmp_path / "types.h"
    header.write_text(TYPES)
    known = Header({}, read_headers([header], structs=["new", "draw"]).structs, None)
    facts = replace(facts, interface=interface, known=known)
    path = tmp_path / "made.yaml"
    path.write_text(describe(facts, "Made by a test."))
    target = load_target(
        path,
        lambda _target, *, constants, structs: known_names(facts, constants, structs),
    )
    specs = {each.number: each for each in target.calls if isinstance(each, IoctlSpec)}
    rules = {
        number: {field.member: field for field in spec.fields} for number, spec in specs.items()
    }
    assert rules[1]["id"] == GivesField("id", "things")
    assert specs[2].takes == "things"
    assert specs[3].returns == "view"
    assert specs[0x7410].file == "view"
    assert rules[4]["id"] == TakesField("id", "things")
    assert rules[4]["u"] == UnionField("u", "kind", ((1, "dot"), (2, "line")))
    runs = rules[4]["runs"]
    assert isinstance(runs, ElementsField)
    assert [field.member for field in runs.fields] == ["size"]
    assert rules[5]["size"] == GivesField("size", "size")
    assert rules[6]["size"] == TakesField("size", "size")
    assert "gamma" in rules[4]


def test_what_nothing_gives_or_nothing_takes_is_no_handle() -> None:
    bounded = GivenNumber((*ARG, "n"), takes="found:n", bounds=((">", 9),))
    told = GivenNumber((*ARG, "n"), gives="made:n")
    kinds = HandleKinds(
        Interface((entry(ioctl(1, numbers=(bounded,)), ioctl(2, numbers=(told,))),))
    )
    assert kinds.taken(bounded.path, bounded.takes) == ""
    taken = GivenNumber((*ARG, "id"), takes="found:version")
    given = GivenNumber((*ARG, "count"), gives="made:total")
    kinds = HandleKinds(Interface((entry(ioctl(1, numbers=(taken,)), ioctl(2, numbers=(given,))),)))
    assert kinds.taken(taken.path, taken.takes) == ""
    assert kinds.given(given.path, given.gives) == ""
    assert kinds.returned(Operand(gives="fd")) == ""
