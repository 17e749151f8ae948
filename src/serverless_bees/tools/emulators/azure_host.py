"""An imitation of the host of Azure Functions: the HTTP front, keys, limits, and one worker process behind it.

It is a process of its own, which the emulator starts. What it imitates is
https://github.com/Azure/azure-functions-host:

- routes, methods and authorization levels come from the bindings that the worker publishes; no route or a wrong method
  is 404, a missing or wrong key 401, both without a body;
- header names reach the function in lower case, values that came more than once joined by commas, the path decoded
  and encoded again; a body without a Content-Length does not reach it at all;
- ``host.json``: ``functionTimeout`` (the worker is ended and started anew) and, of ``extensions.http``,
  ``routePrefix``, ``maxOutstandingRequests`` (429) and ``maxConcurrentRequests``;
- a function that raises is 500 without a body; so is one whose worker ends meanwhile, and the worker is started anew.

    python -m serverless_bees.tools.emulators.azure_host SETTINGS.json
"""

from __future__ import annotations

import contextlib
import datetime
import hmac
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

from .azure_http import Function, http_functions, kestrel_path, merged, read_host_json, trace_context
from .base import die_with_parent
from .front import Answer, Front, Received

KEY_HEADER, KEY_PARAMETER, MASTER_KEY = "x-functions-key", "code", "_master"
BODY_LIMIT = 104_857_600
START_SECONDS = 30.0
RESTART_SECONDS = (0.0, 1.0, 5.0, 30.0)

# Headers that are the connection's and not the function's.
_OWN_HEADERS = {"connection", "content-length", "date", "server", "transfer-encoding"}


class Settings(NamedTuple):
    """What the emulator hands over, as one JSON file."""

    port: int
    function: str
    """The function's folder."""
    python: str
    """The interpreter of its environment."""
    environ: dict[str, str]
    keys: dict[str, str]
    """Name -> key; ``_master`` is the app's master key, every other name a host key."""
    front_seconds: float
    """When the load balancer in front gives up."""


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """The host's own answer."""

    def __init__(self, status: int, body: str = "") -> None:
        super().__init__(status)
        self.status, self.body = status, body


