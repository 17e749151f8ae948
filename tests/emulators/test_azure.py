"""The adapter for Azure under Microsoft's worker, and what the imitated host does around it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from serverless_bees.tools.emulators.azure import AzureEmulator
from serverless_bees.tools.emulators.azure_host import BODY_LIMIT
from serverless_bees.tools.emulators.azure_http import http_functions, kestrel_path
from serverless_bees.tools.emulators.base import EmulatorError
from tests.support.endpoints import Got

FUNCTIONS = Path(__file__).parent / "functions"
LEVEL = "SERVERLESS_BEES_AZURE_AUTH_LEVEL"


def send(
    emulator: AzureEmulator, method: str, target: str, body: Any = None, *, key: bool = True, **headers: str
) -> Got:
    """One request; ``Content_Type="…"`` is a header."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    try:
        connection.request(method, target, body, {**(emulator.headers if key else {}), **fields})
        response = connection.getresponse()
        return Got(response.status, response.headers, response.read())
    finally:
        connection.close()


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """What ``condition`` gives once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def lines(emulator: AzureEmulator, request_id: str) -> list[dict[str, Any]]:
    """The structured lines of a request, read as ``traces | extend line = parse_json(message)`` does."""
    messages = re.findall(r"^\[[\dT:.-]+Z\] (\{.*\})$", emulator.log(), re.MULTILINE)
    return [line for line in map(json.loads, messages) if line["request_id"] == request_id]


@pytest.fixture(scope="module")
def picture() -> bytes:
    return (Path(__file__).parents[2] / "samples" / "wasp.jpg").read_bytes()


@pytest.fixture(scope="module")
def bees() -> Iterator[AzureEmulator]:
    with AzureEmulator(environ={"SERVERLESS_BEES_FETCH_ENABLED": "0"}) as emulator:
        yield emulator


@pytest.fixture(scope="module")
def faults() -> Iterator[AzureEmulator]:
    with AzureEmulator(FUNCTIONS / "azure_faults", front_seconds=2.5) as emulator:
        yield emulator


# The service behind the adapter.


def test_picture_json_and_form_give_the_same_answer(bees: AzureEmulator, picture: bytes) -> None:
    straight = send(bees, "POST", "/predict", picture, Content_Type="image/jpeg")
    assert straight.status == 200
    assert straight.headers["content-type"] == "application/json"
    assert straight.json["label"] == "wasp"
    document = json.dumps({"image": base64.b64encode(picture).decode()})
    assert send(bees, "POST", "/predict", document, Content_Type="application/json").body == straight.body
    form = b'--b\r\nContent-Disposition: form-data; name="image"; filename="w.jpg"\r\n\r\n' + picture + b"\r\n--b--\r\n"
    assert send(bees, "POST", "/predict", form, Content_Type="multipart/form-data; boundary=b").body == straight.body


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/?", 200),
        ("GET", "/v2/health/live", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/bees-wasps", 200),
        ("GET", "/openapi.json", 200),
        ("GET", "/%76%32", 200),
        ("HEAD", "/", 200),
        ("HEAD", "/nowhere", 404),
        ("OPTIONS", "/predict", 204),
        ("GET", "/nowhere", 404),
        ("GET", "/api/predict", 404),
        ("GET", "/admin/host/status", 404),
        ("PUT", "/predict", 405),
        ("PATCH", "/v2", 405),
        ("DELETE", "/", 405),
        ("BREW", "/predict", 405),
        ("POST", "/predict", 400),
        ("GET", "/predict?top_k", 400),
        ("GET", "/predict?url=https%3A%2F%2Fexample.org%2Fa.jpg", 422),
    ],
)
def test_every_status_is_the_services_own(bees: AzureEmulator, method: str, target: str, status: int) -> None:
    got = send(bees, method, target)
    assert got.status == status
    assert str(uuid.UUID(got.headers["x-request-id"])) == got.headers["x-request-id"]
    if method == "HEAD":
        assert got.body == b""
    elif status >= 400 and not target.startswith("/v2"):
        assert got.headers["content-type"] == "application/problem+json"
        assert got.json["status"] == status
    if status in (204, 405):
        assert "OPTIONS" in got.headers["allow"]


def test_upper_case_and_repeated_headers(bees: AzureEmulator, picture: bytes) -> None:
    head = (
        f"POST /predict HTTP/1.1\r\nHOST: example\r\nX-FUNCTIONS-KEY: {bees.headers['x-functions-key']}\r\n"
        f"CONTENT-TYPE: IMAGE/JPEG\r\nACCEPT: a/b\r\nAccept: c/d\r\nCONTENT-LENGTH: {len(picture)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", bees.port), 10) as connection:
        connection.sendall(head.encode() + picture)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK\r\n")


def test_a_picture_of_five_megabytes(bees: AzureEmulator) -> None:
    file = io.BytesIO()
    Image.frombytes("RGB", (1300, 1300), os.urandom(1300 * 1300 * 3)).save(file, "PNG", compress_level=0)
    assert file.tell() > 5_000_000
    got = send(bees, "POST", "/predict", file.getvalue(), Content_Type="image/png")
    assert got.status == 200


def test_concurrent_requests_have_their_own_answers(bees: AzureEmulator, picture: bytes) -> None:
    other = (Path(__file__).parents[2] / "samples" / "bee.jpg").read_bytes()
    pictures = [picture, other] * 12

    def label(data: bytes) -> str:
        return str(send(bees, "POST", "/predict", data, Content_Type="image/jpeg").json["label"])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(label, pictures)) == ["wasp", "bee"] * 12


def test_connections_are_kept_alive(bees: AzureEmulator, picture: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", bees.port, timeout=10)
    headers = {**bees.headers, "Content-Type": "image/jpeg"}
    for target, status in [("/predict", 200), ("/nowhere", 404), ("/predict", 200)]:
        connection.request("POST", target, picture, headers)
        sock = connection.sock
        response = connection.getresponse()
        response.read()
        assert (response.status, connection.sock) == (status, sock)
    connection.close()


def test_a_chunked_body_is_411_as_the_host_drops_it(bees: AzureEmulator, picture: bytes) -> None:
    got = send(bees, "POST", "/predict", iter([picture]), Content_Type="image/jpeg")
    assert (got.status, got.json["type"]) == (411, "length-required")


def test_one_line_of_the_log_for_a_request(bees: AzureEmulator, picture: bytes) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    got = send(bees, "POST", "/predict?top_k=1", picture, Content_Type="image/jpeg", traceparent=trace)
    (line,) = wait_for(lambda: lines(bees, got.headers["x-request-id"]))
    assert line["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert re.fullmatch("[0-9a-f]{16}", line["parent_id"])
    assert line["parent_id"] != "b7ad6b7169203331", "the host's span stands between the caller's and ours"
    assert (line["method"], line["route"], line["status"], line["label"]) == ("POST", "/predict", 200, "wasp")
    assert line["start"] in ("cold", "warm")
    assert 0 < line["invoke_ms"] <= line["total_ms"]


def test_the_log_has_no_query_and_no_picture(bees: AzureEmulator) -> None:
    got = send(bees, "POST", "/predict?secret=hush-hush", b"not a picture", Content_Type="image/jpeg")
    wait_for(lambda: lines(bees, got.headers["x-request-id"]))
    assert "hush" not in bees.log()
    assert "not a picture" not in bees.log()


# Keys and levels.


@pytest.mark.parametrize("target", ["/", "/predict", "/v2/health/live", "/openapi.json"])
def test_without_a_key_every_route_is_closed(bees: AzureEmulator, target: str) -> None:
    for headers in ({}, {"x-functions-key": ""}, {"x-functions-key": "wrong"}):
        got = send(bees, "GET", target, key=False, **headers)
        assert (got.status, got.body) == (401, b"")
    assert send(bees, "GET", f"{target}?code=wrong", key=False).status == 401


def test_the_hints_tell_the_keys(bees: AzureEmulator) -> None:
    curl, *others = bees.hints()
    assert f"-H 'x-functions-key: {bees.keys['default']}'" in curl
    assert others == [f"key {name}: {key}" for name, key in bees.keys.items()]
    assert not any(key in bees.log() for key in bees.keys.values())


def test_a_key_opens_by_header_or_query(bees: AzureEmulator) -> None:
    for key in bees.keys.values():
        assert send(bees, "GET", "/", key=False, **{"x-functions-key": key}).status == 200
        assert send(bees, "GET", f"/?code={key}", key=False).status == 200
    got = send(bees, "GET", f"/?code={bees.keys['default']}", key=False, **{"x-functions-key": "wrong"})
    assert got.status == 401, "the header goes first"


def test_levels(faults: AzureEmulator) -> None:
    default, master = faults.keys["default"], faults.keys["_master"]
    for target, key, status in [
        ("/api/echo/", None, 200),
        ("/api/echo/", "wrong", 200),
        ("/api/locked", None, 401),
        ("/api/locked", default, 200),
        ("/api/locked", master, 200),
        ("/api/masters", default, 401),
        ("/api/masters", master, 200),
    ]:
        headers = {"x-functions-key": key} if key else {}
        assert send(faults, "GET", target, key=False, **headers).status == status, (target, key)


def test_anonymous_by_setting() -> None:
    with AzureEmulator(environ={LEVEL: "Anonymous"}) as emulator:
        assert send(emulator, "GET", "/v2/health/live", key=False).status == 200


def test_a_level_that_does_not_exist_names_the_setting() -> None:
    with pytest.raises(EmulatorError, match=f"{LEVEL} is 'public'; it must be one of function, anonymous, admin"):
        AzureEmulator(environ={LEVEL: "public"}).start()


# The model at fault.


@pytest.mark.parametrize("fault", ["missing", "corrupt", "truncated"])
def test_a_model_at_fault_is_503_and_no_crash_loop(fault: str, tmp_path: Path, picture: bytes) -> None:
    model = tmp_path / "private-folder" / "model.tflite"
    model.parent.mkdir()
    if fault == "corrupt":
        model.write_bytes(os.urandom(100_000))
    elif fault == "truncated":
        whole = (Path(__file__).parents[2] / "models" / "bees-wasps.tflite").read_bytes()
        model.write_bytes(whole[: len(whole) // 2])
    with AzureEmulator(environ={"SERVERLESS_BEES_MODEL": str(model)}) as emulator:
        for _ in range(3):
            got = send(emulator, "POST", "/predict", picture, Content_Type="image/jpeg")
            assert (got.status, got.json["type"]) == (503, "model-unavailable")
            assert "private-folder" not in got.body.decode()
        assert send(emulator, "GET", "/v2/health/ready").status == 503
        assert send(emulator, "GET", "/v2/health/live").status == 200
        assert "exited" not in emulator.log()
        assert "private-folder" not in emulator.log()


# What the host does around any function.


def test_what_a_function_sees(faults: AzureEmulator) -> None:
    got = send(faults, "POST", "/api/echo/a%2Fb/%7Ec/./d?x=1&y", b"12345", X_UPPER="Value", Host="example.org")
    seen = got.json
    assert seen["method"] == "POST"
    assert seen["url"] == "http://example.org/api/echo/a%2Fb/~c/d?x=1&y"
    assert seen["headers"]["x-upper"] == "Value"
    assert seen["route"] == {"rest": "a/b/~c/d"}
    assert seen["params"] == {"x": "1"}
    assert seen["body"] == 5
    assert str(uuid.UUID(seen["id"])) == seen["id"]
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-00", seen["trace"])


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "/api/echo", 200),
        ("GET", "/API/Echo/x", 200),
        ("DELETE", "/api/echo", 404),
        ("GET", "/echo", 404),
        ("GET", "/", 404),
        ("GET", "//api/echo", 404),
        ("GET", "/api/echo/%00", 400),
    ],
)
def test_routes_and_methods(faults: AzureEmulator, method: str, target: str, status: int) -> None:
    assert send(faults, method, target).status == status


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /api/echo HTTP/1.1\r\n\r\n",
        b"GET /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n",
        b"GET /api/echo HTTP/1.1\r\nHost: a\r\nX: \xff\r\n\r\n",
        b"GET /api/\xc3\xa9cho HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /api/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"nonsense\r\n\r\n",
    ],
)
def test_a_malformed_request_is_400(faults: AzureEmulator, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", faults.port), 10) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b" 400 " in answer.split(b"\r\n")[0]


def test_a_function_that_raises_is_500_and_says_nothing(faults: AzureEmulator) -> None:
    got = send(faults, "GET", "/api/raise")
    assert (got.status, got.body) == (500, b"")
    assert "RuntimeError" in wait_for(lambda: "RuntimeError" in faults.log() and faults.log())


def test_a_header_that_cannot_be_sent_is_500(faults: AzureEmulator) -> None:
    assert send(faults, "GET", "/api/header").status == 500


def test_a_worker_that_ends_is_500_and_comes_back(faults: AzureEmulator) -> None:
    assert send(faults, "GET", "/api/exit").status == 500
    assert send(faults, "GET", "/api/echo").status == 200
    assert "Language Worker Process exited with code 3; it is started anew." in faults.log()


def test_requests_beside_one_that_ends_the_worker_are_500_too(faults: AzureEmulator) -> None:
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(send, faults, "GET", "/api/sleep/2")
        wait_for(lambda: faults.log().rstrip().rpartition("\n")[2].split(" (")[0].endswith("'Functions.sleeps'"))
        assert send(faults, "GET", "/api/exit").status == 500
        assert beside.result().status == 500
    assert send(faults, "GET", "/api/echo").status == 200


def test_a_worker_that_does_not_come_back_is_503(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{}")
    (tmp_path / "function_app.py").write_text(
        "import os, pathlib\n"
        "import azure.functions as func\n"
        "open('loaded', 'x').close()\n"
        "app = func.FunctionApp(func.AuthLevel.ANONYMOUS)\n"
        "@app.route()\n"
        "def exits(req: func.HttpRequest) -> str:\n"
        "    os._exit(1)\n"
    )
    with AzureEmulator(tmp_path) as emulator:
        assert send(emulator, "GET", "/api/exits").status == 500
        got = send(emulator, "GET", "/api/exits")
        assert (got.status, got.body) == (503, b"Function host is not running.")
        assert "FileExistsError" in emulator.log()


def test_a_function_slower_than_the_load_balancer_is_502(faults: AzureEmulator) -> None:
    first = send(faults, "GET", "/api/sleep/0").body
    assert send(faults, "GET", "/api/sleep/3.2").status == 502
    assert send(faults, "GET", "/api/sleep/0").body == first, "the worker goes on"


def test_a_function_slower_than_its_timeout_ends_the_worker() -> None:
    with AzureEmulator(FUNCTIONS / "azure_faults") as emulator:
        first = send(emulator, "GET", "/api/sleep/0").body
        start = time.monotonic()
        assert send(emulator, "GET", "/api/sleep/60").status == 500
        assert 3.5 < time.monotonic() - start < 15
        assert send(emulator, "GET", "/api/sleep/0").body != first
        assert "Timeout value of 4 s was exceeded by 'Functions.sleeps'" in emulator.log()


def test_too_many_requests_at_once_are_429(faults: AzureEmulator) -> None:
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda _: send(faults, "GET", "/api/sleep/1").status, range(6)))
    assert sorted(got) == [200, 200, 200, 429, 429, 429]


def test_a_large_response_arrives_whole(faults: AzureEmulator) -> None:
    assert len(send(faults, "GET", "/api/large").body) == 30_000_000


def test_a_request_of_exactly_the_limit_arrives_and_one_byte_more_is_413(faults: AzureEmulator) -> None:
    assert send(faults, "POST", "/api/echo", bytes(BODY_LIMIT)).json["body"] == BODY_LIMIT
    got = send(faults, "POST", "/api/echo", bytes(BODY_LIMIT + 1))
    assert (got.status, got.body) == (413, b"")


def test_expect_100_continue(faults: AzureEmulator) -> None:
    with socket.create_connection(("127.0.0.1", faults.port), 10) as connection:
        connection.sendall(b"POST /api/echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"ab")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_goes_away_harms_nobody(faults: AzureEmulator) -> None:
    head = b"POST /api/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    for raw in (b"", b"POST /api", head, head + bytes(999), b"GET /api/sleep/0.3 HTTP/1.1\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", faults.port), 10) as connection:
            connection.sendall(raw)
    assert send(faults, "GET", "/api/echo").status == 200
    assert "Exception occurred" not in faults.log()


def test_a_function_that_cannot_be_loaded_says_so_with_its_log() -> None:
    with pytest.raises(EmulatorError, match="a_module_that_nobody_has"):
        AzureEmulator(FUNCTIONS / "azure_broken").start()


def test_a_folder_without_host_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EmulatorError, match=r"has no host\.json"):
        AzureEmulator(tmp_path).start()


def test_packages_of_an_artifact_come_first_and_the_app_last(tmp_path: Path) -> None:
    packages = tmp_path / ".python_packages" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    for name, where in (("both", packages), ("both", tmp_path), ("only_app", tmp_path)):
        (where / f"{name}.py").write_text(f"FOLDER = {where.name!r}\n")
    (tmp_path / "serverless_bees").mkdir()
    (tmp_path / "serverless_bees" / "__init__.py").touch()
    (tmp_path / "host.json").write_text("{}")
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func, both, only_app\n"
        "app = func.FunctionApp(func.AuthLevel.ANONYMOUS)\n"
        "@app.route()\n"
        "def where(req: func.HttpRequest) -> str:\n"
        "    return both.FOLDER\n"
    )
    with AzureEmulator(tmp_path) as emulator:
        assert send(emulator, "GET", "/api/where").body == b"site-packages"


def test_it_listens_on_the_loopback_interface_only(bees: AzureEmulator) -> None:
    listening = Path("/proc/net/tcp").read_text("ascii") + Path("/proc/net/tcp6").read_text("ascii")
    addresses = re.findall(rf"^ *\d+: ([0-9A-F]+):{bees.port:04X} [0-9A-F]+:0000 0A ", listening, re.MULTILINE)
    assert addresses == ["0100007F"]


def test_a_port_that_is_taken(bees: AzureEmulator) -> None:
    with pytest.raises(EmulatorError, match=f"port {bees.port} cannot be listened on"):
        AzureEmulator(FUNCTIONS / "azure_faults", port=bees.port).start()


def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    program = (
        "from serverless_bees.tools.emulators.azure import AzureEmulator as E\n"
        "e = E(); e.start(); print(e.port, flush=True); input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip

    def alive() -> list[str]:
        """The command lines of the host and of the worker: each names its folder."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found.append((folder / "cmdline").read_text(errors="replace"))
        return [line for line in found if str(tmp_path) in line]

    with process:
        assert process.stdout
        assert process.stdout.readline()
        assert len(alive()) == 2
        process.kill()
    wait_for(lambda: not alive())


