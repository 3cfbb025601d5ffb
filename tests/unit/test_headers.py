# SPDX-License-Identifier: Apache-2.0
"""Kernel headers from the distribution: which are chosen, and how they are made to work."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzzer.errors import InfrastructureError
from fuzzer.kernel.headers import (
    AptPackage,
    ensure_headers,
    newest_headers,
    parse_package,
    relocate,
)

_STANZA = """\
Package: linux-headers-6.12.117+deb12-amd64
Source: linux-6.12
Version: 6.12.117-1~deb12u1
Depends: linux-base (>= 4.12~), linux-headers-6.12.117+deb12-common (= 6.12.117-1~deb12u1), \
linux-image-6.12.117+deb12-amd64 | linux-image-6.12.117+deb12-amd64-unsigned, \
linux-kbuild-6.12.117+deb12, gcc-12
SHA256: 0123abcd
Description: Header files
 Depends: not on this
"""


@pytest.mark.parametrize(
    ("names", "series", "newest"),
    [
        (["linux-headers-6.1.0-9-amd64", "linux-headers-6.1.0-56-amd64"], "6.1", 1),
        (["linux-headers-6.12.117+deb12-amd64", "linux-headers-6.12.9+bpo-amd64"], "6.12", 0),
        (["linux-headers-6.1.0-56-amd64", "linux-headers-6.12.9+bpo-amd64"], "6.1", 0),
        (["linux-headers-6.8.0-45-generic", "linux-headers-6.8.0-100-generic"], "6.8", 1),
    ],
)
def test_the_newest_headers_of_a_series_are_chosen(
    names: list[str], series: str, newest: int
) -> None:
    assert newest_headers(names, series) == names[newest]


@pytest.mark.parametrize(
    "name",
    [
        "linux-headers-6.1-amd64",  # a meta-package
        "linux-headers-amd64",
        "linux-headers-6.1.0-56-cloud-amd64",
        "linux-headers-6.1.0-56-rt-amd64",
        "linux-headers-6.1.0-56-common",
        "linux-headers-6.10.0-1-amd64",
        "linux-image-6.1.0-56-amd64",
    ],
)
def test_what_is_no_header_package_of_the_series_is_not_chosen(name: str) -> None:
    assert newest_headers([name], "6.1") is None


def test_of_a_packages_dependencies_those_to_build_with_count() -> None:
    package = parse_package(_STANZA)
    assert package == AptPackage(
        "linux-headers-6.12.117+deb12-amd64",
        "6.12.117-1~deb12u1",
        ("linux-headers-6.12.117+deb12-common", "linux-kbuild-6.12.117+deb12"),
        "0123abcd",
    )
    assert package.upstream == "6.12.117"


@pytest.mark.parametrize("stanza", ["", _STANZA.replace("SHA256", "MD5sum")])
def test_what_apt_does_not_describe_is_an_error(stanza: str) -> None:
    with pytest.raises(InfrastructureError, match="apt-cache show says nothing of the "):
        parse_package(stanza)


def _lay_out(root: Path, version: str = "6.1.0-56") -> Path:
    """Make what Debian's packages unpack to; return the directory to build against."""
    headers = root / "usr" / "src" / f"linux-headers-{version}-amd64"
    common = root / "usr" / "src" / f"linux-headers-{version}-common"
    scripts = root / "usr" / "lib" / "linux-kbuild-6.1" / "scripts"
    for directory in (headers, common, scripts):
        directory.mkdir(parents=True)
    (scripts / "Makefile.build").touch()
    (headers / "scripts").symlink_to("../../lib/linux-kbuild-6.1/scripts")
    (headers / "Makefile").write_text(f"include /usr/src/linux-headers-{version}-common/Makefile\n")
    (headers / ".kernelvariables").write_text(
        "CC = $(if $(CCACHE),ccache) $(CROSS_COMPILE)gcc-12\n"
    )
    return headers


