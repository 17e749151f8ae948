"""The service: one request in, one response out, the same on every provider."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

from .. import __version__
from ..errors import ModelError, ServerlessBeesError
from ..predictor import Predictor
from ..settings import Settings, current
from .messages import (
    JSON,
    MethodNotAllowedError,
    NotFoundError,
    Request,
    Response,
    TooLargeError,
    problem,
    problem_headers,
    to_json,
)

logger = logging.getLogger(__name__)

MODEL_RETRY_SECONDS = 30.0
"""How long a model that could not be loaded is not tried again."""

# Path -> method -> the module of this package and the function in it. HEAD is a GET without its body, OPTIONS
# is answered from this table, and a module is imported when its first request comes.
ROUTES: dict[str, dict[str, tuple[str, str]]] = {
    "/": {"GET": ("app", "index")},
    "/predict": {"GET": ("predict", "by_query"), "POST": ("predict", "by_body")},
    "/openapi.json": {"GET": ("openapi", "document")},
    "/v2": {"GET": ("oip", "server_metadata")},
    "/v2/health/live": {"GET": ("oip", "live")},
    "/v2/health/ready": {"GET": ("oip", "ready")},
    "/v2/models/{model}": {"GET": ("oip", "model_metadata")},
    "/v2/models/{model}/ready": {"GET": ("oip", "model_ready")},
    "/v2/models/{model}/infer": {"POST": ("oip", "infer")},
    "/v2/models/{model}/versions/{version}": {"GET": ("oip", "model_metadata")},
    "/v2/models/{model}/versions/{version}/ready": {"GET": ("oip", "model_ready")},
    "/v2/models/{model}/versions/{version}/infer": {"POST": ("oip", "infer")},
}
_SPLIT_ROUTES = [(tuple(path.split("/")), path) for path in ROUTES]


class Call(NamedTuple):
    """What a route's function gets: the request, and what it leaves for the log and for Server-Timing."""

    service: Service
    request: Request
    parameters: Mapping[str, str]
    """What stands in the path's braces."""
    facts: dict[str, Any]
    timings: dict[str, float]
    """Seconds by stage: fetch, decode, invoke."""


