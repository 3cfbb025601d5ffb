# SPDX-License-Identifier: Apache-2.0
"""A kernel that fits a driver: with the options, and of the version, that it needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from fuzzer.driver.author_build import BuildFailedError, is_of_compiler
from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kernel import (
    Flavour,
    Kernel,
    KernelOptions,
    Variant,
    ensure_kernel,
    prepared_kernel,
    ready_kernel,
)
from fuzzer.kernel.needs.needs import Needs, needed_options
from fuzzer.kernel.needs.trial import Trial, try_options
from fuzzer.kernel.variant import PLAIN
from fuzzer.kernel.versions import default_version, ensure_source_package, older_versions
from fuzzer.progress import clock, say

_T = TypeVar("_T")
# An option may bring others into sight; so many times are enough for all that was seen.
_MOST_ROUNDS = 6
_NOT_INCLUDED = "a header has it"
# A header that is asked for as one of the driver's own, not as one of the kernel's.
_OWN_HEADER = re.compile(r"fatal error: (\S+): No such file or directory\n\s*\d+ \| *# *include \"")
# Seconds that building a kernel may take without asking.
_SHORT_SECONDS = 180.0
# Users of the crypto API ask for an algorithm at run time: crypto_alloc_shash("md5").
_BY_NAME = {
    "CRYPTO=y": (
        "crypto/Kconfig",
        (
            *("CRYPTO_AES", "CRYPTO_CBC", "CRYPTO_CTR", "CRYPTO_ECB", "CRYPTO_GCM"),
            *("CRYPTO_HMAC", "CRYPTO_MD5", "CRYPTO_SHA1", "CRYPTO_SHA256", "CRYPTO_SHA512"),
        ),
    ),
}

Confirm = Callable[[str], bool]
"""Asks the user to confirm something that takes minutes, which the text describes."""


@dataclass(frozen=True, slots=True)
class Means:
    """Functions that provide kernels, and that find out the options which a driver needs."""

    ensure: Callable[[Flavour, KernelOptions], Kernel] = ensure_kernel
    ready: Callable[[Flavour, KernelOptions], Kernel | None] = ready_kernel
    prepare: Callable[[Flavour, KernelOptions], Kernel] = prepared_kernel
    needs: Callable[[str, Kernel, str, Collection[str]], Needs] = needed_options
    versions: Callable[[], Sequence[str]] = older_versions
    install: Callable[[str], None] = ensure_source_package
    attempt: Callable[[Kernel, Sequence[str]], Trial] = try_options


_MEANS = Means()


def fitted(
    use: Callable[[Kernel], _T],
    options: KernelOptions,
    flavour: Flavour,
    confirm: Confirm = lambda _what: True,
    compiles: Callable[[Kernel], object] | None = None,
    *,
    means: Means = _MEANS,
) -> tuple[_T, KernelOptions]:
    """Return what ``use`` makes of a kernel, and the options of the kernel that it took.

    ``use`` builds a driver. When that fails as the kernel lacks something, a kernel with it
    is made. With ``compiles``, which only compiles the driver, kernels that it would not
    compile against are not built, and older ones are tried.

    Raises:
        BadInputError: no kernel will do, or the driver is at fault.
    """
    try:
        return _with_options(use, options, flavour, confirm, compiles, means=means)
    except BuildFailedError as error:
        if compiles is None or options.version or options.source or options.build:
            raise
        for version in means.versions():
            say(f"against {default_version()}, {error}\nlooking whether it is for {version}")
            older = replace(options, version=version)
            try:
                means.install(version)
                older = _settled(compiles, older, flavour, means)
                say(f"taking kernel {version}; to say so at once: --kernel-version {version}")
                return _with_options(use, older, flavour, confirm, compiles, means=means)
            except (BuildFailedError, InfrastructureError) as problem:
                say(f"not for {version} either: {problem}")
        tried = ", ".join((default_version(), *means.versions()))
        raise BuildFailedError(f"{error}\n{_no_kernel(error, tried)}", error.output) from None


def _no_kernel(error: BuildFailedError, tried: str) -> str:
    """Return what to do about a driver that compiles against none of the kernels ``tried``."""
    missing = _OWN_HEADER.search(error.output)
    if missing and f"error: {missing[1]}: No such file" in str(error):
        return (
            f"{missing[1]} is neither where the driver's build looks nor in a kernel ({tried}). "
            "If it is the driver's own, give a directory with all of the driver's files, such as "
            "a clone of its repository; if a kernel's, give that: --kernel-source DIR"
        )
    return (
        f"It compiles against no kernel that this distribution has the source of ({tried}). "
        "If it is for another one, give that: --kernel-source DIR"
    )


def _settled(
    compiles: Callable[[Kernel], object], options: KernelOptions, flavour: Flavour, means: Means
) -> KernelOptions:
    """Return the options of a kernel that a driver compiles against: those given, and more.

    Kernels are only prepared for it, which takes a fraction of building them.

    Raises:
        BuildFailedError: it compiles with no options that could be found.
    """
    for _ in range(_MOST_ROUNDS):
        kernel = means.prepare(flavour, options)
        try:
            compiles(kernel)
        except BuildFailedError as error:
            # What is not linked says nothing: no symbol of the kernel is known yet.
            options = _extended(error, kernel, options, (), means)
        else:
            return options
    raise _endless(options)


def _with_options(
    use: Callable[[Kernel], _T],
    options: KernelOptions,
    flavour: Flavour,
    confirm: Confirm,
    compiles: Callable[[Kernel], object] | None,
    *,
    means: Means,
) -> tuple[_T, KernelOptions]:
    """Return what ``use`` makes of a kernel that has the options it turned out to need."""
    for _ in range(_MOST_ROUNDS):
        if options.version or options.variant:
            _ask(options, flavour, confirm, means)
        kernel = means.ensure(flavour, options)
        try:
            return use(kernel), options
        except BuildFailedError as error:
            if options.build is not None:
                raise
            options = _extended(error, kernel, options, error.unlinked, means)
            unbuilt = means.ready(flavour, options) is None
            if compiles is not None and unbuilt and is_of_compiler(error.output):
                options = _settled(compiles, options, flavour, means)
    raise _endless(options)


def _endless(options: KernelOptions) -> BadInputError:
    return BadInputError(
        "the driver needs ever more of the kernel. Name the options with 'config' in its "
        f"description; so far: {', '.join(options.variant.config)}"
    )


def _extended(
    error: BuildFailedError,
    kernel: Kernel,
    options: KernelOptions,
    unlinked: Collection[str],
    means: Means,
) -> KernelOptions:
    """Return options with what a failed build asks for.

    Raises:
        BuildFailedError: it asks for nothing that a kernel could have; with reasons.
    """
    needs = means.needs(error.output, kernel, error.kconfig, unlinked)
    added = _added(needs, options)
    added += _asked_for_by_name(added, kernel)
    if not added:
        raise BuildFailedError(_with_reasons(error, needs), error.output) from None
    variant = Variant((*options.variant.config, *added), options.variant.sources)
    line = f"config: [{', '.join(variant.config)}]"
    say(
        f"the driver needs a kernel with {', '.join(added)}. To have it at once from now "
        f"on, put into its description, below 'module': {line}"
    )
    return replace(options, variant=variant)


def _ask(options: KernelOptions, flavour: Flavour, confirm: Confirm, means: Means) -> None:
    """Ask the user to confirm the build of a kernel, if it takes more than a few minutes.

    Raises:
        BadInputError: the user did not confirm it.
    """
    if options.build or means.ready(flavour, options) is not None:
        return
    which = f" {options.version}" if options.version else ""
    added = f" with {', '.join(options.variant.config)}" if options.variant else ""
    plain = means.ready(flavour, replace(options, variant=PLAIN))
    seconds = 0.0
    if plain is not None:
        trial = means.attempt(plain, options.variant.config)
        seconds = trial.seconds
        if trial.lost:
            raise BadInputError(
                f"no kernel can be had{added}: {'; '.join(trial.lost)}. Kconfig wants other "
                "options for it as well, or forbids it"
            )
    how_long = f"about {clock(seconds)}" if seconds else "as long as the first one, some minutes"
    what = f"building the {flavour} kernel{which}{added} takes {how_long}"
    if 0 < seconds < _SHORT_SECONDS:
        say(what)
    elif not confirm(f"{what}, and later once more for judging"):
        raise BadInputError("not built, as you said. --kernel-build DIR takes one of your own")


def _added(needs: Needs, options: KernelOptions) -> tuple[str, ...]:
    return tuple(each for each in needs.options if each not in options.variant.config)


def _asked_for_by_name(added: tuple[str, ...], kernel: Kernel) -> tuple[str, ...]:
    """Return further options: of what a driver asks for by a name, which no build can tell.

    Those that the kernel's source does not have are left out.
    """
    found = []
    for option, (kconfig, names) in _BY_NAME.items():
        if option in added:
            text = (kernel.source / kconfig).read_text(errors="replace")
            known = set(re.findall(r"^config (\w+)$", text, re.MULTILINE))
            found += [f"{name}=y" for name in names if name in known]
    return tuple(each for each in found if each not in added)


def _with_reasons(error: BuildFailedError, needs: Needs) -> str:
    # Of what is only not included where it is used, the compiler's error says enough.
    told = [each for each in needs.unexplained if not each.reason.startswith(_NOT_INCLUDED)]
    reasons = [f"{each.name}: {each.reason}" for each in told[:6]]
    return "\n".join([str(error), *reasons])
