# SPDX-License-Identifier: Apache-2.0
"""The privileges that a crash takes, as a user without any tries it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.crash.crash import Crash, Identity, Privileges
from fuzzer.crash.privileges import privileges_of
from fuzzer.crash.testbeds import Testbeds
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.kernel.kernel import Flavour, Kernel
from fuzzer.machine.accel import Accel
from fuzzer.machine.channel_layout import FLAG_NOBODY
from fuzzer.target.target import load_target
from tests.vm.guests import run, wire

pytestmark = pytest.mark.vm

SOURCE = Path(__file__).parent.parent / "drivers" / "strangers" / "doors"
DESCRIPTION = f"""\
version: 1
name: doors
devices: [/dev/front_door, /dev/back_door]
module: {{source: {SOURCE}, name: doors}}
calls:
  - ioctl: 0xb901
    value: [0]
  - ioctl: 0xb902
    value: [0]
"""
TITLE = "KASAN: slab-use-after-free Read in doors_ioctl"
BACK = 'open(f1, "/dev/back_door")\n'


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory, fast_kernel: Kernel, accel: Accel) -> Guest:
    """Return a guest with the driver."""
    path = tmp_path_factory.mktemp("doors") / "doors.yaml"
    path.write_text(DESCRIPTION)
    target = load_target(path)
    return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)


@pytest.mark.parametrize(
    ("text", "privileges"),
    [
        ("ioctl(f0, 0xb901, 0)\n", Privileges.ANYONE),
        (f"{BACK}ioctl(f1, 0xb901, 0)\n", Privileges.OPENER),
        ("ioctl(f0, 0xb902, 0)\n", Privileges.ROOT),
        ('unload()\nload("")\nioctl(f0, 0xb901, 0)\nunload()\n', Privileges.ROOT),
        ('close(f0)\nunload()\nload("")\nopen(f0, "/dev/front_door")\nioctl(f0, 0xb901, 0)\n',
         Privileges.ANYONE),
    ],
)  # fmt: skip
def test_a_crash_is_told_by_who_can_cause_it(
    doors: Guest, text: str, privileges: Privileges
) -> None:
    setups = Testbeds(doors, lambda hardware, arguments: doors)
    program = wire(text, doors.target)
    outcome, _ = setups.observe("kasan")((), program)
    assert outcome.splat is not None
    identity = Identity("doors", "doors.yaml", None, "", "", "", "tcg")
    splat = outcome.splat
    crash = Crash(
        splat.title, splat.kind, splat.function, Flavour.FAST.value, 1, 1, 1, (splat.title,),
        identity, splat.text, "", program,
    )  # fmt: skip
    assert privileges_of(crash, setups) is privileges


def test_what_follows_a_call_as_another_user_is_made_by_root(doors: Guest) -> None:
    with doors.restore() as machine:
        machine.channel.header.flags |= FLAG_NOBODY
        denied = run(machine, doors, f"ioctl(f0, 0xb902, 0)\n{BACK}")
        assert [call.ret for call in denied.results] == [-1, 0]
