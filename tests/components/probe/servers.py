"""A local server that answers as Google's metadata server does, or as any service."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ACCOUNT = "wals@my-project.iam.gserviceaccount.com"
ZONE = "projects/123/zones/europe-west1-b"


@dataclass
class Server:
    """State of the server.

    Attributes:
        host: ``host:port``.
        account: service account of the machine.
        behind: seconds by which the server's clock is behind.
        status: status of every answer.
    """

    host: str = ""
    account: str = ACCOUNT
    behind: float = 0.0
    status: int = 200

    @property
    def url(self) -> str:
        return f"http://{self.host}"


@contextmanager
def server() -> Iterator[Server]:
    """Yield a running server."""
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() - state.behind, usegmt=True)

        def _answer(self) -> None:
            known = {
                "/computeMetadata/v1/instance/service-accounts/default/email": state.account,
                "/computeMetadata/v1/instance/zone": ZONE,
            }
            content = known.get(self.path, "")
            # The real server refuses requests without this header, which browsers do not send.
            is_refused = self.path in known and self.headers.get("Metadata-Flavor") != "Google"
            self.send_response(403 if is_refused else state.status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content.encode())

        do_GET = do_HEAD = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.host = f"127.0.0.1:{listening.server_port}"
    try:
        yield state
    finally:
        listening.shutdown()
        listening.server_close()
        thread.join()
