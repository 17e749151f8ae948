"""The Predictor: a picture in, a label and scores out."""

from __future__ import annotations

import collections
import contextlib
import functools
import heapq
import math
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .engines import choose_engine
from .engines.proofs import prove_model
from .errors import EngineError, InvalidImageError, ModelError, ServerlessBeesError, SettingsError
from .images import PixelEncoder, decode_image, fetch_image, from_array, read_file, refuse_lossy
from .modelfile import ModelFile
from .pool import EnginePool, granted_cpus
from .settings import Settings, current
from .spec import Spec, resolve_spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray
    from PIL import Image

    Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | Image.Image | NDArray[np.uint8]
    """A path, encoded bytes, a PIL image, an array (height, width, 3) of uint8, or an http(s) URL."""
    Timings = MutableMapping[str, float]
    """Seconds by stage."""


class ModelInfo(NamedTuple):
    """Which model it was: its name, and its version or the first 8 hex digits of its SHA-256."""

    name: str
    version: str


class ClassScore(NamedTuple):
    """One class and its score, as the engine gives it."""

    label: str
    score: float


class Prediction(NamedTuple):
    """The decision and its score, and the best classes, best first."""

    label: str
    score: float
    classes: tuple[ClassScore, ...]
    model: ModelInfo


class Predictor:
    """Classifies pictures with one TFLite model. One object serves many threads, and processes forked later.

    Args:
        model: path of the ``.tflite`` file; by default SERVERLESS_BEES_MODEL, or else the bundled bees-wasps.
        spec: a ``Spec``, a JSON document or its path; by default SERVERLESS_BEES_SPEC, or else what stands
            beside or inside the model (see ``serverless_bees.spec``).
        runtime: the engine: litert-c, litert, tflite-runtime or tensorflow; by default SERVERLESS_BEES_RUNTIME,
            or else the first that can run here.
        num_threads: threads of one interpreter.
        pool_size: how many interpreters at most, one by one as threads need them; by default the CPUs granted.
        decode: ``exact``, the reference path bit for bit, or ``fast``, the JPEG decoder's own scaled decode.
        settings: what holds where an argument is not given; by default the environment's.

    Raises:
        ModelError: the model's file, spec or engine is at fault.
        SettingsError: an argument is out of its range.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        spec: Spec | Mapping[str, Any] | str | os.PathLike[str] | None = None,
        *,
        runtime: str | None = None,
        num_threads: int | None = None,
        pool_size: int | None = None,
        decode: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.settings = settings = settings or current()
        self.model_file = file = ModelFile(model or settings.model or default_model())
        self.spec = resolve_spec(file, spec if spec is not None else settings.spec or None)
        self.engine = choose_engine(runtime or settings.runtime)
        digest = prove_model(self.engine.name, file)
        self.info = ModelInfo(self.spec.name, self.spec.version or digest[:8])
        self._encoder = PixelEncoder(self.spec, file.input)
        self._draft_size = _draft_size(decode or settings.decode, self._encoder.size)
        threads = _whole("num_threads", num_threads, settings.num_threads)
        size = _whole("pool_size", pool_size, settings.pool_size or granted_cpus())
        # The pool knows the choice and not this object: no cycle, so what nobody uses is freed at once.
        self._pool = EnginePool(functools.partial(self.engine.load, file, threads), size, settings.pool_wait)

    def predict(
        self,
        image: Picture,
        top_k: int | None = None,
        min_score: float | None = None,
        *,
        timings: Timings | None = None,
    ) -> Prediction:
        """Classifies one picture.

        Args:
            image: a path, encoded bytes, a PIL image, an array (height, width, 3) of uint8, or an http(s) URL.
            top_k: how many classes the answer names at most (5).
            min_score: the least score of a class that is named; the decision stands whatever its score.
            timings: where the seconds spent on each stage are added: fetch, decode, invoke.

        Raises:
            ImageError: the picture is at fault.
            FetchError: it could not be had from its URL.
            OSError: its file cannot be read.
            OverloadedError: no interpreter came free in time.
            ModelError: the engine failed, or gave a score that is no number.
        """
        top_k, min_score = self._options(top_k, min_score)
        return self._prediction(self.scores(image, timings=timings), top_k, min_score)

    def scores(self, image: Picture, *, timings: Timings | None = None) -> list[float]:
        """One score a class, in the order of the spec's labels; arguments and errors as ``predict`` has them."""
        data = self._read(image, timings)
        with _timed(timings, "decode"):
            pixels = self._encoder.encode(self._decoded(data))
        return self._interpreted(self.invoke(pixels, timings=timings))

    def invoke(self, pixels: bytes, *, timings: Timings | None = None) -> bytes:
        """Runs the model once: the bytes of its output for those of its input, as the engine has them."""
        with _timed(timings, "invoke"), self._pool.engine() as engine:
            return engine.run(pixels)

    def warm_up(self) -> None:
        """Makes one interpreter and runs it, so that the first prediction need not."""
        self.invoke(bytes(self.model_file.input.nbytes))

    def predict_many(
        self, images: Iterable[Picture], top_k: int | None = None, min_score: float | None = None
    ) -> list[Prediction]:
        """Classifies many pictures, as many at once as the pool has interpreters; raises the first error."""
        predictions = []
        for outcome in self.predict_each(images, top_k, min_score):
            if isinstance(outcome, BaseException):
                raise outcome
            predictions.append(outcome)
        return predictions

    def predict_each(
        self, images: Iterable[Picture], top_k: int | None = None, min_score: float | None = None
    ) -> Iterator[Prediction | ServerlessBeesError | OSError]:
        """Yields a prediction, or the error in its place, for each picture in order; reads ahead only a little."""
        from concurrent.futures import Future, ThreadPoolExecutor

        self._options(top_k, min_score)  # what is wrong with them is said before anything is read
        running: collections.deque[Future[Prediction]] = collections.deque()
        with ThreadPoolExecutor(self._pool.size) as executor:
            try:
                for image in images:
                    running.append(executor.submit(self.predict, image, top_k, min_score))
                    if len(running) > 2 * self._pool.size:
                        yield _outcome(running.popleft())
                while running:
                    yield _outcome(running.popleft())
            finally:
                for future in running:
                    future.cancel()

    def predict_tensor(self, batch: ArrayLike) -> NDArray[Any]:
        """Runs the model on raw input tensors, as they are.

        Args:
            batch: shape (n, height, width, channels) and the model's input dtype (float64 is rounded to float32).

        Returns:
            The raw outputs, of shape (n, classes) and the model's output dtype.

        Raises:
            InvalidImageError: another shape or dtype; both sides are named.
        """
        import numpy as np

        tensor, given = self.model_file.input, np.asarray(batch)
        dtype = np.dtype(tensor.dtype)
        if given.shape[1:] != tensor.shape[1:] or (
            given.dtype != dtype and not (given.dtype == np.float64 and dtype == np.float32)
        ):
            shape = ", ".join(map(str, tensor.shape[1:]))
            raise InvalidImageError(
                f"a batch must be {dtype} of shape (n, {shape}), not {given.dtype} of shape {given.shape}"
            )
        rows = np.ascontiguousarray(given, dtype)
        output = self.model_file.output
        results = np.empty((len(rows), output.size), output.dtype)
        with self._pool.engine() as engine:
            for row, result in zip(rows, results, strict=True):
                result[:] = np.frombuffer(engine.run(row.tobytes()), output.dtype)
        return results

    def close(self) -> None:
        """Frees the interpreters; the next prediction makes new ones."""
        self._pool.close()

    def _read(self, image: Picture, timings: Timings | None) -> Picture:
        """Encoded bytes where ``image`` names them, or else ``image`` itself."""
        if isinstance(image, str) and is_url(image):
            with _timed(timings, "fetch"):
                return fetch_image(image, self.settings)
        return read_file(image, self.settings) if isinstance(image, str | os.PathLike) else image

    def _decoded(self, image: Any) -> Image.Image:
        if isinstance(image, bytes | bytearray | memoryview):
            return decode_image(bytes(image), self.settings, self._draft_size)
        if hasattr(image, "dtype"):
            return from_array(image)
        if not hasattr(image, "convert"):
            raise InvalidImageError(
                f"a picture is a path, bytes, a PIL image, an array or a URL, not {type(image).__name__}"
            )
        refuse_lossy(image)
        decoded: Image.Image = image
        return decoded

    def _interpreted(self, raw: bytes) -> list[float]:
        """One score a class: dequantised, the activation applied where the model leaves that to us."""
        output = self.model_file.output
        scores: list[float] = list(struct.unpack(f"{output.size}{_CODES[output.dtype]}", raw))
        if output.dtype != "float32":
            scores = [output.scale * (score - output.zero_point) for score in scores]
        if not all(map(math.isfinite, scores)):
            raise EngineError(f"{self.model_file.path}: the model gave a score that is no number")
        if self.spec.from_logits:
            scores = _ACTIVATIONS[self.spec.activation](scores)
        return [1 - scores[0], scores[0]] if len(scores) == 1 else scores

    def _prediction(self, scores: list[float], top_k: int, min_score: float) -> Prediction:
        labels = self.spec.labels
        order = heapq.nlargest(top_k, range(len(scores)), key=scores.__getitem__)
        single = self.model_file.output.size == 1
        decision = int(scores[1] >= self.spec.decision_threshold) if single else order[0]
        classes = tuple(ClassScore(labels[i], scores[i]) for i in order if scores[i] >= min_score)
        return Prediction(labels[decision], scores[decision], classes, self.info)

    def _options(self, top_k: int | None, min_score: float | None) -> tuple[int, float]:
        if min_score is not None and not math.isfinite(min_score):
            raise SettingsError(f"min_score is {min_score}; it must be a finite number")
        return _whole("top_k", top_k, self.settings.top_k), -math.inf if min_score is None else min_score


