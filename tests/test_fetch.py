"""The guarded fetch against real servers on the loopback interface, from an attacker's view.

No case may reach anything else: look-ups come from a table, and every connection is recorded.
"""

from __future__ import annotations

import datetime
import gc
import gzip
import itertools
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from serverless_bees import addresses
from serverless_bees import fetch as module
from serverless_bees.errors import (
    FetchFailedError,
    FetchTimeoutError,
    PayloadTooLargeError,
    ServerlessBeesError,
    SettingsError,
    UrlNotAllowedError,
)
from serverless_bees.fetch import Fetcher, FetchPolicy
from tests.support.web import Network, Site, answer, holding, redirect

PUBLIC = "93.184.216.34"
PUBLIC_2 = "93.184.216.35"
PUBLIC_6 = "2606:2800:21f:cb07:6820:80da:af6b:8b2c"
HOST = "pictures.example"
IDN = "xn--bcher-kva.example"
PICTURE = bytes(range(256)) * 1000
SECRET = "hunter2"
PAST, FUTURE = datetime.datetime(2019, 1, 1), datetime.datetime(2999, 1, 1)
YEAR = datetime.timedelta(days=365)


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def server_tls(ca: trustme.CA, *names: str, **options: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, **options).configure_cert(context)
    return context


@pytest.fixture(scope="session")
def good_tls(ca: trustme.CA) -> ssl.SSLContext:
    return server_tls(ca, HOST, "other.example", "a.b.other.example", IDN, PUBLIC, PUBLIC_6)


@pytest.fixture
def http() -> Iterator[Site]:
    with Site() as site:
        site.routes["/photo.jpg"] = answer(PICTURE)
        yield site


@pytest.fixture
def https(good_tls: ssl.SSLContext) -> Iterator[Site]:
    with Site(good_tls) as site:
        site.routes["/photo.jpg"] = answer(PICTURE)
        yield site


@pytest.fixture
def net(http: Site, https: Site) -> Iterator[Network]:
    names = {HOST: [PUBLIC], "other.example": [PUBLIC_2], "a.b.other.example": [PUBLIC_2], IDN: [PUBLIC_6]}
    network = Network(names, {80: http.port, 443: https.port, 8443: https.port, 8080: http.port})
    yield network
    if network.sockets:  # one that was left open becomes a ResourceWarning here, which is an error
        gc.collect(0)
    assert [sock for sock in network.sockets if sock.fileno() != -1] == []


Make = Callable[..., Fetcher]


@pytest.fixture
def fetcher(net: Network, client_tls: ssl.SSLContext) -> Make:
    def make(**policy: Any) -> Fetcher:
        policy.setdefault("timeout", 5.0)
        return Fetcher(FetchPolicy(**policy), resolve=net.resolve, connect=net.connect, tls=client_tls)

    return make


# ---------------------------------------------------------------------------------- what must work


@pytest.mark.parametrize(
    ("url", "looked_up", "connected", "host", "target"),
    [
        (f"https://{HOST}/photo.jpg", HOST, (PUBLIC, 443), HOST, "/photo.jpg"),
        (f"http://{HOST}/photo.jpg", HOST, (PUBLIC, 80), HOST, "/photo.jpg"),
        ("HTTPS://Pictures.EXAMPLE/photo.jpg", HOST, (PUBLIC, 443), HOST, "/photo.jpg"),
        (f"https://{HOST}./photo.jpg", HOST, (PUBLIC, 443), HOST, "/photo.jpg"),
        (f"https://{HOST}:443/photo.jpg", HOST, (PUBLIC, 443), HOST, "/photo.jpg"),
        (f"https://{HOST}:8443/photo.jpg", HOST, (PUBLIC, 8443), f"{HOST}:8443", "/photo.jpg"),
        (f"http://{HOST}:8080/photo.jpg", HOST, (PUBLIC, 8080), f"{HOST}:8080", "/photo.jpg"),
        (f"https://{HOST}/photo.jpg#@127.0.0.1/", HOST, (PUBLIC, 443), HOST, "/photo.jpg"),
        (f"https://{HOST}", HOST, (PUBLIC, 443), HOST, "/"),
        (f"https://{HOST}#top", HOST, (PUBLIC, 443), HOST, "/"),
        (f"https://{HOST}?", HOST, (PUBLIC, 443), HOST, "/?"),
        (f"https://{HOST}?a=1", HOST, (PUBLIC, 443), HOST, "/?a=1"),
        (f"https://{HOST}/a@b:c?x=@y:/z", HOST, (PUBLIC, 443), HOST, "/a@b:c?x=@y:/z"),
        (f"https://{HOST}/é?q=ü", HOST, (PUBLIC, 443), HOST, "/%C3%A9?q=%C3%BC"),
        (f"https://{HOST}/%C3%A9%2f?q=%41&p=100%", HOST, (PUBLIC, 443), HOST, "/%C3%A9%2f?q=%41&p=100%25"),
        (f'https://{HOST}/"<>{{}}|^`', HOST, (PUBLIC, 443), HOST, "/%22%3C%3E%7B%7D%7C%5E%60"),
        (f"https://{HOST}/%0d%0aHost:%20evil", HOST, (PUBLIC, 443), HOST, "/%0d%0aHost:%20evil"),
        ("https://bücher.example/", IDN, (PUBLIC_6, 443), IDN, "/"),
        ("https://BÜCHER。example/", IDN, (PUBLIC_6, 443), IDN, "/"),
        (f"https://{IDN}/", IDN, (PUBLIC_6, 443), IDN, "/"),
        (f"https://{PUBLIC}/", None, (PUBLIC, 443), PUBLIC, "/"),
        (f"https://{PUBLIC}./", None, (PUBLIC, 443), PUBLIC, "/"),
        ("https://1572395042/", None, (PUBLIC, 443), PUBLIC, "/"),
        ("https://0x5D.0270.216.0x22/", None, (PUBLIC, 443), PUBLIC, "/"),
        (f"https://[{PUBLIC_6}]/", None, (PUBLIC_6, 443), f"[{PUBLIC_6}]", "/"),
        (f"https://[{PUBLIC_6.upper()}]:8443/", None, (PUBLIC_6, 8443), f"[{PUBLIC_6}]:8443", "/"),
        (f"http://[{PUBLIC_6}]:8080/", None, (PUBLIC_6, 8080), f"[{PUBLIC_6}]:8080", "/"),
    ],
)
def test_fetches(
    url: str,
    looked_up: str | None,
    connected: tuple[str, int],
    host: str,
    target: str,
    fetcher: Make,
    net: Network,
    http: Site,
    https: Site,
) -> None:
    site = https if url.lower().startswith("https") else http
    site.routes[target] = answer(PICTURE)
    assert fetcher(allow_http=True, allowed_ports=(80, 443, 8080, 8443)).fetch(url) == PICTURE
    assert net.looked_up == ([looked_up] if looked_up else [])
    assert net.connected == [connected]
    assert site.requests[0].split("\r\n")[:2] == [f"GET {target} HTTP/1.1", f"Host: {host}"]


