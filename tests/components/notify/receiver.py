"""A receiver of webhooks: a real socket that answers well, badly or not at all."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[[socket.socket, threading.Event], None]
"""Answers a request that was read. It must return when the event is set."""


@dataclass
class Receiver:
    """A server.

    Attributes:
        url: address of the webhook; the last part of it is the secret.
        requests: head and body of each request.
    """

    url: str
    requests: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def messages(self) -> list[Any]:
        """The bodies of the requests, as JSON."""
        return [json.loads(body) for _, body in self.requests]


def answers(status: str, *headers: str, body: bytes = b"") -> Answer:
    """Return an answer."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]

    def answer(connection: socket.socket, _: threading.Event) -> None:
        connection.sendall("\r\n".join(lines).encode() + body)

    return answer


def hangs(_: socket.socket, end: threading.Event) -> None:
    """Answer nothing."""
    end.wait()


def drips(connection: socket.socket, end: threading.Event) -> None:
    """Send an endless head, byte by byte."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nX-Drip: ")
    while not end.wait(0.02):
        connection.sendall(b"a")


def is_endless(connection: socket.socket, end: threading.Event) -> None:
    """Send a body without an end."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
    while not end.is_set():
        connection.sendall(b"a" * 65536)


def is_slow(connection: socket.socket, end: threading.Event) -> None:
    """Send a body byte by byte."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while not end.wait(0.02):
        connection.sendall(b"a")


def breaks_off(connection: socket.socket, _: threading.Event) -> None:
    """Close the connection in the middle of the status."""
    connection.sendall(b"HTTP")


def talks_nonsense(connection: socket.socket, _: threading.Event) -> None:
    """Answer in another protocol."""
    connection.sendall(b"220 mail.example.com ESMTP\r\n\r\n")


@contextmanager
def receiver(script: Sequence[Answer] = (answers("200 OK", body=b"ok"),)) -> Iterator[Receiver]:
    """Yield a receiver.

    Args:
        script: how the requests are answered; the last one also answers those after it.
    """
    end = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    found = Receiver(f"http://127.0.0.1:{listener.getsockname()[1]}/services/T0/B0/sesame")

    def handle(connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if request := _read(connection):
                found.requests.append(request)
                script[min(len(found.requests), len(script)) - 1](connection, end)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=handle, args=[listener.accept()[0]], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        # Closing does not wake a thread that accepts.
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def _read(connection: socket.socket) -> tuple[str, bytes] | None:
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().splitlines() if line.startswith(b"content-length:")]
    while len(body) < int(lengths[0].partition(b":")[2] if lengths else 0):
        body += connection.recv(65536)
    return head.decode(), body
