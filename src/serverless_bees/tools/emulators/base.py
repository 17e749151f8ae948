"""What the emulators have in common: a staged function, an environment of its own, processes that die with us."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import ClassVar, NamedTuple, Self, TypedDict

from ...errors import ServerlessBeesError
from ...predictor import default_model

PACKAGE = Path(__file__).parents[2]
HOST = "127.0.0.1"
_PR_SET_PDEATHSIG = 1


class EmulatorError(ServerlessBeesError):
    """The emulator cannot be set up or did not become ready; the message says what to install or to look at."""


class Part(NamedTuple):
    """One part of a platform, and whether it is the real thing here or an imitation."""

    name: str
    real: bool
    what: str


class Options(TypedDict, total=False):
    """What every emulator takes beside its source, as ``Emulator`` describes it."""

    port: int
    environ: Mapping[str, str] | None
    on_log: Callable[[str], object] | None


class Emulator:
    """One function under one provider's emulator, on the loopback interface.

    Args:
        source: folder of the function; by default the adapter that this package carries. A folder that has
            ``serverless_bees`` in it (an artifact) runs as it is; to any other the package is added.
        port: where to listen; 0 picks a free one.
        environ: environment variables of the function, its SERVERLESS_BEES_* settings for example.
        on_log: called with each line of the function's log; ``log()`` has them all.
    """

    provider: ClassVar[str]
    parts: ClassVar[tuple[Part, ...]]
    python: ClassVar[str] = "3.13"

    def __init__(
        self,
        source: Path | None = None,
        *,
        port: int = 0,
        environ: Mapping[str, str] | None = None,
        on_log: Callable[[str], object] | None = None,
    ) -> None:
        self.source = source or adapter_folder(self.provider)
        self.port = port or free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.headers: dict[str, str] = {}
        """What a client has to send to be let in."""
        self._environ = dict(environ or {})
        self._on_log = on_log
        self._lines: list[str] = []
        self._stack = contextlib.ExitStack()

    def start(self) -> str:
        """Starts it and waits until it answers; its base URL.

        Raises:
            EmulatorError: a program is missing, or the function did not become ready; holds the end of its log.
        """
        try:
            folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="serverless-bees-")))
            stage(self.source, folder / "function")
            self._launch(folder / "function", make_environment(self.provider, self.locks(), self.python))
        except BaseException:
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Ends its processes and removes its files; once is enough, twice does no harm."""
        self._stack.close()

    def log(self) -> str:
        """The function's log so far."""
        return "".join(self._lines)

    def hints(self) -> list[str]:
        """What to type to talk to it."""
        headers = "".join(f" -H '{name}: {value}'" for name, value in self.headers.items())
        return [f"curl{headers} -H 'Content-Type: image/jpeg' --data-binary @picture.jpg {self.url}/predict"]

    def locks(self) -> list[Path]:
        """The hashed locks that its environment is made from: the function's own, then what the platform provides."""
        return [self.source / "requirements.txt", Path(__file__).parent / "locks" / f"{self.provider}.txt"]

    def _launch(self, function: Path, python: Path) -> None:
        """Starts the processes (with ``_spawn``) and returns when the function answers."""
        raise NotImplementedError

    def function_environ(self, function: Path) -> dict[str, str]:
        """The environment of the function's process: nothing of ours but what a program needs to run at all."""
        kept = ("HOME", "LANG", "PATH", "TMPDIR", "XDG_CACHE_HOME")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": str(function),
            "SERVERLESS_BEES_RUNTIME": "litert-c",
            **self._environ,
        }

    def _spawn(self, command: Sequence[str | Path], *, cwd: Path, environ: Mapping[str, str]) -> subprocess.Popen[str]:
        """A process of the emulator: its output goes to the log, and it ends with ``stop()`` or with this process."""
        process = subprocess.Popen(
            [str(part) for part in command], cwd=cwd, env=dict(environ), text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        self._stack.callback(_end, process, reader)
        return process

    def _read(self, process: subprocess.Popen[str]) -> None:
        for line in process.stdout or ():
            self._lines.append(line)
            if self._on_log:
                self._on_log(line)

    def _wait_until_ready(self, process: subprocess.Popen[str], probe: Callable[[], bool], seconds: float = 60) -> None:
        """Returns when ``probe`` says so; raises with the end of the log where the process ends or time runs out."""
        deadline = time.monotonic() + seconds
        while not probe():
            ended = process.poll()
            if ended is not None or time.monotonic() > deadline:
                why = f"ended with code {ended}" if ended is not None else f"did not answer within {seconds:g} s"
                time.sleep(0.2)  # the last lines of its log
                raise EmulatorError(f"the {self.provider} emulator {why}:\n{self.log()[-4000:]}")
            time.sleep(0.05)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def adapter_folder(provider: str) -> Path:
    """The folder of the adapter that this package carries."""
    # In a wheel it stands inside the package, in the repository under adapters/.
    for root in (PACKAGE, PACKAGE.parents[1]):
        folder = root / "adapters" / provider
        if folder.is_dir():
            return folder
    raise EmulatorError(f"the adapter for {provider} is missing; install the package anew")


def stage(source: Path, function: Path) -> None:
    """Copies the function to where it runs, and the package to it where it does not bring its own."""
    if not source.is_dir():
        raise EmulatorError(f"{source}: no such folder")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, function, ignore=ignore, symlinks=True)
    if any(function.rglob("serverless_bees/__init__.py")):
        return
    package = function / "serverless_bees"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__", "tools", "adapters", "cli.py"))
    if not (package / "models").exists():
        model = Path(default_model())
        (package / "models").mkdir()
        for path in (model, model.with_suffix(".json")):
            shutil.copy(path, package / "models")


