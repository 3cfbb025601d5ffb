# SPDX-License-Identifier: Apache-2.0
"""Functions of the kernel that say what a driver does with what its caller gave.

Numbers are those of arguments.
"""

from __future__ import annotations

from dataclasses import dataclass

INCLUDED = """\
#if defined(__has_include)
#if __has_include(<linux/uaccess.h>)
#include <linux/uaccess.h>
#endif
#endif
#undef get_user
#undef __get_user
#undef put_user
#undef __put_user
int pkvfuzz_get_user(void *to, const volatile void *from, unsigned long size);
int pkvfuzz_put_user(unsigned long from, const volatile void *to, unsigned long size);
#define get_user(to, from) pkvfuzz_get_user(&(to), (from), sizeof(*(from)))
#define __get_user get_user
#define put_user(from, to) pkvfuzz_put_user((unsigned long)(from), (to), sizeof(*(to)))
#define __put_user put_user
"""
"""C text for the front of a driver's source: macros of the kernel that hide a call are one."""


@dataclass(frozen=True, slots=True)
class CopyIn:
    """Copies from the caller; ``to`` -1: to memory that it allocates and returns.

    The size is argument ``size``, times argument ``times``.
    """

    to: int
    source: int
    size: int
    times: int = -1
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class CopyOut:
    """Copies to the caller; ``source`` -1: zeros."""

    to: int
    source: int
    size: int


COPIES_IN = {
    "copy_from_user": CopyIn(0, 1, 2),
    "copy_from_user_inatomic": CopyIn(0, 1, 2),
    "copy_from_user_nofault": CopyIn(0, 1, 2),
    "copy_from_user_nocache": CopyIn(0, 1, 2),
    "copy_struct_from_user": CopyIn(0, 2, 1),
    "pkvfuzz_get_user": CopyIn(0, 1, 2),
    "strncpy_from_user": CopyIn(0, 1, 2, is_text=True),
    "memdup_user": CopyIn(-1, 0, 1),
    "vmemdup_user": CopyIn(-1, 0, 1),
    "memdup_array_user": CopyIn(-1, 0, 2, 1),
    "vmemdup_array_user": CopyIn(-1, 0, 2, 1),
    "memdup_user_nul": CopyIn(-1, 0, 1, is_text=True),
    "strndup_user": CopyIn(-1, 0, 1, is_text=True),
    "simple_write_to_buffer": CopyIn(0, 3, 4),
}
COPIES_OUT = {
    "copy_to_user": CopyOut(0, 1, 2),
    "copy_to_user_inatomic": CopyOut(0, 1, 2),
    "copy_to_user_nofault": CopyOut(0, 1, 2),
    "pkvfuzz_put_user": CopyOut(1, 0, 2),
    "clear_user": CopyOut(0, -1, 1),
    "simple_read_from_buffer": CopyOut(0, 3, 4),
}
TEXT_TO_NUMBER = frozenset(
    f"{name}{suffix}"
    for name in ("kstrto", "simple_strto")
    for suffix in ("ul", "l", "ull", "ll", "uint", "int", "u8", "u16", "u32", "u64", "s8", "s16",
                   "s32", "s64", "bool", "ou16", "ol", "oul", "oull", "oll")
) | frozenset(
    f"kstrto{each}_from_user"
    for each in ("ul", "l", "ull", "ll", "uint", "int", "u8", "u16", "u32", "s8", "s16", "s32",
                 "u64", "s64", "bool")
)  # fmt: skip
"""They take a text, first."""

COMPARES_TEXT = frozenset(
    ("strcmp", "strncmp", "strcasecmp", "strncasecmp", "memcmp", "sysfs_streq", "strstr",
     "strnstr", "strnstr", "str_has_prefix", "strstarts", "bcmp")
)  # fmt: skip
SAME = frozenset(
    ("compat_ptr", "untagged_addr", "builtin_expect", "array_index_nospec", "le16_to_cpu",
     "le32_to_cpu", "le64_to_cpu", "be16_to_cpu", "be32_to_cpu", "be64_to_cpu", "u64_to_user_ptr",
     "to_user_ptr", "ntohl", "ntohs", "kernel_to_user", "PTR_ERR_OR_ZERO", "skip_spaces",
     "strim", "strstrip", "size_t")
)  # fmt: skip
"""They return what they are given."""

