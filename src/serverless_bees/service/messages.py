"""What comes in and what goes out, the same for every provider, and the problem documents of RFC 9457."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from ..errors import ServerlessBeesError

JSON = "application/json"
PROBLEM_JSON = "application/problem+json"


class Request(NamedTuple):
    """One HTTP request, as an adapter hands it over."""

    method: str
    path: str
    """As the client sent it, percent-encoded, without the stage or prefix that the platform put in front."""
    query: str = ""
    """What stands behind the question mark, percent-encoded."""
    headers: Mapping[str, str] = {}
    """Names in lower case; values that came more than once joined by commas."""
    body: bytes = b""
    id: str = ""
    """The platform's own id of the request."""


class Response(NamedTuple):
    """One HTTP response. ``facts`` is for the log line and not for the client."""

    status: int
    headers: Mapping[str, str] = {}
    body: bytes = b""
    facts: Mapping[str, Any] = {}


# Type of a problem -> status and title. 5xx is kept for faults of our own, so that an alarm on it means something.
PROBLEMS = {
    "invalid-request": (400, "The request is malformed"),
    "not-found": (404, "There is nothing here"),
    "method-not-allowed": (405, "The method is not allowed here"),
    "length-required": (411, "The request needs a Content-Length"),
    "payload-too-large": (413, "The payload is too large"),
    "image-too-large": (413, "The picture has too many pixels"),
    "unsupported-media-type": (415, "The media type is not supported"),
    "invalid-image": (422, "The picture cannot be used"),
    "url-not-allowed": (422, "The URL is not allowed"),
    "fetch-failed": (424, "The picture could not be fetched"),
    "fetch-timeout": (424, "The picture's server was too slow"),
    "internal": (500, "Something went wrong inside"),
    "model-unavailable": (503, "The model is not available"),
    "overloaded": (503, "All interpreters are busy"),
}
RETRY_AFTER_SECONDS = 1

# What these say stays in the log: their messages may hold a path.
_KEPT_INSIDE = {
    "internal": "the fault is in the service's log, under the request's id",
    "model-unavailable": "the model cannot be loaded or run; the reason is in the service's log",
}


class RequestError(ServerlessBeesError):
    """The request itself is at fault."""

    type = "invalid-request"


class NotFoundError(RequestError):
    """No such route, model or version."""

    type = "not-found"


class MethodNotAllowedError(RequestError):
    """The route exists, but not for this method."""

    type = "method-not-allowed"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class LengthRequiredError(RequestError):
    """A chunked body that the platform dropped."""

    type: ClassVar[str] = "length-required"


class MediaTypeError(RequestError):
    """The Content-Type or Content-Encoding is not one that a route takes."""

    type: ClassVar[str] = "unsupported-media-type"


class TooLargeError(RequestError):
    """More of something than the limit."""

    type: ClassVar[str] = "payload-too-large"


def to_json(value: object) -> bytes:
    """Compact JSON in UTF-8, keys in the order given."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def problem(error: BaseException) -> dict[str, object]:
    """The problem document of an error: type, title, status, detail; a stranger's error is ``internal``."""
    kind = error.type if isinstance(error, ServerlessBeesError) and error.type in PROBLEMS else "internal"
    status, title = PROBLEMS[kind]
    return {"type": kind, "title": title, "status": status, "detail": _KEPT_INSIDE.get(kind) or str(error)}


def problem_headers(error: BaseException, document: Mapping[str, object]) -> dict[str, str]:
    """The headers that go with a problem document."""
    headers = {"content-type": PROBLEM_JSON}
    if isinstance(error, MethodNotAllowedError):
        headers["allow"] = error.allow
    if document["type"] == "overloaded":
        headers["retry-after"] = str(RETRY_AFTER_SECONDS)
    return headers
