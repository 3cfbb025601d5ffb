# SPDX-License-Identifier: Apache-2.0
"""Options that drivers need: read off failed builds, and built into a variant of a kernel."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuzzer.campaign.subject import kernels_for
from fuzzer.driver.driver import build_driver
from fuzzer.driver.provision import ensure_guest
from fuzzer.errors import BadInputError
from fuzzer.kernel.kernel import Flavour, Kernel, KernelOptions, ensure_kernel, ready_kernel
from fuzzer.kernel.needs.needs import needed_options
from fuzzer.kernel.needs.trial import try_options
from fuzzer.machine.accel import Accel
from fuzzer.target.target import load_target
from tests.vm.guests import returned, run

pytestmark = pytest.mark.vm

DIGEST = Path(__file__).parent.parent / "data" / "digest" / "digest.yaml"

# Of each: a symbol that many drivers call, and what is asked for.
KNOWN = {
    "__blk_mq_alloc_disk": {"BLOCK"},
    "__pci_register_driver": {"PCI"},
    "__video_register_device": {"MEDIA_SUPPORT", "VIDEO_DEV"},
    "acpi_evaluate_object": {"ACPI"},
    "dma_buf_export": {"DMA_SHARED_BUFFER"},
    "framebuffer_alloc": {"FB"},
    "netdev_info": {"NET"},
    "register_kprobe": {"KPROBES"},
    "register_netdev": {"NET"},
    "snd_card_new": {"SND", "SOUND"},
    "usb_register_driver": {"USB", "USB_SUPPORT"},
}


def undefined(*symbols: str) -> str:
    return "".join(f'ERROR: modpost: "{name}" [/tmp/x/x.ko] undefined!\n' for name in symbols)


def test_symbols_of_many_subsystems_lead_to_options_that_can_be_had(fast_kernel: Kernel) -> None:
    needs = needed_options(undefined(*KNOWN, "crypto_alloc_shash"), fast_kernel)
    names = {option.removesuffix("=y") for option in needs.options}
    # A hash brings what all hashes are made of; any of them will do.
    assert "CRYPTO" in names
    assert names >= set().union(*KNOWN.values())
    assert len(names) <= len(set().union(*KNOWN.values())) + 2
    assert not needs.unexplained
    trial = try_options(fast_kernel, needs.options)
    assert not trial.lost
    assert trial.compiled > trial.objects / 2


def test_symbols_that_no_option_brings_are_told_apart(fast_kernel: Kernel) -> None:
    names = ("kallsyms_lookup_name", "sys_call_table", "input_allocate_device", "zap_page_range")
    needs = needed_options(undefined(*names), fast_kernel)
    reasons = {each.name: each.reason for each in needs.unexplained}
    assert needs.options == ()
    for name in ("kallsyms_lookup_name", "sys_call_table"):
        assert reasons[name].startswith("not exported by this kernel")
    assert reasons["zap_page_range"].endswith("has no such symbol")
    assert "drivers/input/input.c" in reasons["input_allocate_device"]


def test_options_that_kconfig_would_not_honour_are_named(fast_kernel: Kernel) -> None:
    # Of those without a prompt, one is had, and one lacks what it depends on.
    without_prompt = ["MEDIA_SUPPORT=y", "REGMAP_I2C=y", "VIDEOBUF2_VMALLOC=y"]
    trial = try_options(fast_kernel, ["CRYPTO_MD5=y", "SMP=n", *without_prompt])
    lost = {each.split("=")[0].removeprefix("CONFIG_") for each in trial.lost}
    assert {"CRYPTO_MD5", "NR_CPUS", "REGMAP_I2C"} <= lost
    assert not lost & {"MEDIA_SUPPORT", "VIDEOBUF2_VMALLOC"}


def test_a_driver_is_built_for_a_kernel_with_the_options_it_needs(
    fast_kernel: Kernel, accel: Accel
) -> None:
    target = load_target(DIGEST)
    bare = replace(target, module=replace(target.module, config=()))
    with pytest.raises(BadInputError, match="crypto_alloc_shash"):
        build_driver(bare, fast_kernel)
    options = kernels_for(target, KernelOptions())
    trial = try_options(fast_kernel, target.module.config)
    assert trial.compiled < trial.objects / 10

    kernel = ensure_kernel(Flavour.FAST, options)
    guest = ensure_guest(target, kernel, build_driver(target, kernel), accel)
    with guest.restore() as machine:
        assert returned(run(machine, guest, "read(f0, 64)")) == [(16, 0)]
    # The plain kernel is what it was.
    assert ready_kernel(Flavour.FAST, KernelOptions()) == fast_kernel
    assert kernel.directory != fast_kernel.directory
