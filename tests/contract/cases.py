"""The table of contract cases: what is sent, and what every provider answers.

A case says what it sends and what it expects. What it expects of the body is checked on the bare service; under a
provider's emulator the body must be the bare service's, byte for byte. Where a platform by nature differs, its
column says with which status, and why.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
from PIL import Image

from serverless_bees.modelfile import ModelFile
from serverless_bees.predictor import default_model
from tests.support.pictures import PICTURES, encoded, png

# Settings of both sides: the bare service and the emulator.
MAX_INSTANCES, MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS = 4, 5_300_000, 4_000_000
ORIGIN = "https://app.example"
ENVIRON = {
    "SERVERLESS_BEES_RUNTIME": "litert-c",
    "SERVERLESS_BEES_CORS_ORIGINS": ORIGIN,
    "SERVERLESS_BEES_MAX_INSTANCES": str(MAX_INSTANCES),
    "SERVERLESS_BEES_MAX_IMAGE_BYTES": str(MAX_IMAGE_BYTES),
    "SERVERLESS_BEES_MAX_IMAGE_PIXELS": str(MAX_IMAGE_PIXELS),
    "SERVERLESS_BEES_FETCH_TIMEOUT": "2",
}

_FILE = ModelFile(default_model())
MODEL = "bees-wasps"
VERSION = hashlib.sha256(_FILE.mapping).hexdigest()[:8]
INPUT, OUTPUT = _FILE.input, _FILE.output
PIXELS = INPUT.size

JSON, PROBLEM = "application/json", "application/problem+json"


class Differs(NamedTuple):
    """A platform that by nature answers otherwise: with which status, and why."""

    status: int
    why: str


class Case(NamedTuple):
    """One request, and what is expected of the answer."""

    name: str
    method: str
    target: str
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | Callable[[], bytes] = b""
    chunked: bool = False
    expect: Mapping[str, Any] = {}
    """Members of the JSON body, and their values."""
    says: str = ""
    """What the body holds as text."""
    returns: Mapping[str, str | None] = {}
    """Headers of the answer; None: it has no such header."""
    differs: Mapping[str, Differs] = {}

    def content(self) -> bytes:
        """The body that is sent."""
        return self.body() if callable(self.body) else self.body


AWS_PAYLOAD = {"aws": Differs(413, "an invocation's event has 6 MB at most, and the picture is in it as base64")}
AZURE_CHUNKS = {"azure": Differs(411, "the host hands chunked bodies over empty")}


def typed(media_type: str, *more: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return (("Content-Type", media_type), *more)


def document(value: object) -> bytes:
    return json.dumps(value).encode()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*parts: tuple[str, bytes], boundary: str = "XX", end: bool = True) -> bytes:
    body = b""
    for name, value in parts:
        kind = "; filename=p.jpg" if name == "image" else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{kind}\r\n\r\n'.encode() + value + b"\r\n"
        )
    return body + (f"--{boundary}--\r\n".encode() if end else b"")


FORM = typed("multipart/form-data; boundary=XX")
JPEG = PICTURES["JPEG baseline"]()
PNG = PICTURES["PNG RGB"]()
PREDICTION = {"model": {"name": MODEL, "version": VERSION}}


def big_picture(size: int) -> bytes:
    """A BMP with about ``size`` bytes of noise."""
    side = int((size / 3) ** 0.5)
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encoded(Image.fromarray(pixels), "BMP")


def grey16() -> bytes:
    return png(3, 2, 16, 0, b"".join(b"\0" + struct.pack(">3H", 1, 2000, 60000) for _ in range(2)))


def bomb() -> bytes:
    return png(60_000, 60_000, 8, 2, b"\0")


def nested(depth: int) -> bytes:
    return b'{"image":' + b"[" * depth + b"]" * depth + b"}"


# -- /predict with a picture as its body ------------------------------------------------------------------------------

PICTURE_CASES = [
    *(
        Case(f"a picture: {name}", "POST", "/predict", 200, typed("image/jpeg"), PICTURES[name], expect=PREDICTION)
        for name in (
            "JPEG baseline",
            "JPEG progressive",
            "JPEG CMYK",
            "JPEG with EXIF orientation",
            "PNG RGBA",
            "PNG palette",
            "WebP lossy",
            "GIF animated",
            "BMP 24 bits",
            "1 x 1",
        )
    ),
    Case("octet-stream", "POST", "/predict", 200, typed("application/octet-stream"), JPEG, expect=PREDICTION),
    Case("no Content-Type", "POST", "/predict", 200, (), JPEG, expect=PREDICTION),
    Case("image/* names another format", "POST", "/predict", 200, typed("image/png"), JPEG, expect=PREDICTION),
    Case("an upper-case header name and value", "POST", "/predict", 200, (("CONTENT-TYPE", "IMAGE/JPEG"),), JPEG),
    Case("a lower-case header name", "POST", "/predict", 200, (("content-type", "image/jpeg"),), JPEG),
    Case("a media type with parameters", "POST", "/predict", 200, typed('image/jpeg; name="a.jpg"'), JPEG),
    Case(
        "duplicate headers that mean nothing",
        "POST",
        "/predict",
        200,
        typed("image/jpeg", ("X-A", "1"), ("X-A", "2")),
        JPEG,
    ),
    Case(
        "Content-Encoding identity",
        "POST",
        "/predict",
        200,
        typed("image/jpeg", ("Content-Encoding", "identity")),
        JPEG,
    ),
    Case(
        "Content-Encoding gzip",
        "POST",
        "/predict",
        415,
        typed("image/jpeg", ("Content-Encoding", "gzip")),
        JPEG,
        expect={"type": "unsupported-media-type"},
    ),
    Case(
        "duplicate Content-Encoding",
        "POST",
        "/predict",
        415,
        typed("image/jpeg", ("Content-Encoding", "gzip"), ("Content-Encoding", "br")),
        JPEG,
        expect={"type": "unsupported-media-type"},
    ),
    Case("top_k in the query", "POST", "/predict?top_k=1", 200, typed("image/jpeg"), JPEG),
    Case(
        "min_score in the query",
        "POST",
        "/predict?min_score=0.999999",
        200,
        typed("image/jpeg"),
        JPEG,
        says='"classes":[]',
    ),
    Case("a negative min_score", "POST", "/predict?min_score=-1", 200, typed("image/jpeg"), JPEG),
    Case("an unknown query field", "POST", "/predict?utm=x&y=z", 200, typed("image/jpeg"), JPEG),
    Case("a percent-encoded path", "POST", "/%70redict", 200, typed("image/jpeg"), JPEG, expect=PREDICTION),
    Case("a picture in chunks", "POST", "/predict", 200, typed("image/jpeg"), JPEG, chunked=True, differs=AZURE_CHUNKS),
    Case(
        "a picture of 5 MB",
        "POST",
        "/predict",
        200,
        typed("image/bmp"),
        lambda: big_picture(5_000_000),
        expect=PREDICTION,
        differs=AWS_PAYLOAD,
    ),
    Case(
        "a picture of 3 MB",
        "POST",
        "/predict",
        200,
        typed("image/bmp"),
        lambda: big_picture(3_000_000),
        expect=PREDICTION,
    ),
    Case(
        "a picture over MAX_IMAGE_BYTES",
        "POST",
        "/predict",
        413,
        typed("image/jpeg"),
        lambda: JPEG + bytes(MAX_IMAGE_BYTES),
        expect={"type": "payload-too-large"},
        says="SERVERLESS_BEES_MAX_IMAGE_BYTES",
        differs=AWS_PAYLOAD,
    ),
    Case(
        "a picture over MAX_IMAGE_PIXELS",
        "POST",
        "/predict",
        413,
        typed("image/png"),
        lambda: encoded(Image.new("1", (2001, 2000)), "PNG"),
        expect={"type": "image-too-large"},
        says="SERVERLESS_BEES_MAX_IMAGE_PIXELS",
    ),
    Case("a decompression bomb", "POST", "/predict", 413, typed("image/png"), bomb, expect={"type": "image-too-large"}),
    Case(
        "a truncated JPEG", "POST", "/predict", 422, typed("image/jpeg"), JPEG[:-200], expect={"type": "invalid-image"}
    ),
    Case("a truncated PNG", "POST", "/predict", 422, typed("image/png"), PNG[:-200], expect={"type": "invalid-image"}),
    Case(
        "16-bit grey",
        "POST",
        "/predict",
        422,
        typed("image/png"),
        grey16,
        expect={"type": "invalid-image"},
        says="8 bits",
    ),
    Case(
        "a TIFF",
        "POST",
        "/predict",
        415,
        typed("image/tiff"),
        b"II*\0" + bytes(50),
        expect={"type": "unsupported-media-type"},
    ),
    Case(
        "an SVG", "POST", "/predict", 415, typed("image/svg+xml"), b"<svg/>", expect={"type": "unsupported-media-type"}
    ),
    Case(
        "an empty body", "POST", "/predict", 400, typed("image/jpeg"), expect={"type": "invalid-request"}, says="empty"
    ),
    Case("an empty body without a type", "POST", "/predict", 400, expect={"type": "invalid-request"}),
    Case(
        "curl's default type",
        "POST",
        "/predict",
        415,
        typed("application/x-www-form-urlencoded"),
        JPEG,
        expect={"type": "unsupported-media-type"},
        says="application/x-www-form-urlencoded",
    ),
    Case(
        "text",
        "POST",
        "/predict",
        415,
        typed("text/plain; charset=utf-8"),
        b"bee",
        expect={"type": "unsupported-media-type"},
    ),
    Case(
        "a Content-Type that is none",
        "POST",
        "/predict",
        415,
        typed("bee"),
        b"bee",
        expect={"type": "unsupported-media-type"},
    ),
    *(
        Case(
            f"the query {query}",
            "POST",
            f"/predict?{query}",
            400,
            typed("image/jpeg"),
            JPEG,
            expect={"type": "invalid-request"},
        )
        for query in (
            "top_k",
            "top_k=",
            "top_k=0",
            "top_k=-1",
            "top_k=10001",
            "top_k=1_0",
            "top_k=x",
            "top_k=1&top_k=2",
            "top_k=%31%30%30%30%30%30",
            "min_score=x",
            "min_score=nan",
            "min_score=inf",
            "min_score=%ff",
            "top_k=" + "9" * 3000,
        )
    ),
]

# -- GET /predict and what URLs may be --------------------------------------------------------------------------------

REFUSED_URLS = (
    "https://127.0.0.1/bee.jpg",
    "https://localhost/bee.jpg",
    "https://169.254.169.254/latest/meta-data/",
    "https://[::1]/",
    "https://10.0.0.1/",
    "https://[::ffff:169.254.169.254]/",
    "https://2852039166/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://192.168.1.1:443/",
    "http://93.184.215.14/bee.jpg",
    "https://93.184.215.14:22/",
    "https://user:pw@93.184.215.14/",
    "ftp://93.184.215.14/bee.jpg",
    "file:///etc/passwd",
    "s3://bucket/bee.jpg",
    "bee.jpg",
)

URL_CASES = [
    *(
        Case(
            f"the URL {url}",
            "GET",
            f"/predict?url={quote(url, safe='')}",
            422,
            expect={"type": "url-not-allowed"},
            returns={"content-type": PROBLEM},
        )
        for url in REFUSED_URLS
    ),
    Case(
        "a URL that is not encoded",
        "GET",
        "/predict?url=https://127.0.0.1/a.jpg",
        422,
        expect={"type": "url-not-allowed"},
    ),
    Case(
        "a URL in JSON",
        "POST",
        "/predict",
        422,
        typed(JSON),
        document({"url": "https://127.0.0.1/a"}),
        expect={"type": "url-not-allowed"},
    ),
    Case(
        "a URL in a form",
        "POST",
        "/predict",
        422,
        FORM,
        form(("url", b"https://127.0.0.1/a")),
        expect={"type": "url-not-allowed"},
    ),
    Case("no query", "GET", "/predict", 400, expect={"type": "invalid-request"}, says="url"),
    Case("a query without url", "GET", "/predict?top_k=1", 400, expect={"type": "invalid-request"}),
    Case("url without a value", "GET", "/predict?url", 400, expect={"type": "invalid-request"}),
    Case("url with an empty value", "GET", "/predict?url=", 400, expect={"type": "invalid-request"}),
    Case("url twice", "GET", "/predict?url=https://a/&url=https://b/", 400, expect={"type": "invalid-request"}),
    Case(
        "a query with 101 fields", "GET", "/predict?" + "&".join(["a=b"] * 101), 400, expect={"type": "invalid-request"}
    ),
    Case("HEAD of a refused URL", "HEAD", "/predict?url=https://127.0.0.1/", 422, returns={"content-type": PROBLEM}),
]

# -- /predict with JSON -----------------------------------------------------------------------------------------------


def json_case(name: str, value: object, status: int = 400, **more: Any) -> Case:
    more.setdefault("expect", {"type": "invalid-request"} if status == 400 else {})
    body = value if isinstance(value, bytes) else document(value)
    return Case("JSON: " + name, "POST", "/predict", status, typed(more.pop("media_type", JSON)), body, **more)


JSON_CASES = [
    json_case("a picture", {"image": text(JPEG)}, 200, expect=PREDICTION),
    json_case("with top_k and min_score", {"image": text(JPEG), "top_k": 1, "min_score": 0.5}, 200, expect=PREDICTION),
    json_case("null is not given", {"image": text(JPEG), "url": None, "top_k": None}, 200, expect=PREDICTION),
    json_case("a data URL", {"image": "data:image/jpeg;base64," + text(JPEG)}, 200, expect=PREDICTION),
    json_case("a data URL in capitals", {"image": "DATA:image/JPEG;Base64," + text(JPEG)}, 200, expect=PREDICTION),
    json_case("charset=utf-8", {"image": text(JPEG)}, 200, media_type=JSON + "; charset=UTF-8"),
    json_case("white space around", b" \r\n" + document({"image": text(JPEG)}) + b"\n", 200),
    json_case("a duplicate key, of which the last holds", b'{"image":"x","image":"' + text(JPEG).encode() + b'"}', 200),
    json_case(
        "two pictures",
        {"instances": [{"image": text(JPEG)}, {"image": text(PNG)}]},
        200,
        says='{"predictions":[{"label"',
    ),
    json_case(
        "one bad picture does not lose the others",
        {"instances": [{"image": text(b"no picture")}, {"image": text(JPEG)}, {"url": "http://127.0.0.1/"}, {}]},
        200,
        says='{"predictions":[{"error":{"type":"unsupported-media-type"',
    ),
    json_case("bad base64 in an instance", {"instances": [{"image": "@"}]}, 200, says="instances[0].image"),
    json_case(
        "both in an instance", {"instances": [{"image": text(JPEG), "url": "https://a/"}]}, 200, says="exactly one"
    ),
    json_case("the largest batch", {"instances": [{"image": text(JPEG)}] * MAX_INSTANCES, "top_k": 1}, 200),
    json_case(
        "too many instances",
        {"instances": [{"image": text(JPEG)}] * (MAX_INSTANCES + 1)},
        413,
        expect={"type": "payload-too-large"},
        says="SERVERLESS_BEES_MAX_INSTANCES",
    ),
    json_case("no instances", {"instances": []}),
    json_case("instances that are no list", {"instances": {"image": text(JPEG)}}),
    json_case("an unknown field in an instance", {"instances": [{"image": text(JPEG), "top_k": 1}]}),
    json_case("nothing in it", {}),
    json_case("two of them", {"image": text(JPEG), "url": "https://a/"}, says="'url' and 'image'"),
    json_case("an unknown field", {"image": text(JPEG), "imgae": ""}, says="imgae"),
    json_case("image is a number", {"image": 5}, says="$.image"),
    json_case("image is empty", {"image": ""}),
    json_case("image is not base64", {"image": "*"}, says="'image' is not base64"),
    json_case("image is base64 with a line break", {"image": text(JPEG)[:76] + "\n" + text(JPEG)[76:]}),
    json_case("image holds other letters", {"image": "é"}),
    json_case("a data URL not in base64", {"image": "data:image/svg+xml,<svg/>"}),
    json_case("a data URL without data", {"image": "data:image/jpeg;base64,"}),
    json_case("url is empty", {"url": ""}),
    json_case("url is a list", {"url": ["https://a/"]}),
    json_case("url of 8,193 characters", {"url": "https://a/" + "x" * 8183}),
    *(
        json_case(f"top_k {value!r}", {"image": text(JPEG), "top_k": value})
        for value in (0, -1, 1.5, "1", True, 10_001, 10**30)
    ),
    json_case("top_k 10000", {"image": text(JPEG), "top_k": 10_000}, 200),
    *(json_case(f"min_score {score!r}", {"image": text(JPEG), "min_score": score}) for score in ("0.5", False, [0])),
    json_case("NaN", b'{"image":"x","min_score":NaN}'),
    json_case("a number beyond every float", b'{"image":"x","min_score":1e999}'),
    json_case("a list", []),
    json_case("a string", "bee"),
    json_case("null", None),
    json_case("broken", b'{"image":'),
    json_case("something behind it", b"{}{}"),
    json_case("not UTF-8", b'{"image":"\xff"}'),
    json_case(
        "UTF-16",
        '{"image":"x"}'.encode("utf-16"),
    ),
    json_case("a byte order mark", b"\xef\xbb\xbf{}"),
    json_case("nested 100,000 deep", nested(100_000)),
    json_case(
        "charset=utf-16", '{"image":"x"}'.encode("utf-16"), 415, media_type=JSON + "; charset=utf-16", says="utf-16"
    ),
    Case("JSON: an empty body", "POST", "/predict", 400, typed(JSON), expect={"type": "invalid-request"}),
    Case("JSON: as application/vnd.api+json", "POST", "/predict", 415, typed("application/vnd.api+json"), b"{}"),
    Case(
        "JSON: in chunks",
        "POST",
        "/predict",
        200,
        typed(JSON),
        document({"image": text(JPEG)}),
        chunked=True,
        differs=AZURE_CHUNKS,
    ),
]

# -- /predict with a form ---------------------------------------------------------------------------------------------


def form_case(
    name: str, body: bytes, status: int = 400, headers: tuple[tuple[str, str], ...] = FORM, **more: Any
) -> Case:
    more.setdefault("expect", {"type": "invalid-request"} if status == 400 else {})
    return Case("form: " + name, "POST", "/predict", status, headers, body, **more)


FORM_CASES = [
    form_case("a picture", form(("image", JPEG)), 200, expect=PREDICTION),
    form_case(
        "with top_k and min_score",
        form(("image", JPEG), ("top_k", b"1"), ("min_score", b"0.1")),
        200,
        expect=PREDICTION,
    ),
    form_case("options before the picture", form(("top_k", b"1"), ("image", PNG)), 200, expect=PREDICTION),
    form_case(
        "a quoted boundary", form(("image", JPEG), boundary="a;b"), 200, typed('multipart/form-data; boundary="a;b"')
    ),
    form_case("no boundary", form(("image", JPEG)), headers=typed("multipart/form-data"), says="boundary"),
    form_case("another boundary", form(("image", JPEG)), headers=typed("multipart/form-data; boundary=YY")),
    form_case("cut off", form(("image", JPEG), end=False)),
    form_case("no picture", form(("top_k", b"1"))),
    form_case("an empty picture", form(("image", b"")), says="empty"),
    form_case("two pictures", form(("image", JPEG), ("image", PNG)), says="twice"),
    form_case("a picture and a URL", form(("image", JPEG), ("url", b"https://a/"))),
    form_case("an unknown field", form(("image", JPEG), ("picture", b"x")), says="picture"),
    form_case("top_k is no number", form(("image", JPEG), ("top_k", b"one"))),
    form_case("a field that is not UTF-8", form(("url", b"\xff"))),
    form_case("a field of 8,193 bytes", form(("url", b"x" * 8193)), 413, expect={"type": "payload-too-large"}),
    form_case("17 parts", form(*((f"a{i}", b"") for i in range(17)))),
    form_case("a broken picture", form(("image", JPEG[:100])), 422, expect={"type": "invalid-image"}),
    form_case("no multipart at all", b"bee"),
]

# -- routes and methods -----------------------------------------------------------------------------------------------

PREFLIGHT = (
    ("Origin", ORIGIN),
    ("Access-Control-Request-Method", "POST"),
    ("Access-Control-Request-Headers", "content-type"),
)
ALLOW_PREDICT = "GET, POST, HEAD, OPTIONS"


def error(status: int, message: str = "") -> dict[str, Any]:
    return {"status": status, "says": '{"error":"' + message}


ROUTE_CASES = [
    Case(
        "the index",
        "GET",
        "/",
        200,
        expect={"name": "serverless-bees", "model": {"name": MODEL, "version": VERSION}},
        returns={"content-type": JSON, "x-content-type-options": "nosniff"},
    ),
    Case("the index with a query", "GET", "/?a=b", 200, expect={"name": "serverless-bees"}),
    Case("HEAD of the index", "HEAD", "/", 200, returns={"content-type": JSON}),
    Case("OPTIONS of the index", "OPTIONS", "/", 204, returns={"allow": "GET, HEAD, OPTIONS"}),
    Case("OPTIONS of /predict", "OPTIONS", "/predict", 204, returns={"allow": ALLOW_PREDICT, "content-type": None}),
    Case("OPTIONS of infer", "OPTIONS", f"/v2/models/{MODEL}/infer", 204, returns={"allow": "POST, OPTIONS"}),
    Case("OPTIONS of nothing", "OPTIONS", "/nothing", 404, expect={"type": "not-found"}),
    Case(
        "a preflight",
        "OPTIONS",
        "/predict",
        204,
        PREFLIGHT,
        returns={
            "access-control-allow-origin": ORIGIN,
            "access-control-allow-methods": "GET, HEAD, POST, OPTIONS",
            "access-control-max-age": "86400",
            "vary": "Origin",
        },
    ),
    Case(
        "a preflight from elsewhere",
        "OPTIONS",
        "/predict",
        204,
        (("Origin", "https://evil.example"), *PREFLIGHT[1:]),
        returns={"access-control-allow-origin": None, "access-control-allow-methods": None, "vary": "Origin"},
    ),
    Case(
        "CORS on an answer",
        "GET",
        "/",
        200,
        (("Origin", ORIGIN),),
        returns={"access-control-allow-origin": ORIGIN, "vary": "Origin"},
    ),
    Case(
        "CORS on an error",
        "GET",
        "/nothing",
        404,
        (("origin", ORIGIN),),
        returns={"access-control-allow-origin": ORIGIN},
    ),
    Case(
        "no CORS for another origin",
        "GET",
        "/",
        200,
        (("Origin", "null"),),
        returns={"access-control-allow-origin": None},
    ),
    *(
        Case(
            f"{method} of /predict",
            method,
            "/predict",
            405,
            expect={"type": "method-not-allowed"},
            returns={"allow": ALLOW_PREDICT, "content-type": PROBLEM},
        )
        for method in ("PUT", "DELETE", "PATCH")
    ),
    Case(
        "POST of the index",
        "POST",
        "/",
        405,
        (),
        b"x",
        expect={"type": "method-not-allowed"},
        returns={"allow": "GET, HEAD, OPTIONS"},
    ),
    Case("HEAD of infer", "HEAD", f"/v2/models/{MODEL}/infer", 405, returns={"allow": "POST, OPTIONS"}),
    Case(
        "GET of infer",
        "GET",
        f"/v2/models/{MODEL}/infer",
        405,
        says='{"error":"',
        returns={"allow": "POST, OPTIONS", "content-type": JSON},
    ),
    Case("POST of metadata", "POST", f"/v2/models/{MODEL}", 405, says='{"error":"'),
    Case("the OpenAPI document", "GET", "/openapi.json", 200, says='"3.1.'),
    Case(
        "nothing there",
        "GET",
        "/nothing",
        404,
        expect={"type": "not-found", "status": 404},
        returns={"content-type": PROBLEM},
    ),
    Case("HEAD of nothing", "HEAD", "/nothing", 404, returns={"content-type": PROBLEM}),
    Case("a trailing slash", "POST", "/predict/", 404, typed("image/jpeg"), JPEG, expect={"type": "not-found"}),
    Case("another case", "POST", "/Predict", 404, typed("image/jpeg"), JPEG, expect={"type": "not-found"}),
    Case(
        "an encoded slash",
        "GET",
        "/v2%2Fhealth%2Flive",
        404,
        differs={"aws": Differs(200, "API Gateway decodes paths, so the route is found")},
    ),
    Case("a doubled slash", "GET", "//predict", 404, expect={"type": "not-found"}),
    Case("robots.txt", "GET", "/robots.txt", 404, expect={"type": "not-found"}),
    Case("favicon.ico", "GET", "/favicon.ico", 404, expect={"type": "not-found"}),
    Case(
        "a path with letters of the world",
        "GET",
        "/%E8%9C%82%20",
        404,
        expect={"type": "not-found"},
        says="/%E8%9C%82%20",
    ),
    Case("a path that is not UTF-8", "GET", "/%ff", 404, expect={"type": "not-found"}),
    Case("a path with a line break", "GET", "/a%0d%0ab", 404, expect={"type": "not-found"}, says="/a%0D%0Ab"),
    Case(
        "a path with dots",
        "GET",
        "/a/../etc/passwd",
        404,
        expect={"type": "not-found"},
        differs={"azure": Differs(404, "the host's web server resolves dots, and the detail names what is left")},
    ),
    Case("a very long path", "GET", "/" + "x" * 4000, 404, expect={"type": "not-found"}),
    Case("a /v2 that is none", "GET", "/v2x", 404, expect={"type": "not-found"}, returns={"content-type": PROBLEM}),
]

# -- Open Inference Protocol v2 ---------------------------------------------------------------------------------------

INFER, INFER_IMAGE = f"/v2/models/{MODEL}/infer", f"/v2/models/{MODEL}-image/infer"
SHAPE = list(INPUT.shape[1:])


def pixels(count: int = 1, value: float | None = None) -> np.ndarray[Any, np.dtype[np.float32]]:
    if value is not None:
        return np.full((count, *SHAPE), value, np.float32)
    return np.random.default_rng(count).random((count, *SHAPE), np.float32)


def tensor(shape: Iterable[int], **more: Any) -> dict[str, Any]:
    return {"name": INPUT.name, "shape": list(shape), "datatype": "FP32", **more}


def binary_body(head: Mapping[str, Any], tail: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    first = document(head)
    return typed("application/octet-stream", ("Inference-Header-Content-Length", str(len(first)))), first + tail


def binary_case(name: str, tail: bytes, status: int = 200, *, count: int = 1, target: str = INFER, **more: Any) -> Case:
    entry = more.pop("entry", None) or tensor([count, *SHAPE], parameters={"binary_data_size": len(tail)})
    headers, body = binary_body({"inputs": [entry], **more.pop("head", {})}, tail)
    more.setdefault("says", '{"error":"' if status != 200 else "")
    return Case("OIP binary: " + name, "POST", target, status, more.pop("headers", headers), body, **more)


def packed(*pictures: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(picture)) + picture for picture in pictures)


def image_entry(count: int, size: int | None = None, **more: Any) -> dict[str, Any]:
    parameters = {} if size is None else {"parameters": {"binary_data_size": size}}
    return {"name": "image", "shape": [count], "datatype": "BYTES", **parameters, **more}


def image_case(name: str, head: Mapping[str, Any], status: int = 200, **more: Any) -> Case:
    more.setdefault(
        "says", '{"error":"' if status != 200 else f'{{"model_name":"{MODEL}-image","model_version":"{VERSION}"'
    )
    return Case("OIP pictures: " + name, "POST", INFER_IMAGE, status, typed(JSON), document(head), **more)


def infer_case(name: str, head: object, status: int = 400, target: str = INFER, **more: Any) -> Case:
    more.setdefault("says", '{"error":"' if status != 200 else f'{{"model_name":"{MODEL}","model_version":"{VERSION}"')
    more.setdefault("returns", {"content-type": JSON})
    body = head if isinstance(head, bytes) else document(head)
    return Case("OIP: " + name, "POST", target, status, typed(JSON), body, **more)


def values(count: int = 1, value: float = 0.25) -> list[Any]:
    flat: list[Any] = pixels(count, value).reshape(-1).tolist()
    return flat


BINARY_OUT = {"outputs": [{"name": OUTPUT.name, "parameters": {"binary_data": True}}]}
PICTURES_IN = {"inputs": [image_entry(2, data=[text(JPEG), text(PNG)])]}
ONE_IN = {"inputs": [image_entry(1, data=[text(JPEG)])]}

PROTOCOL_CASES = [
    Case(
        "OIP: the server's metadata",
        "GET",
        "/v2",
        200,
        expect={"name": "serverless-bees", "extensions": ["binary_tensor_data", "classification"]},
    ),
    Case("OIP: live", "GET", "/v2/health/live", 200, expect={"live": True}),
    Case("OIP: ready", "GET", "/v2/health/ready", 200, expect={"ready": True}),
    Case("OIP: HEAD of ready", "HEAD", "/v2/health/ready", 200),
    *(
        Case(
            f"OIP: {what} of {model}{version and ', by version'}",
            "GET",
            f"/v2/models/{model}{version}{tail}",
            200,
            expect={"name": model},
        )
        for model in (MODEL, MODEL + "-image")
        for version in ("", f"/versions/{VERSION}")
        for what, tail in (("metadata", ""), ("readiness", "/ready"))
    ),
    Case("OIP: a percent-encoded name", "GET", "/v2/models/bees%2Dwasps", 200, expect={"name": MODEL}),
    Case(
        "OIP: no such model",
        "GET",
        "/v2/models/cats",
        404,
        says='{"error":"there is no model',
        returns={"content-type": JSON},
    ),
    Case("OIP: no such version", "GET", f"/v2/models/{MODEL}/versions/1", 404, says='{"error":"'),
    Case("OIP: readiness of no such model", "GET", "/v2/models/cats/ready", 404, says='{"error":"'),
    Case("OIP: nothing there", "GET", "/v2/nothing", 404, says='{"error":"', returns={"content-type": JSON}),
    Case("OIP: a trailing slash", "GET", "/v2/", 404, says='{"error":"'),
    Case("OIP: no name", "GET", "/v2/models/", 404, says='{"error":"'),
    infer_case("raw pixels", {"inputs": [tensor([1, *SHAPE], data=values())]}, 200),
    infer_case("nested pixels", {"inputs": [tensor([1, *SHAPE], data=pixels(1, 0.5).tolist())]}, 200),
    infer_case(
        "a request's id comes back",
        {"id": "7", "inputs": [tensor([1, *SHAPE], data=values())]},
        200,
        expect={"id": "7"},
    ),
    infer_case(
        "with a version",
        {"inputs": [tensor([1, *SHAPE], data=values())]},
        200,
        f"/v2/models/{MODEL}/versions/{VERSION}/infer",
    ),
    infer_case(
        "infer with no such version",
        {"inputs": [tensor([1, *SHAPE], data=values())]},
        404,
        f"/v2/models/{MODEL}/versions/9/infer",
    ),
    infer_case("infer with no such model", {"inputs": []}, 404, "/v2/models/cats/infer"),
    infer_case("an unknown field is ignored", {"x": 1, "inputs": [tensor([1, *SHAPE], data=values(), y=2)]}, 200),
    infer_case("an empty list of outputs", {"inputs": [tensor([1, *SHAPE], data=values())], "outputs": []}, 200),
    infer_case("no inputs", {"inputs": []}),
    infer_case("two inputs", {"inputs": [tensor([1, *SHAPE], data=values())] * 2}),
    infer_case("another input", {"inputs": [{**tensor([1], data=[1]), "name": "x"}]}, says=INPUT.name),
    infer_case("another datatype", {"inputs": [{**tensor([1, *SHAPE], data=[1]), "datatype": "INT8"}]}, says="FP32"),
    infer_case("another shape", {"inputs": [tensor([1, 2], data=[1, 2])]}),
    infer_case("no shape", {"inputs": [tensor([], data=[1])]}),
    infer_case("a batch of none", {"inputs": [tensor([0, *SHAPE], data=[])]}),
    infer_case("a negative shape", {"inputs": [tensor([-1, *SHAPE], data=[])]}),
    infer_case(
        "a batch too large",
        {"inputs": [tensor([MAX_INSTANCES + 1, *SHAPE], data=[])]},
        413,
        says="SERVERLESS_BEES_MAX_INSTANCES",
    ),
    infer_case("too few values", {"inputs": [tensor([1, *SHAPE], data=[1, 2])]}, says="elements"),
    infer_case("no values", {"inputs": [tensor([1, *SHAPE])]}),
    infer_case("text among the values", {"inputs": [tensor([1, *SHAPE], data=["x", *values()[1:]])]}),
    infer_case("a boolean among the values", {"inputs": [tensor([1, *SHAPE], data=[True, *values()[1:]])]}),
    infer_case("a value beyond float32", {"inputs": [tensor([1, *SHAPE], data=[1e39, *values()[1:]])]}),
    infer_case("a value beyond every number", {"inputs": [tensor([1, *SHAPE], data=[10**400, *values()[1:]])]}),
    infer_case(
        "another output", {"inputs": [tensor([1, *SHAPE], data=values())], "outputs": [{"name": "x"}]}, says=OUTPUT.name
    ),
    infer_case(
        "an output twice", {"inputs": [tensor([1, *SHAPE], data=values())], "outputs": [{"name": OUTPUT.name}] * 2}
    ),
    infer_case("wrong types", {"inputs": "x"}),
    infer_case(
        "wrong parameters", {"inputs": [tensor([1, *SHAPE], data=values(), parameters={"binary_data_size": "1"})]}
    ),
    infer_case("an empty body", b""),
    infer_case("no JSON", b"\xff\xd8"),
    infer_case(
        "nested 100,000 deep",
        b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    ),
    binary_case("in, JSON out", pixels().tobytes()),
    binary_case(
        "in and out",
        pixels().tobytes(),
        head=BINARY_OUT,
        says=f'"parameters":{{"binary_data_size":{4 * OUTPUT.size}}}',
        returns={"content-type": "application/octet-stream"},
    ),
    binary_case(
        "out by default",
        pixels().tobytes(),
        head={"parameters": {"binary_data_output": True}},
        returns={"content-type": "application/octet-stream"},
    ),
    binary_case("a batch", pixels(3).tobytes(), count=3, head=BINARY_OUT, says=f'"shape":[3,{OUTPUT.size}]'),
    binary_case(
        "classification",
        pixels().tobytes(),
        head={"outputs": [{"name": OUTPUT.name, "parameters": {"classification": 1}}]},
        says='"datatype":"BYTES"',
    ),
    binary_case("NaN in, JSON out", pixels(1, float("nan")).tobytes(), 400),
    binary_case("NaN in, binary out", pixels(1, float("nan")).tobytes(), head=BINARY_OUT),
    binary_case("too short", pixels().tobytes()[:-4], 400),
    binary_case(
        "a wrong binary_data_size",
        pixels().tobytes(),
        400,
        entry=tensor([1, *SHAPE], parameters={"binary_data_size": 4}),
    ),
    binary_case("bytes that nobody announced", pixels().tobytes(), 400, entry=tensor([1, *SHAPE], data=[1])),
    binary_case(
        "data twice",
        pixels().tobytes(),
        400,
        entry=tensor([1, *SHAPE], data=[1], parameters={"binary_data_size": 4 * PIXELS}),
    ),
    *(
        binary_case(
            f"a header length of {value}",
            pixels().tobytes(),
            400,
            headers=typed(JSON, ("Inference-Header-Content-Length", value)),
        )
        for value in ("x", "-1", "99999999", "1e3", "0x10", "9" * 40)
    ),
    binary_case(
        "pictures in, JSON out", packed(JPEG, PNG), target=INFER_IMAGE, entry=image_entry(2, len(packed(JPEG, PNG)))
    ),
    binary_case(
        "a picture that runs over",
        packed(JPEG)[:-1],
        400,
        target=INFER_IMAGE,
        entry=image_entry(1, len(packed(JPEG)) - 1),
    ),
    binary_case("half a length", b"\1\0", 400, target=INFER_IMAGE, entry=image_entry(1, 2)),
    binary_case(
        "an element too many",
        packed(JPEG, JPEG),
        400,
        target=INFER_IMAGE,
        entry=image_entry(1, len(packed(JPEG, JPEG))),
    ),
    image_case("two", PICTURES_IN),
    image_case("shape [1, 1]", {"inputs": [{**image_entry(1, data=[[text(JPEG)]]), "shape": [1, 1]}]}),
    image_case(
        "classification of two",
        {**PICTURES_IN, "outputs": [{"name": "scores", "parameters": {"classification": 2}}]},
        says=":0:bee",
    ),
    image_case(
        "classification of more than there are",
        {**ONE_IN, "outputs": [{"name": "scores", "parameters": {"classification": 99}}]},
        says='"shape":[1,2]',
    ),
    image_case(
        "binary classification",
        {**ONE_IN, "outputs": [{"name": "scores", "parameters": {"classification": 1, "binary_data": True}}]},
        returns={"content-type": "application/octet-stream"},
    ),
    image_case("a broken one", {"inputs": [image_entry(1, data=[text(JPEG[:200])])]}, 422),
    image_case("no picture", {"inputs": [image_entry(1, data=[text(b"bee")])]}, 415),
    image_case("an empty one", {"inputs": [image_entry(1, data=[""])]}, 422),
    image_case("not base64", {"inputs": [image_entry(1, data=["*"])]}, 400),
    image_case("numbers", {"inputs": [image_entry(1, data=[1])]}, 400),
    image_case("another shape", {"inputs": [{**image_entry(1, data=[text(JPEG)]), "shape": [1, 2]}]}, 400),
    image_case("a wrong count", {"inputs": [image_entry(2, data=[text(JPEG)])]}, 400),
    image_case("too many", {"inputs": [image_entry(MAX_INSTANCES + 1, data=[text(JPEG)] * (MAX_INSTANCES + 1))]}, 413),
]

CASES = [*PICTURE_CASES, *URL_CASES, *JSON_CASES, *FORM_CASES, *ROUTE_CASES, *PROTOCOL_CASES]
