"""The Cloud Run function under the real functions-framework with gunicorn."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from serverless_bees.predictor import default_model
from serverless_bees.tools.emulators.base import EmulatorError, adapter_folder
from serverless_bees.tools.emulators.gcp import GcpEmulator
from tests.support.endpoints import Answer
from tests.support.pictures import PICTURES

FUNCTIONS = Path(__file__).parent / "functions"
JPEG = PICTURES["JPEG baseline"]()
PROBLEM = "application/problem+json"
# https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry#LogSeverity
SEVERITIES = {"DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY"}


def send(emulator: GcpEmulator, method: str, target: str, body: Any = None, **headers: str) -> Answer:
    """One request; ``Content_Type="…"`` is a header."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)) as connection:
        connection.request(method, target, body, fields)
        response = connection.getresponse()
        return Answer(response.status, dict(response.getheaders()), response.read())


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """What ``condition`` gives once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
    return found


def line_of(emulator: GcpEmulator, request_id: str) -> dict[str, Any]:
    """The line in the log about one request, as Cloud Logging parses it: JSON on a line of its own."""

    def found() -> dict[str, Any] | None:
        lines = [line for line in emulator.log().splitlines() if f'"request_id":"{request_id}"' in line]
        assert len(lines) <= 1
        return json.loads(lines[0]) if lines else None

    line: dict[str, Any] = wait_for(found)
    return line


@pytest.fixture(scope="module", autouse=True)
def _uv() -> None:
    if not shutil.which("uv") and not find_spec("uv"):
        assert not os.environ.get("CI"), "uv is missing: pip install 'serverless-bees[emulators]'"
        pytest.skip("uv is missing: pip install 'serverless-bees[emulators]'")


@pytest.fixture(scope="module")
def emulator() -> Iterator[GcpEmulator]:
    with GcpEmulator(environ={"GOOGLE_CLOUD_PROJECT": "my-project"}) as running:
        yield running


@pytest.fixture(scope="module")
def faulty() -> Iterator[GcpEmulator]:
    environ = {"THREADED_TIMEOUT_ENABLED": "true", "CLOUD_RUN_TIMEOUT_SECONDS": "1"}
    with GcpEmulator(FUNCTIONS / "gcp_faults", environ=environ) as running:
        yield running


FORM = b'--XX\r\nContent-Disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n' + JPEG + b"\r\n--XX--\r\n"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("image/jpeg", JPEG),
        ("application/json", json.dumps({"image": base64.b64encode(JPEG).decode()}).encode()),
        ("multipart/form-data; boundary=XX", FORM),
    ],
)
def test_a_picture_is_classified(emulator: GcpEmulator, kind: str, body: bytes) -> None:
    got = send(emulator, "POST", "/predict", body, CONTENT_TYPE=kind)
    assert got.status == 200
    assert got.headers["content-type"] == "application/json"
    assert got.json["label"] in ("bee", "wasp")
    assert got.json["model"]["name"] == "bees-wasps"


@pytest.mark.parametrize(
    "path", ["/nothing", "/robots.txt", "/favicon.ico", "//predict", "/a%0Ab", "/%FF", "/predict/"]
)
def test_what_is_not_there_is_said_by_the_service_and_not_by_flask(emulator: GcpEmulator, path: str) -> None:
    got = send(emulator, "GET", path)
    assert (got.status, got.headers["content-type"]) == (404, PROBLEM)
    assert got.json["type"] == "not-found"


def test_methods(emulator: GcpEmulator) -> None:
    assert send(emulator, "GET", "/").json["name"] == "serverless-bees"
    refused = send(emulator, "DELETE", "/predict")
    assert (refused.status, refused.headers["allow"]) == (405, "GET, POST, HEAD, OPTIONS")
    head = send(emulator, "HEAD", "/")
    assert (head.status, head.body) == (200, b"")
    assert "content-length" not in {name.lower() for name in head.headers}
    options = send(emulator, "OPTIONS", "/predict")
    assert (options.status, options.headers["allow"], options.body) == (204, "GET, POST, HEAD, OPTIONS", b"")
    assert "Content-Type" not in options.headers


def test_a_picture_in_chunks(emulator: GcpEmulator) -> None:
    got = send(emulator, "POST", "/predict", iter((JPEG[:100], JPEG[100:])), Content_Type="image/jpeg")
    assert got.status == 200


def test_thirty_requests_at_once(emulator: GcpEmulator) -> None:
    pictures = [PICTURES[name]() for name in ("JPEG baseline", "PNG RGB", "WebP lossy")] * 10
    wanted = [
        send(emulator, "POST", "/predict", picture, Content_Type="image/png").body for picture in pictures[:3]
    ] * 10
    with ThreadPoolExecutor(30) as threads:
        bodies = list(threads.map(lambda picture: send(emulator, "POST", "/predict", picture).body, pictures))
    assert bodies == wanted


def test_the_model_is_loaded_in_the_worker_and_not_in_gunicorns_master(emulator: GcpEmulator) -> None:
    send(emulator, "POST", "/predict", JPEG)
    (master,) = processes(f"PORT={emulator.port}\0", parent=os.getpid())
    (worker,) = processes(parent=master)
    assert "libLiteRt.so" not in Path(f"/proc/{master}/maps").read_text()
    assert "libLiteRt.so" in Path(f"/proc/{worker}/maps").read_text()


def processes(*environ: str, parent: int) -> list[int]:
    """The children of a process that were started with these variables."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and f"\nPPid:\t{parent}\n" in (folder / "status").read_text():
                started_with = (folder / "environ").read_text(errors="replace") + "\0"
                if all(variable in started_with for variable in environ):
                    found.append(int(folder.name))
    return found