def load_lite_model(path: str | os.PathLike[str]) -> tuple[Any, list[dict[str, Any]], list[dict[str, Any]]]:
    """An ``Interpreter`` of the model at ``path``, tensors allocated, with its input and its output details.

    The interpreter is LiteRT's, or else tflite-runtime's or TensorFlow's; ``litert-c`` has none.

    Raises:
        ModelFileError: missing, damaged or not TFLite.
        EngineError: no package with an interpreter is installed.
    """
    from .engines import choose_interpreter

    name, interpreter_class = choose_interpreter()
    file = ModelFile(path)
    prove_model(name, file)
    interpreter = interpreter_class.interpreter(file.path, current().num_threads)
    return interpreter, interpreter.get_input_details(), interpreter.get_output_details()


def is_url(text: str) -> bool:
    """Whether a text is fetched; any other is the path of a file."""
    return text[:8].lower().startswith(("http://", "https://"))


def default_model() -> str:
    """Path of the bundled model that tells bees from wasps."""
    package = os.path.dirname(os.path.abspath(__file__))
    # In a wheel it stands inside the package, in the repository under models/.
    for folder in (package, os.path.dirname(os.path.dirname(package))):
        path = os.path.join(folder, "models", "bees-wasps.tflite")
        if os.path.exists(path):
            return path
    raise ModelError("the bundled model bees-wasps.tflite is missing; install the package anew or name a model")


