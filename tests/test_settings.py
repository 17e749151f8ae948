"""Each setting's default, what its variable may hold, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from serverless_bees import settings
from serverless_bees.engines import engine_names
from serverless_bees.errors import ServerlessBeesError, SettingsError
from serverless_bees.settings import PREFIX, Settings, current

DEFAULTS: dict[str, Any] = {
    "MODEL": "",
    "SPEC": "",
    "RUNTIME": "",
    "NUM_THREADS": 1,
    "POOL_SIZE": 0,
    "POOL_WAIT": 5.0,
    "DECODE": "exact",
    "TOP_K": 5,
    "MAX_IMAGE_BYTES": 20_971_520,
    "MAX_IMAGE_PIXELS": 67_108_864,
    "MAX_INSTANCES": 16,
    "FETCH_ENABLED": True,
    "FETCH_TIMEOUT": 10.0,
    "FETCH_ALLOW_HTTP": False,
    "FETCH_ALLOWED_HOSTS": (),
    "FETCH_ALLOWED_PORTS": (80, 443),
    "STORAGE_ALLOWED_PREFIXES": (),
    "CORS_ORIGINS": (),
    "RESULTS_URL": "",
    "WATCH_URL": "",
    "LOG_LEVEL": "INFO",
}
"""The variables that DESIGN names, in its order."""

WHOLE, NUMBER, FLAG = "a whole number from", "a number from", "one of 1, true, yes, on, 0, false, no, off"
WORDS = "words separated by commas"
PORTS = "port numbers (1 to 65535) separated by commas"
ENGINES = "one of litert-c, litert, tflite-runtime, tensorflow"

GOOD: dict[str, list[tuple[str, Any]]] = {
    "MODEL": [("/opt/m.tflite", "/opt/m.tflite"), (" m.tflite ", "m.tflite")],
    "SPEC": [("m.json", "m.json")],
    "RUNTIME": [
        *((engine, engine) for engine in ("litert-c", "litert", "tflite-runtime", "tensorflow")),
        ("LiteRT", "litert"),
    ],
    "NUM_THREADS": [("1", 1), ("64", 64), (" 2 ", 2)],
    "POOL_SIZE": [("0", 0), ("256", 256)],
    "POOL_WAIT": [("0", 0.0), ("0.25", 0.25), ("3e2", 300.0)],
    "DECODE": [("exact", "exact"), ("FAST", "fast")],
    "TOP_K": [("1", 1), ("10000", 10_000)],
    "MAX_IMAGE_BYTES": [("1", 1), ("1073741824", 2**30)],
    "MAX_IMAGE_PIXELS": [("1", 1), ("1073741824", 2**30)],
    "MAX_INSTANCES": [("1", 1), ("1000", 1000)],
    "FETCH_ENABLED": [
        *((word, True) for word in ("1", "true", "True", "YES", "on")),
        *((word, False) for word in ("0", "false", "FALSE", "no", " off ")),
    ],
    "FETCH_TIMEOUT": [("0.01", 0.01), ("300", 300.0)],
    "FETCH_ALLOW_HTTP": [("true", True), ("0", False)],
    "FETCH_ALLOWED_HOSTS": [("a.example", ("a.example",)), (" a.example , b.example,", ("a.example", "b.example"))],
    "FETCH_ALLOWED_PORTS": [("443", (443,)), ("1, 65535", (1, 65535))],
    "STORAGE_ALLOWED_PREFIXES": [("s3://a/b/,gs://c/", ("s3://a/b/", "gs://c/"))],
    "CORS_ORIGINS": [("*", ("*",)), ("https://a.example", ("https://a.example",))],
    "RESULTS_URL": [("s3://bucket/results/", "s3://bucket/results/")],
    "WATCH_URL": [("file:///tmp/in", "file:///tmp/in")],
    "LOG_LEVEL": [("DEBUG", "DEBUG"), ("warning", "WARNING"), ("Error", "ERROR"), ("INFO", "INFO")],
}

BAD: dict[str, tuple[str, list[str]]] = {
    "RUNTIME": (ENGINES, ["tflite", "litert_c", "1"]),
    "NUM_THREADS": (f"{WHOLE} 1 to 64", ["0", "65", "-1", "1.0", "two", "1e1", "0x2", "1,2", "9" * 5000]),
    "POOL_SIZE": (f"{WHOLE} 0 to 256", ["-1", "257", "auto"]),
    "POOL_WAIT": (f"{NUMBER} 0 to 300", ["-0.1", "300.5", "nan", "inf", "-inf", "5s", "1,5"]),
    "DECODE": ("one of exact, fast", ["slow", "exact,fast"]),
    "TOP_K": (f"{WHOLE} 1 to 10000", ["0", "10001", "all"]),
    "MAX_IMAGE_BYTES": (f"{WHOLE} 1 to 1073741824", ["0", "1073741825", "20MB", "2e7"]),
    "MAX_IMAGE_PIXELS": (f"{WHOLE} 1 to 1073741824", ["0", "1073741825", "8k"]),
    "MAX_INSTANCES": (f"{WHOLE} 1 to 1000", ["0", "1001", "-5"]),
    "FETCH_ENABLED": (FLAG, ["2", "enabled", "t", "None", "true false"]),
    "FETCH_TIMEOUT": (f"{NUMBER} 0.01 to 300", ["0", "0.009", "301", "nan", "10s"]),
    "FETCH_ALLOW_HTTP": (FLAG, ["y", "-1"]),
    "FETCH_ALLOWED_HOSTS": (WORDS, [",", " , ,"]),
    "FETCH_ALLOWED_PORTS": (PORTS, ["0", "65536", "-1", "https", "80 443", "80;443", "443.0", ","]),
    "STORAGE_ALLOWED_PREFIXES": (WORDS, [","]),
    "CORS_ORIGINS": (WORDS, [","]),
    "LOG_LEVEL": ("one of DEBUG, INFO, WARNING, ERROR", ["TRACE", "10", "WARN"]),
}
ANY_TEXT = {"MODEL", "SPEC", "RESULTS_URL", "WATCH_URL"}


def cases(table: dict[str, list[tuple[str, Any]]]) -> list[tuple[str, str, Any]]:
    return [(name, text, value) for name, texts in table.items() for text, value in texts]


def test_the_variables_are_those_of_the_design() -> None:
    assert [field.upper() for field in Settings._fields] == list(DEFAULTS)
    assert list(GOOD) == list(DEFAULTS)
    assert BAD.keys() | ANY_TEXT == DEFAULTS.keys()


@pytest.mark.parametrize("environ", [{}, dict.fromkeys((PREFIX + name for name in DEFAULTS), " ")])
def test_defaults_where_variables_are_unset_or_empty(environ: dict[str, str]) -> None:
    defaults = Settings.from_env(environ)
    assert defaults == tuple(DEFAULTS.values()) == Settings()
    assert [type(value) for value in defaults] == [type(value) for value in DEFAULTS.values()]


@pytest.mark.parametrize(("name", "text", "value"), cases(GOOD))
def test_good_values(name: str, text: str, value: Any) -> None:
    read = Settings.from_env({PREFIX + name: text})
    assert read == Settings()._replace(**{name.lower(): value})
    assert type(getattr(read, name.lower())) is type(DEFAULTS[name])


@pytest.mark.parametrize(
    ("name", "text", "allowed"), [(name, text, allowed) for name, (allowed, texts) in BAD.items() for text in texts]
)
def test_bad_values_name_the_variable_the_value_and_what_is_allowed(name: str, text: str, allowed: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({PREFIX + name: text})
    assert str(caught.value) == f"SERVERLESS_BEES_{name} is {text.strip()!r}; it must be {allowed}"
    assert isinstance(caught.value, ServerlessBeesError)


@pytest.mark.parametrize(
    "name", [name for name, value in DEFAULTS.items() if isinstance(value, int | float | bool | tuple) and value != ()]
)
def test_a_default_may_be_said_aloud(name: str) -> None:
    value = DEFAULTS[name]
    text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    assert Settings.from_env({PREFIX + name: text}) == Settings()


def test_other_variables_are_left_alone() -> None:
    assert Settings.from_env({"TOP_K": "9", "serverless_bees_top_k": "9", PREFIX + "NOVELTY": "9"}) == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().top_k = 3  # type: ignore[misc]


@pytest.fixture
def read_anew() -> Iterator[None]:
    current.cache_clear()
    yield
    current.cache_clear()


@pytest.mark.usefixtures("read_anew")
def test_current_reads_the_environment_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "TOP_K", "7")
    first = current()
    assert first.top_k == 7
    monkeypatch.setenv(PREFIX + "TOP_K", "8")
    assert current() is first
    assert Settings.from_env().top_k == 8


@pytest.mark.usefixtures("read_anew")
def test_current_keeps_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "TOP_K", "none")
    with pytest.raises(SettingsError, match="SERVERLESS_BEES_TOP_K is 'none'"):
        current()
    monkeypatch.setenv(PREFIX + "TOP_K", "8")
    assert current().top_k == 8


def test_the_engines_are_the_ones_there_are() -> None:
    assert sorted(engine_names()) == sorted(settings.ENGINES)