ALLOCATES = frozenset(
    ("kmalloc", "kzalloc", "kcalloc", "kmalloc_array", "kvmalloc", "kvzalloc", "kvcalloc",
     "kvmalloc_array", "vmalloc", "vzalloc", "vmalloc_user", "kmem_cache_alloc",
     "kmem_cache_zalloc", "kmalloc_node", "kzalloc_node", "devm_kzalloc", "devm_kmalloc",
     "get_zeroed_page", "get_free_pages", "get_free_page", "alloc_pages_exact")
)  # fmt: skip
COPIES = frozenset(("memcpy", "memmove", "asan_memcpy", "asan_memmove", "strscpy", "strncpy",
                    "strcpy", "strlcpy", "strscpy_pad"))  # fmt: skip
"""They copy argument 1 to argument 0."""

MULTIPLIES = frozenset(("size_mul", "array_size", "array3_size"))
"""They return the product of their arguments."""

COMMANDS = frozenset(("io_uring_sqe_cmd", "io_uring_sqe128_cmd"))
"""They return the address of what a command in a ring of io_uring has."""

TAKES = {
    "idr_find": (1, "id"), "idr_remove": (1, "id"), "idr_replace": (2, "id"),
    "xa_load": (1, "id"), "xa_erase": (1, "id"), "ida_free": (1, "id"),
    "ida_simple_remove": (1, "id"),
    "radix_tree_lookup": (1, "id"), "radix_tree_delete": (1, "id"), "find_vpid": (0, "pid"),
    "find_get_pid": (0, "pid"), "fget": (0, "fd"), "fdget": (0, "fd"), "fget_raw": (0, "fd"),
    "fdget_raw": (0, "fd"), "eventfd_ctx_fdget": (0, "fd"), "eventfd_fget": (0, "fd"),
    "dma_buf_get": (0, "fd"), "sockfd_lookup": (0, "fd"), "sync_file_get_fence": (0, "fd"),
    "bpf_prog_get": (0, "fd"),
    **dict.fromkeys(
        ("msecs_to_jiffies", "usecs_to_jiffies", "nsecs_to_jiffies", "msleep", "usleep_range",
         "msleep_interruptible", "fsleep", "udelay", "const_udelay", "schedule_timeout",
         "schedule_timeout_interruptible", "ns_to_ktime", "us_to_ktime", "ms_to_ktime"),
        (0, "time"),
    ),
}  # fmt: skip
"""They look a number up, or wait for so long: which argument, of what kind."""

GIVES = {
    "idr_alloc": "id", "idr_alloc_cyclic": "id", "ida_alloc": "id", "ida_alloc_range": "id",
    "ida_alloc_max": "id", "ida_simple_get": "id", "anon_inode_getfd": "fd",
    "get_unused_fd_flags": "fd", "dma_buf_fd": "fd", "anon_inode_getfd_secure": "fd",
    "anon_inode_create_getfd": "fd",
}  # fmt: skip
"""They return a new number, of a kind."""

FILES = {
    "anon_inode_getfd": 1, "anon_inode_getfd_secure": 1, "anon_inode_create_getfd": 1,
    "anon_inode_getfile": 1, "anon_inode_getfile_secure": 1, "anon_inode_create_getfile": 1,
    "anon_inode_getfile_fmode": 1,
}  # fmt: skip
"""They make a file: which argument is its table."""

GIVES_AT = {"xa_alloc": 1, "xa_alloc_cyclic": 1, "idr_alloc_u32": 2}
"""They put a new id where an argument says."""

HARMLESS = frozenset(
    ("access_ok", "might_fault", "might_sleep", "printk", "dev_printk", "pr_debug", "memset",
     "asan_memset", "mutex_lock", "mutex_unlock", "kfree", "kvfree", "vfree", "check_copy_size",
     "dynamic_pr_debug", "dynamic_dev_dbg", "capable", "ns_capable", "strlen", "strnlen",
     "IS_ERR", "PTR_ERR", "ERR_PTR", "dev_err", "dev_info", "dev_warn", "trace_printk",
     "printk_deferred",
     "check_object_size", "builtin_constant_p", "builtin_object_size", "compiletime_assert",
     "builtin_bswap32", "builtin_bswap16", "builtin_bswap64", "warn_printk", "access_ok_noprof")
)  # fmt: skip
"""They do nothing that the caller sees."""


def plain_name(name: str) -> str:
    """Return a function's name without what only tells its variants apart."""
    return name.lstrip("_").removesuffix("_noprof").removesuffix("_cacheable")
