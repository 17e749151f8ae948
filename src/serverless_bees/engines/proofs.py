"""Proofs: a model, or a build of a library, has run once in a process of its own before it runs in this one.

A runtime trusts its model: a file that is damaged inside can crash the process that runs it. So the first time
that an engine meets a file, a child process loads it and predicts once. What has been proven is remembered, by
the file's identity, under ``$XDG_CACHE_HOME/serverless-bees`` (or ``~/.cache``), and costs nothing from then on.
"""

from __future__ import annotations

import os
import struct
import sys
from mmap import mmap
from typing import TYPE_CHECKING

from .. import errors
from ..modelfile import ModelFile

if TYPE_CHECKING:
    import logging

TIMEOUT = 60.0
"""Seconds that the first load and prediction may take."""
MEMORY_LIMIT = 8 << 30
"""Bytes of address space that they may take beyond 16 times the file's size."""


def prove_model(engine: str, model: ModelFile) -> str:
    """Makes sure that ``engine`` loads and runs ``model`` without harm; its SHA-256 in hex.

    Raises:
        ModelFileError: it does not; a crash of the child is named with its signal.
    """
    known = _Record(f"{engine}-{_library_identity(engine)}-{_identity(model.stat)}-{model.stat.st_ctime_ns:x}")
    digest = known.read()
    if not digest:
        from .structure import check_structure  # not at the top: a proven model does without

        check_structure(model)
        tried = _try_in_child(engine, model)
        digest = sha256(model.mapping)
        if tried:
            known.write(digest)
    return digest


def prove_library(path: str) -> str:
    """Why the ``libLiteRt.so`` at ``path`` must not be called; empty where it may."""
    from .litert_c import KNOWN_BUILDS, SELF_TEST, SELF_TEST_SCORE

    known = _Record(f"library-{_identity(os.stat(path))}")
    if known.read():
        return ""
    with open(path, "rb") as file:
        digest = sha256(file.read())
    if digest not in KNOWN_BUILDS:
        builds = "; ".join(KNOWN_BUILDS.values())
        return f"its libLiteRt.so (SHA-256 {digest[:12]}…) is none of the builds whose C API is known ({builds})"
    try:
        score = _try_in_child("litert-c", ModelFile(SELF_TEST))
    except errors.ModelError as error:
        return f"its libLiteRt.so fails the self-test: {error}"
    if not score:
        return "its libLiteRt.so cannot be put to the self-test: no Python interpreter is found"
    if abs(struct.unpack("f", bytes.fromhex(score))[0] - SELF_TEST_SCORE) > 1e-5:
        return f"its libLiteRt.so gives {score} in the self-test instead of {SELF_TEST_SCORE}"
    known.write(digest)
    return ""


def sha256(data: bytes | mmap) -> str:
    """The SHA-256 of ``data`` in hex."""
    import hashlib  # loads OpenSSL, 12 ms: not at the top

    return hashlib.sha256(memoryview(data)).hexdigest()


class _Record:
    """A file whose existence says that something is proven, and whose content is its SHA-256."""

    def __init__(self, name: str) -> None:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        # Per host: a home may be shared by machines whose processors differ.
        self._path = os.path.join(cache, "serverless-bees", "proven", os.uname().nodename, name)

    def read(self) -> str:
        try:
            with open(self._path, encoding="ascii") as file:
                return file.read()
        except OSError:
            return ""  # not proven yet

    def write(self, digest: str) -> None:
        temporary = f"{self._path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            with open(temporary, "w", encoding="ascii") as file:
                file.write(digest)
            os.replace(temporary, self._path)
        except OSError as error:
            # Without the path that the error names: logs do not tell where things are.
            _logger().info("cannot remember what is proven (%s): every process tries its model again", error.strerror)


def _logger() -> logging.Logger:
    import logging  # 17 ms: not at the top

    return logging.getLogger(__name__)


def _identity(stat: os.stat_result) -> str:
    return f"{stat.st_dev:x}.{stat.st_ino:x}.{stat.st_size:x}.{stat.st_mtime_ns:x}"


def _library_identity(engine: str) -> str:
    """The identity of the file that changes when the engine's package is installed anew."""
    from . import engine_class

    return _identity(os.stat(engine_class(engine).installed_file()))


def _try_in_child(engine: str, model: ModelFile) -> str:
    """Loads and runs ``model`` in a child process; what its ``trial`` gives there, empty where none can be started."""
    import json
    import signal
    import subprocess

    python = _python()
    if not python:
        _logger().warning("no Python interpreter is found to try %s in a process of its own", model.path)
        return ""
    code = (
        "import json, sys; a = json.loads(sys.argv[1]); sys.path[:] = a['path']; "
        "from serverless_bees.engines.proofs import main; main(a['engine'], a['model'])"
    )
    package_root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    job = {"path": [package_root, *sys.path], "engine": engine, "model": os.path.abspath(model.path)}
    try:
        # Isolated (-I -S): the child sees this process's path and nothing that a variable or a .pth file adds.
        child = subprocess.run(
            [python, "-I", "-S", "-c", code, json.dumps(job)],
            capture_output=True, timeout=TIMEOUT, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise errors.ModelFileError(
            f"{model.path}: {engine} did not predict with the model within {TIMEOUT:g} s"
        ) from error
    if child.returncode < 0:
        name = signal.Signals(-child.returncode).name
        raise errors.ModelFileError(f"{model.path}: the model is damaged: it crashes {engine} ({name})")
    try:
        answer = json.loads(child.stdout)
    except ValueError as error:
        last = child.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise errors.ModelFileError(f"{model.path}: {engine} failed on the model: {last}") from error
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    scores: str = answer["scores"]
    return scores


def _python() -> str:
    """A Python interpreter of this installation; ``sys.executable`` may be a server that embeds one."""
    for path in (
        sys.executable,
        getattr(sys, "_base_executable", ""),
        os.path.join(sys.prefix, "bin", "python3"),
    ):
        if path and os.path.basename(path).startswith("python") and os.access(path, os.X_OK):
            return path
    return ""


def main(engine: str, path: str) -> None:
    """The child: prints one JSON object, ``scores`` or ``error`` with its ``message``."""
    import json
    import resource

    from . import engine_class

    limit = MEMORY_LIMIT + 16 * os.path.getsize(path)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        answer = {"scores": engine_class(engine).trial(path)}
    except errors.ModelError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        answer = {
            "error": "ModelFileError",
            "message": f"{path}: the model is damaged: it asks for more than {limit} bytes of memory",
        }
    sys.stdout.write(json.dumps(answer))
