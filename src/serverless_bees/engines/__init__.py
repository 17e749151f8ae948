"""Engines: what loads a model and runs it. Above this package nobody knows which one is at work.

An engine is a class with the members of ``Engine``. One object is one interpreter: it serves one thread at a
time and belongs to the process that made it.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import EngineError, ModelFileError, SettingsError
from ..settings import PREFIX, current

if TYPE_CHECKING:
    from ..modelfile import ModelFile, Tensor
    from .interpreters import InterpreterEngine


class Engine(Protocol):
    """One interpreter of one model: ``input`` and ``output`` are as the runtime itself gives them."""

    input: Tensor
    output: Tensor

    def __init__(self, model: ModelFile, num_threads: int) -> None:
        """Raises ModelFileError where the runtime refuses the model."""

    def run(self, pixels: bytes) -> bytes:
        """The output's bytes for the input's bytes, both in C order and native byte order.

        Raises EngineError where the runtime fails.
        """

    def close(self) -> None:
        """Frees what the runtime holds. The object is of no use afterwards."""

    @classmethod
    def missing(cls) -> str:
        """Why this engine cannot run here and what to install; empty where it can."""

    @classmethod
    def installed_file(cls) -> str:
        """A file that changes when the engine's package is installed anew."""

    @classmethod
    def trial(cls, path: str) -> str:
        """Loads the model at ``path`` and runs it once on a fixed input; the output's bytes in hex."""


class EngineChoice(NamedTuple):
    """Which engine runs, and why it and no other."""

    name: str
    why: str

    def load(self, model: ModelFile, num_threads: int) -> Engine:
        """A new interpreter of ``model``.

        Raises:
            ModelFileError: the runtime refuses the model, or computes other shapes than the file states.
        """
        engine = engine_class(self.name)(model, num_threads)
        for side, stated, real in (("input", model.input, engine.input), ("output", model.output, engine.output)):
            if (stated.shape, stated.dtype) != (real.shape, real.dtype):
                raise ModelFileError(
                    f"{model.path}: the model is damaged: it states the {side} {stated}, but {self.name} has {real}"
                )
        return engine


# Name -> the module below this package and its class. The order is that of preference where nobody asks.
_CLASSES = {
    "litert": ("interpreters", "LiteRt"),
    "litert-c": ("litert_c", "LiteRtC"),
    "tflite-runtime": ("interpreters", "TfliteRuntime"),
    "tensorflow": ("interpreters", "TensorFlow"),
}


def choose_engine(runtime: str | None = None) -> EngineChoice:
    """The engine that ``runtime`` or SERVERLESS_BEES_RUNTIME names, or else the first that can run here.

    Raises:
        SettingsError: there is no engine of that name.
        EngineError: the engine asked for, or every engine, cannot run here; says what to install.
    """
    asked, by = (runtime, "by argument") if runtime else (current().runtime, f"by {PREFIX}RUNTIME")
    if not asked:
        reasons = {}
        for name in _CLASSES:
            reasons[name] = missing(name)
            if not reasons[name]:
                return EngineChoice(name, f"the first of {', '.join(_CLASSES)} that can run here")
        lines = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
        raise EngineError(f"no engine can run here ({lines}); pip install ai-edge-litert")
    if asked not in _CLASSES:
        raise SettingsError(f"no engine is named {asked!r}; there are {', '.join(_CLASSES)}")
    reason = missing(asked)
    if not reason:
        return EngineChoice(asked, f"asked for {by}")
    # Only litert-c has a twin: the same library through its own Python binding gives the same bits.
    if asked == "litert-c" and not missing("litert"):
        _say_once(f"engine litert-c was asked for {by}, but {reason}; using litert, which gives the same scores")
        return EngineChoice("litert", f"litert-c was asked for {by}, but {reason}")
    raise EngineError(f"engine {asked} was asked for {by}, but {reason}")


@functools.cache
def _say_once(line: str) -> None:
    import logging  # 17 ms: not at the top

    logging.getLogger(__name__).warning(line)


def choose_interpreter() -> tuple[str, type[InterpreterEngine]]:
    """The engine that is asked for, if it is an ``Interpreter``, or else the first one that is."""
    from .interpreters import InterpreterEngine

    asked = current().runtime
    reasons = {}
    for name in (asked, *_CLASSES) if asked else _CLASSES:
        found = engine_class(name)
        if issubclass(found, InterpreterEngine):
            reasons[name] = found.missing()
            if not reasons[name]:
                return name, found
    lines = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    raise EngineError(f"no package with an Interpreter is installed ({lines})")


def engine_names() -> tuple[str, ...]:
    """The engines there are, the preferred first."""
    return tuple(_CLASSES)


def missing(name: str) -> str:
    """Why the engine ``name`` cannot run here and what to install; empty where it can."""
    return engine_class(name).missing()


def engine_class(name: str) -> type[Engine]:
    """The class behind the name of an engine; importing it imports no runtime."""
    module, class_name = _CLASSES[name]
    found: type[Engine] = getattr(importlib.import_module("." + module, __name__), class_name)
    return found
