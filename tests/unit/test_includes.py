# SPDX-License-Identifier: Apache-2.0
"""Drivers that leave headers out, built for a toy of a kernel that declares what they use there."""

from __future__ import annotations

from pathlib import Path

import pytest

from fuzzer.driver.author_build import BuildFailedError, first_error
from fuzzer.driver.source_build import build_source
from fuzzer.kernel.kernel import Kernel
from fuzzer.kernel.needs.headers import SourceHeaders
from tests.unit.toy_kernel import code, make_toy_kernel, write_files

HEADERS = {
    "include/linux/bell.h": (
        "/* ring_bell(int) and bell_t */\nextern int ring_bell(int times);\n"
        "#define BELL_LOUD 3\ntypedef unsigned int bell_t;\nenum bell {\n\tBELL_BIG,\n};\n"
        "struct bell_ops {\n\tint size;\n};\n"
    ),
    "include/linux/port.h": "#include <asm/port.h>\n",
    "arch/x86/include/asm/port.h": (
        "static inline int\nport_read(int a)\n{\n\treturn a;\n}\n"
        "static inline int port_write(int a)\n{\n\treturn port_read(a);\n}\n"
    ),
    "arch/x86/include/asm/lone.h": "#define LONE 1\n",
    "include/uapi/linux/user.h": "struct user_thing {\n\tint a;\n};\n",
    "include/linux/uses.h": (
        "static inline int uses(int a)\n{\n\treturn ring_bell(a) + BELL_LOUD;\n}\n"
    ),
    "include/other/bell.h": "int ring_bell(int times);\n",
}
USES_BELL = (
    "static struct bell_ops ops = { 1 };\nint toy_ring(void) { return ring_bell(ops.size); }\n"
)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """Return a kernel with headers."""
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))
    kernel = make_toy_kernel(tmp_path / "kernel")
    write_files(kernel.source, HEADERS)
    return kernel


def driver(tmp_path: Path, **modules: str) -> Path:
    objects = " ".join(f"{name}.o" for name in modules)
    files = {f"{name}.c": code() + text for name, text in modules.items()}
    return write_files(tmp_path / "driver", {"Makefile": f"obj-m := {objects}\n", **files})


def test_the_header_that_declares_a_name_is_found(kernel: Kernel) -> None:
    names = ("ring_bell", "BELL_LOUD", "bell_t", "BELL_BIG", "port_read", "LONE", "never", "a")
    assert SourceHeaders(kernel.source).declaring(names, ("bell_ops", "user_thing", "nobody")) == {
        **dict.fromkeys(("ring_bell", "BELL_LOUD", "bell_t", "BELL_BIG"), "linux/bell.h"),
        "port_read": "linux/port.h",
        "LONE": "asm/lone.h",
        "bell_ops": "linux/bell.h",
        "user_thing": "linux/user.h",
    }


def test_a_driver_gets_the_headers_that_it_leaves_out(
    tmp_path: Path, kernel: Kernel, capsys: pytest.CaptureFixture[str]
) -> None:
    source = driver(tmp_path, mini=USES_BELL)
    assert [module.name for module in build_source(source, kernel).modules] == ["mini"]
    assert "once more with <linux/bell.h>, which driver leaves out" in capsys.readouterr().err
    # The next time it is known.
    build_source(source, kernel)
    assert not capsys.readouterr().err


def test_one_missing_header_hides_the_next(tmp_path: Path, kernel: Kernel) -> None:
    text = f"#include <stdbool.h>\n{USES_BELL}bool toy_ok(void) {{ return port_read(LONE); }}\n"
    assert build_source(driver(tmp_path, mini=text), kernel).modules


def test_a_module_among_several_gets_what_it_leaves_out(tmp_path: Path, kernel: Kernel) -> None:
    build = build_source(driver(tmp_path, good="", bad=USES_BELL.replace("toy", "t")), kernel)
    assert not build.failed
    assert {module.name for module in build.modules} == {"good", "bad"}


def test_what_is_left_when_headers_do_not_help_is_told(tmp_path: Path, kernel: Kernel) -> None:
    source = driver(tmp_path, mini=f"{USES_BELL}int wrong = nothing;\n")
    with pytest.raises(BuildFailedError, match=r"nothing. undeclared") as raised:
        build_source(source, kernel)
    assert "bell" not in str(raised.value)


def test_what_modpost_refuses_is_told_before_what_other_attempts_say() -> None:
    output = (
        "make: *** No rule to make target 'modules'.  Stop.\n"
        "ERROR: modpost: GPL-incompatible module a.ko uses GPL-only symbol 'mutex_lock_nested'\n"
        'ERROR: modpost: "gone" [/x/a.ko] undefined!\n'
    )
    told = first_error(output, Path("/x")).splitlines()
    assert told[0].endswith("GPL-only symbol 'mutex_lock_nested'")
    assert len(told) == 2
    assert "MODULE_LICENSE" in told[1]


def test_a_build_that_headers_make_worse_is_made_as_it_was(tmp_path: Path, kernel: Kernel) -> None:
    header = HEADERS["include/linux/bell.h"] + "struct bell_ops printed(void);\n"
    write_files(kernel.source, {"include/linux/bell.h": header})
    # The header would help one of them, and breaks the others.
    others = {name: f"int printed(void) {{ return 1; }}\nint in_{name};\n" for name in ("b", "c")}
    build = build_source(driver(tmp_path, a=USES_BELL, **others), kernel)
    assert build.failed == ("a.o",)
    assert {module.name for module in build.modules} == {"b", "c"}
