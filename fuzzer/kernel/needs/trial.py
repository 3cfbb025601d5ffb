# SPDX-License-Identifier: Apache-2.0
"""A variant of a kernel tried without building it: what would be lost, how long it would take."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fuzzer.kernel.kbuild import lost_options, parse_config
from fuzzer.kernel.kernel import Kernel, flavour_requests
from fuzzer.kernel.needs.rebuild import estimate_rebuild
from fuzzer.kernel.source import whole_source
from fuzzer.kernel.variant import Variant, extend_config


@dataclass(frozen=True, slots=True)
class Trial:
    """Forecast of a kernel's variant, made without building it.

    ``lost`` are requests that Kconfig would not honour, in words, the flavour's
    own included. ``compiled`` of the variant's ``objects`` would be compiled; the
    others are the kernel's. ``seconds`` is about how long that takes here.
    """

    lost: tuple[str, ...]
    compiled: int
    objects: int
    seconds: float


def try_options(kernel: Kernel, options: Sequence[str]) -> Trial:
    """Return what a variant of a built kernel with these options (``NAME=y``) would be.

    It takes seconds: nothing is compiled but Kconfig itself.

    Raises:
        BadInputError: an option is asked for twice, with different values.
        InfrastructureError: Kconfig failed.
    """
    variant = Variant(tuple(options))
    source = whole_source(kernel.source)
    before = parse_config((kernel.directory / ".config").read_text())
    with tempfile.TemporaryDirectory(prefix="pkvfuzz-config-") as name:
        directory = Path(name)
        shutil.copyfile(kernel.directory / ".config", directory / ".config")
        after = extend_config(source, directory, variant)
    asked = flavour_requests(kernel.flavour)
    kept = {name: value for name, value in asked.items() if before.get(name, "n") == value}
    rebuild = estimate_rebuild(source, kernel.directory, before, after)
    lost = lost_options(kept | variant.options, after)
    return Trial(tuple(lost), rebuild.compiled, rebuild.objects, rebuild.seconds)