def test_a_request_tells_nothing_about_us_but_the_name(fetcher: Make, https: Site) -> None:
    fetcher().fetch(f"https://{HOST}/photo.jpg")
    (request,) = https.requests
    assert request == (
        f"GET /photo.jpg HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: serverless-bees\r\n"
        "Accept: image/jpeg, image/png, image/webp, image/gif, image/bmp, */*;q=0.1\r\n"
        "Accept-Encoding: identity\r\nConnection: close\r\n\r\n"
    )


def test_sends_the_name_in_tls_and_speaks_at_least_1_2(net: Network, ca: trustme.CA, http: Site) -> None:
    seen: list[str | None] = []
    context = server_tls(ca, HOST)
    context.sni_callback = lambda _sock, name, _context: seen.append(name)
    with Site(context) as site:
        site.routes["/"] = answer(b"x")
        net.ports[443] = site.port
        fetcher = Fetcher(resolve=net.resolve, connect=net.connect)  # its own TLS context
        with pytest.raises(FetchFailedError):
            fetcher.fetch(f"https://{HOST}/")
        assert seen == [HOST]
        assert fetcher._tls is not None
        assert fetcher._tls.verify_mode is ssl.CERT_REQUIRED
        assert fetcher._tls.check_hostname
        assert fetcher._tls.minimum_version >= ssl.TLSVersion.TLSv1_2
        ca.configure_trust(fetcher._tls)
        assert fetcher.fetch(f"https://{HOST}/") == b"x"


def chunked(body: bytes, size: int = 1000) -> bytes:
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\nTrailer: x\r\n\r\n"


RAW_DEFLATE = zlib.compress(PICTURE)[2:-4]


@pytest.mark.parametrize(
    "reply",
    [
        answer(PICTURE),
        answer(PICTURE, Content_Length=None),
        answer(chunked(PICTURE), Content_Length=None, Transfer_Encoding="chunked"),
        answer(chunked(PICTURE), Content_Length=None, Transfer_Encoding="Chunked"),
        answer(gzip.compress(PICTURE), Content_Encoding="gzip"),
        answer(gzip.compress(PICTURE), Content_Encoding="X-GZip", Content_Length=None),
        answer(zlib.compress(PICTURE), Content_Encoding="deflate"),
        answer(PICTURE, Content_Encoding="identity"),
        answer(PICTURE, Content_Length=f" {len(PICTURE)} \t"),
        answer(
            chunked(gzip.compress(PICTURE)),
            Content_Length=None,
            Content_Encoding="gzip",
            Transfer_Encoding="chunked",
        ),
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + answer(PICTURE),
        b"HTTP/1.0 200 OK\r\n\r\n" + PICTURE,
        answer(PICTURE) + b"left over",
    ],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_reads_a_body_however_it_is_framed(reply: bytes, scheme: str, fetcher: Make, http: Site, https: Site) -> None:
    http.routes["/x"] = https.routes["/x"] = reply
    limit = len(PICTURE)  # the limit itself is allowed
    assert fetcher(allow_http=True, max_bytes=limit).fetch(f"{scheme}://{HOST}/x") == PICTURE


def test_an_empty_body_is_the_callers_affair(fetcher: Make, https: Site) -> None:
    https.routes["/x"] = answer(b"")
    assert fetcher().fetch(f"https://{HOST}/x") == b""


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
@pytest.mark.parametrize(
    ("location", "connected", "target"),
    [
        ("/photo.jpg", (PUBLIC, 443), "/photo.jpg"),
        ("photo.jpg?a=b#frag", (PUBLIC, 443), "/dir/photo.jpg?a=b"),
        ("?page=2", (PUBLIC, 443), "/dir/start?page=2"),
        ("../up", (PUBLIC, 443), "/up"),
        ("//other.example/photo.jpg", (PUBLIC_2, 443), "/photo.jpg"),
        ("https://other.example/photo.jpg", (PUBLIC_2, 443), "/photo.jpg"),
        ("https://other.example", (PUBLIC_2, 443), "/"),
        ("https://b\xc3\xbccher.example/\xc3\xa9", (PUBLIC_6, 443), "/%C3%A9"),
        ("/%0d%0aX:%20y", (PUBLIC, 443), "/%0d%0aX:%20y"),
    ],
)
def test_follows_a_redirect(
    status: str,
    location: str,
    connected: tuple[str, int],
    target: str,
    fetcher: Make,
    net: Network,
    https: Site,
) -> None:
    https.routes[target] = answer(PICTURE)
    https.routes["/dir/start"] = redirect(location, status)
    assert fetcher().fetch(f"https://{HOST}/dir/start") == PICTURE
    assert net.connected == [(PUBLIC, 443), connected]
    assert "referer" not in "".join(https.requests).lower()
    assert "cookie" not in "".join(https.requests).lower()


def test_sends_no_cookie_back(fetcher: Make, https: Site) -> None:
    https.routes["/start"] = answer(b"", "302 Found", Location="/photo.jpg", Set_Cookie="a=b")
    assert fetcher().fetch(f"https://{HOST}/start") == PICTURE
    assert "cookie" not in https.requests[1].lower()


def test_http_to_https_needs_http_allowed_only_for_the_first(fetcher: Make, http: Site) -> None:
    http.routes["/"] = redirect(f"https://{HOST}/photo.jpg")
    assert fetcher(allow_http=True).fetch(f"http://{HOST}/") == PICTURE


def test_three_redirects_are_followed_and_a_fourth_is_not(fetcher: Make, net: Network, https: Site) -> None:
    for step in range(4):
        https.routes[f"/{step}"] = redirect(f"/{step + 1}")
    https.routes["/4"] = answer(PICTURE)
    assert fetcher().fetch(f"https://{HOST}/1") == PICTURE
    with pytest.raises(FetchFailedError, match="more than 3 redirects"):
        fetcher().fetch(f"https://{HOST}/0")
    with pytest.raises(FetchFailedError, match="more than 0 redirects"):
        fetcher(max_redirects=0).fetch(f"https://{HOST}/3")


def test_a_redirect_loop_ends(fetcher: Make, net: Network, https: Site) -> None:
    https.routes["/a"] = redirect("/b")
    https.routes["/b"] = redirect("/a")
    with pytest.raises(FetchFailedError, match="redirects"):
        fetcher().fetch(f"https://{HOST}/a")
    assert len(net.connected) == 4


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch, fetcher: Make, net: Network) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetcher(allow_http=True).fetch(f"http://{HOST}/photo.jpg") == PICTURE
    assert fetcher().fetch(f"https://{HOST}/photo.jpg") == PICTURE
    assert net.connected == [(PUBLIC, 80), (PUBLIC, 443)]


