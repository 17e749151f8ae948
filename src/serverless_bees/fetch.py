"""Guarded fetch: the bytes of a picture from a URL that a stranger wrote.

The danger is server-side request forgery: a URL that makes the function call its own metadata
service or a neighbour in its private network. The guard is one order of work, the same for the URL
and for every redirect: parse strictly; normalise the host; look the name up once; refuse it unless
every address is public; connect to one of *those* addresses; verify TLS against the name.

What stays open by nature: a network whose own NAT64 prefix or port forwarding makes a public address
lead inside. The answer to that is a firewall, or ``allowed_hosts``.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import threading
import time
import zlib
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import quote, urljoin

from .addresses import is_public, normalise_host
from .errors import (
    FetchFailedError,
    FetchTimeoutError,
    PayloadTooLargeError,
    ServerlessBeesError,
    SettingsError,
    UrlNotAllowedError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed import WriteableBuffer

    Entry = tuple[Any, ...]  # as socket.getaddrinfo lists them


class FetchPolicy(NamedTuple):
    """What may be fetched, and how much of it; each field is the setting of the same name.

    ``timeout`` is in seconds and covers everything from the look-up to the last byte. ``max_bytes``
    counts the body after content decoding. ``allowed_hosts`` narrows the public hosts and never opens a
    private one: ``example.com`` is that host alone, ``.example.com`` that host and all below it.
    """

    enabled: bool = True
    timeout: float = 10.0
    max_bytes: int = 20 * 1024 * 1024
    max_redirects: int = 3
    allow_http: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = (80, 443)


class Fetcher:
    """Fetches pictures under one policy; one object serves many threads.

    ``resolve(host, port)`` answers as ``socket.getaddrinfo`` does, ``connect(address, port, timeout)``
    gives a connected socket, and ``tls`` defaults to ``ssl.create_default_context()``.

    Raises:
        SettingsError: an entry of ``allowed_hosts`` is not a host name.
    """

    def __init__(
        self,
        policy: FetchPolicy = FetchPolicy(),  # noqa: B008 - a NamedTuple
        *,
        resolve: Callable[[str, int], Iterable[Entry]] | None = None,
        connect: Callable[[str, int, float], socket.socket] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.policy = policy
        self._resolve = resolve or _look_up
        self._connect = connect or _dial
        self._tls = tls
        self._allowed_hosts = tuple(_allowed_host(entry) for entry in policy.allowed_hosts)

    def fetch(self, url: str) -> bytes:
        """The body of the ``200`` that ``url`` leads to; no message holds its path, query or user-info.

        Raises:
            UrlNotAllowedError: the policy refuses the URL or a redirect; nothing was sent to that place.
            FetchFailedError: no connection, no valid certificate, no sound HTTP, or not a ``200``.
            FetchTimeoutError: the deadline passed.
            PayloadTooLargeError: the body is larger than ``max_bytes``.
        """
        policy = self.policy
        if not policy.enabled:
            raise UrlNotAllowedError(f"fetching from URLs is switched off ({_SETTING}FETCH_ENABLED)")
        deadline = _Deadline(policy.timeout)
        for _ in range(policy.max_redirects + 1):
            target = self._target(url)
            try:
                with self._connected(target, deadline) as sock:
                    answer = self._exchange(target, sock, deadline)
            except ServerlessBeesError:
                raise
            except TimeoutError as error:
                limit = f"{policy.timeout:g} s ({_SETTING}FETCH_TIMEOUT)"
                raise FetchTimeoutError(f"{target.host}: not done within {limit}") from error
            except (OSError, http.client.HTTPException, ValueError, zlib.error) as error:
                raise FetchFailedError(f"{target.host}: {_reason(error)}") from error
            if isinstance(answer, bytes):
                return answer
            url = answer
        raise FetchFailedError(f"{target.host}: more than {policy.max_redirects} redirects")

    def _target(self, url: str) -> _Target:
        """Parse strictly: where two parsers could disagree about the host, the URL is refused."""
        if len(url) > _MAX_URL:
            raise UrlNotAllowedError(f"the URL has {len(url)} characters, more than {_MAX_URL}")
        if _UNSAFE.search(url):
            raise UrlNotAllowedError("the URL holds white space, a control character or a backslash")
        scheme, _, rest = url.partition(":")
        scheme = scheme.lower()
        if scheme not in _DEFAULT_PORTS:
            raise UrlNotAllowedError("only https and http URLs can be fetched")
        if scheme == "http" and not self.policy.allow_http:
            raise UrlNotAllowedError(f"plain http is not allowed ({_SETTING}FETCH_ALLOW_HTTP)")
        parts = _AFTER_SCHEME.fullmatch(rest)
        if parts is None:
            raise UrlNotAllowedError("the URL has no host")
        if "@" in parts["authority"]:
            raise UrlNotAllowedError("the URL holds a user name or password")
        authority = _AUTHORITY.fullmatch(parts["authority"])
        if authority is None:
            raise UrlNotAllowedError("the URL's host or port is malformed")
        host = normalise_host(authority["host"])
        port = int(authority["port"] or _DEFAULT_PORTS[scheme])
        if port not in self.policy.allowed_ports or port > 65535:
            raise UrlNotAllowedError(f"{host}: port {port} is not allowed ({_SETTING}FETCH_ALLOWED_PORTS)")
        if self._allowed_hosts and not any(
            host == entry.removeprefix(".") or (entry.startswith(".") and host.endswith(entry))
            for entry in self._allowed_hosts
        ):
            raise UrlNotAllowedError(f"{host}: not an allowed host ({_SETTING}FETCH_ALLOWED_HOSTS)")
        return _Target(scheme, host, port, _requote(parts["path"] or "/") + _requote(parts["query"] or ""))

    def _connected(self, target: _Target, deadline: _Deadline) -> socket.socket:
        """A socket to one of the very addresses that were checked: DNS rebinding finds no second look-up."""
        addresses = self._public_addresses(target, deadline)[:_MAX_ADDRESSES]
        failure: OSError | None = None
        for tried, address in enumerate(addresses):
            try:  # an address that swallows packets leaves the others their share of the time
                sock = self._connect(address, target.port, deadline.left() / (len(addresses) - tried))
                break
            except OSError as error:
                failure = error
        else:
            raise failure or socket.gaierror("no address")
        if target.scheme == "http":
            return sock
        with sock:  # once wrapped, it is an empty shell and closing it does nothing
            sock.settimeout(deadline.left())
            self._tls = self._tls or _default_tls()  # two threads may both make one; either will do
            # As bytes: for a str, Python loads its IDNA codec even when the name is ASCII.
            return self._tls.wrap_socket(sock, server_hostname=target.host.encode("ascii"))

    def _public_addresses(self, target: _Target, deadline: _Deadline) -> list[str]:
        """All addresses of the host, in the resolver's order; one that is not public refuses them all."""
        try:
            found = [ip_address(target.host)]
        except ValueError:
            entries = _in_time(lambda: list(self._resolve(target.host, target.port)), deadline)
            found = [ip_address(str(entry[4][0])) for entry in entries]
        if not all(map(is_public, found)):  # without the address: a name's is the private network's secret
            raise UrlNotAllowedError(f"{target.host}: not a public address")
        return list(dict.fromkeys(map(str, found)))

    def _exchange(self, target: _Target, sock: socket.socket, deadline: _Deadline) -> bytes | str:
        """Ask once; the body of a 200, or where a redirect leads."""
        sock.settimeout(deadline.left())
        sock.sendall(_REQUEST.format(target=target.path, host=target.authority).encode("ascii"))
        wire = _Wire(sock, deadline, room=2 * self.policy.max_bytes + _MAX_FRAMING)
        with http.client.HTTPResponse(cast("socket.socket", wire), method="GET") as response:
            response.begin()
            if response.status == 200:
                return _body(response, target.host, self.policy.max_bytes)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                raise FetchFailedError(f"{target.host}: status {response.status} instead of 200")
        # http.client reads headers as Latin-1; the few servers that send more than ASCII mean UTF-8.
        location = location.strip(" \t").encode("latin-1").decode("utf-8")
        # urljoin is lenient (it drops tabs, reads "https:x" as relative): only what is relative gets there.
        if _UNSAFE.search(location) or _SCHEME.match(location):
            return location
        try:
            return urljoin(f"{target.scheme}://{target.authority}{target.path}", location)
        except ValueError as error:
            raise UrlNotAllowedError(f"{target.host}: redirects to a malformed URL") from error


