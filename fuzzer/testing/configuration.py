# SPDX-License-Identifier: Apache-2.0
"""Configurations that a test runs in: a driver, a kernel, module parameters."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fuzzer.errors import BadInputError
from fuzzer.flavour import NAMES

INI: Mapping[str, tuple[Literal["string", "args", "linelist"], str]] = {
    "pkvfuzz_driver": ("string", "the driver's directory, .ko or description, from the root"),
    "pkvfuzz_module": ("string", "the module, if the driver makes several"),
    "pkvfuzz_devices": ("args", "its files, if not all that it makes"),
    "pkvfuzz_kernels": ("args", f"kernels that each test runs on, of {', '.join(NAMES)} [full]"),
    "pkvfuzz_params": ("linelist", "module parameters; each test runs with each line of them"),
}
"""Options of an ini file: type and help."""

_DEFAULT_KERNELS = ("full",)
_LISTS = ("devices", "kernels", "params")
_ALLOWED = ("driver", "module", "devices", "kernels", "params", "bug", "cpus")


@dataclass(frozen=True, slots=True)
class Configuration:
    """A driver and what it runs on. ``params`` is None for what its description says.

    ``devices`` are its files, if not all that are found. ``bug`` is a planted bug.
    """

    driver: Path
    kernel: str
    module: str = ""
    devices: tuple[str, ...] = ()
    params: str | None = None
    bug: str | None = None
    cpus: int = 1

    @property
    def title(self) -> str:
        """The part of a test's name."""
        return self.kernel if self.params is None else f"{self.kernel}-{self.params or 'default'}"


def configurations(
    root: Path, ini: Mapping[str, Any], markers: Sequence[Mapping[str, Any]]
) -> list[Configuration]:
    """Return the configurations that a test runs in: one for each kernel and each parameters.

    ``ini`` has the options of :data:`INI`; ``markers`` are the keywords of a test's markers, the
    nearest first, which overrule them.

    Raises:
        BadInputError: no driver is named, or an option makes no sense.
    """
    given = {name: ini[f"pkvfuzz_{name}"] for name in ("driver", "module", *_LISTS)}
    for marker in reversed(markers):
        given |= _checked(marker)
    if not given["driver"]:
        raise BadInputError(
            "which driver? Name its directory with pkvfuzz_driver in pytest's ini file, or with "
            '@pytest.mark.pkvfuzz(driver="...")'
        )
    driver = root / given["driver"]
    if not driver.exists():
        raise BadInputError(f"there is no {driver}; pkvfuzz_driver is relative to {root}")
    kernels = given["kernels"] or _DEFAULT_KERNELS
    for kernel in kernels:
        if kernel not in NAMES:
            raise BadInputError(f"pkvfuzz_kernels: {kernel!r} is none of {', '.join(NAMES)}")
    return [
        Configuration(
            driver,
            kernel,
            given["module"],
            tuple(given["devices"]),
            params,
            given.get("bug"),
            given.get("cpus", 1),
        )
        for kernel, params in itertools.product(kernels, given["params"] or (None,))
    ]


def _checked(marker: Mapping[str, Any]) -> Mapping[str, Any]:
    for name, value in marker.items():
        if name not in _ALLOWED:
            raise BadInputError(f"pkvfuzz({name}=...): allowed are {', '.join(_ALLOWED)}")
        if name in _LISTS and (isinstance(value, str) or not isinstance(value, Sequence)):
            raise BadInputError(f"pkvfuzz({name}={value!r}): a list is needed")
    return marker
