# SPDX-License-Identifier: Apache-2.0
"""A kernel with nothing but a configuration and a build system, for builds in seconds."""

from __future__ import annotations

from pathlib import Path

from fuzzer.kernel.kernel import Flavour, Kernel

# Of a kernel's build system what matters here: it compiles what obj-m says, with coverage
# points, notes that it linked it, and leaves the variables of each call.
_KBUILD = """\
include $(if $(wildcard $(M)/Kbuild),$(M)/Kbuild,$(M)/Makefile)
flags := -c -O1 -g -fsanitize-coverage=trace-pc -fno-pic $(KCFLAGS)
modules: $(addprefix $(M)/,$(obj-m:.o=.ko))
	echo '$(MAKEFLAGS)' > $(M)/flags
$(M)/%.o: $(M)/%.c
	gcc $(flags) $< -o $@
$(M)/%.ko: $(M)/%.o
	cp $< $@
	touch $(M)/$*.mod.c
"""
SOURCE = """\
int x;
int toy(void) { return x; }
static const char magic[] __attribute__((used, section(".modinfo"))) = "vermagic=toy";
static const char name[] __attribute__((used, section(".modinfo"))) = "name=toy";
"""


def toy_kernel(directory: Path) -> Kernel:
    """Make a kernel in a directory; return it."""
    directory.mkdir()
    (directory / "Makefile").write_text(_KBUILD)
    (directory / "Module.symvers").touch()
    (directory / ".config").write_text("CONFIG_CC_HAS_KASAN_MEMINTRINSIC_PREFIX=y\n")
    return Kernel(Flavour.FAST, directory, directory, "key")