# -- request ids and the log ------------------------------------------------------------------------------------------


def test_the_request_id_is_the_platforms(emulator: GcpEmulator) -> None:
    assert send(emulator, "GET", "/", Function_Execution_Id="abcDEF012345").headers["x-request-id"] == "abcDEF012345"
    made = send(emulator, "GET", "/").headers["x-request-id"]
    assert re.fullmatch(r"[0-9A-Za-z]{12}", made)  # the framework's
    for odd in ("a b", "x" * 65, 'a"b', "é"):
        got = send(emulator, "GET", "/", Function_Execution_Id=odd).headers["x-request-id"]
        assert re.fullmatch(r"[0-9a-f]{16}", got)  # the service's own


def test_the_log_line_is_what_cloud_logging_reads(emulator: GcpEmulator) -> None:
    target = "/predict?top_k=1&note=swordfish"
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    got = send(emulator, "POST", target, JPEG, Content_Type="image/jpeg", Traceparent=trace)
    line = line_of(emulator, got.headers["x-request-id"])

    # https://cloud.google.com/logging/docs/structured-logging#special-payload-fields
    assert line["severity"] in SEVERITIES
    assert line["message"] == "POST /predict 200"
    assert line["httpRequest"]["status"] == 200
    assert re.fullmatch(r"\d+(\.\d{1,9})?s", line["httpRequest"]["latency"])
    assert line["logging.googleapis.com/trace"] == "projects/my-project/traces/0af7651916cd43dd8448eb211c80319c"
    assert line["logging.googleapis.com/spanId"] == "b7ad6b7169203331"
    assert line["logging.googleapis.com/trace_sampled"] is True
    assert line["logging.googleapis.com/labels"] == {"execution_id": got.headers["x-request-id"]}
    assert (line["route"], line["start"], line["label"]) == ("/predict", "warm", got.json["label"])
    assert line["total_ms"] >= line["decode_ms"] + line["invoke_ms"] > 0
    assert "swordfish" not in emulator.log()


