# SPDX-License-Identifier: Apache-2.0
"""The fragments of kernel configurations, against the kernel that they are written for."""

from __future__ import annotations

from fuzzer.kernel.kbuild import parse_config
from fuzzer.kernel.kconfig import unknown_requests
from fuzzer.kernel.source import prepare_source
from fuzzer.paths import project_root


def test_nothing_is_left_out_of_kernels_of_the_default_version() -> None:
    source = prepare_source()
    for path in sorted((project_root() / "vm" / "kernel").glob("*.config")):
        asked = parse_config(path.read_text())
        unknown = unknown_requests(asked, source.directory)
        assert set(unknown) <= source.missing_options, path.name
