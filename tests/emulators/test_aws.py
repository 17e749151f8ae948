"""The adapter for AWS under the real Runtime Interface Emulator, and what the imitated fronts do around it."""

from __future__ import annotations

import base64
import http.client
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from serverless_bees.service.app import Service
from serverless_bees.service.messages import Request
from serverless_bees.settings import Settings
from serverless_bees.tools.emulators import aws
from serverless_bees.tools.emulators.aws import FRONTS, AwsEmulator, FunctionError, PayloadTooLargeError
from serverless_bees.tools.emulators.base import EmulatorError, make_environment, stage
from tests.support.endpoints import Got
from tests.support.pictures import PICTURES, encoded, scene

FUNCTIONS = Path(__file__).parent / "functions"
EVENTS = Path(__file__).parents[1] / "fixtures" / "aws"
SETTINGS = {"SERVERLESS_BEES_FETCH_ENABLED": "0", "SERVERLESS_BEES_CORS_ORIGINS": "https://app.example"}
JPEG = PICTURES["JPEG baseline"]()
JPEG_TYPE = {"Content-Type": "image/jpeg"}
MIB = 1 << 20


def send(
    emulator: AwsEmulator, method: str, target: str, body: Any = None, headers: Any = None, *, chunked: bool = False
) -> Got:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=60)
    try:
        connection.request(method, target, body, headers or {}, encode_chunked=chunked)
        response = connection.getresponse()
        return Got(response.status, response.headers, response.read())
    finally:
        connection.close()