class Worker:
    """One worker process; the host's main thread reads from it, and any thread may invoke."""

    def __init__(self, settings: Settings) -> None:
        ours, theirs = socket.socketpair()
        self.pending: dict[str, Future[tuple[dict[str, Any], bytes]]] = {}
        self._lock = threading.Lock()
        self._connection = Connection(ours.detach())
        with theirs:
            self._process = subprocess.Popen(
                [settings.python, "-P", str(Path(__file__).with_name("azure_worker.py")), settings.function,
                 str(theirs.fileno())],
                cwd=settings.function, env=settings.environ, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def messages(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """What the worker sends, until it ends."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                yield json.loads(self._connection.recv_bytes()), self._connection.recv_bytes()

    def invoke(self, head: dict[str, Any], body: bytes) -> Future[tuple[dict[str, Any], bytes]]:
        """Sends one invocation; its result, or BrokenPipeError where the worker ends meanwhile."""
        future: Future[tuple[dict[str, Any], bytes]] = Future()
        self.pending[head["invocation"]] = future
        try:
            with self._lock:
                self._connection.send_bytes(json.dumps(head).encode())
                self._connection.send_bytes(body)
        except OSError:
            self._fail(head["invocation"])
        return future

    def kill(self) -> None:
        """Ends it now; ``messages`` ends with it."""
        self._process.kill()

    def close(self) -> int:
        """Ends what is left of it; the code that it ended with."""
        self._process.kill()
        code = self._process.wait()
        with self._lock:
            self._connection.close()
        for invocation in list(self.pending):
            self._fail(invocation)
        return code

    def _fail(self, invocation: str) -> None:
        future = self.pending.pop(invocation, None)
        if future:
            future.set_exception(BrokenPipeError("the worker ended"))


class Host:
    """The worker that is up, and what a request goes through on its way to it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.json = read_host_json(Path(settings.function))
        self.body_limit = int(settings.environ.get("FUNCTIONS_REQUEST_BODY_SIZE_LIMIT", BODY_LIMIT))
        self._functions: list[Function] = []
        self._worker: Worker | None = None
        self._changed = threading.Condition()
        self._broken = False
        self._outstanding = 0
        self._slots = threading.Semaphore(self.json.concurrent) if self.json.concurrent else contextlib.nullcontext()

    def run(self, started: Callable[[], None]) -> None:
        """Keeps one worker up for ever; ``started`` is called once, when the first one is ready.

        Raises:
            SystemExit: the first worker could not load the function; a user is to see that at once.
        """
        failures = 0
        while True:
            worker = Worker(self.settings)
            ready = False
            for head, body in worker.messages():
                if head["kind"] == "ready":
                    if not head["functions"]:
                        raise SystemExit("no function was found: is there a function_app.py with a FunctionApp in it?")
                    self._functions = http_functions(head["functions"], self.json.prefix)
                    self._set(worker)
                    started()
                    started = _nothing
                    ready = True
                elif head["kind"] == "failed":
                    log(f"Worker failed to load function: {head['message']}\n{head['trace']}")
                    break
                elif head["kind"] == "log":
                    log(head["message"])
                else:
                    future = worker.pending.pop(head["invocation"], None)
                    if future:
                        future.set_result((head, body))
            failures = 0 if ready else failures + 1
            self._set(None, broken=not ready)
            code = worker.close()
            if started is not _nothing:
                raise SystemExit("the function was not loaded")
            log(f"Language Worker Process exited with code {code}; it is started anew.")
            time.sleep(RESTART_SECONDS[min(failures, len(RESTART_SECONDS) - 1)])

    def _set(self, worker: Worker | None, *, broken: bool = False) -> None:
        with self._changed:
            self._worker, self._broken = worker, broken
            self._changed.notify_all()

    def answer(self, received: Received) -> Answer:
        """Any request: routed, let in or not, and handed to its function."""
        try:
            return self._answer(received)
        except Refusal as refusal:
            kind = [("content-type", "text/plain")] if refusal.body else []
            return Answer(refusal.status, kind, refusal.body.encode())

    def _answer(self, received: Received) -> Answer:
        try:
            headers, path = merged(received.headers), kestrel_path(received.path)
        except ValueError:
            raise Refusal(400) from None
        if not headers.get("host") or not (received.path + received.query).isascii():
            raise Refusal(400)
        function, match = self._find(received.method, path, headers, received.query)
        if received.body is None:
            raise Refusal(413)
        http = {
            "method": received.method,
            "url": f"http://{headers['host']}{path}{'?' + received.query if received.query else ''}",
            "headers": headers,
            "params": {name: value for name, value in match.groupdict().items() if value is not None},
            "query": dict(parse_qsl(received.query, errors="replace")),
        }
        body = received.body if "transfer-encoding" not in headers else b""
        return self._invoke(function, http, trace_context(headers), body)

    def _find(self, method: str, path: str, headers: Mapping[str, str], query: str) -> tuple[Function, re.Match[str]]:
        """The function that a request is for, and what its route says; Refusal where the key does not open it."""
        self._ready_worker()  # publishes the routes
        decoded = unquote(path)
        for function in self._functions:
            match = function.route.fullmatch(decoded)
            if match and (not function.methods or method in function.methods):
                self._authorize(function, headers, query)
                return function, match
        raise Refusal(404)

    def _authorize(self, function: Function, headers: Mapping[str, str], query: str) -> None:
        if function.level == "anonymous":
            return
        given = headers.get(KEY_HEADER)
        if given is None:
            given = next((value for name, value in parse_qsl(query) if name == KEY_PARAMETER), "")
        for name, key in self.settings.keys.items():
            opens = name == MASTER_KEY or function.level == "function"
            if opens and given and hmac.compare_digest(key.encode(), given.encode()):
                return
        raise Refusal(401)

    def _invoke(self, function: Function, http: dict[str, Any], trace: tuple[str, str], body: bytes) -> Answer:
        """The function's answer; Refusal where there are too many requests, or it fails."""
        with self._changed:
            if self.json.outstanding and self._outstanding >= self.json.outstanding:
                raise Refusal(429)
            self._outstanding += 1
        try:
            with self._slots:
                return self._run(function, http, trace, body)
        finally:
            with self._changed:
                self._outstanding -= 1

    def _run(self, function: Function, http: dict[str, Any], trace: tuple[str, str], body: bytes) -> Answer:
        worker = self._ready_worker()
        invocation = str(uuid.uuid4())
        shown = f"'Functions.{function.name}'"
        log(f"Executing {shown} (Id={invocation})")
        start = time.perf_counter()
        head = {
            "kind": "invoke", "invocation": invocation, "function": function.id, "trigger": function.trigger,
            "http": http, "trace_parent": trace[0], "trace_state": trace[1],
        }  # fmt: skip
        future = worker.invoke(head, body)
        limit, front = self.json.timeout or float("inf"), self.settings.front_seconds
        try:
            result, data = future.result(min(limit, front))
        except FutureTimeoutError:
            if limit <= front:
                self._time_out(worker, invocation, shown, future)
                raise Refusal(500) from None
            log(f"{shown} (Id={invocation}) has not answered within {front:g} s, the load balancer answers 502.")
            if limit != float("inf"):  # the function itself goes on until its own time is up
                late = partial(self._time_out, worker, invocation, shown, future)
                timer = threading.Timer(limit - front, late)
                timer.daemon = True
                timer.start()
            raise Refusal(502) from None
        except BrokenPipeError:
            log(f"Executed {shown} (Failed, Id={invocation}): the worker process ended")
            raise Refusal(500) from None
        duration = 1000 * (time.perf_counter() - start)
        if not result["ok"]:
            log(f"Executed {shown} (Failed, Id={invocation}, Duration={duration:.0f}ms)")
            log(f"{result['message']}\n{result['trace']}")
            raise Refusal(500)
        log(f"Executed {shown} (Succeeded, Id={invocation}, Duration={duration:.0f}ms)")
        return _sendable(result["status"], result["headers"], data)

    def _time_out(self, worker: Worker, invocation: str, shown: str, future: Future[Any]) -> None:
        if future.done():
            return
        log(f"Timeout value of {self.json.timeout:g} s was exceeded by {shown} (Id={invocation}); the worker is ended.")
        worker.kill()

    def _ready_worker(self) -> Worker:
        with self._changed:
            self._changed.wait_for(lambda: self._worker or self._broken, START_SECONDS)
            if not self._worker:
                raise Refusal(503, "Function host is not running.")
            return self._worker


def _sendable(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """The function's answer, where its headers can be sent."""
    fields = [(name, value) for name, value in headers.items() if name.lower() not in _OWN_HEADERS]
    if not all(re.fullmatch(r"[\t\x20-\x7e]*", name + value) for name, value in fields):
        log("The response has a header that cannot be sent.")
        raise Refusal(500)
    return Answer(status, fields, body)


_log_lock = threading.Lock()


def log(text: str) -> None:
    """One entry of the log, in the form of the Core Tools' console."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
    with _log_lock:
        sys.stdout.write(f"[{now}Z] {text}\n")
        sys.stdout.flush()


def _nothing() -> None:
    pass


def main(path: str) -> None:
    """Serves until it is told to end."""
    settings = Settings(**json.loads(Path(path).read_text("utf-8")))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    host = Host(settings)
    with contextlib.ExitStack() as stack:
        try:
            front = Front(settings.port, host.answer, host.body_limit)
        except OSError as error:
            raise SystemExit(f"port {settings.port} cannot be listened on: {error.strerror}") from error

        def started() -> None:
            stack.enter_context(front)
            log("Host started")

        host.run(started)


if __name__ == "__main__":
    main(sys.argv[1])
