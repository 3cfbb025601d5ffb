# SPDX-License-Identifier: Apache-2.0
"""Drivers that come as a ``.ko``: a kernel loads only what was built against it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from fuzzer.driver.modinfo import read_modinfo, why_unfit
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, ensure_kernel
from fuzzer.progress import say
from fuzzer.target.target import ModuleSpec, Target


def object_that_fits(module: ModuleSpec, kernel: Kernel) -> Path:
    """Return the .ko for a kernel.

    Raises:
        BadInputError: there is none, or the kernel would not load it, or it has no
            coverage points.
    """
    path = module.object_for(kernel.flavour)
    reason = _unusable(path, kernel)
    if reason or path is None:
        raise BadInputError(f"{reason}\n{_remedy([kernel.flavour], module)}")
    return path


def check_objects(target: Target, flavours: Sequence[Flavour], options: KernelOptions) -> None:
    """Raise an error if a target comes as a .ko that does not fit all of these kernels.

    Kernels that are not there yet are built for that.

    Raises:
        BadInputError: it does not fit, or it has no coverage points.
    """
    module = target.module
    if module.object is None:
        return
    reasons: dict[Flavour, str] = {}
    for flavour in dict.fromkeys(flavours):
        reason = _unusable(module.object_for(flavour), ensure_kernel(flavour, options))
        if reason:
            reasons[flavour] = reason
    if reasons:
        told = list(dict.fromkeys(reasons.values()))
        good = [flavour for flavour in dict.fromkeys(flavours) if flavour not in reasons]
        if good:
            told.append(
                f"It is right for {good[0]} alone, and a campaign takes two kernels: "
                f"{flavours[0]} fuzzes, {flavours[-1]} judges what was found."
            )
        told.append(_remedy(list(reasons), module, options, both=len(flavours) > 1))
        raise BadInputError("\n".join(told))
    for flavour in dict.fromkeys(flavours):
        path = module.object_for(flavour)
        if path and flavour.spec.sanitizer not in read_modinfo(path).sanitizers:
            say(
                f"WARNING: {path} has no calls of {flavour.spec.sanitizer}: bad accesses to memory "
                f"will go unseen. {_remedy([flavour], module, options)}"
            )


def _unusable(path: Path | None, kernel: Kernel) -> str:
    """Return why a .ko cannot be fuzzed on a kernel; empty if it can."""
    if path is None:
        return f"the description's 'object' names no .ko for the {kernel.flavour} kernel"
    reason = why_unfit(path, kernel)
    if reason:
        return f"{path} does not fit the {kernel.flavour} kernel: {reason}"
    if not read_modinfo(path).has_coverage:
        return f"{path} has no coverage points: it was built without KCOV_INSTRUMENT=y"
    return ""


def _remedy(
    flavours: Sequence[Flavour],
    module: ModuleSpec,
    options: KernelOptions | None = None,
    *,
    both: bool = False,
) -> str:
    """Return advice: commands that build it, and where to name the result."""
    options = options or KernelOptions()
    words = [f"--config {shlex.quote(option)}" for option in module.config]
    for name, path in (("source", options.source), ("build", options.build)):
        words += [f"--kernel-{name} {shlex.quote(str(path))}"] if path else []
    commands = "".join(
        f"\n    make -C $({' '.join(['pkvfuzz kernel --path', flavour, *words])}) M=$PWD modules"
        for flavour in flavours
    )
    how = f"Build it in its directory, after make clean, with{commands}"
    if both or len(flavours) > 1:
        how += "\nCopy it away for each kernel, and name both in the description: "
        how += "object: {fast: fast/x.ko, full: full/x.ko}"
    return how