class Service:
    """Answers requests with one Predictor, which it makes at the first need of it.

    Args:
        settings: by default the environment's.
        max_response_bytes: the largest body that the platform takes from us; 0 where it has no such limit.
    """

    def __init__(self, settings: Settings | None = None, *, max_response_bytes: int = 0) -> None:
        self.settings = settings or current()
        self.max_response_bytes = max_response_bytes
        self._lock = threading.Lock()
        self._predictor: Predictor | None = None
        self._failure: ModelError | None = None
        self._retry_at = 0.0
        self._cold = True

    @property
    def predictor(self) -> Predictor:
        """The Predictor.

        Raises:
            ModelError: the model cannot be loaded, now or less than MODEL_RETRY_SECONDS ago.
        """
        with self._lock:
            if self._predictor is None:
                if self._failure and time.monotonic() < self._retry_at:
                    raise self._failure
                try:
                    self._predictor = Predictor(settings=self.settings)
                except ModelError as error:
                    self._failure, self._retry_at = error, time.monotonic() + MODEL_RETRY_SECONDS
                    logger.error("the model cannot be loaded: %s", without_paths(str(error)))
                    raise
            return self._predictor

    def is_ready(self) -> bool:
        """Whether the model is loaded, or can be."""
        try:
            return bool(self.predictor)
        except ModelError:
            return False

    def warm_up(self) -> None:
        """Loads the model and predicts once, so that the first request need not; a failure is left to it."""
        for module in ("serverless_bees.service.predict", "PIL.JpegImagePlugin"):
            import_module(module)  # what nearly every first request needs
        with contextlib.suppress(ModelError):  # said in the log by now; requests get 503, and readiness says so
            self.predictor.warm_up()

    def handle(self, request: Request, fault: ServerlessBeesError | None = None) -> Response:
        """The response to ``request``; whatever goes wrong becomes a problem document.

        ``fault`` is why the adapter has no body to hand over, where it has none: too large, or cut off.
        """
        facts: dict[str, Any] = {"route": "", "cold": self._cold}
        self._cold = False
        timings: dict[str, float] = {}
        try:
            status, headers, body = self._answer(request, fault, facts, timings)
        except ServerlessBeesError as error:
            status, headers, body = self._refusal(request, error, facts)
        except Exception as error:  # noqa: BLE001 - the last line of defence: the client gets a 500 without a trace
            logger.error("internal error: %s", _where(error))
            status, headers, body = self._refusal(request, error, facts)
        headers = {
            **headers,
            **self._cors(request),
            "x-request-id": _request_id(request.id),
            "x-content-type-options": "nosniff",
        }
        if timings:
            headers["server-timing"] = ", ".join(f"{stage};dur={1000 * s:.3f}" for stage, s in timings.items())
        facts.update(
            request_id=headers["x-request-id"],
            status=status,
            ms={stage: round(1000 * seconds, 3) for stage, seconds in timings.items()},
        )
        return Response(status, headers, b"" if request.method == "HEAD" else body, facts)

    def _answer(
        self,
        request: Request,
        fault: ServerlessBeesError | None,
        facts: dict[str, Any],
        timings: dict[str, float],
    ) -> tuple[int, dict[str, str], bytes]:
        route, parameters = _find(request.path)
        facts["route"] = route
        methods = ROUTES[route]
        method = "GET" if request.method == "HEAD" and "GET" in methods else request.method
        if method == "OPTIONS":
            return 204, {"allow": _allow(route)}, b""
        if method not in methods:
            raise MethodNotAllowedError(
                f"{request.method} is not allowed on {route}, {_allow(route)} are", _allow(route)
            )
        if fault:
            raise fault
        module, function = methods[method]
        handler = getattr(import_module("." + module, __package__), function)
        answer: tuple[int, dict[str, str], bytes] = handler(Call(self, request, parameters, facts, timings))
        if 0 < self.max_response_bytes < len(answer[2]):
            raise TooLargeError(
                f"the answer has {len(answer[2])} bytes, the platform's limit is {self.max_response_bytes}; "
                "ask for fewer pictures, or for fewer classes with top_k"
            )
        return answer

    def _refusal(self, request: Request, error: Exception, facts: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        document = problem(error)
        facts["problem"] = document["type"]
        headers = problem_headers(error, document)
        if (request.path + "/").startswith("/v2/"):  # the Open Inference Protocol has a form of its own
            headers["content-type"] = JSON
            return int(str(document["status"])), headers, to_json({"error": document["detail"]})
        return int(str(document["status"])), headers, to_json(document)

    def _cors(self, request: Request) -> dict[str, str]:
        origin, allowed = request.headers.get("origin"), self.settings.cors_origins
        if not origin or not allowed:
            return {}
        headers = {"vary": "Origin"}
        if "*" in allowed or origin in allowed:
            headers["access-control-allow-origin"] = "*" if "*" in allowed else origin
            headers["access-control-expose-headers"] = (
                "X-Request-Id, Server-Timing, Retry-After, Inference-Header-Content-Length"
            )
            if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
                headers["access-control-allow-methods"] = "GET, HEAD, POST, OPTIONS"
                headers["access-control-allow-headers"] = "Content-Type, Inference-Header-Content-Length"
                headers["access-control-max-age"] = "86400"
        return headers


def index(call: Call) -> tuple[int, dict[str, str], bytes]:
    """What is served here, with links."""
    info = call.service.predictor.info
    body = {
        "name": "serverless-bees",
        "version": __version__,
        "model": info._asdict(),
        "links": {
            "predict": "/predict",
            "openapi": "/openapi.json",
            "inference": "/v2",
            "model": f"/v2/models/{info.name}",
        },
    }
    return 200, {"content-type": JSON}, to_json(body)


def _request_id(given: str) -> str:
    """The platform's id, or one of ours where it gave none, or one that a header or a log line should not hold."""
    usable = 0 < len(given) <= 128 and given.isascii() and given.replace("-", "").replace("_", "").isalnum()
    return given if usable else os.urandom(8).hex()


def _find(path: str) -> tuple[str, dict[str, str]]:
    from urllib.parse import quote, unquote

    given = [unquote(segment) for segment in path.split("/")] if "%" in path else path.split("/")
    for segments, route in _SPLIT_ROUTES:
        if len(segments) == len(given):
            pairs = list(zip(segments, given, strict=True))
            if all(segment == text or (segment.startswith("{") and text) for segment, text in pairs):
                return route, {segment[1:-1]: text for segment, text in pairs if segment.startswith("{")}
    # Not the path as it came: some platforms hand it over decoded, and the answer is to be the same.
    raise NotFoundError(f"there is no route {quote(unquote(path))[:200]!r}; / lists what there is")


def _allow(route: str) -> str:
    methods = ROUTES[route]
    return ", ".join([*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"])


def without_paths(text: str) -> str:
    """``text`` with each absolute path cut down to its last part: logs do not tell where things are."""
    import re

    return re.sub(r"(?<![\w:/])/(?:[^/\s'\"]+/)+", "", text)


def _where(error: BaseException) -> str:
    """The class of an error and the line that raised it; its message might hold what a client sent."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    at = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""
    return type(error).__name__ + at
