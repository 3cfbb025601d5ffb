# SPDX-License-Identifier: Apache-2.0
"""A toy of a kernel: a build system that makes modules of C files, and no kernel.

It does what the kernel's own does with drivers: ``make -C KERNEL M=DRIVER modules``
reads the driver's Kbuild or Makefile, compiles what ``obj-m`` says, and tells of
symbols that nobody exports.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fuzzer.kernel.kernel import Flavour, Kernel

RELEASE = "6.12.0-toy"
# Symbols that the kernel itself has.
EXPORTED = ("printk", "register_toy")
_MAKEFILE = f"""\
export KERNELRELEASE := {RELEASE}
export srctree := $(CURDIR)
export objtree := $(CURDIR)
modules:
	@$(MAKE) -f scripts/Makefile.toy toy-modules
"""
# A driver's Makefile may have targets of its own: no name here can be one of them.
_TOY = """\
src := $(M)
obj := $(M)
-include include/config/auto.conf
include $(if $(wildcard $(M)/Kbuild),$(M)/Kbuild,$(M)/Makefile)
toy-own := $(addprefix $(M)/,$(filter %.o,$(obj-m)))
toy-below := $(patsubst %/,%,$(filter %/,$(obj-m)))
toy-flags := -O1 -fno-pic -nostdinc -Werror=implicit-function-declaration
toy-flags += -I$(srctree)/arch/x86/include -I$(srctree)/include
toy-flags += $(KCFLAGS) $(ccflags-y) $(EXTRA_CFLAGS)
toy-flags += $(if $(filter y,$(KCOV_INSTRUMENT)),-fsanitize-coverage=trace-pc)
toy-modules: $(toy-own:.o=.linked) $(addprefix toy-below-,$(toy-below))
	@$(if $(toy-own),sh scripts/modpost $(M) $(patsubst $(M)/%.o,%,$(toy-own)))
toy-below-%:
	@$(MAKE) -f scripts/Makefile.toy M=$(M)/$* toy-modules
.SECONDEXPANSION:
$(M)/%.linked: $$(addprefix $$(M)/,$$(or $$($$*-objs)$$($$*-y),$$*.o))
	@ld -r -o $@ $^
$(M)/%.o: $(M)/%.c
	@$(CC) -c $(toy-flags) -o $@ $<
"""
# As with the kernel's, no module is made where one does not compile.
_MODPOST = r"""
cd "$1" || exit 1
shift
status=0
refused=
for name; do
	depends=
	stated=$(grep -v '#' "$name.c" 2>&1 | sed -n 's/.*MODULE_LICENSE("\(.*\)").*/\1/p')
	if grep -q '^module_init(' "$name.c" 2>&1 && [ -z "$stated" ]; then
		echo "ERROR: modpost: missing MODULE_LICENSE() in $PWD/$name.o"
		refused=1
	elif [ "${stated#*GPL}" = "$stated" ] && [ "$stated" ] && [ "$LOCK_CHECKS" ]; then
		echo "ERROR: modpost: GPL-incompatible module $name.ko uses GPL-only symbol 'lock_toy'"
		refused=1
	fi
	for symbol in $(nm -u "$name.linked" | awk '{ print $2 }'); do
		case " $KERNEL __sanitizer_cov_trace_pc " in *" $symbol "*) continue ;; esac
		from=
		for other; do
			nm "$other.linked" | grep -q " T $symbol\$" && from=$other
		done
		if [ "$from" ]; then
			depends=$depends${depends:+,}$from
		else
			echo "ERROR: modpost: \"$symbol\" [$PWD/$name.ko] undefined!"
			status=1
		fi
	done
	printf 'vermagic=%s SMP mod_unload \0name=%s\0depends=%s\0license=%s\0' \
		"$KERNELRELEASE" "$(echo "$name" | tr - _)" "$depends" "${stated:-GPL}" > .modinfo
	objcopy --add-section .modinfo=.modinfo "$name.linked" "$name.ko"
	rm .modinfo
done
[ -z "$refused" ] || { rm -f ./*.ko; exit 1; }
[ $status = 0 ] || [ "$KBUILD_MODPOST_WARN" ] || { rm -f ./*.ko; exit 1; }
"""


def make_toy_kernel(directory: Path, key: str = "key", *, lock_checks: bool = False) -> Kernel:
    """Make a kernel in a directory that is not there yet.

    With ``lock_checks`` it takes no modules but those under the GPL.
    """
    checks = "\nLOCK_CHECKS=1" if lock_checks else ""
    for name, text in {
        ".config": "CONFIG_CC_HAS_KASAN_MEMINTRINSIC_PREFIX=y\n",
        "Makefile": _MAKEFILE,
        "Module.symvers": "",
        "include/config/kernel.release": f"{RELEASE}\n",
        "include/config/auto.conf": "CONFIG_NET=y\n",
        "scripts/Makefile.toy": _TOY,
        "scripts/modpost": f'KERNEL="{" ".join(EXPORTED)}"{checks}{_MODPOST}',
    }.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Kernel(Flavour.FAST, directory, directory, key)


def write_files(directory: Path, files: Mapping[str, str]) -> Path:
    """Write files, by their paths in a directory; return the directory."""
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return directory


def code(*, calls: str = "printk", defines: str = "toy") -> str:
    """Return the text of a C file with a function, which calls another."""
    return f"void {calls}(void);\nvoid {defines}(void);\nvoid {defines}(void) {{ {calls}(); }}\n"