_SETTING = "SERVERLESS_BEES_"
_DEFAULT_PORTS = {"https": 443, "http": 80}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})  # RFC 9110, section 15.4
_MAX_URL = 8192  # characters; RFC 9110, section 4.1 asks for at least 8,000
_MAX_ADDRESSES = 8  # tried, of one name
_MAX_FRAMING = 1 << 20  # bytes beside the content: headers, interim answers, chunk sizes, trailers
_REQUEST = (
    "GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: serverless-bees\r\n"
    "Accept: image/jpeg, image/png, image/webp, image/gif, image/bmp, */*;q=0.1\r\n"
    "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
)

_UNSAFE = re.compile(r"[\x00-\x20\x7f-\x9f\s\\\ud800-\udfff]")
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")
_AFTER_SCHEME = re.compile(r"//(?P<authority>[^/?#]+)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?:#.*)?")
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:%]+)(?::(?P<port>[1-9][0-9]{0,4}))?")


class _Target(NamedTuple):
    """A checked URL, without its fragment."""

    scheme: str
    host: str  # a name in ASCII lower case, or an address in its usual form, without brackets
    port: int
    path: str  # and query

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def _allowed_host(entry: str) -> str:
    try:
        return "." * entry.startswith(".") + normalise_host(entry.removeprefix("."))
    except UrlNotAllowedError as error:
        raise SettingsError(f"{_SETTING}FETCH_ALLOWED_HOSTS: {entry!r} is not a host name") from error


