# SPDX-License-Identifier: Apache-2.0
"""A kernel that fits a driver: with the options, and of the version, that it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from fuzzer.errors import BadInputError
from fuzzer.machine.author_build import BuildFailedError
from fuzzer.machine.kernel import Flavour, Kernel, KernelOptions, Variant, ensure_kernel
from fuzzer.machine.needs.needs import Needs, needed_options
from fuzzer.progress import say

_T = TypeVar("_T")
# An option may bring others into sight; this many times are enough for all that was seen.
_MOST_ROUNDS = 5


def fitted(
    use: Callable[[Kernel], _T], options: KernelOptions, flavour: Flavour
) -> tuple[_T, KernelOptions]:
    """Return what ``use`` makes of a kernel, and the options of the kernel that it took.

    ``use`` builds a driver. When it says that the kernel lacks something, a kernel is
    made that has it.

    Raises:
        BadInputError: no kernel will do, or the driver is at fault.
    """
    for _ in range(_MOST_ROUNDS):
        kernel = ensure_kernel(flavour, options)
        try:
            return use(kernel), options
        except BuildFailedError as error:
            if options.build is not None:
                raise
            needs = needed_options(error.output, kernel)
            added = _added(needs, options)
            if not added:
                raise _unexplained(error, needs) from None
            say(f"the driver needs a kernel with {', '.join(added)}; to have it at once from now")
            say(f"on, put this into its description, below 'module': config: [{', '.join(added)}]")
            variant = Variant((*options.variant.config, *added), options.variant.sources)
            options = replace(options, variant=variant)
    raise BadInputError("the driver's needs of a kernel have no end; name them with 'config'")


def _added(needs: Needs, options: KernelOptions) -> tuple[str, ...]:
    return tuple(each for each in needs.options if each not in options.variant.config)


def _unexplained(error: BuildFailedError, needs: Needs) -> BadInputError:
    reasons = [f"{each.name}: {each.reason}" for each in needs.unexplained[:6]]
    return BadInputError("\n".join([str(error), *reasons]))
