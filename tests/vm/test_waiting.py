# SPDX-License-Identifier: Apache-2.0
"""Calls that wait: the program goes on meanwhile."""

from __future__ import annotations

import pytest

from fuzzer.machine.provision import Guest
from fuzzer.machine.channel import Status
from tests.vm.guests import returned, run

pytestmark = pytest.mark.vm