def raw(emulator: AwsEmulator, data: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", emulator.port), 30)
    connection.sendall(data)
    return connection


def wait_for(condition: Callable[[], Any], seconds: float = 15) -> Any:
    """What ``condition`` gives once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def needed(emulator: AwsEmulator) -> AwsEmulator:
    """``emulator``, not started; skips the test where there is nothing to make its environment with."""
    if not shutil.which("uv") and not importlib.util.find_spec("uv"):
        assert not os.environ.get("CI"), "uv is missing: pip install 'serverless-bees[emulators]'"
        pytest.skip("uv is missing: pip install 'serverless-bees[emulators]'")
    return emulator


def processes(address: str) -> list[str]:
    """The ids of the Runtime Interface Emulator that listens there, and of the runtime under it."""
    parents = {
        path.parent.name: path.read_text().rsplit(") ", 1)[1].split()[1] for path in Path("/proc").glob("[0-9]*/stat")
    }
    found = [pid for pid in parents if address in Path(f"/proc/{pid}/cmdline").read_text()]
    return found + [pid for pid, parent in parents.items() if parent in found]


def metric_lines(emulator: AwsEmulator) -> list[dict[str, Any]]:
    return [json.loads(line) for line in emulator.log().splitlines() if line.startswith('{"_aws"')]


def line_of(emulator: AwsEmulator, request_id: str | None) -> dict[str, Any]:
    """The structured line of a request; the log is read by another thread."""
    found = wait_for(lambda: [line for line in metric_lines(emulator) if line["request_id"] == request_id])
    assert len(found) == 1
    return dict(found[0])


@pytest.fixture(scope="module", params=list(FRONTS))
def fronted(request: pytest.FixtureRequest) -> Iterator[AwsEmulator]:
    """The adapter behind each front."""
    with needed(AwsEmulator(environ=SETTINGS, front=request.param)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def bees() -> Iterator[AwsEmulator]:
    """The adapter behind an HTTP API."""
    with needed(AwsEmulator(environ=SETTINGS)) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def bare() -> Service:
    """The service itself, with the same settings."""
    return Service(Settings.from_env({**SETTINGS, "SERVERLESS_BEES_RUNTIME": "litert-c"}))


# What is sent -> the answer must be the bare service's, byte for byte, with the same headers.
FORM = (
    b'--XX\r\nContent-Disposition: form-data; name="image"; filename="bee.jpg"\r\n\r\n' + JPEG + b"\r\n"
    b'--XX\r\nContent-Disposition: form-data; name="top_k"\r\n\r\n1\r\n--XX--\r\n'
)
JSON_BODY = json.dumps({"image": base64.b64encode(JPEG).decode(), "top_k": 1}).encode()
OIP = json.dumps(
    {
        "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(JPEG).decode()]}],
        "outputs": [{"name": "scores", "parameters": {"binary_data": True}}],
    }
).encode()
REQUESTS: dict[str, tuple[str, str, bytes, dict[str, str]]] = {
    "a JPEG": ("POST", "/predict", JPEG, JPEG_TYPE),
    "a JPEG without a type": ("POST", "/predict", JPEG, {}),
    "a JPEG and options": ("POST", "/predict?top_k=1&min_score=0.1&other=%2F%3D+%20x", JPEG, JPEG_TYPE),
    "JSON": ("POST", "/predict", JSON_BODY, {"Content-Type": "application/json; charset=UTF-8"}),
    "JSON that is not UTF-8": ("POST", "/predict", b'{"image": "\xff"}', {"Content-Type": "application/json"}),
    "a form": ("POST", "/predict", FORM, {"Content-Type": "multipart/form-data; boundary=XX"}),
    "upper-case header names": ("POST", "/predict", JSON_BODY, {"CONTENT-TYPE": "application/json"}),
    "an empty body": ("POST", "/predict", b"", JPEG_TYPE),
    "no picture": ("POST", "/predict", b"hello", {"Content-Type": "text/plain"}),
    "a text that says to be a picture": ("POST", "/predict", b"hello", JPEG_TYPE),
    "compressed": ("POST", "/predict", b"\x1f\x8b", {**JPEG_TYPE, "Content-Encoding": "gzip"}),
    "a URL in the query": ("GET", "/predict?url=https%3A%2F%2Fpictures.example%2Fa%20b.jpg%3Fx%3D1%26y%3D2", b"", {}),
    "a query field without value": ("GET", "/predict?url", b"", {}),
    "a query field twice": ("POST", "/predict?top_k=1&top_k=2", JPEG, JPEG_TYPE),
    "the index": ("GET", "/", b"", {}),
    "health": ("GET", "/v2/health/ready", b"", {}),
    "an encoded path": ("GET", "/v2/models/bees%2Dwasps", b"", {}),
    "an unknown path": ("GET", "/nothing/here", b"", {}),
    "an unknown path with odd characters": ("GET", "/a%20b/%C3%A9", b"", {}),
    "a trailing slash": ("POST", "/predict/", JPEG, JPEG_TYPE),
    "another method": ("DELETE", "/predict", b"", {}),
    "HEAD": ("HEAD", "/", b"", {}),
    "OPTIONS": ("OPTIONS", "/predict", b"", {}),
    "a preflight request": (
        "OPTIONS", "/predict", b"", {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"},
    ),
    "binary tensors back": ("POST", "/v2/models/bees-wasps-image/infer", OIP, {"Content-Type": "application/json"}),
}  # fmt: skip


# A load balancer without multi-value headers hands on the last of two values.
AS_SEEN = {("a query field twice", "alb"): "/predict?top_k=2"}


@pytest.mark.parametrize("name", REQUESTS)
def test_behind_each_front_the_answer_is_the_services_own(
    name: str, fronted: AwsEmulator, bare: Service, request: pytest.FixtureRequest
) -> None:
    method, target, body, headers = REQUESTS[name]
    front = request.node.callspec.params["fronted"]
    path, _, query = AS_SEEN.get((name, front), target).partition("?")
    expected = bare.handle(Request(method, path, query, {n.lower(): v for n, v in headers.items()}, body, "-"))
    got = send(fronted, method, target, body, headers)
    assert (got.status, got.body) == (expected.status, expected.body)
    for header in expected.headers.keys() - {"x-request-id", "server-timing"}:
        assert got.headers[header] == expected.headers[header]
    assert line_of(fronted, got.headers["x-request-id"])["status"] == expected.status


def test_the_request_id_is_lambdas_own(fronted: AwsEmulator) -> None:
    got = send(fronted, "GET", "/", headers={"X-Request-Id": "the client's"})
    assert wait_for(lambda: f"END RequestId: {got.headers['x-request-id']}\n" in fronted.log())


def test_a_body_in_chunks_is_put_together(fronted: AwsEmulator, bare: Service) -> None:
    parts = iter([JPEG[:10], JPEG[10:2000], JPEG[2000:]])
    got = send(fronted, "POST", "/predict", parts, {**JPEG_TYPE, "Transfer-Encoding": "chunked"}, chunked=True)
    assert got.body == bare.handle(Request("POST", "/predict", body=JPEG)).body


def test_a_header_that_comes_twice_reaches_the_function(fronted: AwsEmulator) -> None:
    head = b"GET /v2 HTTP/1.1\r\nHost: x\r\nAccept: a/b\r\nAccept: c/d\r\nCookie: a=1; b=2\r\nConnection: close\r\n\r\n"
    with raw(fronted, head) as connection:
        assert connection.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"


def test_one_connection_serves_many_requests(fronted: AwsEmulator) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", fronted.port, timeout=30)
    for method in ("GET", "HEAD", "OPTIONS", "GET"):
        connection.request(method, "/predict" if method == "OPTIONS" else "/v2")
        response = connection.getresponse()
        assert response.status in (200, 204)
        response.read()
    connection.close()


def test_a_trace_that_comes_in_is_in_the_line(bees: AwsEmulator) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    got = send(bees, "GET", "/v2", headers={"traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    assert line_of(bees, got.headers["x-request-id"])["trace_id"] == trace


def test_a_line_is_in_the_embedded_metric_format(bees: AwsEmulator) -> None:
    """The rules of CloudWatch's specification of the Embedded Metric Format, one by one."""
    got = send(bees, "POST", "/predict?top_k=1", JPEG, JPEG_TYPE)
    lost = send(bees, "GET", "/nothing")
    line = line_of(bees, got.headers["x-request-id"])
    assert {name: line[name] for name in ("method", "route", "status", "label")} == {
        "method": "POST", "route": "/predict", "status": 200, "label": got.json["label"],
    }  # fmt: skip
    assert line["start"] in ("cold", "warm")
    for document in (line, line_of(bees, lost.headers["x-request-id"])):
        assert set(document["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
        assert abs(document["_aws"]["Timestamp"] - 1000 * time.time()) < 600_000
        for directive in document["_aws"]["CloudWatchMetrics"]:
            assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
            assert re.fullmatch(r"[A-Za-z0-9._/#:-]{1,255}", directive["Namespace"])
            for dimensions in directive["Dimensions"]:
                assert len(dimensions) <= 30
                assert all(isinstance(document[name], str) and 1 <= len(document[name]) <= 1024 for name in dimensions)
            assert 1 <= len(directive["Metrics"]) <= 100
            for metric in directive["Metrics"]:
                assert metric["Unit"] in ("Milliseconds", "Count")
                assert type(document[metric["Name"]]) in (int, float)
    assert {metric["Name"] for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]} >= {"decode_ms", "invoke_ms"}


def test_the_first_invocation_is_cold_and_the_next_warm() -> None:
    with needed(AwsEmulator()) as emulator:
        ids = [send(emulator, "GET", "/v2").headers["x-request-id"] for _ in range(2)]
        assert [line_of(emulator, request_id)["start"] for request_id in ids] == ["cold", "warm"]
        # It loaded its model in the INIT phase, before the first invocation.
        assert emulator.log().index("INIT REPORT") < emulator.log().index('{"_aws"')


# Direct invocations


def test_a_direct_invocation_answers_the_object_itself(bees: AwsEmulator) -> None:
    event = {"image": base64.b64encode(JPEG).decode(), "top_k": 1}
    answer = bees.invoke(event)
    assert answer == send(bees, "POST", "/predict?top_k=1", JPEG, JPEG_TYPE).json
    assert len(bees.invoke({"instances": [{"image": event["image"]}] * 3})["predictions"]) == 3


@pytest.mark.parametrize(
    ("event", "kind", "message"),
    [
        ({"url": "https://pictures.example/bee.jpg"}, "url-not-allowed", "FETCH_ENABLED"),
        ({"image": "aGVsbG8="}, "unsupported-media-type", "format"),
        ({"image": 1}, "invalid-request", "image"),
        ({"url": "https://pictures.example/bee.jpg", "image": "aGVsbG8="}, "invalid-request", "exactly one"),
    ],
)
def test_a_direct_invocation_that_cannot_work_fails_with_the_problems_type(
    event: dict[str, Any], kind: str, message: str, bees: AwsEmulator
) -> None:
    with pytest.raises(FunctionError) as caught:
        bees.invoke(event)
    assert caught.value.payload["errorType"] == kind
    assert message in caught.value.payload["errorMessage"]
    assert caught.value.payload["stackTrace"] == []


# Events of AWS's own generators


def event_of(name: str, **changes: Any) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    context = {**event["requestContext"], **changes.pop("requestContext", {})}
    return {**event, "requestContext": context, **changes}


def v2_request(path: str, method: str) -> dict[str, Any]:
    return {"requestContext": {"http": {"method": method, "path": path}}, "rawPath": path}


def v1_request(path: str, method: str) -> dict[str, Any]:
    return {"path": path, "httpMethod": method, "pathParameters": {"proxy": path.strip("/")}}


SOURCES: dict[str, tuple[Callable[[str, str], dict[str, Any]], str]] = {
    "apigateway-http": (v2_request, "headers"),
    "function-url": (v2_request, "headers"),
    "apigateway-rest": (v1_request, "multiValueHeaders"),
    "alb": (v1_request, "headers"),
    "alb-multi": (v1_request, "multiValueHeaders"),
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_picture_in_a_generated_event_is_classified(name: str, bees: AwsEmulator) -> None:
    request, member = SOURCES[name]
    headers = {"Content-Type": ["image/jpeg"] if member == "multiValueHeaders" else "image/jpeg"}
    event = event_of(
        name,
        **request("/predict", "POST"),
        **{member: headers},
        body=base64.b64encode(JPEG).decode(),
        isBase64Encoded=True,
    )
    answer = bees.invoke(event)
    assert answer["statusCode"] == 200
    assert answer["isBase64Encoded"] is False
    assert answer["body"].encode() == send(bees, "POST", "/predict", JPEG, JPEG_TYPE).body
    returned = answer["multiValueHeaders" if name == "alb-multi" else "headers"]
    assert returned["content-type"] == (["application/json"] if name == "alb-multi" else "application/json")
    assert answer.get("statusDescription") == ("200 OK" if name.startswith("alb") else None)


@pytest.mark.parametrize("name", SOURCES)
def test_a_binary_answer_is_base64(name: str, bees: AwsEmulator) -> None:
    request, _ = SOURCES[name]
    answer = bees.invoke(
        event_of(name, **request("/v2/models/bees-wasps-image/infer", "POST"), body=OIP.decode(), isBase64Encoded=False)
    )
    assert (answer["statusCode"], answer["isBase64Encoded"]) == (200, True)
    assert base64.b64decode(answer["body"]).startswith(b'{"model_name"')


CATCH_ALL = {"resource": "/{proxy+}"}
PATHS: dict[str, tuple[str, dict[str, Any], str]] = {
    "REST, as generated": ("apigateway-rest", {}, "/path/to/resource"),
    "REST, a base path": (
        "apigateway-rest", {"path": "/base/a/b", "pathParameters": {"proxy": "a/b"}}, "/a/b",
    ),
    "REST, a base path and an encoded path": (
        "apigateway-rest", {"path": "/base/a%20b", "pathParameters": {"proxy": "a b"}}, "/a%20b",
    ),
    "REST, a doubled slash": ("apigateway-rest", {"path": "//a", "pathParameters": {"proxy": "a"}}, "//a"),
    "REST, a stage of a route's name": (
        "apigateway-rest",
        {"path": "/v2/x", "pathParameters": {"proxy": "v2/x"}, "requestContext": {"stage": "v2", "path": "/v2/v2/x"}},
        "/v2/x",
    ),
    "REST, a route of its own": (
        "apigateway-rest", {"resource": "/a/{b}", "path": "/base/a/c", "pathParameters": {"b": "c"}}, "/a/c",
    ),
    "HTTP, as generated": ("apigateway-http", {}, "/path/to/resource"),
    "HTTP, a stage": (
        "apigateway-http", {"rawPath": "/prod/a", "requestContext": {"stage": "prod"}}, "/a",
    ),
    "HTTP, a stage and a route": (
        "apigateway-http",
        {
            "rawPath": "/prod/a/b", "routeKey": "ANY /{proxy+}", "pathParameters": {"proxy": "a/b"},
            "requestContext": {"stage": "prod"},
        },
        "/a/b",
    ),
    "HTTP, a path that only begins like the stage": (
        "apigateway-http", {"rawPath": "/production", "requestContext": {"stage": "prod"}}, "/production",
    ),
    "HTTP, decoded by the gateway": ("apigateway-http", {"rawPath": "/a b/\u00e9%/?#"}, "/a%20b/%C3%A9%25/%3F%23"),
    "HTTP, payload 1.0": (
        "apigateway-rest",
        {"version": "1.0", "resource": "$default", "path": "/prod/a", "pathParameters": None},
        "/a",
    ),
    "Function URL, as documented": ("function-url", {}, "/my/path"),
    "ALB, as generated": ("alb", {}, "/path/to/resource"),
}  # fmt: skip


@pytest.mark.parametrize("name", PATHS)
def test_the_path_is_what_the_client_asked_for(name: str, bees: AwsEmulator) -> None:
    source, changes, path = PATHS[name]
    answer = bees.invoke(event_of(source, **changes))
    assert answer["statusCode"] == 404
    detail = json.loads(answer["body"])
    assert f"'{path}'" in detail.get("detail", detail.get("error"))


@pytest.mark.parametrize(
    ("source", "changes"),
    [
        ("apigateway-rest", {"resource": "/", "path": "/", "pathParameters": None}),
        ("apigateway-rest", {"resource": "/", "path": "/base", "pathParameters": None}),
        ("apigateway-http", {"rawPath": "/prod", "requestContext": {"stage": "prod"}}),
        ("apigateway-http", {"rawPath": "/prod/", "routeKey": "ANY /", "requestContext": {"stage": "prod"}}),
        ("alb-multi", {}),
    ],
)
def test_the_root_is_the_index_wherever_it_is(source: str, changes: dict[str, Any], bees: AwsEmulator) -> None:
    if "httpMethod" in (event := event_of(source, **changes)):
        event["httpMethod"] = "GET"
    else:
        event["requestContext"]["http"]["method"] = "GET"
    assert json.loads(bees.invoke(event)["body"])["name"] == "serverless-bees"


@pytest.mark.parametrize("event", ["s3-put", "sqs-receive-message", {}, [], "text", None, {"source": "aws.events"}])
def test_an_event_that_is_not_known_is_refused_with_what_is(event: Any, bees: AwsEmulator) -> None:
    if isinstance(event, str) and (EVENTS / f"{event}.json").exists():
        event = json.loads((EVENTS / f"{event}.json").read_text())
    with pytest.raises(FunctionError, match=r"API Gateway.*Function URLs.*url, image, instances") as caught:
        bees.invoke(event)
    assert caught.value.payload["errorType"] == "unknown-event"


# Limits


def padded(size: int) -> bytes:
    """A JPEG of exactly ``size`` bytes."""
    return JPEG + bytes(size - len(JPEG))


@pytest.mark.parametrize(
    ("front", "fits", "too_large", "says"),
    [
        ("http-api", int(4.4 * MIB), int(4.6 * MIB), b'{"message": "Request Entity Too Large"}'),
        ("http-api", int(4.4 * MIB), 12 * MIB, b'{"message": "Request Entity Too Large"}'),
        ("rest-api", int(4.4 * MIB), int(4.6 * MIB), b'{"message": "Request Too Long"}'),
        ("function-url", int(4.4 * MIB), int(4.6 * MIB), b"smaller than 6291456 bytes"),
        ("alb", MIB, MIB + 1, b"413 Request Entity Too Large"),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_picture_that_is_too_large_is_refused_by_the_front(
    front: str, fits: int, too_large: int, says: bytes, chunked: bool
) -> None:
    with needed(AwsEmulator(front=front)) as emulator:
        assert send(emulator, "POST", "/predict", padded(fits), JPEG_TYPE).status == 200
        body: Any = iter([padded(too_large)]) if chunked else padded(too_large)
        headers = {**JPEG_TYPE, **({"Transfer-Encoding": "chunked"} if chunked else {})}
        got = send(emulator, "POST", "/predict", body, headers, chunked=chunked)
        assert got.status == 413
        assert says in got.body
        assert send(emulator, "GET", "/v2/health/ready").status == 200


def test_an_event_that_is_too_large_is_refused(bees: AwsEmulator) -> None:
    with pytest.raises(PayloadTooLargeError, match="smaller than 6291456 bytes"):
        bees.invoke({"image": "A" * (6 * MIB)})


# Concurrency


@pytest.mark.parametrize("environments", [1, 2])
def test_concurrent_requests_are_all_answered(environments: int, bare: Service) -> None:
    pictures = [encoded(scene(seed=seed), "JPEG") for seed in range(8)]
    expected = [bare.handle(Request("POST", "/predict", body=picture)).body for picture in pictures]
    with needed(AwsEmulator(environments=environments)) as emulator, ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            got = threads.map(lambda picture: send(emulator, "POST", "/predict", picture, JPEG_TYPE).body, pictures)
            assert list(got) == expected
        assert sum(line["start"] == "cold" for line in metric_lines(emulator)) <= environments


# Faults

FAILED = {"http-api": 500, "rest-api": 502, "function-url": 502, "alb": 502, "alb-multi": 502}


@pytest.fixture(scope="module", params=list(FRONTS))
def faults(request: pytest.FixtureRequest) -> Iterator[tuple[AwsEmulator, str]]:
    with needed(AwsEmulator(FUNCTIONS / "aws_faults", front=request.param, timeout=1)) as emulator:
        yield emulator, request.param


@pytest.mark.parametrize("fault", ["raise", "crash", "sleep", "large", "malformed", "not-base64", "nothing"])
def test_a_function_that_fails_is_a_fault_of_the_front_and_the_next_request_is_served(
    fault: str, faults: tuple[AwsEmulator, str]
) -> None:
    emulator, front = faults
    got = send(emulator, "GET", f"/{fault}")
    if fault == "nothing" and front in ("http-api", "function-url"):
        assert (got.status, got.body) == (200, b"null")  # what has no statusCode is the body
    else:
        assert got.status == FAILED[front]
        assert b"went wrong" not in got.body
    assert send(emulator, "GET", "/fine").status == 200


def test_what_a_failed_function_said_is_for_its_invoker() -> None:
    with needed(AwsEmulator(FUNCTIONS / "aws_faults", timeout=1)) as emulator:
        with pytest.raises(FunctionError, match="something went wrong"):
            emulator.invoke({"rawPath": "/raise"})
        with pytest.raises(FunctionError, match=r"Task timed out after 1\.00 seconds"):
            emulator.invoke({"rawPath": "/sleep"})
        assert emulator.invoke({"rawPath": "/"})["body"] == "fine"


@pytest.mark.parametrize(("front", "status"), [("http-api", 503), ("rest-api", 504), ("alb", 504)])
def test_a_front_waits_only_so_long(front: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(aws.FRONTS, front, FRONTS[front]._replace(seconds=0.5))
    with needed(AwsEmulator(FUNCTIONS / "aws_faults", front=front, timeout=2)) as emulator:
        assert send(emulator, "GET", "/sleep").status == status
        wait_for(lambda: "timed out" in emulator.log().lower() or send(emulator, "GET", "/fine").status == 200)
        assert wait_for(lambda: send(emulator, "GET", "/fine").status == 200)


def test_a_function_that_cannot_be_imported_says_why_in_the_log() -> None:
    with needed(AwsEmulator(FUNCTIONS / "aws_broken")) as emulator:
        for _ in range(2):
            assert send(emulator, "GET", "/").status == 500
        assert "cannot start" in emulator.log()


@pytest.mark.parametrize("damage", ["missing", "truncated", "no model", "a folder"])
def test_without_a_model_requests_are_503_and_nothing_crashes(
    damage: str, tmp_path: Path, default_model_path: Path
) -> None:
    model = tmp_path / "private-folder" / "model.tflite"
    model.parent.mkdir()
    if damage == "a folder":
        model.mkdir()
    elif damage != "missing":
        content = default_model_path.read_bytes()
        model.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"hello" * 1000)
    with needed(AwsEmulator(environ={"SERVERLESS_BEES_MODEL": str(model)})) as emulator:
        for _ in range(2):
            got = send(emulator, "POST", "/predict", JPEG, JPEG_TYPE)
            assert (got.status, got.json["type"]) == (503, "model-unavailable")
            assert b"private" not in got.body
        got = send(emulator, "GET", "/v2/health/ready")
        assert (got.status, got.json) == (503, {"ready": False})
        assert send(emulator, "GET", "/v2/health/live").status == 200
        assert line_of(emulator, got.headers["x-request-id"])["server_errors"] == 1
        assert emulator.log().count("INIT START") == 1  # no loop of crashes
        assert "the model cannot be loaded" in emulator.log()
        assert "private-folder" not in emulator.log()


def test_a_client_that_goes_away_harms_nobody_else(bees: AwsEmulator) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(JPEG)
    raw(bees, head[:20]).close()
    raw(bees, head + JPEG[:100]).close()
    before = len(metric_lines(bees))
    raw(bees, head + JPEG).close()  # it was sent: the function runs to its end
    wait_for(lambda: len(metric_lines(bees)) == before + 1)
    assert send(bees, "POST", "/predict", JPEG, JPEG_TYPE).status == 200


@pytest.mark.parametrize("length", [b"-1", b"x"])
def test_a_length_that_is_none_is_a_bad_request(length: bytes, bees: AwsEmulator) -> None:
    with raw(bees, b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\n") as connection:
        assert connection.makefile("rb").readline() == b"HTTP/1.1 400 Bad Request\r\n"


def test_a_client_that_asks_first_is_told_to_go_on(bees: AwsEmulator) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nExpect: 100-continue\r\n"
    with raw(bees, head + b"Content-Length: %d\r\n\r\n" % len(JPEG)) as connection:
        answer = connection.makefile("rb")
        assert answer.readline() == b"HTTP/1.1 100 Continue\r\n"
        connection.sendall(JPEG)
        assert answer.readline() == b"\r\n"
        assert answer.readline() == b"HTTP/1.1 200 OK\r\n"


# The emulator itself


def test_neither_pictures_nor_queries_nor_variables_are_in_the_log() -> None:
    with needed(AwsEmulator(environ={**SETTINGS, "MY_SECRET": "open sesame"})) as emulator:
        got = send(
            emulator,
            "POST",
            "/predict?url=https://pictures.example/private",
            JSON_BODY,
            {"Content-Type": "application/json"},
        )
        line_of(emulator, got.headers["x-request-id"])
        for secret in ("open sesame", "private", JSON_BODY[20:60].decode()):
            assert secret not in emulator.log()


def test_the_hooks_of_snapstart_load_everything_and_forget_a_failure(tmp_path: Path, default_model_path: Path) -> None:
    """As Lambda runs them: before a snapshot, whose model was missing, and after its restore."""
    emulator = needed(AwsEmulator())
    stage(emulator.source, tmp_path / "function")
    python = make_environment(emulator.provider, emulator.locks(), emulator.python)
    program = (
        "import shutil, sys, handler, snapshot_restore_py as hooks\n"
        "for hook, args, kwargs in hooks.get_before_snapshot(): hook(*args, **kwargs)\n"
        "print(sorted(n for n in sys.modules if n.startswith('serverless_bees.service.')))\n"
        "print(handler.service.is_ready())\n"
        f"shutil.copy({str(default_model_path)!r}, {str(tmp_path / 'late.tflite')!r})\n"
        "for hook, args, kwargs in hooks.get_after_restore(): hook(*args, **kwargs)\n"
        "print(handler.service.is_ready())\n"
    )
    environ = {
        **emulator.function_environ(tmp_path / "function"),
        "SERVERLESS_BEES_MODEL": str(tmp_path / "late.tflite"),
    }
    done = subprocess.run(
        [python, "-W", "ignore", "-c", program], env=environ, capture_output=True, text=True, check=True
    )
    modules, before, after = done.stdout.splitlines()
    assert "'serverless_bees.service.oip'" in modules
    assert "'serverless_bees.service.predict'" in modules
    assert (before, after) == ("False", "True")


def test_it_listens_on_the_loopback_interface_only(bees: AwsEmulator) -> None:
    ports = {bees.port}
    listening = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for entry in Path(table).read_text().splitlines()[1:]:
            address, state = entry.split()[1], entry.split()[3]
            if state == "0A" and int(address.rsplit(":")[-1], 16) in ports:
                listening.add(address.split(":")[0])
    assert listening == {"0100007F"}


def test_it_ends_with_the_process_that_started_it() -> None:
    program = (
        "import sys; from serverless_bees.tools.emulators.aws import AwsEmulator\n"
        "e = AwsEmulator(); e.start(); import urllib.request; urllib.request.urlopen(e.url).close()\n"
        "print(e._idle.get(), flush=True); sys.stdin.read()"
    )
    needed(AwsEmulator())
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        port = int(process.stdout.readline())
        children = processes(f"127.0.0.1:{port}")
        assert children
        process.send_signal(signal.SIGKILL)

    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_stopping_ends_its_threads_and_connections() -> None:
    emulator = needed(AwsEmulator())
    before = threading.active_count()
    emulator.start()
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=10)
    connection.request("GET", "/v2")
    connection.getresponse().read()  # and stays open
    emulator.stop()
    emulator.stop()
    assert connection.sock.recv(1) == b""
    connection.close()
    assert wait_for(lambda: threading.active_count() <= before)


def test_a_port_that_is_taken_is_named(bees: AwsEmulator) -> None:
    with pytest.raises(EmulatorError, match=f"cannot listen on 127.0.0.1:{bees.port}: Address already in use"):
        AwsEmulator(port=bees.port).start()


def test_a_front_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="there are http-api, rest-api, function-url, alb, alb-multi"):
        AwsEmulator(front="cloudfront")


def test_a_machine_without_the_emulator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(EmulatorError, match="Linux on x86_64 and aarch64"):
        AwsEmulator().start()


def test_what_is_real_and_what_is_imitated_is_said() -> None:
    assert {part.real for part in AwsEmulator.parts} == {True, False}