@contextlib.contextmanager
def _timed(timings: Timings | None, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        if timings is not None:
            timings[stage] = timings.get(stage, 0.0) + time.perf_counter() - start


def _outcome(future: Any) -> Prediction | ServerlessBeesError | OSError:
    try:
        prediction: Prediction = future.result()
    except (ServerlessBeesError, OSError) as error:
        return error
    return prediction


def _draft_size(decode: str, size: tuple[int, int]) -> tuple[int, int] | None:
    if decode not in ("exact", "fast"):
        raise SettingsError(f"decode is {decode!r}; it must be one of exact, fast")
    # Twice the target: at once the target 8 % of decisions changed, at twice 2 %.
    return (2 * size[0], 2 * size[1]) if decode == "fast" else None


def _whole(name: str, given: int | None, default: int) -> int:
    if given is None:
        return default
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise SettingsError(f"{name} is {given!r}; it must be a whole number from 1")
    return given


def _sigmoid(scores: list[float]) -> list[float]:
    return [1 / (1 + math.exp(-score)) if score >= 0 else (e := math.exp(score)) / (1 + e) for score in scores]


def _softmax(scores: list[float]) -> list[float]:
    highest = max(scores)
    powers = [math.exp(score - highest) for score in scores]
    total = math.fsum(powers)
    return [power / total for power in powers]


_ACTIVATIONS: dict[str, Callable[[list[float]], list[float]]] = {
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "none": list,
}
_CODES = {"float32": "f", "uint8": "B", "int8": "b"}
