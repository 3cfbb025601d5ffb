# SPDX-License-Identifier: Apache-2.0
"""The report on a campaign, live: a page on loopback that is made anew when the state changed."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from fuzzer.errors import InfrastructureError, PkvfuzzError
from fuzzer.report.html.gathering import gather
from fuzzer.report.html.page import report_page

HOST = "127.0.0.1"
"""The address that is listened on: nobody else's business."""

# Seconds between two pages at least, and so many times what making one takes.
_LEAST, _SHARE = 5.0, 10.0
_WATCHED = ("state.db", "state.db-wal", "driver.json", "crashes", "*.reached", "*.compared")
_RECORDS = "crashes/*/crash.json"


def version_of(workdir: Path) -> str:
    """Return a text that is another one once anything changed that the page tells of."""
    parts = []
    for pattern in (*_WATCHED, _RECORDS):
        for path in sorted(workdir.glob(pattern)):
            try:
                status = path.stat()
            except OSError:
                continue
            parts.append(f"{path.name} {status.st_size} {status.st_mtime_ns}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class LivePage:
    """The page on a campaign, made when it is asked for and something changed.

    ``make`` is given the version, and returns the page.
    """

    def __init__(
        self,
        workdir: Path,
        make: Callable[[str], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workdir = workdir
        self._make = make
        self._clock = clock
        self._lock = threading.Lock()
        self._version = ""
        self._page = b""
        self._next = 0.0

    def current(self) -> tuple[str, bytes]:
        """Return the version and the page, made anew if it is time for that.

        Raises:
            PkvfuzzError: the working directory is gone, or of no campaign.
        """
        with self._lock:
            if self._clock() >= self._next:
                version = version_of(self._workdir)
                if version != self._version:
                    begun = self._clock()
                    self._page = self._make(version).encode(errors="replace")
                    self._version = version
                    took = self._clock() - begun
                    self._next = self._clock() + max(_LEAST, _SHARE * took)
            return self._version, self._page


class _Handler(BaseHTTPRequestHandler):
    server: PageServer
    server_version = "pkvfuzz"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page, or with its version."""
        # A page of another site whose name leads here must not read what is private.
        host = (self.headers.get("Host") or "").rpartition(":")[0]
        if host not in {HOST, "localhost"}:
            self._answer(HTTPStatus.FORBIDDEN, b"use the address that pkvfuzz printed\n", "plain")
            return
        path = self.path.partition("?")[0]
        if path not in {"/", "/version"}:
            self._answer(HTTPStatus.NOT_FOUND, b"there are / and /version\n", "plain")
            return
        try:
            version, page = self.server.page.current()
        except PkvfuzzError as error:
            text = f"{error}\n".encode(errors="replace")
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, text, "plain")
            return
        if path == "/version":
            self._answer(HTTPStatus.OK, version.encode(), "plain")
        else:
            self._answer(HTTPStatus.OK, page, "html")

    def do_HEAD(self) -> None:
        """Answer as to GET, without the content."""
        self.do_GET()

    def _answer(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"text/{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - it is called so
        """Say nothing of single requests."""


class PageServer(ThreadingHTTPServer):
    """A server of the page on a campaign, on loopback."""

    daemon_threads = True

    def __init__(self, workdir: Path, port: int) -> None:
        """Listen on a ``port``, on any that is free if it is 0.

        Raises:
            InfrastructureError: it is taken, or not allowed.
        """
        self.page = LivePage(workdir, lambda version: report_page(gather(workdir), live=version))
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise InfrastructureError(
                f"listening on {HOST}:{port}: {error.strerror}. Give another --port, or none"
            ) from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/"
