"""The project's own tool: `nox` runs every session below in this order; `nox --list` shows them."""

from __future__ import annotations

import os
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = bool(os.environ.get("CI"))
nox.options.sessions = ["lint", "types", "tests", "tflite_runtime", "tensorflow", "aws", "azure", "gcp"]

PYTHONS = ["3.11", "3.12", "3.13"]
CLIENT_TESTS = ["test_schemathesis.py", "test_triton.py"]  # other people's clients: in the provider sessions
PROVIDERS = ["aws", "azure", "gcp"]
# Name of the lock under requirements/ -> the parts of pyproject.toml that it resolves.
LOCKS = {
    "core": ["pyproject.toml"],
    "lint": ["--group", "lint"],
    "types": ["pyproject.toml", "--extra", "cli", "--group", "test", "--group", "types"],
    "tests": ["pyproject.toml", "--extra", "cli", "--group", "test"],
    "tflite-runtime": ["pyproject.toml", "--extra", "cli", "--extra", "tflite-runtime", "--group", "test"],
    "contract": ["pyproject.toml", "--extra", "emulators", "--group", "test", "--group", "contract"],
    "train": ["pyproject.toml", "--extra", "cli", "--extra", "train", "--group", "test"],
}


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: style, common mistakes, and the format of every file."""
    install(session, "lint")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy in strict mode over the package, the tests and the programs beside them."""
    install(session, "types")
    session.run("mypy")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The library and the bare service, against the built wheel; prints the coverage, at least 95 %."""
    install(session, "tests", with_package=True)
    session.run("coverage", "erase")
    files = ["tests", "--ignore=tests/emulators", *(f"--ignore=tests/contract/{name}" for name in CLIENT_TESTS)]
    session.run("coverage", "run", "-m", "pytest", "-n", "2", *(session.posargs or files))
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report", *([] if session.posargs else ["--fail-under=95"]))


@nox.session(python="3.11")
def tflite_runtime(session: nox.Session) -> None:
    """The tests of engines and of the reference path through tflite-runtime 2.14."""
    engine_tests(session, "tflite-runtime", "tflite-runtime")


@nox.session(python="3.13")
def tensorflow(session: nox.Session) -> None:
    """The tests of engines and of the reference path through TensorFlow's own Interpreter."""
    engine_tests(session, "train", "tensorflow")


@nox.session(python="3.13")
def aws(session: nox.Session) -> None:
    """The contract cases and the faults under the real Lambda runtime emulator."""
    provider_tests(session, "aws")


@nox.session(python="3.13")
def azure(session: nox.Session) -> None:
    """The contract cases and the faults under Microsoft's production worker."""
    provider_tests(session, "azure")


@nox.session(python="3.13")
def gcp(session: nox.Session) -> None:
    """The contract cases and the faults under functions-framework with gunicorn."""
    provider_tests(session, "gcp")


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Resolves requirements/*.txt anew, hashes included (`nox -s lock -- --upgrade` for newer releases)."""
    session.install("uv")
    outputs = {f"requirements/{name}.txt": (parts, PYTHONS[0]) for name, parts in LOCKS.items()}
    for provider in PROVIDERS:
        function = f"adapters/{provider}/requirements"
        outputs[f"{function}.txt"] = ([f"{function}.in"], PYTHONS[0])
    for source in sorted(Path("src/serverless_bees/tools/emulators/locks").glob("*.in")):
        # Beside the function's own packages stand the platform's: where both name one, they must agree.
        function = f"adapters/{source.stem}/requirements.txt"
        constraint = ["--constraint", function] if source.stem in PROVIDERS else []
        outputs[str(source.with_suffix(".txt"))] = ([str(source), *constraint], PYTHONS[-1])
    for output, (parts, python) in outputs.items():
        session.run(
            "uv", "pip", "compile", *parts, "--universal", "--python-version", python, "--generate-hashes",
            "--no-header", "--quiet", "--output-file", output, *session.posargs,
        )  # fmt: skip


def install(session: nox.Session, lock_name: str, *, with_package: bool = False) -> None:
    """Installs exactly what a lock names, and with it the project as its users get it: from a wheel."""
    session.install("--require-hashes", "-r", f"requirements/{lock_name}.txt")
    if with_package:
        session.install("--no-deps", "--no-build-isolation", "--reinstall-package", "serverless-bees", ".")


def engine_tests(session: nox.Session, lock_name: str, engine: str) -> None:
    """Runs the tests that know engines with one engine chosen by the environment."""
    install(session, lock_name, with_package=True)
    files = [str(Path("tests") / name) for name in ("test_engines.py", "test_reference.py")]
    session.run("pytest", "-n", "2", *(session.posargs or files), env={"SERVERLESS_BEES_RUNTIME": engine})


def provider_tests(session: nox.Session, provider: str) -> None:
    """Runs the contract and the provider's own tests against its emulator."""
    install(session, "contract", with_package=True)
    files = ["tests/contract", "tests/emulators/test_emulate.py", f"tests/emulators/test_{provider}.py"]
    session.run("pytest", *(session.posargs or files), env={"SERVERLESS_BEES_TEST_PROVIDER": provider})
