# SPDX-License-Identifier: Apache-2.0
"""Tests of a working directory: one campaign at a time, and always against the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.campaign.workdir import Workdir
from fuzzer.errors import BadInputError


def test_two_campaigns_in_one_directory_are_refused(tmp_path: Path) -> None:
    workdir = Workdir(tmp_path)
    with workdir.opened("drv", None):
        with (
            pytest.raises(BadInputError, match="in use by another campaign"),
            Workdir(tmp_path).opened("drv", None),
        ):
            pass
        with pytest.raises(BadInputError, match="in use"), Workdir(tmp_path).locked():
            pass
    with workdir.opened("drv", None):
        pass


@pytest.mark.parametrize(("target", "bug"), [("other", None), ("drv", "stale"), ("drv", None)])
def test_a_directory_of_another_campaign_is_refused(
    tmp_path: Path, target: str, bug: str | None
) -> None:
    with Workdir(tmp_path).opened("drv", "leak"):
        pass
    with (
        pytest.raises(BadInputError, match="against drv with leak, and this one is against") as e,
        Workdir(tmp_path).opened(target, bug),
    ):
        pass
    assert (f"{target} with {bug}." if bug else f"against {target}.") in str(e.value)
    with Workdir(tmp_path).opened("drv", "leak"):
        pass


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "campaign.json: damaged"),
        ('{"format": 99, "target": "drv", "bug": null}', "another version of pkvfuzz"),
    ],
)
def test_a_record_that_cannot_be_read_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "campaign.json").write_text(text)
    with (
        pytest.raises(BadInputError, match=said),
        Workdir(tmp_path).opened("drv", None),
    ):
        pass
