# SPDX-License-Identifier: Apache-2.0
"""The table of the core's functions, and what makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.errors import BadInputError
from fuzzer.splat.core_functions import (
    CoreFunctions,
    functions_of,
    known_functions,
    read_table,
    stored_table,
    table_text,
    version_of,
)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "Makefile": "# SPDX\nVERSION = 6\nPATCHLEVEL = 12\nSUBLEVEL = 1\n",
        "mm/slub.c": (
            "void kfree(const void *object)\n{\n\tif (x)\n\t\treturn;\n}\nEXPORT_SYMBOL(kfree);\n"
            "static noinline int\nshow_it(struct file *f,\n\tint b)\n{\n}\n"
            "static int __init only_at_boot(void)\n{\n}\n"
            "int __init_or_module do_one(void)\n{\n}\n"
            "DEFINE_THING(x)\n{\n}\n"
            "int only_declared(void);\n"
            "static __printf(1, 2) void say(const char *fmt, ...)\n{\n}\n"
        ),
        "mm/kasan/kasan_test.c": "static void kmalloc_oob(void)\n{\n}\n",
        "include/linux/slab.h": "static inline void *kmalloc(size_t n)\n{\n}\n",
        "include/linux/memcontrol.h": "static inline void count_it(void)\n{\n}\n",
        "include/net/icmp.h": "static inline void icmp_send(void)\n{\n}\n",
        "kernel/rcu/tree_stall.h": "static void check_cpu_stall(void)\n{\n}\n",
        "include/linux/drv.h": "static inline int drv_stub(void) { return 0; }\n",
        "arch/x86/kernel/entry.S": "SYM_CODE_START(ret_from_fork_asm)\n",
        "drivers/drv.c": (
            "static int show_it(void)\n{\n}\nstatic void kfree(void *own)\n{\n}\n"
            "int drv_probe(void)\n{\n}\n"
        ),
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_core_alone_defines_its_functions(tree: Path) -> None:
    found = functions_of(tree)
    # show_it() is a driver's too; kfree() is what the core exports.
    # Functions of headers may be the kernel's own too, where the compiler does not inline them.
    headers = {"check_cpu_stall", "count_it", "drv_stub"}
    assert found.core == {"kfree", "say", "do_one", "ret_from_fork_asm", *headers}
    assert found.copied == {"kmalloc"}


def test_a_version_is_read_from_the_source(tree: Path) -> None:
    assert version_of(tree) == "6.12"
    with pytest.raises(BadInputError, match="Give directories with kernel sources"):
        version_of(tree / "mm")


def test_a_table_is_read_as_it_is_written() -> None:
    functions = {
        "6.1": CoreFunctions(frozenset({"a", "b"}), frozenset({"c"})),
        "6.12": CoreFunctions(frozenset({"a"}), frozenset({"c", "d"})),
    }
    assert read_table(table_text(functions)) == functions


def test_the_stored_table_has_functions_of_several_versions() -> None:
    assert len(read_table(stored_table())) > 1
    known = known_functions()
    assert {"kfree", "folio_unlock", "__wake_up_common", "bad_page"} <= known.core
    assert {"kmalloc", "list_del"} <= known.core | known.copied
    assert not {"drv_probe", "e1000_probe", "timeout_show"} & (known.core | known.copied)