def test_the_real_host_starts_the_same_function(picture: bytes) -> None:
    if not shutil.which("func"):  # also on CI: it comes from Microsoft's own server and from no package registry
        pytest.skip("func is missing: install the Azure Functions Core Tools 4")
    with AzureEmulator(host="func") as emulator:
        assert send(emulator, "POST", "/predict", picture, Content_Type="image/jpeg").json["label"] == "wasp"


def test_without_func_the_real_host_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EmulatorError, match="install the Azure Functions Core Tools"):
        AzureEmulator(host="func")
    with pytest.raises(ValueError, match="there are imitated, func"):
        AzureEmulator(host="other")


# Parts of the host by themselves.


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a//b/", "/a//b/"),
        ("/%70redict", "/predict"),
        ("/a%2Fb%2fc", "/a%2Fb%2fc"),
        ("/a/../b/./c/..", "/b/"),
        ("/%2e%2e/a", "/a"),
        ("/%E2%82%AC", "/%E2%82%AC"),
        ("/%FF", "/%FF"),
        ("/a%20b", "/a%20b"),
        ("/100%", "/100%25"),
        ("/a;b=c,d@e!$&'()*+:~", "/a;b=c,d@e!$&'()*+:~"),
        ('/"<>', "/%22%3C%3E"),
    ],
)
def test_a_path_on_its_way_through_kestrel(target: str, path: str) -> None:
    assert kestrel_path(target) == path


def test_literal_routes_go_before_parameters_and_these_before_a_catch_all() -> None:
    routes = ["{*rest}", "a/{id}", "a/b", "{any}/{id?}"]
    published = [
        {"id": route, "name": "f", "bindings": [{"type": "httpTrigger", "name": "req", "route": route}]}
        for route in routes
    ]
    functions = http_functions(published, "")
    for path, route in [
        ("/", "{*rest}"),
        ("/a/b", "a/b"),
        ("/A/c/", "a/{id}"),
        ("/x", "{any}/{id?}"),
        ("/x/y/z", "{*rest}"),
    ]:
        assert next(function.id for function in functions if function.route.fullmatch(path)) == route
