"""A small internet on the loopback interface: names, addresses, HTTP(S) servers and certificates.

`Site` is a real server, scripted byte by byte. `Network` stands between a `Fetcher` and the sites: it
answers look-ups from a table, leads public test addresses to the sites, and records both.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

from serverless_bees.fetch import _dial

Answer = bytes | Callable[[socket.socket, threading.Event], None]


def answer(body: bytes = b"", status: str = "200 OK", **headers: str | None) -> bytes:
    """A response with its Content-Length; ``Content_Encoding="gzip"`` is a header, ``None`` removes one."""
    lines: dict[str, str | None] = {"Content-Type": "image/jpeg", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode("latin-1") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return answer(b"elsewhere", status, Location=location)


class Site:
    """A server on 127.0.0.1: `routes` maps a request target to its answer, `requests` holds what came.

    An answer is the raw bytes of a response, or a function of the connection and of an event that is set
    when the site closes. With ``mute`` the site accepts and never says a word, not even for TLS.
    """

    def __init__(self, tls: ssl.SSLContext | None = None, *, mute: bool = False) -> None:
        self.routes: dict[str, Answer] = {}
        self.requests: list[str] = []
        self.closing = threading.Event()
        site = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                self.request.settimeout(5)
                if mute:
                    site.closing.wait(5)
                    return
                with contextlib.suppress(OSError):  # a client that hangs up is what many tests are about
                    if tls is None:
                        site._serve(self.request)
                    else:
                        with tls.wrap_socket(self.request, server_side=True) as conn:
                            site._serve(conn)

        class Server(socketserver.ThreadingTCPServer):
            request_queue_size = 64

            def handle_error(self, request: Any, client_address: Any) -> None:
                site.requests.append("the test's own server failed")
                super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.001,))

    def _serve(self, conn: socket.socket) -> None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            data = conn.recv(65536)
            if not data:
                return
            head += data
        self.requests.append(head.decode("ascii"))
        reply = self.routes.get(self.requests[-1].split(" ")[1], answer(b"no such route", "404 Not Found"))
        if callable(reply):
            reply(conn, self.closing)
        else:
            conn.sendall(reply)

    def __enter__(self) -> Site:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()  # waits for the handlers' threads
        self._thread.join()


class Network:
    """What a `Fetcher` sees: `names` for look-ups, `ports` for where a public port leads.

    A name maps to its addresses, to a list of lists of them (one for each look-up), or to a function that
    gives them. `looked_up`, `connected` and `sockets` record what the fetcher did.
    """

    def __init__(self, names: dict[str, Any], ports: dict[int, int]) -> None:
        self.names, self.ports = names, ports
        self.dead: set[str] = set()
        self.swallowing: set[str] = set()
        self.looked_up: list[str] = []
        self.connected: list[tuple[str, int]] = []
        self.timeouts: list[float] = []
        self.sockets: list[socket.socket] = []

    def resolve(self, host: str, port: int) -> list[tuple[Any, ...]]:
        self.looked_up.append(host)
        found = self.names.get(host)
        if found is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if callable(found):
            found = found()
        elif found and isinstance(found[0], list):
            found = found[min(self.looked_up.count(host), len(found)) - 1]
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in found
        ]

    def connect(self, address: str, port: int, timeout: float) -> socket.socket:
        self.connected.append((address, port))
        self.timeouts.append(timeout)
        if address in self.swallowing:
            threading.Event().wait(timeout)
            raise TimeoutError("timed out")
        if address in self.dead or port not in self.ports:
            raise ConnectionRefusedError(111, "Connection refused")
        sock = _dial("127.0.0.1", self.ports[port], timeout)
        self.sockets.append(sock)
        return sock


@contextlib.contextmanager
def holding(release: threading.Event, seconds: float = 5) -> Iterator[Callable[[], list[str]]]:
    """A look-up that does not return until the block ends."""

    def look_up() -> list[str]:
        release.wait(seconds)
        return []

    try:
        yield look_up
    finally:
        release.set()