def test_unpacked_headers_name_no_path_outside_of_where_they_are(tmp_path: Path) -> None:
    headers = _lay_out(tmp_path)
    (headers / "tools").symlink_to("/usr/lib/linux-kbuild-6.1/tools")
    (headers / "vmlinux").touch()
    relocate(tmp_path, headers.name)
    common = tmp_path / "usr" / "src" / "linux-headers-6.1.0-56-common"
    assert (headers / "Makefile").read_text() == f"include {common}/Makefile\n"
    assert (headers / "tools").readlink() == tmp_path / "usr/lib/linux-kbuild-6.1/tools"
    assert (headers / "scripts").readlink() == Path("../../lib/linux-kbuild-6.1/scripts")
    assert (headers / ".kernelvariables").read_text().endswith("$(CROSS_COMPILE)gcc\n")
    assert not (headers / "vmlinux").exists()


def test_headers_without_what_builds_modules_are_an_error(tmp_path: Path) -> None:
    headers = _lay_out(tmp_path)
    (headers / "scripts" / "Makefile.build").unlink()
    with pytest.raises(InfrastructureError, match=r"linux-headers-6\.1\.0-56-amd64 is not laid"):
        relocate(tmp_path, headers.name)


_APT_CACHE = """\
#!/bin/sh
case "$1" in
search) echo "linux-headers-6.1.0-56-amd64 - Headers"; echo "linux-headers-6.1.0-56-common - x";;
madison) echo "dpkg | 1 | list";;
show) echo "Package: $3"; echo "Version: 6.1.192-2"; echo "SHA256: 5a$3"
	case "$3" in *-amd64) echo "Depends: linux-headers-6.1.0-56-common, linux-kbuild-6.1";; esac;;
esac
"""
_APT_GET = """\
#!/bin/sh
echo "$@" >> {said}
shift 2
for package; do : > "${{package%%=*}}_1_amd64.deb"; done
"""
# Unpacking any package gives all that the packages hold together.
_DPKG_DEB = """\
#!/bin/sh
[ "$1" = -x ] && cp -a {laid_out}/. "$3"
"""


@pytest.fixture
def add_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that puts a script in front of what is on PATH; the cache is empty."""
    directory = tmp_path / "bin"
    directory.mkdir()
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.setenv("PKVFUZZ_CACHE", str(tmp_path / "cache"))

    def add(name: str, script: str) -> None:
        (directory / name).write_text(script)
        (directory / name).chmod(0o755)

    return add


def test_headers_are_downloaded_and_unpacked_once(
    tmp_path: Path, add_program: Callable[[str, str], None]
) -> None:
    _lay_out(tmp_path / "packages")
    said = tmp_path / "said"
    add_program("apt-cache", _APT_CACHE)
    add_program("apt-get", _APT_GET.format(said=said))
    add_program("dpkg-deb", _DPKG_DEB.format(laid_out=tmp_path / "packages"))
    headers = ensure_headers("6.1")
    assert headers is not None
    assert headers.version == "6.1.192"
    assert headers.directory.is_relative_to(tmp_path / "cache")
    assert (headers.directory / "scripts" / "Makefile.build").is_file()
    assert not list((tmp_path / "cache").glob("headers-*/*.deb"))
    assert said.read_text() == (
        "download --quiet linux-headers-6.1.0-56-amd64=6.1.192-2 "
        "linux-headers-6.1.0-56-common=6.1.192-2 linux-kbuild-6.1=6.1.192-2\n"
    )
    assert ensure_headers("6.1") == headers
    assert len(said.read_text().splitlines()) == 1


def test_a_series_that_apt_does_not_offer_is_none(add_program: Callable[[str, str], None]) -> None:
    add_program("apt-cache", _APT_CACHE)
    assert ensure_headers("6.12") is None


def test_a_host_without_apt_offers_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ensure_headers("6.1") is None


def test_apt_without_lists_is_an_error(add_program: Callable[[str, str], None]) -> None:
    add_program("apt-cache", "#!/bin/sh\n")
    with pytest.raises(InfrastructureError, match=r"no package lists.*apt-get update"):
        ensure_headers("6.1")


def test_a_download_that_fails_says_what_apt_said(
    tmp_path: Path, add_program: Callable[[str, str], None]
) -> None:
    add_program("apt-cache", _APT_CACHE)
    add_program("apt-get", "#!/bin/sh\necho 'E: 404 Not Found' >&2; exit 100\n")
    with pytest.raises(InfrastructureError, match=r"404 Not Found\. If apt's lists are old: apt"):
        ensure_headers("6.1")
    assert not list((tmp_path / "cache").glob("headers-*"))
