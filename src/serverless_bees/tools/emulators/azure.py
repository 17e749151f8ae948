"""Azure Functions: Microsoft's worker for Python behind an imitation of their host, or their own ``func start``."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Unpack

from .azure_host import KEY_HEADER, MASTER_KEY
from .base import PACKAGE, Emulator, EmulatorError, Options, Part, answers

HOSTS = ("imitated", "func")
FRONT_SECONDS = 230.0


class AzureEmulator(Emulator):
    """One function app under the worker of Azure Functions.

    Args:
        host: ``imitated`` (the default), or ``func``: Microsoft's own host, by the Core Tools' ``func start``, which
            asks for no key.
        keys: name -> key; ``default`` opens functions of the level ``function``, ``_master`` every one. Those that
            are not given are made up; ``keys`` and ``hints()`` tell them.
        front_seconds: when the load balancer gives up on a function and answers 502; the platform's is 230 s.

    ``headers`` holds the key that a client sends.
    """

    provider = "azure"
    parts = (
        Part("worker", True, "azure-functions-runtime: loading, bindings, thread pool, encoding"),
        Part("azure-functions", True, "the package that a function imports"),
        Part("Python", True, "3.13, with packages in the order of .python_packages, platform, app"),
        Part("gRPC", False, "a pipe between host and worker, plain objects for its messages"),
        Part("HTTP server", False, "Kestrel's paths and headers, 104,857,600 bytes of body, no chunked bodies"),
        Part("keys", False, "x-functions-key or ?code=, levels anonymous, function and admin"),
        Part("host.json", False, "functionTimeout, routePrefix, maxOutstandingRequests, maxConcurrentRequests"),
        Part("faults", False, "500 and a new worker when it ends or exceeds functionTimeout"),
        Part("load balancer", False, "502 after 230 s; no scaling, one instance with one worker"),
        Part("Application Insights", False, "each log message as the host gets it, on the log"),
    )

    def __init__(
        self,
        source: Path | None = None,
        *,
        host: str = HOSTS[0],
        keys: Mapping[str, str] | None = None,
        front_seconds: float = FRONT_SECONDS,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(source, **options)
        if host not in HOSTS:
            raise ValueError(f"no host is named {host!r}; there are {', '.join(HOSTS)}")
        self._func = shutil.which("func") if host == "func" else None
        if host == "func" and not self._func:
            raise EmulatorError(
                "func is not on the PATH: install the Azure Functions Core Tools 4 "
                "(https://learn.microsoft.com/azure/azure-functions/functions-run-local)"
            )
        self.keys = {"default": secrets.token_urlsafe(32), MASTER_KEY: secrets.token_urlsafe(32), **(keys or {})}
        self.headers[KEY_HEADER] = self.keys["default"]
        self._front_seconds = front_seconds

    def hints(self) -> list[str]:
        """What to type, and the keys that there are."""
        return [*super().hints(), *(f"key {name}: {key}" for name, key in self.keys.items())]

    def locks(self) -> list[Path]:
        """An artifact brings its packages along: only what the platform provides is added to it."""
        function, platform = super().locks()
        is_needed = function.exists() and not (self.source / ".python_packages").is_dir()
        return [function, platform] if is_needed else [platform]

    def function_environ(self, function: Path) -> dict[str, str]:
        """As every emulator's, and what the platform sets; the worker itself puts the app on the path."""
        environ = super().function_environ(function)
        del environ["PYTHONPATH"]
        return {
            "AzureWebJobsScriptRoot": str(function),
            "FUNCTIONS_EXTENSION_VERSION": "~4",
            "FUNCTIONS_WORKER_RUNTIME": "python",
            **environ,
        }

    def _launch(self, function: Path, python: Path) -> None:
        if not (function / "host.json").is_file():
            raise EmulatorError(f"{self.source} has no host.json, which every function app needs")
        if self._func:
            self._launch_func(self._func, function, python)
            return
        settings = function.parent / "host-settings.json"
        settings.write_text(
            json.dumps(
                {
                    "port": self.port,
                    "function": str(function),
                    "python": str(python),
                    "environ": self.function_environ(function),
                    "keys": self.keys,
                    "front_seconds": self._front_seconds,
                }
            )
        )
        command = [sys.executable, "-m", f"{__package__}.azure_host", str(settings)]
        environ = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
        process = self._spawn(command, cwd=function.parent, environ=environ)
        self._wait_until_ready(process, lambda: any(line.endswith("] Host started\n") for line in self._lines))

    def _launch_func(self, func: str, function: Path, python: Path) -> None:
        (function / "local.settings.json").write_text('{"IsEncrypted": false, "Values": {}}')
        environ = {
            **self.function_environ(function),
            "FUNCTIONS_CORE_TOOLS_TELEMETRY_OPTOUT": "1",
            "languageWorkers__python__defaultExecutablePath": str(python),
        }
        process = self._spawn([func, "start", "--port", str(self.port)], cwd=function, environ=environ)
        self._wait_until_ready(process, lambda: answers(f"{self.url}/admin/host/status"), 120)
