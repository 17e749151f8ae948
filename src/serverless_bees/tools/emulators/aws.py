"""AWS Lambda: the real Runtime Interface Emulator and interface client, behind an imitated front.

The front is what stands before a function: API Gateway, a Function URL or a load balancer. It turns each HTTP
request into that service's event, and the function's answer back. Sources of its rules, beside those that
``adapters/aws/handler.py`` names: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html, and, for which paths arrive decoded,
captures from live APIs (https://github.com/hotsock/voker/pull/8).
"""

from __future__ import annotations

import base64
import http.client
import json
import platform
import queue
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack
from urllib.parse import parse_qsl, unquote

from .base import HOST, Emulator, EmulatorError, Options, Part, answers, free_port, make_environment
from .front import Answer, Front, Received

MIB = 1 << 20
PAYLOAD_BYTES = 6 * MIB
"""Of a synchronous invocation's event, and of its answer."""

_REGION, _ACCOUNT, _API = "eu-central-1", "123456789012", "emulated00"
_INVOCATIONS = "/2015-03-31/functions/function/invocations"
# Of a connection and not of a request; API Gateway and the load balancer keep them (RFC 9110, 7.6.1).
_HOP_BY_HOP = {
    "connection",
    "expect",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


class FunctionError(EmulatorError):
    """The function failed: it raised, crashed, ran out of time or answered too much. ``payload`` is what was said."""

    def __init__(self, payload: Any) -> None:
        super().__init__(str(payload))
        self.payload = payload


class PayloadTooLargeError(EmulatorError):
    """An event of more than 6 MiB, which the Invoke API refuses."""


class FrontKind(NamedTuple):
    """One service that stands before a function: its events, its limits, and its words when something fails."""

    event: Callable[[Received], dict[str, Any]]
    body_limit: int
    answer_limit: int
    seconds: float
    """How long it waits for the function."""
    too_large: Answer
    failed: Answer
    too_slow: Answer
    header_members: tuple[str, ...] = ("headers", "multiValueHeaders")
    """Where in the function's answer it looks for headers."""
    infers: bool = False
    """Whether an answer without a statusCode is taken for the body of a 200."""


class AwsEmulator(Emulator):
    """One Lambda function. Beside what every emulator takes:

    Args:
        front: ``http-api``, ``rest-api``, ``function-url``, ``alb`` or ``alb-multi`` (multi-value headers on).
        timeout: the function's own, in whole seconds.
        memory: megabytes that the function is told it has; not enforced.
        environments: how many requests are served at once, each in a process of its own; Lambda makes as many as
            there are requests, here the others wait.
    """

    provider = "aws"
    parts = (
        Part(
            "invocations, timeouts, restarts", True, "AWS's Runtime Interface Emulator, out of the wheel of aws-sam-cli"
        ),
        Part("event in, answer out, context, log", True, "awslambdaric, the interface client of Lambda's Python image"),
        Part("API Gateway, Function URL, ALB", False, "their events, limits and errors, as AWS's documents have them"),
        Part("identity (IAM), throttling, quotas", False, "not there: every request is let through"),
        Part("Amazon Linux, memory, CPU share, disk", False, "this machine's; Python writes no bytecode, as on Lambda"),
    )

    def __init__(
        self,
        source: Path | None = None,
        *,
        front: str = "http-api",
        timeout: int = 30,
        memory: int = 1024,
        environments: int = 1,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(source, **options)
        if front not in FRONTS:
            raise ValueError(f"there is no front {front!r}; there are {', '.join(FRONTS)}")
        self.front = FRONTS[front]
        self._timeout, self._memory = timeout, memory
        # Two invocations at once would end an emulator: a worker for each, and one is taken at a time.
        self._workers = ThreadPoolExecutor(environments, "lambda")
        self._idle: queue.LifoQueue[int] = queue.LifoQueue()
        self._environments = environments

    def invoke(self, event: object) -> Any:
        """What the function returns for ``event``, as ``aws lambda invoke`` gives it.

        Raises:
            FunctionError: it failed.
            PayloadTooLargeError: the event has more than 6 MiB.
        """
        payload = json.dumps(event, ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(payload) > PAYLOAD_BYTES:
            raise PayloadTooLargeError(
                f"Request must be smaller than {PAYLOAD_BYTES} bytes for the InvokeFunction operation"
            )
        return json.loads(self._workers.submit(self._invoke, payload).result())

    def locks(self) -> list[Path]:
        """What Lambda's Python image has, and before it the function's own lock, if it has one."""
        return [lock for lock in super().locks() if lock.exists()]

    def function_environ(self, function: Path) -> dict[str, str]:
        """As https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html has it."""
        return {
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{self.python}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(self._memory),
            "AWS_LAMBDA_FUNCTION_NAME": "serverless-bees",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(self._timeout),
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/serverless-bees",
            "AWS_REGION": _REGION,
            "LAMBDA_TASK_ROOT": str(function),
            "PYTHONDONTWRITEBYTECODE": "1",  # the disk of a function is read-only
            "TZ": ":UTC",
            **super().function_environ(function),
        }

    def _launch(self, function: Path, python: Path) -> None:
        emulator = runtime_interface_emulator(self.python)
        self._stack.callback(self._workers.shutdown)
        for _ in range(self._environments):
            port = free_port()
            addresses = {
                "--runtime-interface-emulator-address": f"{HOST}:{port}",
                "--runtime-api-address": f"{HOST}:{free_port()}",
            }
            options = [part for option in addresses.items() for part in option]
            process = self._spawn(
                [emulator, *options, python, "-m", "awslambdaric", "handler.handler"],
                cwd=function,
                environ=self.function_environ(function),
            )
            self._wait_until_ready(process, partial(answers, f"http://{HOST}:{port}/"))
            self._idle.put(port)
        try:
            front = Front(self.port, self._answer, self.front.body_limit)
        except OSError as error:
            raise EmulatorError(f"cannot listen on {HOST}:{self.port}: {error.strerror}") from error
        self._stack.enter_context(front)

    def _invoke(self, payload: bytes) -> bytes:
        port = self._idle.get()
        connection = http.client.HTTPConnection(HOST, port, timeout=self._timeout + 60)
        try:
            connection.request("POST", _INVOCATIONS, payload, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise FunctionError(f"the runtime interface emulator failed: {error}") from error
        finally:
            connection.close()
            self._idle.put(port)
        try:
            value = json.loads(answer)
        except ValueError:
            raise FunctionError(answer.decode(errors="replace")) from None  # "Task timed out after …"
        if response.status != 200 or (isinstance(value, dict) and {"errorMessage", "errorType"} <= value.keys()):
            raise FunctionError(value)
        return answer

    def _answer(self, received: Received) -> Answer:
        front = self.front
        if received.body is None:
            return front.too_large
        payload = json.dumps(front.event(received), ensure_ascii=False).encode("utf-8", "surrogatepass")
        if len(payload) > PAYLOAD_BYTES:
            return front.too_large
        invocation = self._workers.submit(self._invoke, payload)
        try:
            answer = invocation.result(front.seconds)
            if len(answer) > front.answer_limit:
                return front.failed
            return _decoded(json.loads(answer), front)
        except TimeoutError:
            return front.too_slow
        except (FunctionError, ValueError, TypeError, KeyError, AttributeError):  # an answer that is none
            return front.failed


def runtime_interface_emulator(python: str) -> Path:
    """AWS's binary for this machine, out of the wheel of aws-sam-cli, which is installed for it alone.

    Raises:
        EmulatorError: it could not be installed, or there is none for this machine.
    """
    names = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64"}
    if platform.system() != "Linux" or platform.machine() not in names:
        raise EmulatorError(f"the Runtime Interface Emulator runs on Linux on {' and '.join(names)}")
    lock = Path(__file__).parent / "locks" / "aws-rie.txt"
    folder = make_environment("aws-rie", [lock], python, dependencies=False).parents[1]
    return next(folder.glob(f"lib/*/site-packages/samcli/local/rapid/{names[platform.machine()]}"))


def _forwarded(received: Received, *, lower: bool) -> list[tuple[str, str]]:
    """The headers as a front passes them on."""
    headers = [(name, value) for name, value in received.headers if name.lower() not in _HOP_BY_HOP]
    if received.body and not received.header("content-length"):  # it came in chunks
        headers.append(("Content-Length", str(len(received.body))))
    root = f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    headers += [("X-Forwarded-For", HOST), ("X-Forwarded-Port", "443"), ("X-Forwarded-Proto", "https")]
    headers += [] if received.header("x-amzn-trace-id") else [("X-Amzn-Trace-Id", root)]
    return [(name.lower(), value) for name, value in headers] if lower else headers


def _many(pairs: list[tuple[str, str]]) -> dict[str, list[str]]:
    many: dict[str, list[str]] = {}
    for name, value in pairs:
        many.setdefault(name, []).append(value)
    return many


def _body(received: Received, *, always_base64: bool = False) -> dict[str, Any]:
    """The body as text where its type says that it is, and it is; as base64 otherwise."""
    body = received.body or b""
    kind = received.header("content-type").partition(";")[0].strip().lower()
    texts = ("application/json", "application/javascript", "application/xml")
    if not always_base64 and not received.header("content-encoding") and (kind in texts or kind.startswith("text/")):
        try:
            return {"body": body.decode(), "isBase64Encoded": False}
        except UnicodeDecodeError:
            pass
    return {"body": base64.b64encode(body).decode(), "isBase64Encoded": bool(body)}


def _payload_2(received: Received, raw_path: str) -> dict[str, Any]:
    headers = _many(_forwarded(received, lower=True))
    cookies = [cookie.strip() for value in headers.pop("cookie", []) for cookie in value.split(";")]
    query = _many(parse_qsl(received.query, keep_blank_values=True))
    now = time.time()
    return {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": raw_path,
        "rawQueryString": received.query,
        **({"cookies": cookies} if cookies else {}),
        "headers": {name: ",".join(values) for name, values in headers.items()},
        **({"queryStringParameters": {name: ",".join(values) for name, values in query.items()}} if query else {}),
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": _API,
            "domainName": f"{_API}.execute-api.{_REGION}.amazonaws.com",
            "domainPrefix": _API,
            "http": {
                "method": received.method,
                "path": raw_path,
                "protocol": "HTTP/1.1",
                "sourceIp": HOST,
                "userAgent": received.header("user-agent"),
            },
            "requestId": uuid.uuid4().hex[:16],
            "routeKey": "$default",
            "stage": "$default",
            "time": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "timeEpoch": int(1000 * now),
        },
        **(_body(received) if received.body else {"isBase64Encoded": False}),
    }


def _http_api_event(received: Received) -> dict[str, Any]:
    # An HTTP API decodes the path, and loses what stands behind a question mark in it.
    return _payload_2(received, unquote(received.path).partition("?")[0])


def _function_url_event(received: Received) -> dict[str, Any]:
    return _payload_2(received, received.path)


def _rest_api_event(received: Received) -> dict[str, Any]:
    """Behind a custom domain's root, with the binary media type ``*/*``, which pictures need."""
    headers = _many(_forwarded(received, lower=False))
    query = _many(parse_qsl(received.query, keep_blank_values=True))
    proxy = received.path.strip("/")
    resource = "/{proxy+}" if proxy else "/"
    now = time.time()
    return {
        "resource": resource,
        "path": received.path,
        "httpMethod": received.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": unquote(proxy)} if proxy else None,
        "stageVariables": None,
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": _API,
            "domainName": f"{_API}.execute-api.{_REGION}.amazonaws.com",
            "httpMethod": received.method,
            "identity": {"sourceIp": HOST, "userAgent": received.header("user-agent")},
            "path": received.path,
            "protocol": "HTTP/1.1",
            "requestId": str(uuid.uuid4()),
            "requestTime": time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(now)),
            "requestTimeEpoch": int(1000 * now),
            "resourceId": "abc123",
            "resourcePath": resource,
            "stage": "prod",
        },
        **(_body(received, always_base64=True) if received.body else {"body": None, "isBase64Encoded": False}),
    }


def _load_balancer_event(received: Received, *, multi: bool) -> dict[str, Any]:
    headers = _many(_forwarded(received, lower=True))
    pairs = [part.partition("=") for part in received.query.split("&") if part]
    query = _many([(name, value) for name, _, value in pairs])  # not decoded
    target = f"arn:aws:elasticloadbalancing:{_REGION}:{_ACCOUNT}:targetgroup/serverless-bees/0123456789abcdef"
    if multi:
        members: dict[str, Any] = {"multiValueQueryStringParameters": query, "multiValueHeaders": headers}
    else:
        members = {
            "queryStringParameters": {name: values[-1] for name, values in query.items()},
            "headers": {name: values[-1] for name, values in headers.items()},
        }
    return {
        "requestContext": {"elb": {"targetGroupArn": target}},
        "httpMethod": received.method,
        "path": received.path,
        **members,
        **_body(received),
    }


def _alb_event(received: Received) -> dict[str, Any]:
    return _load_balancer_event(received, multi=False)


def _alb_multi_event(received: Received) -> dict[str, Any]:
    return _load_balancer_event(received, multi=True)


def _decoded(answer: Any, front: FrontKind) -> Answer:
    """The function's answer as HTTP; whatever error means that it has not the form that the front wants."""
    if front.infers and not (isinstance(answer, dict) and "statusCode" in answer):
        return Answer(200, [("content-type", "application/json")], json.dumps(answer).encode())
    headers = []
    for member in front.header_members:
        for name, value in (answer.get(member) or {}).items():
            headers += [(name, str(one)) for one in (value if isinstance(value, list) else [value])]
    headers += [("set-cookie", cookie) for cookie in (answer.get("cookies") or [] if front.infers else [])]
    body = answer.get("body") or ""
    content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    return Answer(int(answer["statusCode"]), headers, content)


def _json(status: int, text: str, member: str = "message") -> Answer:
    return Answer(status, [("content-type", "application/json")], json.dumps({member: text}).encode())


def _html(status: int, text: str) -> Answer:
    head, body = f"<head><title>{status} {text}</title></head>", f"<center><h1>{status} {text}</h1></center>"
    page = f"<html>\r\n{head}\r\n<body>\r\n{body}\r\n</body>\r\n</html>\r\n"
    return Answer(status, [("content-type", "text/html")], page.encode())


_HTTP_API = FrontKind(
    _http_api_event, 10 * MIB, PAYLOAD_BYTES, 30.0,
    too_large=_json(413, "Request Entity Too Large"),
    failed=_json(500, "Internal Server Error"),
    too_slow=_json(503, "Service Unavailable"),
    header_members=("headers",), infers=True,
)  # fmt: skip
_ALB = FrontKind(
    _alb_event, MIB, MIB, 60.0,  # the idle timeout, as it is set by default
    too_large=_html(413, "Request Entity Too Large"),
    failed=_html(502, "Bad Gateway"),
    too_slow=_html(504, "Gateway Time-out"),
    header_members=("headers",),
)  # fmt: skip
FRONTS = {
    "http-api": _HTTP_API,
    "rest-api": FrontKind(
        _rest_api_event,
        10 * MIB,
        PAYLOAD_BYTES,
        29.0,
        too_large=_json(413, "Request Too Long"),
        failed=_json(502, "Internal server error"),
        too_slow=_json(504, "Endpoint request timed out"),
    ),
    "function-url": _HTTP_API._replace(
        event=_function_url_event,
        body_limit=PAYLOAD_BYTES,
        seconds=900.0,
        too_large=_json(
            413, f"Request must be smaller than {PAYLOAD_BYTES} bytes for the InvokeFunction operation", "Message"
        ),
        failed=Answer(502, [("content-type", "text/plain")], b"Internal Server Error"),
        too_slow=Answer(504, [("content-type", "text/plain")], b"Gateway Timeout"),
    ),
    "alb": _ALB,
    "alb-multi": _ALB._replace(event=_alb_multi_event, header_members=("multiValueHeaders",)),
}