def test_tries_the_next_address_when_one_is_dead(fetcher: Make, net: Network) -> None:
    net.names[HOST] = [PUBLIC_6, PUBLIC_2, PUBLIC_2, PUBLIC]
    net.dead = {PUBLIC_6, PUBLIC_2}
    assert fetcher().fetch(f"https://{HOST}/photo.jpg") == PICTURE
    assert [address for address, _ in net.connected] == [PUBLIC_6, PUBLIC_2, PUBLIC]


def test_an_address_that_swallows_packets_leaves_time_for_the_next(fetcher: Make, net: Network) -> None:
    net.names[HOST] = [PUBLIC_2, PUBLIC]
    net.swallowing = {PUBLIC_2}
    assert fetcher(timeout=1).fetch(f"https://{HOST}/photo.jpg") == PICTURE
    assert net.timeouts[0] < 0.6


def test_all_addresses_dead(fetcher: Make, net: Network) -> None:
    net.names[HOST] = [f"93.184.216.{n}" for n in range(1, 100)]
    net.dead = set(net.names[HOST])
    with pytest.raises(FetchFailedError, match=f"{HOST}: the connection failed"):
        fetcher().fetch(f"https://{HOST}/photo.jpg")
    assert len(net.connected) == 8


def test_one_fetcher_serves_many_threads(fetcher: Make, https: Site) -> None:
    one = fetcher()
    results: list[bytes] = []
    for n in range(8):
        https.routes[f"/{n}"] = answer(PICTURE + bytes([n]))
    threads = [
        threading.Thread(target=lambda n=n: results.extend(one.fetch(f"https://{HOST}/{n}") for _ in "abc"))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == sorted(PICTURE + bytes([n]) for n in range(8) for _ in "abc")


# ------------------------------------------------------------------------------ what must be refused

PRIVATE_4 = [
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "100.127.255.255",
    "127.0.0.1", "127.255.255.254", "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1",
    "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1",
    "192.88.99.1", "192.168.0.1", "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.1",
    "203.0.113.1", "224.0.0.1", "232.1.2.3", "239.255.255.255", "240.0.0.1", "255.255.255.255",
]  # fmt: skip
PRIVATE_6 = [
    "::", "::1", "::7f00:1", "::127.0.0.1", "::93.184.216.34", "::ffff:127.0.0.1", "::ffff:7f00:1",
    "::ffff:93.184.216.34", "::ffff:0:127.0.0.1", "0:0:0:0:0:ffff:a9fe:a9fe", "64:ff9b::127.0.0.1",
    "64:ff9b::5db8:d822", "64:ff9b:1::a00:1", "100::1", "100:0:0:1::1", "2001::1", "2001:0:53aa:64c::1",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:5db8:d822::1",
    "2620:4f:8000::1", "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254",
    "fe80::1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip

# Refused without a look-up and without a connection, typed in and redirected to.
REFUSED_URLS = [
    *(f"https://{address}/" for address in PRIVATE_4),
    *(f"https://[{address}]/" for address in PRIVATE_6),
    # spellings of IPv4 addresses that are private
    "https://127.1/", "https://127.0.1/", "https://0177.1/", "https://0X7F.1/", "https://0x7f000001/",
    "https://0x7F.0x0.0x0.0x1/", "https://017700000001/", "https://2130706433/", "https://2130706433./",
    "https://127.0.0.1./", "https://0/", "https://0x/", "https://00000000000000000177.0.0.1/",
    "https://0x0000000000000000000000007f000001/", "https://10.1/", "https://192.168.257/",
    "https://0251.0376.0251.0376/", "https://2852039166/", "https://169.16689662/", "https://0xa9fea9fe/",
    "https://①②⑦.0.0.1/", "https://①②⑦。⓪。⓪。①/", "https://127。0。0。1/", "https://127.0.0.1/",
    "https://127․0․0․1/", "https://𝟭𝟮𝟳.𝟬.𝟬.𝟭/", "https://127.0.0.1。/", "https://127｡0｡0｡1/",  # noqa: RUF001
    "https://0ₓ7f.1/", "https://0ⅹ7f.1/", "https://１６９.254.169.254/", "https://²130706433/",  # noqa: RUF001
    # numbers that are no address
    "https://4294967297/", "https://4294967296/", "https://256.1.1.1/", "https://1.2.3.4.5/",
    "https://127.0.0.256/", "https://127.0.0.08/", "https://1.16777216/", "https://example.1/",
    "https://example.0x1/", "https://127.0.0.1.1/", "https://127.0.0.0xg1.1/", "https://99999999999999999999/",
    "https://93.184.216.34.0/", "https://93.184.216.34.0.0/", "https://93.256.216.34/", "https://93.184.256.34/",
    "https://9_3.184.216.34/", "https://0x5_d.184.216.34/",
    "https://-1.184.216.34/", "https://0x-1.1.1.1/", "https://0o135.184.216.34/",
    "https://0b1.1/", "https://127..1/", "https://.127.0.0.1/", "https://a.0x/",
    # IPv6 that is malformed or has a zone
    "https://[fe80::1%25eth0]/", "https://[fe80::1%eth0]/", "https://[::1%25lo]/", "https://[]/", "https://[::1/",
    "https://[1:2:3]/", "https://[::ffff:0177.0.0.1]/", "https://[::ffff:127.1]/", "https://[127.0.0.1]/",
    "https://[v1.fe80::a]/", "https://[::1]x/", "https://x[::1]/", "https://[::1]:/", "https://[[::1]]/",
    "https://[::1]@pictures.example/", "https://::1/", "https://2606:2800:21f::1/", "https://[：：1]/",  # noqa: RUF001
    "https://[2606:2800::1%25eth0]/", "https://[::1].pictures.example/",
    # user-info, and who is the host anyway
    "https://user@pictures.example/", "https://user:hunter2@pictures.example/", "https://@pictures.example/",
    "https://a@b@pictures.example/", "https://pictures.example@127.0.0.1/", "https://:@pictures.example/",
    "https://pictures.example:443@127.0.0.1/", "https://127.0.0.1\\@pictures.example/",
    "https://pictures.example\\@127.0.0.1/", "https://pictures.example\\.evil.example/", "https:\\\\pictures.example/",
    "https://pictures.example%2f@127.0.0.1/", "https://pictures.example%00.evil.example/",
    "https://%70ictures.example/", "https://127.0.0.1%2f/", "https://%31%32%37.0.0.1/", "https://pictures%2eexample/",
    "https://pictures.example＠127.0.0.1/", "https://pictures.example／evil.example/",  # noqa: RUF001
    "https://pictures.example％2f/", "https://pictures.exampl℀.example/", "https://pictures.example：443/",  # noqa: RUF001
    "https://pictures.example＃@127.0.0.1/", "https://pictures.example？.evil/",  # noqa: RUF001
    # hosts that are no names
    "https://pictures..example/", "https://.pictures.example/", "https://pictures.example../", "https://./",
    f"https://{'a' * 64}.example/", f"https://{'a.' * 127}example/", f"https://{'ü' * 60}.example/",
    f"https://{'ü' * 3000}.example/", "https://a,b.example/", "https://a;b.example/", "https://a'b.example/",
    "https://$(id).example/", "https://a!b/", "https://*.example/", "https://<b>.example/", "https://a|b/",
    "https://straße.example/", "https://a\u200db.example/", "https://xn--\u0627b.example\u0301\u0600/",
    "https://\u0627a.example/", "https://a\ufffd.example/", "https://\u202eexample.example/", "https://\u00ad/",
    # ports
    "https://pictures.example:22/", "https://pictures.example:25/", "https://pictures.example:6379/",
    "https://pictures.example:8443/", "https://pictures.example:0/", "https://pictures.example:65536/",
    "https://pictures.example:99999999999/", "https://pictures.example:/", "https://pictures.example:0443/",
    "https://pictures.example:+443/", "https://pictures.example:-443/", "https://pictures.example:44３/",  # noqa: RUF001
    "https://pictures.example:443:443/", "https://pictures.example:4_4_3/", "https://pictures.example:443x/",
    "https://pictures.example:0x1bb/", "https://pictures.example:https/",
    # schemes
    "file:///etc/passwd", "file://pictures.example/etc/passwd", "ftp://pictures.example/x", "javascript:alert(1)",
    "gopher://127.0.0.1:6379/_FLUSHALL", "data:image/png;base64,AAAA", "jar:https://pictures.example!/",
    "dict://127.0.0.1:11211/stats", "ldap://127.0.0.1/", "ws://pictures.example/", "s3://bucket/key",
    "https+unix://pictures.example/", "view-source:https://pictures.example/",
    "url:https://pictures.example/", "http://pictures.example/photo.jpg", "HTTP://pictures.example/",
    "https:pictures.example/", "https:///pictures.example/", "https:////pictures.example/", "https://?x",
    "https://#x", "https://:443/",
    # characters that one parser drops and another keeps
    "https://pictures.example/a b", "https://pictures.example/a\tb", "ht\ttps://127.0.0.1/",
    "https://pictures.example\t.evil.example/", "https://pictures.example/\x00", "https://pictures.example/\x7f",
    "https://pictures.example/\x85", "https://pictures.example/\u2028", "https://pictures.example/\u3000",
    "https://pictures.example/\u00a0", "https://pictures.example/photo\\.jpg", "https://pictures.example/\x0b",
    "https://pictures.example/" + "a" * 9000,
]  # fmt: skip

# Refused when typed in; a redirect cannot carry them, or they mean something else there.
REFUSED_ALONE = [
    "", ":", "/", "//", "//pictures.example/photo.jpg", "/photo.jpg", "photo.jpg", "pictures.example",
    "pictures.example:443/photo.jpg", "https", "https:", "https:/", "https://", "https:/pictures.example/",
    " https://pictures.example/photo.jpg", "https://pictures.example/photo.jpg ", "\nhttps://pictures.example/",
    "https://pictures.example/\r\nX-Injected: 1", "https://pictures.example/\nHost: evil", "ht\ntps://127.0.0.1/",
    "https://pictures.example\r\n.evil/", "https://pictures.example/\ud800", "https://\ud800.example/",
    "http\u017f://pictures.example/", "?https://pictures.example/",
    "\ufeffhttps://pictures.example/", "hunter2:x@pictures.example",
]  # fmt: skip


@pytest.mark.parametrize("url", [*REFUSED_URLS, *REFUSED_ALONE])
def test_refuses_a_url(url: str, fetcher: Make, net: Network) -> None:
    with pytest.raises(UrlNotAllowedError) as refusal:
        fetcher().fetch(url)
    assert net.looked_up == []
    assert net.connected == []
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("location", [*REFUSED_URLS, "//127.0.0.1/", "//169.254.169.254/latest", "//[::1]/"])
def test_refuses_a_redirect(location: str, fetcher: Make, net: Network, https: Site) -> None:
    https.routes["/start"] = redirect(location.encode().decode("latin-1"))
    with pytest.raises(UrlNotAllowedError) as refusal:
        fetcher().fetch(f"https://{HOST}/start")
    assert net.looked_up == [HOST]
    assert net.connected == [(PUBLIC, 443)]
    assert SECRET not in str(refusal.value)


@pytest.mark.parametrize("address", [*PRIVATE_4, *PRIVATE_6, "fe80::1%eth0", "2606:2800::1%eth0"])
@pytest.mark.parametrize("via", ["name", "redirect", "among public ones", "last of many", "http"])
def test_refuses_a_name_with_an_address_that_is_not_public(
    address: str, via: str, fetcher: Make, net: Network, https: Site
) -> None:
    net.names["metadata.google.internal"] = {
        "among public ones": [PUBLIC, address, PUBLIC_6],
        "last of many": [*(f"93.184.216.{n}" for n in range(1, 40)), address],
    }.get(via, [address])
    https.routes["/start"] = redirect("https://metadata.google.internal/")
    start = {"redirect": f"https://{HOST}/start", "http": "http://metadata.google.internal/"}
    with pytest.raises(UrlNotAllowedError, match=r"^metadata\.google\.internal: not a public address$"):
        fetcher(allow_http=True).fetch(start.get(via, "https://metadata.google.internal/"))
    assert net.connected == ([(PUBLIC, 443)] if via == "redirect" else [])


@pytest.mark.parametrize(
    "address",
    [
        "1.0.0.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
        "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1",
        "192.0.1.1", "192.0.3.1", "192.167.255.255", "192.169.0.1", "198.17.255.255", "198.20.0.1", "198.51.101.1",
        "203.0.114.1", "223.255.255.254", "2000::1", "2001:200::1", "2001:4860:4860::8888", "2001:db7::1",
        "2001:db9::1", "2003::1", "2600:1f18::1", "2620:4f:8001::1", "2a00:1450:4001::1", "3ffe::1",
    ],
)  # fmt: skip
def test_connects_to_the_public_neighbours_of_what_is_refused(address: str, fetcher: Make, net: Network) -> None:
    net.names[HOST] = [address]
    assert fetcher().fetch(f"https://{HOST}/photo.jpg") == PICTURE
    assert net.connected == [(address, 443)]


@pytest.mark.parametrize(
    "spelling",
    ["1.2.3.4", "1.2.772", "1.131844", "16909060", "0x1.2.3.4", "01.02.03.04", "0x01020304", "0100401404",
     "0x1.0x20304", "8.8", "0xff.255.0377.254", "255.16777214", "037777777776"],
)  # fmt: skip
def test_reads_ipv4_as_the_c_library_does(spelling: str) -> None:
    assert addresses.normalise_host(spelling) == socket.inet_ntoa(socket.inet_aton(spelling))


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "169.254.169.254", "192.0.2.1"])
def test_two_guards_know_the_well_known_addresses(address: str, monkeypatch: pytest.MonkeyPatch, fetcher: Make) -> None:
    monkeypatch.setattr(addresses, "_NOT_PUBLIC", ())
    with pytest.raises(UrlNotAllowedError, match="not a public address"):
        fetcher().fetch(f"https://{address}/")


