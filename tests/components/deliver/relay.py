"""A relay in front of BigQuery's REST API, which kills the client at a request that a test chooses."""

import http.client
import os
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

Chosen = Callable[[str, str], str]
"""Takes the method and the path of a request; returns when to kill: before, after (it was handled), or ""."""


class KillingRelay:
    """Serves at ``address`` until the end of a `with` block.

    Attributes:
        address: URL to give to the client.
        pid: process to kill; 0 while there is none.
        chosen: when to kill it.
        killed_at: method and path of the request at which it was killed last; "" for none.
        changes: method and path of each request, other than GET, since ``pid`` was set.
    """

    def __init__(self, upstream: str) -> None:
        self.pid = 0
        self.chosen: Chosen = lambda *_: ""
        self.killed_at = ""
        self.changes: list[str] = []
        self._upstream = upstream.removeprefix("http://")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.address = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,)).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> http.client.HTTPResponse | None:
        """Pass a request on and return the response; None if the client has been killed."""
        if method != "GET":
            self.changes.append(f"{method} {path}")
        when = self.chosen(method, path) if self.pid else ""
        if when == "before":
            self._kill(method, path)
            return None
        upstream = http.client.HTTPConnection(self._upstream, timeout=120)
        upstream.request(method, path, body, headers)
        response = upstream.getresponse()
        if when == "after":
            response.read()
            self._kill(method, path)
            return None
        return response

    def _kill(self, method: str, path: str) -> None:
        self.killed_at = f"{method} {path}"
        os.kill(self.pid, signal.SIGKILL)
        self.pid = 0


def _handler(relay: KillingRelay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            # With its own address, so that uploads go on through the relay.
            response = relay.handle(self.command, self.path, dict(self.headers), body)
            if response is None:
                self.close_connection = True
                return
            content = response.read()
            self.send_response(response.status)
            for name, value in response.getheaders():
                if name.lower() not in (
                    "content-length",
                    "transfer-encoding",
                    "connection",
                    "date",
                    "server",
                ):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _respond  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    return Handler
