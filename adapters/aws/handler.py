"""The function on AWS Lambda: ``handler.handler``, behind API Gateway, a Function URL or a load balancer, or by itself.

Each event source is one class with the same members: ``infer`` says whether an event is its, ``decode`` turns the
event into a Request, and ``encode`` turns the Response into what the source expects back.

Sources: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html (v1),
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html (v2),
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (Function URLs) and
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html (load balancers).
"""

# ruff: noqa: D102 - the members of an event source are described above
from __future__ import annotations

import base64
import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import Any

from serverless_bees.observability import embedded_metrics, fields
from serverless_bees.service.app import ROUTES, Service
from serverless_bees.service.messages import JSON, Request, Response

Event = Mapping[str, Any]


class HttpApi:
    """Payload format 2.0: API Gateway's HTTP APIs and Function URLs."""

    @staticmethod
    def infer(event: Event) -> bool:
        return event.get("version") == "2.0" and "http" in _context(event) and "routeArn" not in event

    @staticmethod
    def decode(event: Event, request_id: str) -> Request:
        context = _context(event)
        _, _, template = event.get("routeKey", "").partition(" ")
        return Request(
            method=context["http"]["method"],
            path=_path(event["rawPath"], template, event.get("pathParameters"), context.get("stage")),
            query=event.get("rawQueryString") or "",
            headers=_headers((event.get("headers") or {}).items()),
            body=_body(event),
            id=request_id,
        )

    @staticmethod
    def encode(response: Response, event: Event) -> dict[str, Any]:
        return {"statusCode": response.status, "headers": dict(response.headers), **_text_or_base64(response)}


class RestApi:
    """Payload format 1.0: API Gateway's REST APIs, and HTTP APIs that are set to it."""

    @staticmethod
    def infer(event: Event) -> bool:
        # An authorizer gets the same members, and one more.
        return {"httpMethod", "path", "requestContext"} <= event.keys() and "methodArn" not in event

    @staticmethod
    def decode(event: Event, request_id: str) -> Request:
        template = event.get("resource") or ""
        # Only an HTTP API has a version here, and only its path has the stage in front.
        stage = _context(event).get("stage") if event.get("version") == "1.0" else None
        return Request(
            method=event["httpMethod"],
            path=_path(event["path"], "" if template.startswith("$") else template, event.get("pathParameters"), stage),
            query=_encoded_query(event),
            headers=_headers(_pairs(event, "multiValueHeaders", "headers")),
            body=_body(event),
            id=request_id,
        )

    encode = HttpApi.encode


class LoadBalancer:
    """An Application Load Balancer's target group, with multi-value headers or without."""

    @staticmethod
    def infer(event: Event) -> bool:
        return "elb" in _context(event) and "httpMethod" in event

    @staticmethod
    def decode(event: Event, request_id: str) -> Request:
        # Names and values of the query arrive as the client encoded them.
        pairs = _pairs(event, "multiValueQueryStringParameters", "queryStringParameters")
        return Request(
            method=event["httpMethod"],
            path=_path(event["path"], "", None, None),
            query="&".join(f"{name}={value}" for name, value in pairs),
            headers=_headers(_pairs(event, "multiValueHeaders", "headers")),
            body=_body(event),
            id=request_id,
        )

    @staticmethod
    def encode(response: Response, event: Event) -> dict[str, Any]:
        from http import HTTPStatus

        headers: dict[str, Any] = dict(response.headers)
        if "multiValueHeaders" in event:
            headers = {"multiValueHeaders": {name: [value] for name, value in headers.items()}}
        else:
            headers = {"headers": headers}
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
        return {"statusCode": response.status, "statusDescription": status, **headers, **_text_or_base64(response)}


class Direct:
    """An invocation by hand, by an SDK or by Step Functions: the event is the JSON body of POST /predict."""

    KEYS = ("url", "image", "instances")

    @staticmethod
    def infer(event: Event) -> bool:
        return any(key in event for key in Direct.KEYS)

    @staticmethod
    def decode(event: Event, request_id: str) -> Request:
        body = json.dumps(event).encode()
        return Request("POST", "/predict", headers={"content-type": JSON}, body=body, id=request_id)

    @staticmethod
    def encode(response: Response, event: Event) -> Any:
        answer = json.loads(response.body)
        if response.status != 200:
            raise _fault(answer["type"], answer["detail"])
        return answer


SOURCES = (HttpApi, LoadBalancer, RestApi, Direct)


