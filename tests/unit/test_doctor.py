# SPDX-License-Identifier: Apache-2.0
"""The doctor's findings on a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.cli import doctor
from fuzzer.kernel.kernel import STANDARD, Flavour


def test_every_kernel_is_looked_at() -> None:
    subjects = [finding.subject for finding in doctor.examine()]
    assert [name for name in subjects if name.endswith(" kernel")] == [
        f"{flavour} kernel" for flavour in Flavour
    ]


def test_a_kernel_that_only_an_option_needs_is_no_complaint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "ready_kernel", lambda flavour, options: None)
    monkeypatch.setattr(doctor, "find_tarball", lambda: Path("linux-source-6.12.tar.xz"))
    states = {f.subject: (f.state, f.detail) for f in doctor.examine()}
    for flavour in Flavour:
        state, detail = states[f"{flavour} kernel"]
        assert (state == "ok") == (flavour not in STANDARD)
        assert "not built" in detail