@pytest.mark.parametrize("user_info", [f"user:{SECRET}", SECRET, "", ":", "a@b"])
def test_credentials_in_a_url_are_refused_as_such(user_info: str, fetcher: Make) -> None:
    with pytest.raises(UrlNotAllowedError, match="the URL holds a user name or password"):
        fetcher().fetch(f"https://{user_info}@{HOST}/")


def test_localhost_by_the_real_resolver() -> None:
    for policy in (FetchPolicy(), FetchPolicy(allow_http=True)):
        with pytest.raises(UrlNotAllowedError, match="localhost: not a public address"):
            Fetcher(policy).fetch("https://localhost/")


def test_rebinding_finds_no_second_look_up(fetcher: Make, net: Network) -> None:
    net.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    assert fetcher().fetch(f"https://{HOST}/photo.jpg") == PICTURE
    assert net.looked_up == [HOST]
    assert net.connected == [(PUBLIC, 443)]


def test_rebinding_between_two_hops_is_looked_at_anew(fetcher: Make, net: Network, https: Site) -> None:
    net.names[HOST] = [[PUBLIC], ["127.0.0.1"]]
    https.routes["/start"] = redirect("/photo.jpg")
    with pytest.raises(UrlNotAllowedError, match="not a public address"):
        fetcher().fetch(f"https://{HOST}/start")
    assert net.looked_up == [HOST, HOST]
    assert net.connected == [(PUBLIC, 443)]