def _requote(text: str) -> str:
    """Percent-encode what a request line cannot carry, and nothing twice."""
    return quote(re.sub("%(?![0-9A-Fa-f]{2})", "%25", text), safe="%/?:@!$&'()*+,;=[]~")


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline passed")
        return left


def _in_time(look_up: Callable[[], list[Entry]], deadline: _Deadline) -> list[Entry]:
    """Wait for a look-up no longer than there is time; getaddrinfo itself cannot be told to hurry."""
    outcome: list[list[Entry] | OSError | ValueError] = []

    def run() -> None:
        try:
            outcome.append(look_up())
        except (OSError, ValueError) as error:  # gaierror and UnicodeError among them
            outcome.append(error)

    thread = threading.Thread(target=run, name="serverless-bees-look-up", daemon=True)
    thread.start()
    thread.join(deadline.left())
    answer = outcome[0] if outcome else TimeoutError("the name was not resolved in time")
    if isinstance(answer, Exception):
        raise answer
    return answer


def _look_up(host: str, port: int) -> Iterable[Entry]:
    return socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)


def _dial(address: str, port: int, timeout: float) -> socket.socket:
    """Connect to a numeric address; unlike socket.create_connection, with no way to look anything up."""
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect((address, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _default_tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class _Wire(io.RawIOBase):
    """The socket as http.client reads it, with the deadline before *every* receive and a cap on it all."""

    def __init__(self, sock: socket.socket, deadline: _Deadline, room: int) -> None:
        self._sock, self._deadline, self._room = sock, deadline, room

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._room -= count
        if self._room < 0:
            raise http.client.HTTPException("endless framing")
        return count


def _body(response: http.client.HTTPResponse, host: str, limit: int) -> bytes:
    """The whole body, content decoded, never holding more than the limit."""
    lengths = {text.strip(" \t") for text in response.headers.get_all("Content-Length", [])}
    codings = ",".join(response.headers.get_all("Content-Encoding", [])).lower().strip()
    transfer = ",".join(response.headers.get_all("Transfer-Encoding", [])).lower()
    # http.client takes the first of two lengths, and any other transfer coding for the content itself.
    if len(lengths) > 1 or not all(re.fullmatch("[0-9]{1,18}", text) for text in lengths):
        raise FetchFailedError(f"{host}: contradictory or malformed Content-Length")
    if transfer not in ("", "chunked"):
        raise FetchFailedError(f"{host}: unknown Transfer-Encoding")
    if codings not in ("", "identity", "gzip", "x-gzip", "deflate"):
        raise FetchFailedError(f"{host}: unknown Content-Encoding, though identity was asked for")
    length = None if transfer or not lengths else int(lengths.pop())
    setting = f"{limit} bytes ({_SETTING}MAX_IMAGE_BYTES)"
    if length is not None and length > limit:
        raise PayloadTooLargeError(f"{host}: the picture has {length} bytes; the limit is {setting}")
    # zlib and gzip containers are told apart by their first bytes (wbits + 32).
    decoder = zlib.decompressobj(zlib.MAX_WBITS + 32) if codings not in ("", "identity") else None
    received, body = 0, bytearray()
    while chunk := response.read(64 * 1024):
        received += len(chunk)
        body += decoder.decompress(chunk, limit + 1 - len(body)) if decoder else chunk
        if max(received, len(body)) > limit:
            raise PayloadTooLargeError(f"{host}: the picture has more than the limit of {setting}")
    if length not in (None, received):
        raise FetchFailedError(f"{host}: the body ended after {received} of {length} bytes")
    if decoder and (not decoder.eof or decoder.unused_data):
        raise FetchFailedError(f"{host}: the compressed body is cut off or has something behind it")
    return bytes(body)


def _reason(error: Exception) -> str:
    """One line for the caller; the rest stays in the chained exception."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return "the TLS connection failed"
    if isinstance(error, socket.gaierror):
        return "the name does not resolve"
    if isinstance(error, OSError):
        return f"the connection failed ({error.strerror or type(error).__name__})"
    return "the answer is not sound HTTP"
