# SPDX-License-Identifier: Apache-2.0
"""Drivers as strangers publish them: built, loaded, described, and reached by a program."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.campaign.choice import Choice
from fuzzer.campaign.description import DriverFacts, describe, seeds
from fuzzer.campaign.discovery import discover
from fuzzer.campaign.subject import symbols_for
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import Guest, ensure_guest
from fuzzer.driver.source_build import build_source
from fuzzer.errors import BadInputError
from fuzzer.kernel.in_tree import kernel_tree
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, ensure_kernel
from fuzzer.kernel.source import prepare_source
from fuzzer.machine.accel import Accel
from fuzzer.machine.boot import boot
from fuzzer.machine.guest import ensure_initrd
from fuzzer.machine.qemu import Hardware
from fuzzer.program.text import parse_program
from fuzzer.program.wire import encode
from fuzzer.target.device import Device
from fuzzer.target.equipment import Equipment
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run, splat

pytestmark = pytest.mark.vm

STRANGERS = Path(__file__).parent.parent / "drivers" / "strangers"

Describer = Callable[[DriverFacts], Guest]


@pytest.fixture(scope="session")
def found(accel: Accel, fast_kernel: Kernel) -> Callable[..., DriverFacts]:
    """Return what finds out about a driver, by its path below the strangers'."""
    assert fast_kernel.release()

    def find(path: str | Path, module: str = "", params: str = "") -> DriverFacts:
        choice = Choice(STRANGERS / path, module, (), params)
        facts, options = discover(choice, KernelOptions(), accel, Flavour.FAST)
        assert options == KernelOptions()
        return facts

    return find


@pytest.fixture
def described(tmp_path: Path, fast_kernel: Kernel, accel: Accel) -> Describer:
    """Return what makes a guest by the description of a driver."""

    def guest(facts: DriverFacts) -> Guest:
        path = tmp_path / "made.yaml"
        path.write_text(describe(facts, "Made by a test."))
        target = load_target(path, symbols_for(KernelOptions()))
        for text in seeds(facts).values():
            assert parse_program(text, target, "seed")
        return ensure_guest(target, fast_kernel, build_driver(target, fast_kernel), accel)

    return guest


def reached(guest: Guest, text: str) -> list[tuple[int, int]]:
    """Return what a program's calls return; it reaches blocks of the driver."""
    with guest.restore() as machine:
        n = len(guest.blocks)
        machine.channel.clear_counters(n)
        done = run(machine, guest, text)
        assert any(machine.channel.counters(n))
        return returned(done)


@pytest.mark.parametrize(
    ("kind", "name", "device"),
    [
        ("make-variable", "varied", Device("/dev/varied")),
        ("hyphen", "hy_phen", Device("/dev/hyphened")),
        ("include-outside/driver", "outside", Device("/dev/outside")),
        ("no-node", "nodeless", Device("/dev/nodeless", "nodeless", 0)),
        ("own-option", "optional", Device("/dev/optional")),
        ("two-modules", "front", Device("/dev/front")),
    ],
)
def test_a_stranger_is_fuzzed(
    kind: str, name: str, device: Device, found: Callable[..., DriverFacts], described: Describer
) -> None:
    facts = found(kind)
    assert (facts.name, facts.devices, facts.params) == (name, (device,), "")
    assert facts.operations == {"read"}
    # The second branch of each.
    assert reached(described(facts), "read(f0, 7)\nread(f0, 8)\n") == [(7, 0), (-1, 22)]


def test_ioctls_are_read_from_the_driver(
    found: Callable[..., DriverFacts], described: Describer
) -> None:
    facts = found("ioctl-in-c")
    assert facts.operations == {"ioctl"}
    sizes = {macro.name: (macro.number, macro.size) for macro in facts.ioctls}
    assert sizes == {"INNER_SET": (0x40086901, 8), "INNER_CLEAR": (0x6902, 0)}
    program = "ioctl(f0, INNER_SET, {key: 3})\nioctl(f0, INNER_SET, {key: 4})\n"
    assert reached(described(facts), f"{program}ioctl(f0, INNER_CLEAR, 0)\n") == [
        *((0, 0), (-1, 34), (0, 0)),
    ]


def test_of_several_modules_the_one_with_a_node_is_fuzzed(
    found: Callable[..., DriverFacts], capsys: pytest.CaptureFixture[str]
) -> None:
    facts = found("several")
    assert (facts.name, facts.devices) == ("node", (Device("/dev/chosen"),))
    said = capsys.readouterr().err
    assert "left out, as they do not compile: broken.o" in said
    assert "not now: proc: /proc/several" in said
    assert "2 modules make files; fuzzing node" in said


def test_another_of_several_modules_can_be_chosen(found: Callable[..., DriverFacts]) -> None:
    facts = found("several", module="proc")
    assert (facts.name, facts.devices) == ("proc", (Device("/proc/several"),))
    assert facts.operations == {"write"}
    with pytest.raises(BadInputError, match=r"broken\.o does not compile:\nbroken\.c:\d"):
        found("several", module="broken.ko")
    with pytest.raises(BadInputError, match=r"silent was loaded, but made no file to fuzz"):
        found("several", module="silent")


