# SPDX-License-Identifier: Apache-2.0
"""The table of the core's functions is what the packaged kernel sources give."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.cache import build_once, content_key
from fuzzer.kernel.source import prepare_source
from fuzzer.kernel.versions import tarballs
from fuzzer.splat import core_files, core_functions
from fuzzer.splat.core_functions import functions_of, read_table, stored_table, table_text

pytestmark = pytest.mark.vm

GENERATOR = tuple(Path(str(each.__file__)).read_bytes() for each in (core_files, core_functions))


def generated(version: str) -> str:
    """Return the generator's output for a source, made once: it takes a quarter of a minute."""
    source = prepare_source(version=version)

    def make(directory: Path) -> None:
        (directory / "table").write_text(table_text({version: functions_of(source.directory)}))

    made = build_once("core-functions", content_key(source.key, *GENERATOR), make, keep=4)
    return (made / "table").read_text()


def test_the_stored_table_is_the_generators_output() -> None:
    table = read_table(stored_table())
    versions = {tarball.version for tarball in tarballs()} & table.keys()
    assert versions, "none of the table's kernel sources is installed"
    for version in sorted(versions):
        assert read_table(generated(version))[version] == table[version]