def test_googles_own_trace_header(emulator: GcpEmulator) -> None:
    header = "105445aa7843bc8bf206b12000100000/10;o=1"
    got = send(emulator, "GET", "/nothing", X_Cloud_Trace_Context=header)
    line = line_of(emulator, got.headers["x-request-id"])
    assert line["severity"] == "WARNING"
    assert line["problem"] == "not-found"
    assert line["logging.googleapis.com/trace"] == "projects/my-project/traces/105445aa7843bc8bf206b12000100000"
    assert line["logging.googleapis.com/spanId"] == "000000000000000a"


@pytest.mark.parametrize("header", ["", "x", "1" * 32 + "/99999999999999999999;o=1", "0" * 32 + "/1;o=1"])
def test_a_trace_header_that_is_none(emulator: GcpEmulator, header: str) -> None:
    got = send(emulator, "GET", "/", X_Cloud_Trace_Context=header, Traceparent="00-x-y-01")
    assert "logging.googleapis.com/trace" not in line_of(emulator, got.headers["x-request-id"])


# -- limits -----------------------------------------------------------------------------------------------------------

LIMIT = 32 * 1024 * 1024


def in_chunks(size: int) -> Iterator[bytes]:
    for _ in range(size >> 20):
        yield bytes(1 << 20)


