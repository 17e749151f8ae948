"""Cloud Run function: Flask's request becomes a Request, a Response becomes Flask's response.

Deployed as it stands, with ``requirements.txt`` beside it; README.md says how.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import threading
import time
from urllib.parse import quote

import flask
import functions_framework
from werkzeug.exceptions import RequestEntityTooLarge

from serverless_bees import observability
from serverless_bees.service.app import Service
from serverless_bees.service.messages import Request, RequestError, Response, TooLargeError

MAX_BYTES = 32 * 1024 * 1024
"""Of a request's body and of a response's (https://cloud.google.com/run/quotas, HTTP/1); the framework has no limit."""

service = Service(max_response_bytes=MAX_BYTES)

handler = logging.StreamHandler(sys.stdout)
handler.setFormatter(observability.CloudLoggingFormatter())
logger = logging.getLogger("serverless_bees")
logger.setLevel(service.settings.log_level)
logger.addHandler(handler)
logger.propagate = False  # the framework's handler would say it again, without a severity


def warm_up() -> None:
    """Loads the model beside the worker's own start: a request that comes meanwhile waits for it."""
    threading.Thread(target=service.warm_up, daemon=True).start()


# Gunicorn's master imports this module, and its workers are forked from it: the model is theirs.
os.register_at_fork(after_in_child=warm_up)


@functions_framework.http
def predict(request: flask.Request) -> flask.Response:
    """The entry point: every path and every method comes here."""
    start = time.perf_counter()
    body, fault = read(request)
    response = service.handle(decode(request, body), fault)
    line = observability.fields(
        response.headers["x-request-id"], request.method, response.facts, 1000 * (time.perf_counter() - start),
        request.headers.get("traceparent")
        or observability.cloud_traceparent(request.headers.get("x-cloud-trace-context")),
    )  # fmt: skip
    sys.stdout.write(observability.cloud_logging(line, os.environ.get("GOOGLE_CLOUD_PROJECT")) + "\n")
    sys.stdout.flush()
    return encode(response, has_body=request.method != "HEAD")


# Flask would answer some paths itself, in HTML: /robots.txt, /favicon.ico, //predict. Asked first, it has no say.
if flask.has_app_context():
    flask.current_app.before_request(lambda: predict(flask.request))


def read(request: flask.Request) -> tuple[bytes, RequestError | None]:
    """The body, or why there is none."""
    # A Content-Length above it is refused before the first byte is read; reading chunks just stops there.
    request.max_content_length = MAX_BYTES + 1
    try:
        with contextlib.suppress(RequestEntityTooLarge):
            body = request.get_data(cache=False, parse_form_data=False)
            if len(body) < (request.content_length or 0):
                return b"", RequestError("the body is shorter than its Content-Length")
            if len(body) <= MAX_BYTES:
                return body, None
    except Exception:  # noqa: BLE001 - gunicorn's or the socket's: the client's chunks are broken, or it went away
        return b"", RequestError("the body cannot be read")
    discard(request)
    return b"", TooLargeError(f"the body has more bytes than the platform's limit, {MAX_BYTES}")


def discard(request: flask.Request) -> None:
    """Reads what is too large for a while: a client that still sends would see a broken connection and no answer."""
    stream, size = request.environ["wsgi.input"], 1 << 16
    with contextlib.suppress(Exception):
        for _ in range(MAX_BYTES // size):
            if not stream.read(size):
                break


def decode(request: flask.Request, body: bytes) -> Request:
    """Flask's request as the service takes it."""
    path, _, query = request.environ.get("RAW_URI", "").partition("?")
    if not path.startswith("/"):  # not gunicorn, or the absolute form of a request's target
        path, query = quote(request.path), request.environ.get("QUERY_STRING", "")
    execution_id = request.headers.get("function-execution-id", "")  # the framework makes one where none came
    return Request(
        request.method, path, query, {name.lower(): value for name, value in request.headers}, body,
        execution_id if re.fullmatch(r"[\w-]{1,64}", execution_id, re.ASCII) else "",
    )  # fmt: skip


def encode(response: Response, *, has_body: bool) -> flask.Response:
    """The service's response as Flask sends it, with no header of Flask's own making."""
    # An iterator, since after other bodies the framework reads the request's to its end, however large that is.
    answer = flask.Response(iter((response.body,)), response.status, list(response.headers.items()))
    if "content-type" not in response.headers:
        del answer.headers["content-type"]
    if has_body and response.status != 204:
        answer.headers["content-length"] = str(len(response.body))
    return answer