def test_a_driver_comes_after_the_module_that_registers_its_device(
    found: Callable[..., DriverFacts], described: Describer
) -> None:
    facts = found("boards")
    assert (facts.name, facts.needs, facts.equipment) == ("board", ("setup",), ())
    assert facts.devices == (Device("/dev/board"),)
    assert reached(described(facts), "read(f0, 5)\nread(f0, 6)\n") == [(5, 0), (-1, 22)]


def test_a_device_is_registered_by_the_name_in_a_drivers_table(
    found: Callable[..., DriverFacts], described: Describer
) -> None:
    facts = found("board-alone")
    assert facts.equipment == (Equipment("platform", ("board-two",)),)
    assert facts.devices == (Device("/dev/board"),)
    assert reached(described(facts), "read(f0, 5)\n") == [(5, 0)]


def test_a_parameter_is_tried_if_there_is_no_file_without(
    found: Callable[..., DriverFacts], described: Describer, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = found("parameter")
    assert (facts.devices, facts.params) == ((Device("/dev/counted"),), "count_of=1")
    assert "counted needs parameters: taking 'count_of=1'" in capsys.readouterr().err
    assert reached(described(facts), "read(f0, 7)\n") == [(7, 0)]
    given = found("parameter", params="count_of=1 name=other")
    assert given.devices == (Device("/dev/other"),)
    assert given.params == "count_of=1 name=other"


def test_what_keeps_a_driver_from_being_fuzzed_is_told(found: Callable[..., DriverFacts]) -> None:
    with pytest.raises(BadInputError) as caught:
        found("platform")
    said = str(caught.value)
    assert "onboard was loaded, but made no file to fuzz" in said
    assert "Registered for it: the platform devices onboard-v1, onboard-v2, without" in said
    with pytest.raises(BadInputError) as caught:
        found("init-fails")
    assert "loading refusing: " in str(caught.value)
    assert "fails with ENXIO (6, No such device or address): as a rule, hardware" in str(
        caught.value
    )
    assert "The kernel said: refusing: no chip" in str(caught.value)
    assert "before it loads" in str(caught.value)
    assert "--device" not in str(caught.value)
    with pytest.raises(BadInputError, match=r"parameters: .*\bcount_of \(uint\)"):
        found("parameter", params="count_of=0")


def test_a_built_module_is_known_by_its_own_name(
    found: Callable[..., DriverFacts], described: Describer, fast_kernel: Kernel, tmp_path: Path
) -> None:
    (module,) = build_source(STRANGERS / "hyphen", fast_kernel).modules
    # As a browser names what it fetches again.
    path = tmp_path / "hy-phen (1).ko"
    shutil.copy(module.path, path)
    facts = found(path)
    assert (facts.name, facts.object) == ("hy_phen", path)
    assert facts.operations == {"read"}
    assert reached(described(facts), "read(f0, 7)\n") == [(7, 0)]


def test_a_misspelt_licence_does_not_keep_a_driver_from_the_lock_checks(
    found: Callable[..., DriverFacts],
    tmp_path: Path,
    full_kernel: Kernel,
    accel: Accel,
    capsys: pytest.CaptureFixture[str],
) -> None:
    facts = found("licence")
    assert "Dual BDS/GPL: MODULE_LICENSE says GPL in the copy" in capsys.readouterr().err
    path = tmp_path / "made.yaml"
    path.write_text(describe(facts, "Made by a test."))
    target = load_target(path, symbols_for(KernelOptions()))
    guest = ensure_guest(target, full_kernel, build_driver(target, full_kernel), accel)
    with guest.restore() as machine:
        done = run(machine, guest, "read(f0, 6)\nread(f0, 7)\n")
        seen = splat(done.log)
    assert seen is not None
    assert seen.title == "WARNING: lock held when returning to user space in licence_read"


def test_a_driver_of_the_kernels_tree_is_built_in_and_its_file_found(accel: Accel) -> None:
    path = prepare_source().directory / "drivers" / "dma-buf" / "udmabuf.c"
    choice = Choice(path, tree=kernel_tree(path))
    facts, options = discover(choice, KernelOptions(), accel, Flavour.FAST)
    assert facts.builtin == ("drivers/dma-buf/udmabuf.c",)
    assert facts.config == options.variant.config == ("DMA_SHARED_BUFFER=y", "UDMABUF=y")
    # The file of dma-buf, on which it is built, is none of its own.
    assert [each.path for each in facts.devices] == ["/dev/udmabuf"]
    assert {each.title for each in facts.source_ioctls} == {
        "UDMABUF_CREATE",
        "UDMABUF_CREATE_LIST",
    }
    # A program makes such a buffer for whoever takes one.
    kernel = ensure_kernel(Flavour.FAST, options)
    with boot(kernel.image, ensure_initrd()[0], Hardware(), accel, None) as machine:
        machine.channel.set_devices(facts.devices)
        text = "create(f1, DMA_BUF)\nlseek(f1, 0, SEEK_END)\n"
        done = machine.run(encode(parse_program(text, None, "test")), 30.0)
    assert returned(done) == [(0, 0), (0x10000, 0)]
