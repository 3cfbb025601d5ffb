# SPDX-License-Identifier: Apache-2.0
"""The KUnit cases in a C file, by which the VM tests are named."""

from __future__ import annotations

import pytest

from tests.vm.kunit import listed_cases

_SOURCE = """\
/* KUNIT_CASE(in_a_comment) */
static struct kunit_case store_cases[] = {
	KUNIT_CASE(reads),
	// KUNIT_CASE(not_this_one),
	KUNIT_CASE_PARAM(writes, strategy_gen_params),
	KUNIT_CASE_SLOW(
		waits),
	KUNIT_CASE_PARAM_ATTR(is_slow, strategy_gen_params, slow),
	{}
};

static struct kunit_case file_cases[] = {
	KUNIT_CASE(reads),
	{}
};

static struct kunit_suite file_suite = {
	.name = "file",
	.init = start,
	.test_cases = file_cases,
};

static struct kunit_suite store_suite = {
	.test_cases = store_cases, /* .name = "wrong" */
	.name = "store",
};
kunit_test_suites(&file_suite, &store_suite);
"""


def test_each_suite_lists_its_cases_in_order() -> None:
    assert listed_cases(_SOURCE) == [
        ("file", "reads"),
        ("store", "reads"),
        ("store", "writes"),
        ("store", "waits"),
        ("store", "is_slow"),
    ]


@pytest.mark.parametrize("gone", [".name", "file_cases[]", "KUNIT_CASE(reads),\n\t{}"])
def test_a_suite_that_cannot_be_read_is_an_error(gone: str) -> None:
    with pytest.raises(ValueError, match="no name or no cases in this suite"):
        listed_cases(_SOURCE.replace(gone, "other"))


def test_a_file_without_suites_is_an_error() -> None:
    with pytest.raises(ValueError, match="no KUnit suite"):
        listed_cases("int x;\n")
