"""What every test shares: proofs in a cache of the session's own, fresh settings, the engines under test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serverless_bees import settings
from serverless_bees.engines import missing

ROOT = Path(__file__).parents[1]
_CACHE = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    # uv's own cache stays where it is: what the emulators' environments need is not fetched anew each time.
    usual = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    os.environ.setdefault("UV_CACHE_DIR", str(Path(usual) / "uv"))
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit the cache, and what it proves
        config.stash[_CACHE] = os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="serverless-bees-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _CACHE in config.stash:
        shutil.rmtree(config.stash[_CACHE], ignore_errors=True)


def engines_under_test() -> list[str]:
    """The engine that SERVERLESS_BEES_RUNTIME names, or else both of LiteRT and what else is installed.

    tflite-runtime and TensorFlow have nox sessions of their own, and are not mixed with LiteRT in one process.
    """
    asked = os.environ.get("SERVERLESS_BEES_RUNTIME")
    return [asked] if asked else ["litert", "litert-c"]


def pytest_report_header() -> list[str]:
    others = {name: missing(name) for name in ("litert", "litert-c", "tflite-runtime", "tensorflow")}
    lines = [f"engine {name}: {reason or 'installed'}" for name, reason in others.items()]
    return [f"engines under test: {', '.join(engines_under_test())}", *lines]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an argument ``engine`` runs once with each engine under test."""
    if "engine" in metafunc.fixturenames:
        metafunc.parametrize("engine", engines_under_test(), scope="session")


@pytest.fixture(autouse=True)
def _fresh_settings() -> Iterator[None]:
    """No test sees the settings that another one's environment made."""
    settings.current.cache_clear()
    yield
    settings.current.cache_clear()


@pytest.fixture
def set_env(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets SERVERLESS_BEES_* variables by their name behind the prefix, as a process started with them sees them."""

    def set_variables(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(settings.PREFIX + name, value)
        settings.current.cache_clear()

    return set_variables


@pytest.fixture
def fresh_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder: nothing is proven yet."""
    folder = tmp_path / "fresh-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def default_model_path() -> Path:
    return ROOT / "models" / "bees-wasps.tflite"
