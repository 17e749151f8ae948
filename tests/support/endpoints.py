"""Where contract cases are sent: the bare service in this process, or an emulator through a raw HTTP client."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from serverless_bees.service.app import Service
from serverless_bees.service.messages import Request
from serverless_bees.tools.emulators import front
from serverless_bees.tools.emulators.front import Front, Received

Headers = tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """One answer; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Got(NamedTuple):
    """One answer as http.client gives it."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Send = Callable[[str, str, Headers, bytes, bool], Answer]
"""Method, target, headers, body, and whether the body goes in chunks."""


def bare(service: Service) -> Send:
    """Straight into the service, as an adapter would call it."""

    def send(method: str, target: str, headers: Headers, body: bytes, chunked: bool) -> Answer:
        path, _, query = target.partition("?")
        response = service.handle(Request(method, path, query, joined(headers), body, "a-request"))
        return Answer(response.status, response.headers, response.body)

    return send


def over_http(host: str, port: int, more: Headers = ()) -> Send:
    """Over a connection of its own for each request; header names go as they are spelt."""

    def send(method: str, target: str, headers: Headers, body: bytes, chunked: bool) -> Answer:
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=60)) as connection:
            connection.putrequest(method, target, skip_accept_encoding=True)
            for name, value in (*headers, *more):
                connection.putheader(name, value)
            if chunked:
                connection.putheader("Transfer-Encoding", "chunked")
                connection.endheaders(iter((body[:1000], body[1000:])), encode_chunked=True)
            else:
                if body or method in ("POST", "PUT", "PATCH"):
                    connection.putheader("Content-Length", str(len(body)))
                connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
            return Answer(response.status, joined(response.getheaders()), data)

    return send


def joined(headers: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Names in lower case, repeated ones joined by commas."""
    together: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        together[name] = f"{together[name]}, {value}" if name in together else value
    return together


@contextlib.contextmanager
def served(service: Service) -> Iterator[int]:
    """The bare service behind a small HTTP server, for clients that need one; the port."""

    def answer(received: Received) -> front.Answer:
        headers, body = joined(received.headers), received.body or b""
        response = service.handle(Request(received.method, received.path, received.query, headers, body))
        return front.Answer(response.status, tuple(response.headers.items()), response.body)

    with Front(0, answer, body_limit=1 << 30) as server:
        yield int(server.server_address[1])
