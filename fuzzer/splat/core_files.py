# SPDX-License-Identifier: Apache-2.0
"""Source files of the kernel's core: what they define is called by everybody, and not to blame."""

from __future__ import annotations

import re

ARCHITECTURES = ("arm64", "x86")
"""Architectures whose functions are in the table."""

CORES_ONLY = ("arm", "mips", "powerpc", "riscv", "s390")
"""Architectures of which the table has what belongs to the core; their devices are left out."""

# Not what an architecture has of devices, of virtual machines, or of system calls.
_ARCH = (
    r"arch/\w+/(?:entry|lib|mm)/|arch/\w+/kernel/(?!cpu/(?:microcode|mtrr|resctrl|sgx)/"
    r"|(?:amd_nb|apm_32|cpuid|hw_breakpoint|ioport|kvm\w*|ldt|msr|ptrace|uprobes|vm86_32)\.c)"
)
_KERNEL = (
    r"kernel/(?:debug|dma|entry|irq|kcsan|locking|module|printk|rcu|sched|time)/|init/main\.c$"
    r"|kernel/(?:async|bounds|cfi|context_tracking|cpu|extable|hung_task|iomem|jump_label|kallsyms"
    r"|kcov|kexec_core|kmod|kprobes|kthread|livepatch|lockdep|module|notifier|padata|panic|params|reboot"
    r"|resource|smp|smpboot|softirq|softlockup|stacktrace|static_call\w*|stop_machine|sysctl"
    r"|task_work|taskstats|umh|up|user-return-notifier|watchdog\w*|workqueue)\.c$"
)
# The driver core and the file systems that show it: a driver's attributes are called by them.
_DEVICES = r"drivers/base/(?!test/)|fs/(?:debugfs|kernfs|sysfs)/"
# From the system call to a file's operations, and the hooks of security modules.
_ENTRY = (
    r"fs/(?:buffer|compat_ioctl|d_path|dcache|file|file_table|inode|ioctl|libfs|open|read_write"
    r"|readdir|select|seq_file|splice|stat)\.c$|fs/proc/generic\.c$|security/(?:commoncap|lsm_\w+|security)\.c$"
)
# Outside of the core's directories, for everybody all the same: what hands a driver's transfers
# on, the lock of terminals, arm64's timer and interrupts.
_ERRANDS = (
    r"drivers/usb/core/(?:message|urb)\.c$|drivers/tty/tty_ldsem\.c$"
    r"|drivers/clocksource/arm_arch_timer\.c$|drivers/irqchip/irq-gic\S*\.c$"
)
_NET = r"net/core/(?:datagram|page_pool|skbuff|sock)\.c$|net/socket\.c$"
# Sockets of the crypto API are a protocol.
_LIBRARIES = r"(?:crypto/(?!af_alg|algif_)|lib/|mm/)"
_HEADERS = r"(?:arch/\w+/)?include/(?:asm|asm-generic|crypto|linux|net|trace|uapi)/"
_CORE = re.compile(
    "|".join((_ARCH, _KERNEL, _DEVICES, _ENTRY, _ERRANDS, _NET, _LIBRARIES, _HEADERS))
)
# Headers whose functions a compiler may leave a copy of in each module.
_COPIED = re.compile(
    r"arch/\w+/include/asm/|include/asm-generic/|include/linux/(?:[\w-]*atomic[\w-]*|bitmap|bitops"
    r"|bug|cleanup|completion|cpumask|device|dma-mapping|err|find|fortify-string|fs|gfp\w*|highmem"
    r"|instrumented|io|jiffies|kernel|kobject|kref|ktime|kasan\S*|list\w*|lockdep|minmax|mm\w*"
    r"|mutex|nospec|overflow|page\S*|percpu\S*|preempt|rbtree\w*|rcu\w*|refcount|rhashtable"
    r"|rwlock\S*|rwsem|sched|scatterlist|seqlock|skbuff|slab|smp|spinlock\w*|string\w*"
    r"|swab|thread_info|time\w*|topology|tracepoint|uaccess|ucopysize|uio|vmalloc|wait\w*"
    r"|workqueue|xarray)\.h$"
)
# Tests, and what runs before the kernel or outside it.
_LEFT_OUT = re.compile(
    r"(?:^|/)(?:boot|kunit|purgatory|selftests?|tests?|tools|vdso\w*)/|libstub/|kunit\w*\.[ch]$"
    r"|(?:^|/)test[_-][^/]*$|[_-](?:self)?tests?\.c$|^lib/(?:raid6/|zstd/|xz/|lz[4o]/|zlib_\w+/)"
)
# A tree's top directories. What a build prints before them is where the tree was.
_TOP = re.compile(
    r"(?:^|/)((?:arch|block|certs|crypto|drivers|fs|include|init|io_uring|ipc|kernel|lib|mm|net"
    r"|rust|security|sound|virt)/.+)"
)


def is_core(path: str) -> bool:
    """Tell whether a file, named from the top of the kernel's tree, is of its core."""
    return _CORE.match(path) is not None


def is_copied(path: str) -> bool:
    """Tell whether functions of a header may have a copy of their own in a module."""
    return _COPIED.match(path) is not None


def is_left_out(path: str) -> bool:
    """Tell whether a file's functions are in no kernel's report."""
    return _LEFT_OUT.search(path) is not None


def in_tree(path: str) -> str | None:
    """Return a file's name from the top of the kernel's tree; None when it is of no such tree."""
    name = path.removeprefix("./").partition(":")[0]
    found = _TOP.match(name) or (_TOP.search(name) if name.startswith("/") else None)
    return found[1] if found else None
