# SPDX-License-Identifier: Apache-2.0
"""From what a failed build says to kernel options, in a kernel's source of a few files."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fuzzer.errors import InfrastructureError
from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.needs import Needs, needed_options
from fuzzer.kernel.needs.objects import missing_symbols

# A tree in which each symbol has its own way to be built.
FILES = {
    "Makefile": "VERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 7\n",
    "Kbuild": (
        "obj-y += lib/ arch/$(SRCARCH)/\nobj-$(CONFIG_NET) += net/\n"
        "obj-$(CONFIG_BUS) += drivers/bus/\nobj-y += drivers/media/core/ drivers/misc/\n"
    ),
    "arch/x86/Kbuild": "obj-y += kernel/\n",
    "arch/x86/kernel/Makefile": (
        "obj-y := traps_$(BITS).o\nifeq ($(CONFIG_X86_32),y)\nobj-y += old.o\nelse\n"
        "obj-$(CONFIG_PROBES) += probes.o\nendif\n"
    ),
    "arch/x86/kernel/traps_64.c": "int hidden_table[4] = {\n\t1,\n};\nEXPORT_SYMBOL(trap);\n",
    "arch/x86/kernel/old.c": "EXPORT_SYMBOL(of_old_machines);\n",
    "arch/x86/kernel/probes.c": "int probe(void)\n{\n}\nEXPORT_SYMBOL_GPL(probe);\n",
    "lib/Makefile": (
        "lib-y := always.o part.o\nobj-$(CONFIG_HASH2) += hash.o\n"
        "hash-y := base.o \\\n\tdigest.o\nhash-$(CONFIG_HASH_SLOW) += slow.o\n"
        "obj-$(CONFIG_PACK) += pack.o\npack-y := $(pack_files)\npack_files := zip.o\n"
        "obj-$(CONFIG_ONLY_MODULE) += only.o\nobj-$(CONFIG_DMA_SHARED_BUFFER) += buffer.o\n"
    ),
    "lib/buffer.c": "EXPORT_SYMBOL_NS_GPL(dma_buf_get, DMA_BUF);\n",
    "lib/always.c": (
        '#include "inner.c"\nEXPORT_SYMBOL(always);\n#ifdef CONFIG_EXTRA\n'
        "EXPORT_SYMBOL(extra);\n#elif IS_ENABLED(CONFIG_ODD)\nEXPORT_SYMBOL(odd);\n#else\n"
        "EXPORT_SYMBOL(plain);\n#endif\nint private_thing(int a)\n{\n}\n"
    ),
    "lib/inner.c": "EXPORT_SYMBOL_GPL(inner);\n",
    "lib/part.c": (
        "#define MAKE(name)\t\\\n\tint name(void) { }\t\\\n\tEXPORT_SYMBOL(name)\n"
        "#ifdef CONFIG_EXTRA\nMAKE(made);\n#endif\n"
    ),
    "lib/base.c": "",
    "lib/digest.c": "EXPORT_SYMBOL_NS_GPL(digest, HASHES);\n",
    "lib/slow.c": "ACPI_EXPORT_SYMBOL(slow)\n",
    "lib/zip.c": "EXPORT_SYMBOL(zip);\n",
    "lib/only.c": "EXPORT_SYMBOL(only);\n",
    "net/Makefile": "obj-y := core.o\n",
    "net/core.c": "EXPORT_SYMBOL(send);\nEXPORT_TRACEPOINT_SYMBOL_GPL(sent);\n",
    "drivers/bus/Makefile": "obj-$(CONFIG_BUS_FAST) += fast.o\nobj-y += bus.o\n",
    "drivers/bus/bus.c": "EXPORT_SYMBOL(bus);\nEXPORT_SYMBOL(twice);\n",
    "drivers/bus/fast.c": "EXPORT_SYMBOL(fast);\n",
    "drivers/media/core/Makefile": "obj-$(CONFIG_VIDEO) += video.o\n",
    "drivers/media/core/video.c": "EXPORT_SYMBOL(video);\nEXPORT_SYMBOL(twice);\n",
    "drivers/misc/Makefile": "obj-$(CONFIG_NOWHERE) += gone.o\n",
    "drivers/misc/gone.c": "EXPORT_SYMBOL(gone);\n",
    "include/linux/thing.h": (
        "#ifndef _THING_H\n#define _THING_H\n"
        "int here(void);\n#ifdef CONFIG_EXTRA\nint extra_inline(int a);\n#endif\n"
        "/* never_there() is history */\n"
        "struct device {\n\tint id;\n#if defined(CONFIG_NET) && !defined(CONFIG_ODD)\n"
        "\tint port;\n#endif\n};\n"
        "#ifdef CONFIG_BUS\nstruct bus_type {\n\tint n;\n};\n#endif\n#endif\n"
    ),
    "Kconfig": (
        'mainmenu "Linux"\nconfig MODULES\n\tbool "Modules"\n\tmodules\n'
        "config X86_32\n\tbool\n"
        'config NET\n\tbool "Network"\n\tdefault y\n'
        'config PROBES\n\tbool "Probes"\n\tdepends on EXTRA || SHY\n'
        'config EXTRA\n\tbool "Extra"\n'
        'config SHY\n\tbool "Shy"\n\tdepends on EXTRA && NET\n'
        'config ODD\n\tbool "Odd"\n'
        'config DMA_SHARED_BUFFER\n\tbool "Shared buffers"\n'
        'config UDMABUF\n\tbool "Buffers of memory"\n\tdepends on DMA_SHARED_BUFFER\n'
        "config HASH2\n\ttristate\n"
        'config HASH_A\n\ttristate "A"\n\tdepends on HASHES\n\tselect HASH2\n'
        'config HASHES\n\tbool "Hashes"\n'
        'config HASH_SLOW\n\tbool "Slow"\n\tdepends on HASH2\n'
        'config PACK\n\ttristate "Pack"\n'
        'config ONLY_MODULE\n\ttristate "Only"\n\tdepends on m\n'
        'source "drivers/Kconfig"\n'
    ),
    "drivers/Kconfig": (
        'menu "Devices"\n\tdepends on NET\n'
        'config BUS\n\ttristate "Bus"\n\tdepends on !ODD\n'
        'config BUS_FAST\n\tbool "Fast"\n\tdepends on BUS = y\n'
        'config VIDEO\n\ttristate "Video"\n\tdepends on PACK && BUS\nendmenu\n'
    ),
}  # fmt: skip
CONFIG = "CONFIG_MODULES=y\n# CONFIG_NET is not set\n# CONFIG_EXTRA is not set\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the source of a very small kernel."""
    directory = tmp_path_factory.mktemp("linux")
    for name, text in FILES.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory


