# SPDX-License-Identifier: Apache-2.0
"""The report on a campaign that goes on, over loopback."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fuzzer.errors import InfrastructureError
from fuzzer.report.html.serving import LivePage, PageServer, version_of
from fuzzer.state.writer import StateWriter
from tests.unit.state_records import RUN, row_at


class Clock:
    """A clock that is set by hand; ``making`` seconds pass while a page is made."""

    def __init__(self) -> None:
        self.now = 100.0
        self.making = 0.0
        self.made: list[str] = []

    def make(self, version: str) -> str:
        self.made.append(version)
        self.now += self.making
        return f"page {len(self.made)}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "corpus").mkdir()
    with PageServer(tmp_path, 0) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield found
        finally:
            found.shutdown()
            thread.join()


def asked(
    server: PageServer, path: str, *, method: str = "GET", host: str = ""
) -> tuple[int, str, dict[str, str]]:
    address, port = server.server_address[:2]
    with closing(http.client.HTTPConnection(str(address), int(port), timeout=30)) as connection:
        headers = {"Host": host} if host else {}
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())


def test_it_listens_on_loopback_alone(server: PageServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_address[1]}/"


def test_the_page_asks_for_the_version_that_it_has(server: PageServer) -> None:
    status, page, headers = asked(server, "/")
    assert status == 200
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Cache-Control"] == "no-store"
    status, version, _ = asked(server, "/version")
    assert status == 200
    assert f'data-live="{version}"' in page
    assert '<noscript><meta http-equiv="refresh"' in page


def test_nothing_else_is_served(server: PageServer) -> None:
    assert asked(server, "/../etc/passwd")[0] == 404
    assert asked(server, "/", method="POST")[0] == 501
    status, content, headers = asked(server, "/", method="HEAD")
    assert (status, content) == (200, "")
    assert int(headers["Content-Length"]) > 1000


def test_another_sites_name_for_this_host_is_refused(server: PageServer) -> None:
    port = server.server_address[1]
    assert asked(server, "/", host=f"evil.example:{port}")[0] == 403
    assert asked(server, "/", host=f"localhost:{port}")[0] == 200


def test_a_directory_that_is_gone_is_told(server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "corpus").rmdir()
    status, text, _ = asked(server, "/")
    assert status == 503
    assert "is not a campaign's working directory" in text


def test_a_port_that_is_taken_is_explained(server: PageServer, tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="Give another --port"):
        PageServer(tmp_path, int(server.server_address[1]))


def test_the_version_changes_with_the_state_and_crashes(tmp_path: Path) -> None:
    writer = StateWriter(tmp_path)
    with writer.changing():
        writer.put("run", RUN)
    seen = [version_of(tmp_path)]
    with writer.changing():
        writer.add_row(row_at(1.0))
    seen.append(version_of(tmp_path))
    record = tmp_path / "crashes" / "one" / "crash.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    seen.append(version_of(tmp_path))
    assert len(set(seen)) == 3
    assert version_of(tmp_path) == seen[-1]
    writer.close()


def test_a_page_is_made_anew_when_something_changed_and_some_time_passed(tmp_path: Path) -> None:
    clock = Clock()
    page = LivePage(tmp_path, clock.make, lambda: clock.now)
    state = tmp_path / "state.db"
    state.write_text("1")
    assert page.current()[1] == b"page 1"
    state.write_text("22")
    assert page.current()[1] == b"page 1"
    clock.now += 6.0
    version, content = page.current()
    assert content == b"page 2"
    assert version == clock.made[-1]
    clock.now += 60.0
    assert page.current() == (version, content)
    assert len(clock.made) == 2


def test_a_page_that_takes_long_is_made_seldom(tmp_path: Path) -> None:
    clock = Clock()
    clock.making = 20.0
    page = LivePage(tmp_path, clock.make, lambda: clock.now)
    (tmp_path / "state.db").write_text("1")
    page.current()
    (tmp_path / "state.db").write_text("22")
    clock.now += 199.0
    assert page.current()[1] == b"page 1"
    clock.now += 2.0
    assert page.current()[1] == b"page 2"