@pytest.mark.parametrize(
    ("path", "form"),
    [("/predict", '{"type":"payload-too-large"'), ("/v2/models/bees-wasps/infer", '{"error":"')],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_over_32_mib(emulator: GcpEmulator, path: str, form: str, chunked: bool) -> None:
    body = in_chunks(LIMIT + (1 << 20)) if chunked else bytes(LIMIT + 1)
    got = send(emulator, "POST", path, body, Content_Type="image/jpeg")
    assert got.status == 413
    assert got.body.startswith(form.encode())
    assert str(LIMIT) in got.body.decode()
    assert send(emulator, "GET", "/v2/health/live").status == 200


def test_a_request_of_exactly_32_mib_reaches_the_service(emulator: GcpEmulator) -> None:
    got = send(emulator, "POST", "/predict", bytes(LIMIT), Content_Type="image/jpeg")
    assert "SERVERLESS_BEES_MAX_IMAGE_BYTES" in got.json["detail"]


def test_an_endless_request_is_not_read_to_its_end(emulator: GcpEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        chunks = (b"%x\r\n%s\r\n" % (len(piece), piece) for piece in in_chunks(1 << 30))
        with pytest.raises(OSError, match=r"[Bb]roken pipe|reset"):
            deque(map(client.sendall, chunks), maxlen=0)
    assert send(emulator, "GET", "/v2/health/live").status == 200


def test_a_response_over_the_limit_is_a_problem_document(tmp_path: Path) -> None:
    source = shutil.copytree(adapter_folder("gcp"), tmp_path / "function")
    main = source / "main.py"
    main.write_text(main.read_text().replace("32 * 1024 * 1024", "1000"))
    with GcpEmulator(source) as small:
        got = send(small, "GET", "/openapi.json")
        assert (got.status, got.json["type"]) == (413, "payload-too-large")
        assert "the platform's limit is 1000" in got.json["detail"]
        assert send(small, "GET", "/").status == 200
        assert send(small, "POST", "/predict", JPEG).status == 413


# -- clients that go away ---------------------------------------------------------------------------------------------


def head(request_id: str, length: int) -> bytes:
    lines = ("POST /predict HTTP/1.1", "Host: a", f"Function-Execution-Id: {request_id}", f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def test_a_client_that_goes_away_while_it_sends(emulator: GcpEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port)) as client:
        client.sendall(head("gone1", 100_000) + b"x")
    line = line_of(emulator, "gone1")
    assert (line["status"], line["severity"]) == (400, "WARNING")
    assert send(emulator, "POST", "/predict", JPEG).status == 200
    assert "Traceback" not in emulator.log()


def test_a_client_that_goes_away_before_the_answer(emulator: GcpEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port)) as client:
        client.sendall(head("gone2", len(JPEG)) + JPEG)
    assert line_of(emulator, "gone2")["status"] == 200
    assert send(emulator, "POST", "/predict", JPEG).status == 200
    assert "Traceback" not in emulator.log()


def test_broken_chunks_are_the_clients_fault(emulator: GcpEmulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=30) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")
        assert client.recv(12) == b"HTTP/1.1 400"
    assert "Traceback" not in emulator.log()


# -- faults -----------------------------------------------------------------------------------------------------------


def _missing(tmp_path: Path) -> str:
    return str(tmp_path / "swordfish" / "none.tflite")


def _corrupt(tmp_path: Path) -> str:
    path = tmp_path / "bees-wasps.tflite"
    path.write_bytes(Path(default_model()).read_bytes()[:20_000])
    return str(path)


@pytest.mark.parametrize("model", [_missing, _corrupt])
def test_a_model_that_cannot_be_loaded(tmp_path: Path, model: Callable[[Path], str]) -> None:
    with GcpEmulator(environ={"SERVERLESS_BEES_MODEL": model(tmp_path)}) as running:
        for _ in range(3):
            got = send(running, "POST", "/predict", JPEG)
            assert (got.status, got.json["type"]) == (503, "model-unavailable")
        ready = send(running, "GET", "/v2/health/ready")
        assert (ready.status, ready.json) == (503, {"ready": False})
        assert send(running, "GET", "/v2/health/live").status == 200
        log = running.log()
        assert str(tmp_path) not in log + got.body.decode()
        assert "swordfish" not in log
        said = [json.loads(line) for line in log.splitlines() if "the model cannot be loaded" in line]
        assert [line["severity"] for line in said] == ["ERROR"]  # once: it is not tried anew for each request
        assert "exited" not in log


def test_a_crash_is_a_500_without_a_trace(faulty: GcpEmulator) -> None:
    got = send(faulty, "GET", "/raise")
    assert (got.status, got.headers["X-Google-Status"]) == (500, "crash")
    assert b"swordfish" not in got.body
    assert send(faulty, "GET", "/").status == 200


def test_a_worker_that_dies_is_replaced(faulty: GcpEmulator) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        send(faulty, "GET", "/exit")
    assert send(faulty, "GET", "/").status == 200
    assert "exited with code 1" in faulty.log()


def test_a_function_that_takes_too_long_is_stopped_by_the_framework(faulty: GcpEmulator) -> None:
    start = time.monotonic()
    assert send(faulty, "GET", "/sleep").status == 500
    assert time.monotonic() - start < 5
    assert send(faulty, "GET", "/").status == 200


def test_a_setting_out_of_range_ends_the_start_and_is_named() -> None:
    with pytest.raises(EmulatorError, match="SERVERLESS_BEES_TOP_K is 'many'"):
        GcpEmulator(environ={"SERVERLESS_BEES_TOP_K": "many"}).start()


# -- the emulator itself ----------------------------------------------------------------------------------------------


def test_it_listens_on_the_loopback_interface_only(emulator: GcpEmulator) -> None:
    rows = [row.split() for name in ("tcp", "tcp6") for row in Path(f"/proc/net/{name}").read_text().splitlines()]
    listening = {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{emulator.port:04X}")}
    assert listening == {f"0100007F:{emulator.port:04X}"}


def test_it_dies_with_the_process_that_started_it() -> None:
    code = (
        "import time; from serverless_bees.tools.emulators.gcp import GcpEmulator; "
        "e = GcpEmulator(); e.start(); print(e.port, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        port = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()

    def closed() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) != 0

    assert wait_for(closed)


def test_a_folder_without_a_function_says_so(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    with pytest.raises(EmulatorError, match=r"main\.py"):
        GcpEmulator(tmp_path).start()


def test_the_deployment_that_the_readme_shows_is_closed() -> None:
    text = (adapter_folder("gcp") / "README.md").read_text()
    assert "--no-allow-unauthenticated" in text
    assert not re.search(r"(?<!no-)allow-unauthenticated", text)
