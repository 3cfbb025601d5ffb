# SPDX-License-Identifier: Apache-2.0
"""Signing modules with the key of the kernel that will load them."""

from __future__ import annotations

import subprocess
from pathlib import Path

from fuzzer.errors import BadInputError, InfrastructureError
from fuzzer.kernel.kbuild import BuiltKernel, parse_config

_TIMEOUT_S = 60


def sign_module(kernel: BuiltKernel, module: Path, signed: Path) -> None:
    """Write a copy of ``module`` to ``signed``, signed with the key ``kernel`` was built with.

    Raises:
        BadInputError: the kernel has no key, or there is no such module.
        InfrastructureError: the kernel's ``scripts/sign-file`` failed.
    """
    config = parse_config((kernel.directory / ".config").read_text())
    digest = config.get("CONFIG_MODULE_SIG_HASH", "").strip('"')
    tool = kernel.directory / "scripts" / "sign-file"
    key = kernel.directory / "certs" / "signing_key.pem"
    certificate = key.with_suffix(".x509")
    missing = [path for path in (tool, key, certificate) if not path.is_file()]
    if not digest or missing:
        what = missing[0].relative_to(kernel.directory) if missing else "CONFIG_MODULE_SIG_HASH"
        raise BadInputError(
            f"the {kernel.name} kernel in {kernel.directory} cannot sign modules: it has no {what}"
        )
    if not module.is_file():
        raise BadInputError(f"there is no module {module} to sign")
    try:
        done = subprocess.run(
            [tool, digest, key, certificate, module, signed],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except OSError as error:
        raise InfrastructureError(f"running {tool}: {error.strerror}") from error
    if done.returncode:
        raise InfrastructureError(f"signing {module} failed: {done.stderr.strip()}")
