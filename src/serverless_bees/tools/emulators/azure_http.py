"""How the host of Azure Functions reads a request: routes and levels of functions, paths, headers, ``host.json``.

Sources: https://github.com/Azure/azure-functions-host, and Kestrel, the web server that it is built on
(https://github.com/dotnet/aspnetcore).
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, unquote_to_bytes


class Function(NamedTuple):
    """One function with an HTTP trigger."""

    id: str
    name: str
    trigger: str
    """The argument that takes the request."""
    level: str
    methods: frozenset[str]
    """Empty: all."""
    route: re.Pattern[str]
    rank: tuple[int, ...]
    """Routes are tried in this order: literal segments before parameters before a catch-all."""


class HostJson(NamedTuple):
    """The part of ``host.json`` that is imitated; 0 is no limit."""

    prefix: str
    timeout: float
    outstanding: int
    concurrent: int


def read_host_json(folder: Path) -> HostJson:
    """What ``host.json`` says, with the platform's defaults."""
    document = json.loads((folder / "host.json").read_text("utf-8"))
    http = document.get("extensions", {}).get("http", {})
    text = document.get("functionTimeout", "00:30:00")
    hours, minutes, seconds = (0, 0, 0) if text == "-1" else (float(part) for part in text.split(":"))
    return HostJson(
        http.get("routePrefix", "api").strip("/"),
        3600 * hours + 60 * minutes + seconds,
        max(http.get("maxOutstandingRequests", 0), 0),
        max(http.get("maxConcurrentRequests", 0), 0),
    )


def http_functions(published: list[dict[str, Any]], prefix: str) -> list[Function]:
    """The functions with an HTTP trigger among those that the worker publishes."""
    functions = []
    for entry in published:
        for binding in entry["bindings"]:
            if binding["type"] == "httpTrigger":
                template = "/".join(part for part in (prefix, binding.get("route", entry["name"]).strip("/")) if part)
                methods = frozenset(method.upper() for method in binding.get("methods") or ())
                level = (binding.get("authLevel") or "function").lower()
                functions.append(
                    Function(entry["id"], entry["name"], binding["name"], level, methods, *route_pattern(template))
                )
    return sorted(functions, key=lambda function: function.rank)


def route_pattern(template: str) -> tuple[re.Pattern[str], tuple[int, ...]]:
    """A route template (``thing/{id}/{*rest}``) as a pattern over a path, and its rank."""
    pattern, rank = "", []
    for segment in template.split("/") if template else ():
        match = re.fullmatch(r"\{(\*{0,2})(\w+)(:[^?}]*)?(\?)?\}", segment)
        if match and match[3]:
            raise SystemExit(f"the route {template!r} has a constraint, which is not imitated")
        if match and match[1]:
            pattern += f"(?:/(?P<{match[2]}>.*))?"
            rank.append(3)
        elif match:
            pattern += f"(?:/(?P<{match[2]}>[^/]+)){match[4] or ''}"
            rank.append(2 if match[4] else 1)
        else:
            pattern += "/" + re.escape(segment)
            rank.append(0)
    return re.compile(pattern + "/?", re.IGNORECASE | re.DOTALL), tuple(rank)


def merged(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Names in lower case; values that came more than once joined by commas, as the host hands them on.

    Raises:
        ValueError: a value is not UTF-8.
    """
    found: dict[str, str] = {}
    for name, raw in headers:
        value = raw.encode("latin-1").decode("utf-8")
        found[name.lower()] = f"{found[name.lower()]},{value}" if name.lower() in found else value
    return found


def kestrel_path(target: str) -> str:
    """A path as Kestrel decodes it and as the host encodes it again for the function.

    %2F stays as it is, dot segments are resolved, and what need not be encoded no longer is.

    Raises:
        ValueError: the path holds a null character.
    """
    pieces = re.split("(%2[Ff])", target)
    decoded = "".join(piece if number % 2 else _decoded(piece) for number, piece in enumerate(pieces))
    if "\0" in decoded:
        raise ValueError(target)
    segments: list[str] = []
    for segment in decoded.split("/")[1:]:
        if segment == ".." and segments:
            segments.pop()
        elif segment not in (".", ".."):
            segments.append(segment)
    if decoded.endswith(("/.", "/..")):
        segments.append("")
    plain = "/" + "/".join(segments)
    return "".join(
        part if number % 2 else quote(part, safe="/!$&'()*+,;=:@-._~")
        for number, part in enumerate(re.split("(%[0-9A-Fa-f]{2})", plain))
    )


def _decoded(piece: str) -> str:
    try:
        return unquote_to_bytes(piece).decode()
    except UnicodeDecodeError:
        return piece  # bytes that are no UTF-8 stay encoded


def trace_context(headers: Mapping[str, str]) -> tuple[str, str]:
    """The host's own span, a child of the caller's where that names one (W3C Trace Context), and the trace state."""
    match = re.fullmatch("00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", headers.get("traceparent", ""))
    if match and match[1].strip("0") and match[2].strip("0"):
        return f"00-{match[1]}-{secrets.token_hex(8)}-{match[3]}", headers.get("tracestate", "")
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00", ""
