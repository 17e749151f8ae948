"""Settings from environment variables with the prefix ``SERVERLESS_BEES_``, read once and checked.

A NamedTuple and not a dataclass: importing ``dataclasses`` costs a tenth of a cold start.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .errors import SettingsError

PREFIX = "SERVERLESS_BEES_"


class Settings(NamedTuple):
    """Every setting, with its default; the variable's name is the field's, in capitals, behind the prefix."""

    model: str = ""
    """Path of the ``.tflite`` file; empty: the default model."""
    spec: str = ""
    """Path of the model's spec; empty: what stands beside or inside the model."""
    runtime: str = ""
    """Engine: litert-c, litert, tflite-runtime or tensorflow; empty: the first that can run."""
    num_threads: int = 1
    """Threads of one interpreter."""
    pool_size: int = 0
    """Interpreters of one process; 0: as many as CPUs are granted."""
    pool_wait: float = 5.0
    """Seconds a caller waits at most for a free interpreter."""
    decode: str = "exact"
    """``exact``: the reference path, bit for bit; ``fast``: the JPEG decoder's own scaled decode."""
    top_k: int = 5
    """How many classes an answer names at most."""
    max_image_bytes: int = 20 * 1024 * 1024
    """Bytes of one encoded picture."""
    max_image_pixels: int = 1 << 26
    """Pixels (width x height) of one picture, read from its header."""
    max_instances: int = 16
    """Pictures in one request."""
    fetch_enabled: bool = True
    """Whether pictures are fetched from URLs at all."""
    fetch_timeout: float = 10.0
    """Seconds that one fetch may take in all."""
    fetch_allow_http: bool = False
    """Whether plain http is fetched too."""
    fetch_allowed_hosts: tuple[str, ...] = ()
    """Host names that may be fetched from; empty: every public one."""
    fetch_allowed_ports: tuple[int, ...] = (80, 443)
    """Ports that may be fetched from."""
    storage_allowed_prefixes: tuple[str, ...] = ()
    """Prefixes such as ``s3://bucket/incoming/`` that a request may name."""
    cors_origins: tuple[str, ...] = ()
    """Origins that a browser may call from."""
    results_url: str = ""
    """Where events' records go."""
    watch_url: str = ""
    """What is watched for new pictures."""
    log_level: str = "INFO"
    """DEBUG, INFO, WARNING or ERROR."""

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Reads the settings from ``environ`` (the process's own by default); an empty variable is an unset one.

        Raises:
            SettingsError: names the variable, what it holds and what it may hold.
        """
        given = os.environ if environ is None else environ
        values = {}
        for field, (parse, allowed) in _PARSERS.items():
            text = given.get(PREFIX + field.upper(), "").strip()
            if not text:
                continue
            try:
                values[field] = parse(text)
            except ValueError as error:
                raise SettingsError(f"{PREFIX}{field.upper()} is {text!r}; it must be {allowed}") from error
        return cls(**values)


@functools.cache
def current() -> Settings:
    """The process's settings, read at the first call."""
    return Settings.from_env()


def _between(kind: Callable[[str], Any], low: float, high: float) -> tuple[Callable[[str], Any], str]:
    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high:
            raise ValueError(text)
        return value

    return (
        parse,
        f"a number from {low:g} to {high:.10g}" if kind is float else f"a whole number from {low} to {high}",
    )


def _one_of(*words: str, fold: Callable[[str], str] = str.lower) -> tuple[Callable[[str], str], str]:
    def parse(text: str) -> str:
        if fold(text) not in words:
            raise ValueError(text)
        return fold(text)

    return parse, "one of " + ", ".join(words)


_BOOLEANS = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _boolean(text: str) -> bool:
    try:
        return _BOOLEANS[text.lower()]
    except KeyError as error:
        raise ValueError(text) from error


def _words(text: str) -> tuple[str, ...]:
    words = tuple(word.strip() for word in text.split(",") if word.strip())
    if not words:  # "," would allow every host
        raise ValueError(text)
    return words


def _ports(text: str) -> tuple[int, ...]:
    ports = tuple(int(word) for word in _words(text))
    if not all(0 < port < 65536 for port in ports):
        raise ValueError(text)
    return ports


_TEXT = (str, "text")
_FLAG = (_boolean, "one of " + ", ".join(_BOOLEANS))
_LIST = (_words, "words separated by commas")
ENGINES = ("litert-c", "litert", "tflite-runtime", "tensorflow")

_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "model": _TEXT,
    "spec": _TEXT,
    "runtime": _one_of(*ENGINES),
    "num_threads": _between(int, 1, 64),
    "pool_size": _between(int, 0, 256),
    "pool_wait": _between(float, 0, 300),
    "decode": _one_of("exact", "fast"),
    "top_k": _between(int, 1, 10_000),
    "max_image_bytes": _between(int, 1, 1 << 30),
    "max_image_pixels": _between(int, 1, 1 << 30),
    "max_instances": _between(int, 1, 1000),
    "fetch_enabled": _FLAG,
    "fetch_timeout": _between(float, 0.01, 300),
    "fetch_allow_http": _FLAG,
    "fetch_allowed_hosts": _LIST,
    "fetch_allowed_ports": (_ports, "port numbers (1 to 65535) separated by commas"),
    "storage_allowed_prefixes": _LIST,
    "cors_origins": _LIST,
    "results_url": _TEXT,
    "watch_url": _TEXT,
    "log_level": _one_of("DEBUG", "INFO", "WARNING", "ERROR", fold=str.upper),
}
