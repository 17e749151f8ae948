"""A small HTTP/1.1 server to stand before a function: keep-alive, chunked bodies, one thread a connection."""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self

from .base import HOST


class Received(NamedTuple):
    """A request as it came: nothing decoded, nothing merged."""

    method: str
    path: str
    query: str
    headers: Sequence[tuple[str, str]]
    body: bytes | None
    """None where it was larger than the limit."""

    def header(self, name: str) -> str:
        """The first value of a header, whatever the case of its name; empty where there is none."""
        return next((value for given, value in self.headers if given.lower() == name), "")


class Answer(NamedTuple):
    """What goes back; Content-Length and Date are added."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes = b""


class Front(ThreadingHTTPServer):
    """Listens on the loopback interface while its ``with`` block runs; ``answer`` is called from many threads.

    Args:
        port: where to listen.
        answer: what makes an answer from a request.
        body_limit: bytes of a body beyond which it is read but not kept.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, answer: Callable[[Received], Answer], body_limit: int) -> None:
        self.answer = answer
        self.body_limit = body_limit
        self._connections: set[socket.socket] = set()
        super().__init__((HOST, port), _Handler)
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True)

    def server_bind(self) -> None:
        """Binds without the look-up of a name that http.server makes."""
        socketserver.TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remembers the connection, so that the end of the server ends it."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forgets it."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # one packet a response, not one a header
    timeout = 120
    server: Front

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):  # any method
            return self._serve
        raise AttributeError(name)

    def _serve(self) -> None:
        path, _, query = self.requestline.split()[1].partition("?")  # self.path has leading slashes joined
        try:
            body = self._chunked() if "chunked" in self.headers.get("transfer-encoding", "").lower() else self._sized()
        except ValueError:
            self.close_connection = True
            self.send_error(400)
            return
        self._send(self.server.answer(Received(self.command, path, query, list(self.headers.items()), body)))

    def _sized(self) -> bytes | None:
        length = self.headers.get("content-length") or "0"
        if not re.fullmatch("[0-9]{1,18}", length):  # int() takes more than HTTP allows
            raise ValueError(length)
        return self._read(int(length), 0)

    def _chunked(self) -> bytes | None:
        body: bytes | None = b""
        size = 0
        while length := self._chunk_length():
            chunk = self._read(length, size)
            size += length
            body = None if body is None or chunk is None else body + chunk
            self.rfile.readline(10)
        while self.rfile.readline(65536).strip():  # trailers
            pass
        return body

    def _chunk_length(self) -> int:
        digits = self.rfile.readline(1000).split(b";")[0].strip()
        if not re.fullmatch(b"[0-9A-Fa-f]{1,15}", digits):
            raise ValueError(digits)
        return int(digits, 16)

    def _read(self, length: int, before: int) -> bytes | None:
        kept = length + before <= self.server.body_limit
        parts = []
        while length:
            part = self.rfile.read(min(length, 1 << 20))
            if not part:
                raise ConnectionResetError("the client went away in the middle of a body")
            length -= len(part)
            if kept:
                parts.append(part)
        return b"".join(parts) if kept else None

    def _send(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        self.send_header("Date", self.date_time_string())
        for name, value in answer.headers:
            self.send_header(name, value)
        has_body = answer.status not in (204, 304) and self.command != "HEAD"
        if has_body:
            self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if has_body:
            self.wfile.write(answer.body)

    def handle_expect_100(self) -> bool:
        """Sends 100 Continue at once, past the buffer."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """A request that is no HTTP: its status in plain text, and no more of this connection."""
        self.close_connection = True
        self.request_version = self.protocol_version  # HTTP/0.9 would have no status
        self.command = self.command or "GET"
        self._send(Answer(code, [("content-type", "text/plain")], HTTPStatus(code).phrase.encode()))

    def log_message(self, *_: object) -> None:
        """Says nothing: the log is the function's."""
