"""Cloud Run functions on this machine: functions-framework with gunicorn, as Google's buildpack starts it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

from .base import HOST, Emulator, Part, answers

TARGET = "predict"
TIMEOUT_SECONDS = 60


class GcpEmulator(Emulator):
    """One instance of a Cloud Run function; callers talk to gunicorn itself."""

    provider: ClassVar[str] = "gcp"
    parts: ClassVar[tuple[Part, ...]] = (
        Part("runtime", True, "functions-framework, which hands Flask's requests to the function"),
        Part("HTTP server", True, "gunicorn as the framework starts it: one worker, four threads a CPU"),
        Part("packages", True, "the function's own requirements.txt, installed by hash for Python 3.13"),
        Part("environment", False, "K_SERVICE, FUNCTION_TARGET, PORT and the rest, with made-up values"),
        Part("front end", False, "nothing stands in front: no TLS, no 32 MiB limit but the function's, no time limit"),
        Part("IAM", False, "every caller is let in; in the cloud one needs roles/run.invoker and an identity token"),
        Part("identity", False, "no metadata server and no service account"),
        Part("instances", False, "one that stays warm; no scaling, no CPU or memory limit"),
    )

    def locks(self) -> list[Path]:
        """The function's own lock, and the framework where it does not name it, as Google's buildpack has it."""
        own, framework = super().locks()
        names_it = re.search(r"^functions-framework\b", own.read_text(), re.MULTILINE)
        return [own] if names_it else [own, framework]

    def function_environ(self, function: Path) -> dict[str, str]:
        """What Cloud Run sets (https://cloud.google.com/run/docs/container-contract), below the caller's own."""
        return {
            "PORT": str(self.port),
            "HOST": HOST,
            "K_SERVICE": "serverless-bees",
            "K_REVISION": "serverless-bees-00001-abc",
            "K_CONFIGURATION": "serverless-bees",
            "FUNCTION_TARGET": TARGET,
            "FUNCTION_SIGNATURE_TYPE": "http",
            "LOG_EXECUTION_ID": "true",
            "CLOUD_RUN_TIMEOUT_SECONDS": str(TIMEOUT_SECONDS),
            **super().function_environ(function),
        }

    def _launch(self, function: Path, python: Path) -> None:
        framework = python.with_name("functions-framework")
        process = self._spawn([framework], cwd=function, environ=self.function_environ(function))
        self._wait_until_ready(process, lambda: answers(f"{self.url}/v2/health/live"))
