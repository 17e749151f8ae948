"""The worker process of Azure Functions: Microsoft's runtime for Python, with a pipe in place of gRPC.

Runs as a script in the function's own environment, and so uses nothing but the standard library and
``azure_functions_runtime``. It does what the ``proxy_worker`` of the platform does between the host and that runtime:
order of ``sys.path``, initialise, publish the functions, invoke, send each log record. Source:
https://github.com/Azure/azure-functions-python-worker/blob/dev/workers/proxy_worker/dispatcher.py

    python -P azure_worker.py FUNCTION_FOLDER PIPE

A message on the pipe is two frames: a JSON object, and the bytes that go with it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

SYSTEM_LOGS = ("azure.functions", "azure_functions_runtime")


class Message:
    """Stands for any protobuf message: it holds the fields that it is made with."""

    # The enumerations that the runtime looks up: StatusResult.Status, BindingInfo.Direction and .DataType.
    Failure, Success = 0, 1
    undefined = 0
    out, inout = 1, 2

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def WhichOneof(self, group: str) -> str | None:  # noqa: N802 - protobuf's name
        """The field that is set, of a message that holds one value."""
        return next((name for name in self.__dict__ if name != "name"), None)


class Protos:
    """Stands for the module of message classes that the host's gRPC client hands to the runtime."""

    def __getattr__(self, name: str) -> type[Message]:
        kind = type(name, (Message,), {})
        setattr(self, name, kind)
        return kind


class Pipe:
    """The worker's end of the pipe; any thread may send."""

    def __init__(self, descriptor: int) -> None:
        self._connection = Connection(descriptor)
        self._lock = threading.Lock()

    def send(self, head: dict[str, Any], body: bytes = b"") -> None:
        """Sends one message."""
        with self._lock:
            self._connection.send_bytes(json.dumps(head).encode())
            self._connection.send_bytes(body)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """Waits for one message; raises EOFError when the host is gone."""
        return json.loads(self._connection.recv_bytes()), self._connection.recv_bytes()


class HostLogging(logging.Handler):
    """Sends a record as the real worker does: level, category, invocation and formatted message, nothing else."""

    def __init__(self, pipe: Pipe, runtime: Any) -> None:
        super().__init__()
        self._pipe, self._runtime = pipe, runtime

    def emit(self, record: logging.LogRecord) -> None:
        """One record; the worker's own go to Microsoft, and not to the function's log."""
        if record.name.startswith(SYSTEM_LOGS) and record.levelno < logging.ERROR:
            return
        self._pipe.send(
            {
                "kind": "log",
                "level": record.levelname,
                "category": record.name,
                "invocation": self._runtime.invocation_id_cv.get(),
                "message": self.format(record),
            }
        )


def order_path(folder: str) -> None:
    """The function's packages first, then the platform's, the function's own folder last."""
    packages = os.path.join(folder, ".python_packages", "lib", "site-packages")
    if os.path.isdir(packages):
        sys.path.insert(0, packages)
    sys.path.append(folder)


async def initialise(runtime: Any, folder: str, protos: Protos) -> dict[str, Any]:
    """Loads the function app; what the host is told of it."""
    runtime.start_threadpool_executor()
    request = Message(worker_init_request=Message(capabilities={}, function_app_directory=folder))
    properties = {"protos": protos, "host": "127.0.0.1"}
    response = await runtime.worker_init_request(Message(request=request, properties=properties))
    if response.result.status != Message.Success:
        error = response.result.exception
        return {"kind": "failed", "message": error.message, "trace": error.stack_trace}
    metadata = await runtime.functions_metadata_request(Message(request=None))
    functions = []
    for function in metadata.function_metadata_results or ():
        load = Message(function_load_request=Message(function_id=function.function_id))
        await runtime.function_load_request(Message(request=load))
        bindings = [json.loads(binding) for binding in function.raw_bindings]
        functions.append({"id": function.function_id, "name": function.name, "bindings": bindings})
    return {"kind": "ready", "functions": functions}


async def invoke(runtime: Any, head: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
    """One invocation by an HTTP trigger; its result for the host."""
    http = Message(**head["http"], body=Message(bytes=body) if body else Message())
    request = Message(
        invocation_id=head["invocation"],
        function_id=head["function"],
        input_data=[Message(name=head["trigger"], data=Message(http=http))],
        trigger_metadata={},
        trace_context=Message(trace_parent=head["trace_parent"], trace_state=head["trace_state"], attributes={}),
        retry_context=Message(retry_count=0, max_retry_count=0, exception=None),
    )
    response = await runtime.invocation_request(Message(request=Message(invocation_request=request)))
    done = {"kind": "done", "invocation": head["invocation"], "ok": response.result.status == Message.Success}
    if not done["ok"]:
        error = response.result.exception
        return {**done, "message": error.message, "trace": error.stack_trace}, b""
    value = response.return_value
    if value is None:
        return {**done, "status": 204, "headers": {}}, b""
    if value.WhichOneof("data") != "http":
        return {**done, "status": 200, "headers": {"content-type": "text/plain; charset=utf-8"}}, _bytes(value)
    return {**done, "status": int(value.http.status_code), "headers": value.http.headers}, _bytes(value.http.body)


def _bytes(value: Message) -> bytes:
    """The bytes of a TypedData that holds text or bytes."""
    data = getattr(value, value.WhichOneof("data") or "", b"")
    return data if isinstance(data, bytes) else str(data).encode()


async def serve(folder: str, pipe: Pipe) -> None:
    """Answers the host until it hangs up."""
    runtime = import_module("azure_functions_runtime")
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(HostLogging(pipe, runtime))
    pipe.send(await initialise(runtime, folder, Protos()))
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def answer(head: dict[str, Any], body: bytes) -> None:
        pipe.send(*await invoke(runtime, head, body))

    def start(head: dict[str, Any], body: bytes) -> None:
        task = loop.create_task(answer(head, body))
        running.add(task)
        task.add_done_callback(running.discard)

    def listen() -> None:
        try:
            while True:
                loop.call_soon_threadsafe(start, *pipe.receive())
        except (EOFError, OSError):
            os._exit(0)  # the host is gone

    threading.Thread(target=listen, daemon=True).start()
    await loop.create_future()


if __name__ == "__main__":
    order_path(sys.argv[1])
    asyncio.run(serve(sys.argv[1], Pipe(int(sys.argv[2]))))