def test_a_downgrade_to_http_is_refused(fetcher: Make, net: Network, https: Site) -> None:
    https.routes["/start"] = redirect(f"http://{HOST}/photo.jpg")
    with pytest.raises(UrlNotAllowedError, match="SERVERLESS_BEES_FETCH_ALLOW_HTTP"):
        fetcher().fetch(f"https://{HOST}/start")
    assert net.connected == [(PUBLIC, 443)]
    assert fetcher(allow_http=True).fetch(f"https://{HOST}/start") == PICTURE


@pytest.mark.parametrize(
    ("url", "policy", "setting"),
    [
        (f"https://{HOST}/", {"enabled": False}, "FETCH_ENABLED"),
        (f"http://{HOST}/", {}, "FETCH_ALLOW_HTTP"),
        (f"https://{HOST}:8443/", {}, "FETCH_ALLOWED_PORTS"),
        (f"https://{HOST}/", {"allowed_ports": (8443,)}, "FETCH_ALLOWED_PORTS"),
        (f"https://{HOST}:70000/", {"allowed_ports": (70000,)}, "FETCH_ALLOWED_PORTS"),
        (f"https://{HOST}/", {"allowed_hosts": ("other.example",)}, "FETCH_ALLOWED_HOSTS"),
    ],
)
def test_a_refusal_names_the_setting(
    url: str, policy: dict[str, Any], setting: str, fetcher: Make, net: Network
) -> None:
    with pytest.raises(UrlNotAllowedError, match=f"SERVERLESS_BEES_{setting}"):
        fetcher(**policy).fetch(url)
    assert (net.looked_up, net.connected) == ([], [])


