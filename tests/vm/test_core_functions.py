# SPDX-License-Identifier: Apache-2.0
"""The table of the core's functions is what the packaged kernel sources give."""

from __future__ import annotations

import pytest

from fuzzer.kernel.source import prepare_source
from fuzzer.kernel.versions import tarballs
from fuzzer.splat.core_functions import functions_of, read_table, stored_table

pytestmark = pytest.mark.vm


def test_the_stored_table_is_the_generators_output() -> None:
    table = read_table(stored_table())
    versions = {tarball.version for tarball in tarballs()} & table.keys()
    assert versions, "none of the table's kernel sources is installed"
    for version in sorted(versions):
        assert functions_of(prepare_source(version=version).directory) == table[version]