def make_environment(name: str, locks: Sequence[Path], python: str, *, dependencies: bool = True) -> Path:
    """A Python environment with exactly what ``locks`` name, kept in the user's cache; its interpreter.

    Without ``dependencies`` a lock need not name what its packages need: of some wheel only a file is of use.

    Raises:
        EmulatorError: uv or that Python is missing, or the installation failed.
    """
    digest = hashlib.sha256(b"\0".join([python.encode(), *(lock.read_bytes() for lock in locks)])).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "serverless-bees" / "environments"
    folder = cache / f"{name}-{digest}"
    interpreter = folder / "bin" / "python"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"{folder.name}.lock", "w") as lock_file:  # two that start at once make it once
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if (folder / "complete").exists():
            return interpreter
        shutil.rmtree(folder, ignore_errors=True)
        mine = f"{sys.version_info.major}.{sys.version_info.minor}"
        _uv("venv", "--python", sys.executable if python == mine else python, "--no-python-downloads", folder)
        requirements = [part for lock in locks for part in ("-r", lock)]
        options = ["--compile-bytecode"] if dependencies else ["--no-deps"]
        _uv("pip", "install", "--python", interpreter, "--require-hashes", *options, *requirements)
        (folder / "complete").touch()
    return interpreter


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on now.

    Below those that Linux gives to outgoing connections (from 32768 on), which could take it before it is used.
    """
    while True:
        port = 10_000 + secrets.randbelow(22_000)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind((HOST, port))
            return port


def answers(url: str) -> bool:
    """Whether anything answers HTTP at ``url``, whatever the status."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False


def _uv(*arguments: str | Path) -> None:
    uv = shutil.which("uv") or _packaged_uv()
    result = subprocess.run([uv, *map(str, arguments), "--quiet"], capture_output=True, text=True, check=False)
    if result.returncode:
        raise EmulatorError(f"uv {arguments[0]} failed: {result.stderr.strip()[-2000:]}")


def _packaged_uv() -> str:
    try:
        from uv import find_uv_bin
    except ImportError as error:
        raise EmulatorError("the emulators need uv: pip install 'serverless-bees[emulators]'") from error
    path: str = find_uv_bin()
    return path


def die_with_parent() -> None:
    """In the child: Linux ends it when its parent ends, however that ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[str], reader: threading.Thread) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(3)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # and what it started
    process.wait()
    reader.join(3)
    if process.stdout:
        process.stdout.close()
