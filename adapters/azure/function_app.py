"""Azure Functions: an HTTP trigger's request in, the service's response out.

One catch-all route for all methods, so that every 404 and 405 is the service's own; ``host.json`` empties the route
prefix for the same reason. The function is synchronous: the worker runs it in its thread pool, and the service is made
for threads. Source of what a trigger gives and takes:
https://learn.microsoft.com/azure/azure-functions/functions-reference-python
"""

from __future__ import annotations

import logging
import os
import time

import azure.functions as func

from serverless_bees import observability
from serverless_bees.errors import SettingsError
from serverless_bees.service.app import Service
from serverless_bees.service.messages import Request, Response

AUTH_LEVEL = "SERVERLESS_BEES_AZURE_AUTH_LEVEL"

logger = logging.getLogger("serverless_bees.azure")


def auth_level() -> func.AuthLevel:
    """What opens the function: a function key, no key (``anonymous``), or the app's master key (``admin``)."""
    text = os.environ.get(AUTH_LEVEL, "").strip() or "function"
    try:
        return func.AuthLevel(text.lower())
    except ValueError as error:
        raise SettingsError(f"{AUTH_LEVEL} is {text!r}; it must be one of function, anonymous, admin") from error


def decode(req: func.HttpRequest, request_id: str) -> Request:
    """The request of an HTTP trigger; its URL is absolute, its header names are in lower case."""
    _, _, target = req.url.partition("://")
    path, _, query = target.partition("?")
    return Request(req.method, "/" + path.partition("/")[2], query, req.headers, req.get_body(), request_id)


def encode(response: Response) -> func.HttpResponse:
    """The response as the trigger's output takes it."""
    return func.HttpResponse(response.body, status_code=response.status, headers=response.headers)


app = func.FunctionApp(http_auth_level=auth_level())
service = Service()
logging.getLogger("serverless_bees").setLevel(service.settings.log_level)
service.warm_up()  # at import, so that a cold start pays for the model before its first request, not in it


@app.route(route="{*path}")
def bees(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    """Every request."""
    start = time.perf_counter()
    response = service.handle(decode(req, context.invocation_id))
    line = observability.fields(
        context.invocation_id,
        req.method,
        response.facts,
        1000 * (time.perf_counter() - start),
        # The host's own span, a child of the caller's; empty where the host does not trace.
        context.trace_context.trace_parent or req.headers.get("traceparent"),
    )
    message, dimensions = observability.custom_dimensions(line)
    logger.info(message, extra=dimensions)
    return encode(response)
