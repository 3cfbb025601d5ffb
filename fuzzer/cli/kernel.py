# SPDX-License-Identifier: Apache-2.0
"""``pkvfuzz kernel``: the kernels that drivers are built against."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import replace

from fuzzer.cli.options import add_kernels
from fuzzer.cli.setting import kernel_options
from fuzzer.driver.kerneltree import build_tree
from fuzzer.driver.modinfo import expected_modinfo
from fuzzer.errors import BadInputError, ExitCode
from fuzzer.flavour import NAMES
from fuzzer.kernel.kernel import Flavour, KernelOptions, ensure_kernel, ready_kernel
from fuzzer.kernel.variant import Variant
from fuzzer.kernel.versions import ensure_source_package
from fuzzer.progress import show

_OPTION = re.compile(r"(?!CONFIG_)[A-Z0-9][A-Z0-9_]*=[^\s]+\Z")
_FORMAT = "{:6} {:18} {:>13}  {}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what ``kernel`` takes."""
    parser.add_argument(
        "--path",
        choices=NAMES,
        help="print the directory to build modules in, after building the kernel if need be",
    )
    parser.add_argument(
        "--config",
        action="append",
        default=[],
        metavar="NAME=y",
        help="of the kernel with this option, as a description's config has it; may be repeated",
    )
    add_kernels(parser)


def command(options: argparse.Namespace) -> int:
    """Print where to build modules for a kernel, or what kernels there are."""
    kernels = replace(kernel_options(options), variant=Variant(_config(options.config)))
    if options.path:
        show(build_tree(ensure_kernel(Flavour(options.path), kernels)))
        return int(ExitCode.NOTHING_FOUND)
    if kernels.version:
        ensure_source_package(kernels.version)
    show(_FORMAT.format("", "release", "struct module", "vermagic"))
    for flavour in Flavour:
        show(_line(flavour, kernels))
    return int(ExitCode.NOTHING_FOUND)


def _config(given: Sequence[str]) -> tuple[str, ...]:
    for option in given:
        if not _OPTION.match(option):
            raise BadInputError(f"--config {option}: NAME=y, without CONFIG_, is allowed")
    return tuple(given)


def _line(flavour: Flavour, kernels: KernelOptions) -> str:
    try:
        kernel = ready_kernel(flavour, kernels)
    except BadInputError as error:
        return f"{flavour:6} {error}"
    if kernel is None:
        return f"{flavour:6} not built yet: kernel --path {flavour}, or a run, builds it"
    expected = expected_modinfo(kernel)
    size = f"{expected.struct_size} bytes"
    return _FORMAT.format(flavour, kernel.release(), size, expected.vermagic.strip())