def handler(event: Any, context: Any) -> Any:
    """What Lambda calls with each event."""
    start = time.perf_counter()
    source = next((source for source in SOURCES if isinstance(event, dict) and source.infer(event)), None)
    if source is None:
        raise _fault(
            "unknown-event",
            "this function knows requests from API Gateway (payload formats 1.0 and 2.0), Function URLs and "
            f"Application Load Balancers, and direct invocations with one of the keys {', '.join(Direct.KEYS)}",
        )
    request = source.decode(event, context.aws_request_id)
    response = service.handle(request)
    total_ms = 1000 * (time.perf_counter() - start)
    line = fields(request.id, request.method, response.facts, total_ms, request.headers.get("traceparent"))
    sys.stdout.write(embedded_metrics(line) + "\n")
    return source.encode(response, event)


def _context(event: Event) -> Mapping[str, Any]:
    context = event.get("requestContext")
    return context if isinstance(context, dict) else {}


def _path(path: str, template: str, parameters: Mapping[str, str] | None, stage: str | None) -> str:
    """The path as the client sent it, without the stage or the base path that the API's address has in front.

    The route that matched tells them apart: of ``/base/v2/health/live`` and the route ``/{proxy+}``, whose
    parameter is ``v2/health/live``, ``/base`` is the prefix. A catch-all route has no template; there the stage goes.
    """
    if template:
        route = re.sub(r"\{(.+?)\+?\}", lambda match: (parameters or {}).get(match[1], "").lstrip("/"), template)
        decoded = path
        if "%" in path:
            from urllib.parse import unquote

            decoded = unquote(path)
        prefix = decoded[: -len(route)] if decoded.endswith(route) else ""  # never percent-encoded
        if template == "/":
            path = "/"
        elif path.startswith(f"{prefix}/") and not prefix.endswith("/"):
            path = path[len(prefix) :]
    elif stage and f"{path}/".startswith(f"/{stage}/"):
        path = path[len(stage) + 1 :]
    # HTTP APIs decode the path, the others leave it: what no path can hold is encoded again (RFC 3986, 3.3).
    return re.sub(r"%(?![0-9A-Fa-f]{2})|[^\w%!$&'()*+,;=:@~./-]|[^\x00-\x7f]", _percent, path) or "/"


def _percent(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _pairs(event: Event, many: str, one: str) -> list[tuple[str, str]]:
    """Names and values, from the member that has every value or from the one that has the last."""
    if event.get(many):
        return [(name, value) for name, values in event[many].items() for value in values]
    return list((event.get(one) or {}).items())


def _encoded_query(event: Event) -> str:
    pairs = _pairs(event, "multiValueQueryStringParameters", "queryStringParameters")
    if not pairs:
        return ""
    from urllib.parse import urlencode

    return urlencode(pairs)


def _headers(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in pairs:
        name = name.lower()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _body(event: Event) -> bytes:
    body = event.get("body") or ""
    return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode("utf-8", "surrogatepass")


def _text_or_base64(response: Response) -> dict[str, Any]:
    kind = response.headers.get("content-type", "")
    if not response.body or "json" in kind or kind.startswith("text/"):
        return {"body": response.body.decode(), "isBase64Encoded": False}
    return {"body": base64.b64encode(response.body).decode(), "isBase64Encoded": True}


def _fault(kind: str, message: str) -> Exception:
    """What ends an invocation as failed, so that retries, destinations, Step Functions' Catch and X-Ray see it.

    The runtime's own exception: the caller gets ``{"errorType": kind, "errorMessage": message}`` without a trace.
    """
    try:
        from awslambdaric.lambda_runtime_exception import FaultException  # type: ignore[import-not-found,unused-ignore]
    except ImportError:  # outside of Lambda
        return RuntimeError(f"{kind}: {message}")
    fault: Exception = FaultException(kind, message)
    return fault


def _load_everything() -> None:
    """Before a snapshot: what a request would import stands in the snapshot, and costs nothing after a restore."""
    service.warm_up()
    for module in sorted({module for methods in ROUTES.values() for module, _ in methods.values()}):
        import_module(f"serverless_bees.service.{module}")


def _start_anew() -> None:
    """After a restore: a model that could not be loaded before the snapshot is tried again at once."""
    global service
    if not service.is_ready():
        service = Service()
        service.warm_up()


# This is Lambda's INIT phase.
service = Service()
logging.getLogger("serverless_bees").setLevel(service.settings.log_level)
service.warm_up()
try:
    from snapshot_restore_py import (  # type: ignore[import-not-found,unused-ignore]
        register_after_restore,
        register_before_snapshot,
    )
except ImportError:  # outside of Lambda
    pass
else:
    register_before_snapshot(_load_everything)
    register_after_restore(_start_anew)