@pytest.fixture
def kernel(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a build of it that has next to nothing."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    return _built(tree, tmp_path / "build", CONFIG)


def _built(tree: Path, directory: Path, config: str) -> Kernel:
    (directory / "include" / "config").mkdir(parents=True)
    (directory / "include" / "config" / "kernel.release").write_text("6.12.7\n")
    (directory / ".config").write_text(config)
    return Kernel("fast", directory, tree, "key")


def undefined(*symbols: str) -> str:
    return "".join(f'ERROR: modpost: "{name}" [/tmp/x/x.ko] undefined!\n' for name in symbols)


def reason(needs: Needs) -> str:
    assert needs.options == ()
    assert len(needs.unexplained) == 1
    return needs.unexplained[0].reason


@pytest.mark.parametrize(
    ("symbol", "options"),
    [
        ("send", ["NET"]),  # the directory's option
        ("digest", ["HASH2"]),  # in a composite object; an option without a prompt
        ("slow", ["HASH2", "HASH_SLOW"]),  # a composite's conditional part
        ("zip", ["PACK"]),  # in a composite, by a variable
        ("probe", ["EXTRA", "PROBES"]),  # in an else of make's; the shorter of two dependencies
        ("fast", ["BUS", "BUS_FAST", "NET"]),  # a directory's, a file's, and a menu's
        ("video", ["BUS", "NET", "PACK", "VIDEO"]),  # dependencies of dependencies
        ("dma_buf_get", ["DMA_SHARED_BUFFER", "UDMABUF"]),  # and what makes such buffers
        ("extra", ["EXTRA"]),  # an #ifdef in a file that is there
        ("odd", ["ODD"]),  # an #elif
        ("made", ["EXTRA"]),  # exported by a macro
        ("__tracepoint_sent", ["NET"]),
        ("twice", ["BUS", "NET"]),  # the file that takes less
    ],
)
def test_a_symbol_leads_to_options(kernel: Kernel, symbol: str, options: list[str]) -> None:
    needs = needed_options(undefined(symbol), kernel)
    assert needs == Needs(tuple(f"{name}=y" for name in options))


def test_several_symbols_share_what_they_need(kernel: Kernel) -> None:
    needs = needed_options(undefined("twice", "video", "send"), kernel)
    assert needs.options == ("BUS=y", "NET=y", "PACK=y", "VIDEO=y")
    assert not needs.unexplained


def test_what_a_kernel_has_is_not_asked_for(kernel: Kernel, tree: Path, tmp_path: Path) -> None:
    has_net = _built(tree, tmp_path / "other", "CONFIG_MODULES=y\nCONFIG_NET=y\nCONFIG_BUS=m\n")
    assert needed_options(undefined("fast"), has_net).options == ("BUS=y", "BUS_FAST=y")


@pytest.mark.parametrize(
    ("symbol", "why"),
    [
        ("private_thing", "not exported by this kernel: lib/always.c has it for the kernel alone"),
        ("hidden_table", "not exported by this kernel: arch/x86/kernel/traps_64.c has it"),
        ("no_such_symbol", "Linux 6.12.7 has no such symbol"),
        ("gone", "drivers/misc/gone.c exports it; Linux 6.12.7 has no option NOWHERE"),
        ("only", "lib/only.c exports it; ONLY_MODULE can only be a module"),
        ("of_old_machines", "X86_32 cannot be built in here"),
        ("always", "lib/always.c exports it, and this kernel has all that it takes"),
        ("inner", "lib/inner.c exports it, and this kernel has all that it takes"),
    ],
)
def test_what_no_option_brings_is_told(kernel: Kernel, symbol: str, why: str) -> None:
    assert why in reason(needed_options(undefined(symbol), kernel))


def test_an_option_that_is_on_and_in_the_way_is_told(
    kernel: Kernel, tree: Path, tmp_path: Path
) -> None:
    extra = _built(tree, tmp_path / "other", "CONFIG_MODULES=y\nCONFIG_EXTRA=y\n")
    assert "needs a kernel without EXTRA" in reason(needed_options(undefined("plain"), extra))


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("x.c:3:2: error: implicit declaration of function 'extra_inline'; did you", ["EXTRA"]),
        ("x.c:3:2: error: \u2018struct device\u2019 has no member named \u2018port\u2019", ["NET"]),
        ("x.c:3:2: error: invalid use of undefined type 'struct bus_type'", ["BUS", "NET"]),
        ('x.c:3:2: error: #error "needs CONFIG_BUS_FAST, really"', ["BUS", "BUS_FAST", "NET"]),
        ("x.c:3:2: error: #error please enable PROBES", ["EXTRA", "PROBES"]),
        ("/linux/include/net/x.h:3:2: error: #error include something else", ["NET"]),
        ("x.c:3:2: error: 'CONFIG_ODD' undeclared (first use in this function)", ["ODD"]),
    ],
)
def test_what_does_not_compile_leads_to_options(
    kernel: Kernel, line: str, options: list[str]
) -> None:
    needs = needed_options(f"make: Entering\n{line}\n", kernel)
    assert needs == Needs(tuple(f"{name}=y" for name in options))