@pytest.mark.parametrize(
    ("allowed", "host", "fine"),
    [
        ("other.example", "other.example", True),
        ("OTHER.Example.", "other.example", True),
        ("other.example", "OTHER.example.", True),
        ("other.example", "a.b.other.example", False),
        (".other.example", "a.b.other.example", True),
        (".other.example", "other.example", True),
        (".b.other.example", "other.example", False),
        ("ther.example", "other.example", False),
        (".ther.example", "other.example", False),
        ("bücher.example", IDN, True),
        (IDN, "bücher.example", True),
        (PUBLIC, PUBLIC, True),
        ("1572395042", PUBLIC, True),
        (PUBLIC_6, f"[{PUBLIC_6}]", True),
        (f"[{PUBLIC_6}]", f"[{PUBLIC_6.upper()}]", True),
        (PUBLIC, HOST, False),
    ],
)
def test_the_list_of_allowed_hosts(allowed: str, host: str, fine: bool, fetcher: Make, net: Network) -> None:
    one = fetcher(allowed_hosts=("unrelated.example", allowed))
    if fine:
        assert one.fetch(f"https://{host}/photo.jpg") == PICTURE
    else:
        with pytest.raises(UrlNotAllowedError, match="FETCH_ALLOWED_HOSTS"):
            one.fetch(f"https://{host}/photo.jpg")
        assert (net.looked_up, net.connected) == ([], [])


def test_the_list_of_allowed_hosts_holds_for_redirects(fetcher: Make, net: Network, https: Site) -> None:
    https.routes["/start"] = redirect("https://other.example/photo.jpg")
    with pytest.raises(UrlNotAllowedError, match=r"other\.example: not an allowed host"):
        fetcher(allowed_hosts=(HOST,)).fetch(f"https://{HOST}/start")
    assert net.connected == [(PUBLIC, 443)]


def test_the_list_of_allowed_hosts_opens_nothing_private(fetcher: Make, net: Network) -> None:
    net.names["intranet.example"] = ["10.0.0.1"]
    one = fetcher(allowed_hosts=("intranet.example", "10.0.0.1", "::1"))
    for host in ("intranet.example", "10.0.0.1", "[::1]"):
        with pytest.raises(UrlNotAllowedError, match="not a public address"):
            one.fetch(f"https://{host}/")
    assert net.connected == []


@pytest.mark.parametrize("entry", ["", ".", "https://x.example", "x.example:443", "*.x.example", "a b", "1.2.3.4.5"])
def test_a_malformed_entry_of_allowed_hosts(entry: str) -> None:
    with pytest.raises(SettingsError, match="SERVERLESS_BEES_FETCH_ALLOWED_HOSTS"):
        Fetcher(FetchPolicy(allowed_hosts=(entry,)))


# ---------------------------------------------------------------------- servers that fail or misbehave


def endless(*first: bytes, piece: bytes = b"x" * 65536) -> Callable[[socket.socket, threading.Event], None]:
    def send(conn: socket.socket, closing: threading.Event) -> None:
        for data in itertools.chain(first, itertools.repeat(piece)):
            if closing.is_set():
                return
            conn.sendall(data)

    return send


OK = b"HTTP/1.1 200 OK\r\n"
MIB = 1 << 20
GZIP_HEAD = b"Content-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10]
EMPTY_BLOCK = b"\0\0\0\xff\xff"  # of DEFLATE: input without output
BOMB = gzip.compress(bytes(64 * MIB), 9)


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (answer(b"", Content_Length=str(MIB + 1)), "1048577 bytes; the limit is 1048576 bytes"),
        (answer(b"", Content_Length="9" * 18), "999999999999999999 bytes"),
        (answer(bytes(MIB + 1), Content_Length=None), "more than the limit of 1048576 bytes"),
        (endless(OK + b"\r\n"), "more than the limit"),
        (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", piece=b"10000\r\n" + bytes(65536) + b"\r\n"), "more than"),
        (endless(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), "more than"),
        (endless(OK + GZIP_HEAD, piece=EMPTY_BLOCK * 9999), "more than"),
        (answer(BOMB, Content_Encoding="gzip"), "more than the limit"),
        (answer(zlib.compress(bytes(64 * MIB)), Content_Encoding="deflate"), "more than the limit"),
        (answer(chunked(BOMB), Content_Length=None, Content_Encoding="gzip", Transfer_Encoding="chunked"), "more than"),
    ],
)  # fmt: skip
def test_too_large(reply: Any, match: str, fetcher: Make, https: Site) -> None:
    https.routes[f"/x?key={SECRET}"] = reply
    with pytest.raises(PayloadTooLargeError, match=match) as error:
        fetcher(max_bytes=MIB).fetch(f"https://{HOST}/x?key={SECRET}")
    assert "SERVERLESS_BEES_MAX_IMAGE_BYTES" in str(error.value)
    assert SECRET not in str(error.value)


