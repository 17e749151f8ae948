"""One structured line per invocation, in the shape that the provider indexes by itself.

A line says request id, route, status, cold or warm, milliseconds by stage and the label; never the picture and
never a URL's query. Sources: CloudWatch Embedded Metric Format
(https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html),
Cloud Logging's special fields (https://cloud.google.com/logging/docs/structured-logging), what the Functions worker
passes on to Application Insights (its dispatcher's ``on_logging``,
https://github.com/Azure/azure-functions-python-worker/blob/dev/workers/proxy_worker/dispatcher.py),
and W3C Trace Context (https://www.w3.org/TR/trace-context/).
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

METRICS_NAMESPACE = "ServerlessBees"
_STAGES = ("fetch", "decode", "invoke")


class TraceContext(NamedTuple):
    """What a ``traceparent`` header says: 32 and 16 hex digits, and whether the caller samples."""

    trace_id: str
    parent_id: str
    sampled: bool


def trace_context(header: str | None) -> TraceContext | None:
    """The parts of a ``traceparent`` header; None where there is none or it is invalid, as the standard has it."""
    match = re.fullmatch(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", header or "")
    if (
        not match
        or match[1] == "ff"
        or (match[1] == "00" and match[5])
        or not match[2].strip("0")
        or not match[3].strip("0")
    ):
        return None
    return TraceContext(match[2], match[3], bool(int(match[4], 16) & 1))


def cloud_traceparent(header: str | None) -> str | None:
    """An ``X-Cloud-Trace-Context`` header (``TRACE/SPAN;o=1``, the span in decimal) as a ``traceparent``."""
    match = re.fullmatch(r"([0-9a-fA-F]{32})/([0-9]{1,20})(?:;o=([0-9]{1,4}))?", header or "")
    if not match or int(match[2]) >= 1 << 64:
        return None
    sampled = int(match[3] or 0) & 1
    return f"00-{match[1].lower()}-{int(match[2]):016x}-{sampled:02x}"


def fields(
    request_id: str, method: str, facts: Mapping[str, Any], total_ms: float, traceparent: str | None
) -> dict[str, Any]:
    """What every provider's line says, under the same names."""
    trace = trace_context(traceparent)
    return {
        "request_id": request_id,
        "method": method,
        "route": facts.get("route", ""),
        "status": facts.get("status", 0),
        "start": "cold" if facts.get("cold") else "warm",
        "total_ms": round(total_ms, 3),
        **{f"{stage}_ms": ms for stage, ms in facts.get("ms", {}).items()},
        **{name: facts[name] for name in ("label", "instances", "failed", "problem") if name in facts},
        **({"trace_id": trace.trace_id, "parent_id": trace.parent_id, "sampled": trace.sampled} if trace else {}),
    }


def embedded_metrics(line: Mapping[str, Any]) -> str:
    """The line in CloudWatch Embedded Metric Format: metrics by route, and without a dimension."""
    metrics = [{"Name": "total_ms", "Unit": "Milliseconds"}]
    metrics += [{"Name": f"{stage}_ms", "Unit": "Milliseconds"} for stage in _STAGES if f"{stage}_ms" in line]
    metrics += [{"Name": name, "Unit": "Count"} for name in ("cold_starts", "client_errors", "server_errors")]
    status = int(line["status"])
    return _json(
        {
            "_aws": {
                "Timestamp": int(time.time() * 1000),
                "CloudWatchMetrics": [
                    {"Namespace": METRICS_NAMESPACE, "Dimensions": [[], ["route"]], "Metrics": metrics},
                ],
            },
            **line,
            "route": line["route"] or "none",  # a dimension's value must not be empty
            "cold_starts": int(line["start"] == "cold"),
            "client_errors": int(400 <= status < 500),
            "server_errors": int(status >= 500),
        }
    )


def cloud_logging(line: Mapping[str, Any], project: str | None) -> str:
    """The line as Cloud Logging takes it from standard output: severity, the request and its trace."""
    status = int(line["status"])
    trace: dict[str, Any] = {}
    if project and "trace_id" in line:
        trace["logging.googleapis.com/trace"] = f"projects/{project}/traces/{line['trace_id']}"
        trace["logging.googleapis.com/spanId"] = line["parent_id"]
        trace["logging.googleapis.com/trace_sampled"] = line["sampled"]
    return _json(
        {
            "severity": "ERROR" if status >= 500 else "WARNING" if status >= 400 else "INFO",
            "message": _message(line),
            "httpRequest": {
                "requestMethod": line["method"],
                "status": status,
                "latency": f"{line['total_ms'] / 1000:.6f}s",
            },
            "logging.googleapis.com/labels": {"execution_id": line["request_id"]},
            **trace,
            **line,
        }
    )


class CloudLoggingFormatter(logging.Formatter):
    """A record of ``logging`` as Cloud Logging takes it from standard output: one line with its severity."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        return _json({"severity": record.levelname, "message": super().format(record)})


def custom_dimensions(line: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The line as a message for Application Insights, and the dimensions to give beside it (``extra=…``).

    The Functions worker sends a record's message to its host and drops everything else of it, so the message is the
    line itself, in JSON: ``traces | extend line = parse_json(message)``. Where the worker exports through
    OpenTelemetry (PYTHON_APPLICATIONINSIGHTS_ENABLE_TELEMETRY), each ``extra`` becomes a custom dimension as well.
    """
    return _json(line), dict(line)


def _message(line: Mapping[str, Any]) -> str:
    return f"{line['method']} {line['route'] or '(no route)'} {line['status']}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