@pytest.mark.parametrize(
    ("line", "name", "why"),
    [
        ("error: implicit declaration of function 'never_there'", "never_there", "no header"),
        ("error: implicit declaration of function 'here'", "here", "does not include"),
        ("error: 'struct device' has no member named 'x'", "device.x", "has no such member"),
        ("fatal error: linux/old.h: No such file or directory", "linux/old.h", "no such header"),
        ('error: #error "not on MODULES"', '#error "not on MODULES"', "no option that this kernel"),
        (
            "ERROR: modpost: GPL-incompatible module x.ko uses GPL-only symbol 'probe'",
            "probe",
            "GPL licence alone",
        ),
        (
            "modpost: module x uses symbol digest from namespace HASHES, but does not import it.",
            "digest",
            "MODULE_IMPORT_NS(HASHES)",
        ),
    ],
)  # fmt: skip
def test_what_is_no_matter_of_options_is_told(
    kernel: Kernel, line: str, name: str, why: str
) -> None:
    needs = needed_options(f"{line}\n", kernel)
    assert why in reason(needs)
    assert needs.unexplained[0].name == name


def test_a_drivers_own_kconfig_is_read_and_not_evaluated(kernel: Kernel, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    kconfig = (
        f'config DRV\n\ttristate "x"\n\tdepends on VIDEO && (DRV_BUS || !ODD)\n'
        f"\tdepends on $(success,touch {ran})\n\tselect EXTRA if DRV_X\n\thelp\n"
        "\t  It depends on nothing.\n\n\t  depends on ODD\n"
        'config DRV_BUS\n\tbool "y"\n'
    )
    needs = needed_options("", kernel, kconfig)
    assert needs.options == ("BUS=y", "EXTRA=y", "NET=y", "PACK=y", "VIDEO=y")
    assert not ran.exists()


def test_objects_that_were_not_linked_tell_what_they_are_without(
    kernel: Kernel, tmp_path: Path
) -> None:
    objects = tmp_path / "objects"
    (objects / "sub").mkdir(parents=True)
    sources = {
        "a": "void b(void), send(void), kernel_has(void), private_thing(void);\n"
        "void a(void) { b(); send(); kernel_has(); private_thing(); }\n",
        "sub/b": "void zip(void); void b(void) { zip(); }\n",
    }
    for name, text in sources.items():
        subprocess.run(
            ["gcc", "-c", "-x", "c", "-", "-o", f"{objects}/{name}.o"],
            input=text, text=True, check=True, timeout=60,
        )  # fmt: skip
    (objects / "broken.o").write_bytes((objects / "a.o").read_bytes()[:200])
    (objects / "text.o").write_text("no object")
    (kernel.directory / "Module.symvers").write_text("0x0\tkernel_has\tvmlinux\tEXPORT_SYMBOL\t\n")
    line = "x.c:3:2: error: implicit declaration of function 'extra_inline'\n"
    unlinked = missing_symbols(objects, kernel)
    needs = needed_options(line, kernel, unlinked=unlinked)
    # What the build did not complain of is no reason to complain here.
    assert needs == Needs(("EXTRA=y", "NET=y", "PACK=y"))
    assert needed_options("", kernel, unlinked=unlinked).options == ("NET=y", "PACK=y")


def test_a_build_that_complains_of_nothing_needs_nothing(kernel: Kernel) -> None:
    assert needed_options("  CC [M]  x.o\n", kernel) == Needs(())


def test_the_index_of_exports_is_made_once(kernel: Kernel, tree: Path) -> None:
    needed_options(undefined("send"), kernel)
    late = tree / "lib" / "late.c"
    late.write_text("EXPORT_SYMBOL(send_later);\n")
    try:
        needs = needed_options(undefined("send_later"), kernel)
    finally:
        late.unlink()
    assert "no such symbol" in reason(needs)


def test_a_source_without_kconfig_is_an_error_of_the_infrastructure(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("VERSION = 6\n")
    broken = _built(tmp_path, tmp_path / "build", CONFIG)
    with pytest.raises(InfrastructureError, match="reading Kconfig of"):
        needed_options(undefined("send"), broken)