def test_a_bomb_is_cut_off_while_it_inflates(fetcher: Make, https: Site) -> None:
    https.routes["/x"] = answer(BOMB, Content_Encoding="gzip")
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError):
            fetcher(max_bytes=MIB).fetch(f"https://{HOST}/x")
        assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("reply", "match"),
    [
        (answer(PICTURE, Content_Length=str(len(PICTURE) + 1)), "ended after 256000 of 256001 bytes"),
        (answer(b"", Content_Length="5"), "ended after 0 of 5 bytes"),
        (answer(chunked(PICTURE)[:-500], Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(chunked(PICTURE)[:100_000], Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(b"-1\r\nabc\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(b"-5\r\nabc\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(b"zz\r\nabc\r\n0\r\n\r\n", Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(b"1" * 70000, Content_Length=None, Transfer_Encoding="chunked"), "sound HTTP"),
        (answer(b"x", Transfer_Encoding="gzip, chunked"), "Transfer-Encoding"),
        (answer(b"x", Transfer_Encoding="identity"), "Transfer-Encoding"),
        (answer(chunked(b"x"), Content_Length=None, Transfer_Encoding="chunked "), "Transfer-Encoding"),
        (answer(b"xx", Content_Length="2\r\nContent-Length: 1"), "Content-Length"),
        (answer(b"x", Content_Length="-1"), "Content-Length"),
        (answer(b"x", Content_Length="+1"), "Content-Length"),
        (answer(b"x", Content_Length="1_0"), "Content-Length"),
        (answer(b"x", Content_Length="1, 1"), "Content-Length"),
        (answer(b"x", Content_Length="9" * 5000), "Content-Length"),
        (answer(b"x", Content_Encoding="br"), "Content-Encoding"),
        (answer(b"x", Content_Encoding="gzip, gzip"), "Content-Encoding"),
        (answer(b"x", Content_Encoding="gzip\r\nContent-Encoding: gzip"), "Content-Encoding"),
        (answer(b"not gzip at all", Content_Encoding="gzip"), "sound HTTP"),
        (answer(gzip.compress(PICTURE)[:-1], Content_Encoding="gzip"), "cut off"),
        (answer(gzip.compress(PICTURE) + b"more", Content_Encoding="gzip"), "behind"),
        (answer(RAW_DEFLATE, Content_Encoding="deflate"), "sound HTTP"),
        (b"", "sound HTTP|connection failed"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "sound HTTP"),
        (b"HTTP/2 200 OK\r\n\r\n", "sound HTTP"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "sound HTTP"),
        (b"HTTP/1.1 abc\r\n\r\n", "sound HTTP"),
        (b"HTTP/1.1 " + b"2" * 70000 + b"\r\n\r\n", "sound HTTP"),
        (OK + b"X: y\r\n" * 200 + b"\r\n", "sound HTTP"),
        (OK + b"X: " + b"y" * 70000 + b"\r\n\r\n", "sound HTTP"),
        (endless(OK, piece=b"X: y\r\n" * 1000), "sound HTTP"),
        (endless(piece=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), "sound HTTP"),
        (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", piece=b"1;" + b"e" * 60000 + b"\r\nx\r\n"), "sound HTTP"),
        (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", piece=b"Trailer: x\r\n" * 5000), "sound HTTP"),
        (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"), "sound HTTP"),
        (b"HTTP/1.1 302 Found\r\n\r\n", "status 302"),
        (b"HTTP/1.1 302 Found\r\nLocation:\r\n\r\n", "status 302"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\xff\xfe\r\n\r\n", "sound HTTP"),
        *(
            (answer(b"x", f"{status} Whatever"), f"status {status}")
            for status in (101, 103, 201, 203, 204, 206, 300, 304, 305, 306, 400, 401, 404, 407, 500, 503, 999)
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_unsound_answer(reply: Any, match: str, scheme: str, fetcher: Make, http: Site, https: Site) -> None:
    http.routes[f"/x?key={SECRET}"] = https.routes[f"/x?key={SECRET}"] = reply
    with pytest.raises(FetchFailedError, match=match) as error:
        fetcher(allow_http=True, max_bytes=MIB).fetch(f"{scheme}://{HOST}/x?key={SECRET}#{SECRET}")
    assert str(error.value).startswith(f"{HOST}: ")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "location",
    ["/a\r\n /b", "https://other.example/\r\n\tphoto.jpg", "/a b", "/a\tb", "/a\x0bb", "\\\\127.0.0.1\\x",
     "/\\127.0.0.1/", "https://[::1", "https://[x]/", "//[1:2/"],
)  # fmt: skip
def test_a_malformed_location(location: str, fetcher: Make, net: Network, https: Site) -> None:
    https.routes["/start"] = redirect(location)
    with pytest.raises(UrlNotAllowedError):
        fetcher().fetch(f"https://{HOST}/start")
    assert net.connected == [(PUBLIC, 443)]


def drip(*first: bytes, piece: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def send(conn: socket.socket, closing: threading.Event) -> None:
        for data in first:
            conn.sendall(data)
        while not closing.wait(0.02):
            conn.sendall(piece)

    return send


def silent(conn: socket.socket, closing: threading.Event) -> None:
    closing.wait(5)


SLOW = [
    silent,
    drip(piece=b"H"),
    drip(OK[:12], piece=b" "),
    drip(OK, piece=b"X"),
    drip(OK, piece=b"X: y\r\n"),
    drip(piece=b"HTTP/1.1 100 Continue\r\n\r\n"),
    drip(OK + b"\r\n", piece=b"x"),
    drip(OK + b"Content-Length: 1000\r\n\r\n", piece=b"x"),
    drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", piece=b"1"),
    drip(OK + b"Transfer-Encoding: chunked\r\n\r\n", piece=b"1\r\nx\r\n"),
    drip(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", piece=b"Trailer: x\r\n"),
    drip(OK + GZIP_HEAD, piece=EMPTY_BLOCK),
]


def times_out(fetcher: Make, url: str, **policy: Any) -> None:
    started = time.monotonic()
    with pytest.raises(FetchTimeoutError, match=r"not done within 0\.3 s \(SERVERLESS_BEES_FETCH_TIMEOUT\)"):
        fetcher(timeout=0.3, allow_http=True, **policy).fetch(url)
    assert 0.25 < time.monotonic() - started < 1.5


@pytest.mark.parametrize("reply", SLOW)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_slow_server(reply: Any, scheme: str, fetcher: Make, http: Site, https: Site) -> None:
    http.routes["/x"] = https.routes["/x"] = reply
    times_out(fetcher, f"{scheme}://{HOST}/x")


def test_a_slow_handshake(fetcher: Make, net: Network) -> None:
    with Site(mute=True) as mute:
        net.ports[443] = mute.port
        times_out(fetcher, f"https://{HOST}/x")


def test_a_slow_look_up(fetcher: Make, net: Network) -> None:
    with holding(threading.Event()) as look_up:
        net.names[HOST] = look_up
        times_out(fetcher, f"https://{HOST}/x")
    assert net.connected == []


def test_a_slow_connection(fetcher: Make, net: Network) -> None:
    net.names[HOST] = [PUBLIC, PUBLIC_2]
    net.swallowing = {PUBLIC, PUBLIC_2}
    times_out(fetcher, f"https://{HOST}/x")


def test_the_deadline_is_one_for_all_redirects(fetcher: Make, https: Site) -> None:
    def late(conn: socket.socket, closing: threading.Event) -> None:
        closing.wait(0.12)
        conn.sendall(redirect("/x"))

    https.routes["/x"] = late
    times_out(fetcher, f"https://{HOST}/x", max_redirects=100)


@pytest.mark.parametrize(
    ("names", "host", "options", "match"),
    [
        (["wrong.example"], HOST, {}, "Hostname mismatch"),
        ([PUBLIC], HOST, {}, "Hostname mismatch"),
        ([HOST], PUBLIC, {}, "IP address mismatch"),
        (["*.example.com"], HOST, {}, "Hostname mismatch"),
        ([HOST], HOST, {"not_before": PAST, "not_after": PAST + YEAR}, "expired"),
        ([HOST], HOST, {"not_before": FUTURE, "not_after": FUTURE + YEAR}, "not yet"),
    ],
)  # fmt: skip
def test_a_certificate_that_is_not_valid(
    names: list[str],
    host: str,
    options: dict[str, Any],
    match: str,
    ca: trustme.CA,
    fetcher: Make,
    net: Network,
) -> None:
    with Site(server_tls(ca, *names, **options)) as site:
        net.ports[443] = site.port
        with pytest.raises(FetchFailedError, match=f"certificate is not valid .*{match}"):
            fetcher().fetch(f"https://{host}/")
        assert site.requests == []


def test_a_certificate_of_an_unknown_authority(fetcher: Make, net: Network) -> None:
    with Site(server_tls(trustme.CA(), HOST)) as site:
        net.ports[443] = site.port
        with pytest.raises(FetchFailedError, match="certificate is not valid"):
            fetcher().fetch(f"https://{HOST}/")
        assert site.requests == []


def test_a_server_that_speaks_no_tls(fetcher: Make, net: Network, http: Site) -> None:
    net.ports[443] = http.port
    with pytest.raises((FetchFailedError, FetchTimeoutError)):
        fetcher(timeout=0.3).fetch(f"https://{HOST}/")
    assert http.requests == []


def test_an_old_tls_version(ca: trustme.CA, fetcher: Make, net: Network) -> None:
    context = server_tls(ca, HOST)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with Site(context) as site:
        net.ports[443] = site.port
        with pytest.raises(FetchFailedError, match="TLS connection failed"):
            fetcher().fetch(f"https://{HOST}/")
        assert site.requests == []


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_comes_too_late_is_closed(scheme: str, net: Network, client_tls: ssl.SSLContext) -> None:
    def late(address: str, port: int, timeout: float) -> socket.socket:
        sock = net.connect(address, port, timeout)  # the fixture asserts that it is closed
        threading.Event().wait(timeout + 0.01)
        return sock

    one = Fetcher(FetchPolicy(timeout=0.3, allow_http=True), resolve=net.resolve, connect=late, tls=client_tls)
    with pytest.raises(FetchTimeoutError):
        one.fetch(f"{scheme}://{HOST}/photo.jpg")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_the_default_connection(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Recording(socket.socket):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    try:
        listener = socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError:
        pytest.skip(f"{address} is not available here")
    with listener:
        port = listener.getsockname()[1]
        with module._dial(address, port, 1) as sock:
            assert sock.getpeername()[:2] == (address, port)
            assert sock.gettimeout() == 1
    monkeypatch.setattr(socket, "socket", Recording)
    with pytest.raises(ConnectionRefusedError):
        module._dial(address, port, 1)
    assert [sock.fileno() for sock in made] == [-1]


@pytest.mark.parametrize(
    ("found", "match"),
    [
        (None, "does not resolve"),
        ([], "does not resolve"),
        (["not an address"], "sound HTTP"),
    ],
)
def test_a_name_without_addresses(found: Any, match: str, fetcher: Make, net: Network) -> None:
    net.names[HOST] = found
    with pytest.raises(FetchFailedError, match=match):
        fetcher().fetch(f"https://{HOST}/")
    assert net.connected == []


@pytest.mark.parametrize(
    "error", [OSError(5, "odd"), TimeoutError(), UnicodeError("x"), ConnectionResetError(), ssl.SSLError("x")]
)
@pytest.mark.parametrize("where", ["resolve", "connect"])
def test_nothing_else_escapes(error: Exception, where: str, net: Network) -> None:
    def fail(*_: object) -> Any:
        raise error

    seams: dict[str, Any] = {"resolve": net.resolve, "connect": net.connect} | {where: fail}
    with pytest.raises((FetchFailedError, FetchTimeoutError)) as raised:
        Fetcher(**seams).fetch(f"https://{HOST}/")
    assert raised.value.__cause__ is error
    assert isinstance(raised.value, ServerlessBeesError)


def test_needs_no_heavy_module() -> None:
    """Start-up time is a feature; an ASCII name needs no codec either."""
    code = (
        "import sys, serverless_bees.fetch as f\n"
        "try: f.Fetcher(connect=lambda *a: f._dial('127.0.0.1', 9, 1)).fetch('https://localhost/')\n"
        "except f.UrlNotAllowedError: pass\n"
        "print(*sys.modules)"
    )
    root = Path(module.__file__).parents[1]
    out = subprocess.run(
        # Without site: what measures coverage would load modules of its own.
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(root)!r})\n{code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"urllib.request", "urllib3", "requests", "asyncio", "concurrent.futures", "encodings.idna",
             "logging", "importlib.metadata", "numpy", "PIL", "subprocess", "tempfile", "json"}  # fmt: skip
    assert heavy.isdisjoint(out.stdout.split())
