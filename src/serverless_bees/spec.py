"""What a model's tensors cannot say: its labels, what a pixel means, what the output is.

Each part of a spec comes from the first place that states it: an explicit argument; a sidecar ``NAME.json``
beside ``NAME.tflite``; TFLite Metadata inside the file; and else it is assumed, with a warning. The form of
the JSON is published as ``spec.schema.json`` beside this module.
"""

from __future__ import annotations

import os
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .errors import SpecError, UnsupportedModelError
from .modelfile import ModelFile, Tensor

ASSUMED = "assumed"
DEFAULT = "default"
FROM_TENSOR = "input tensor"
"""The quantisation of the input says by itself what a pixel is."""

PIXEL_DTYPES = ("float32", "uint8", "int8")
SCORE_DTYPES = ("float32", "uint8", "int8")
MAX_CLASSES = 100_000
"""Five times the largest in common use (ImageNet-21k); a damaged shape is refused before it is given labels."""


class AssumedSpecWarning(UserWarning):
    """Nothing states what a model's pixels or labels mean, so it was assumed."""


class Spec(NamedTuple):
    """The complete spec of one model. ``sources`` says of each field where it comes from."""

    labels: tuple[str, ...]
    """One label an output; for a single sigmoid two: the one below the threshold, then the one above."""
    mean: tuple[float, ...] | None = (0.0,)
    """Subtracted from a pixel's 0 to 255; one for all channels or one a channel. None: pixels go in unscaled,
    which only a quantised input takes (uint8 as they are, int8 less 128)."""
    std: tuple[float, ...] | None = (255.0,)
    """Divides what is left; in the same form as ``mean``."""
    resample: str = "nearest"
    channel_order: str = "rgb"
    exif_transpose: bool = False
    """Whether the EXIF orientation is applied first; the reference path leaves it alone."""
    activation: str = "none"
    """What the scores have gone through: ``sigmoid``, ``softmax`` or ``none``."""
    from_logits: bool = False
    """Whether that activation is still to be applied to what the model puts out."""
    decision_threshold: float = 0.5
    """From which score on a single sigmoid decides for its second label."""
    name: str = ""
    version: str = ""
    """Empty: the first 8 hex digits of the file's SHA-256."""
    description: str = ""
    sources: Mapping[str, str] = {}

    @property
    def assumed(self) -> tuple[str, ...]:
        """Which of ``labels`` and ``mean`` (the scaling) had to be assumed."""
        return tuple(field for field in ("labels", "mean") if self.sources.get(field) == ASSUMED)


def resolve_spec(model: ModelFile, given: Spec | Mapping[str, Any] | str | os.PathLike[str] | None = None) -> Spec:
    """The spec of ``model``; ``given`` is a Spec, the JSON document as a mapping, or the document's path.

    Warns:
        AssumedSpecWarning: the labels or the scaling are stated nowhere.

    Raises:
        SpecError: a part is malformed, or contradicts the model's tensors; both sides are named.
        UnsupportedModelError: the tensors are not those of an image classifier.
    """
    _check_tensors(model)
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for source, part in _parts(model, given):
        for field, value in part.items():
            if field not in values and value != "":  # an empty text states nothing
                values[field], sources[field] = value, source
    spec = Spec(**values, sources={field: sources.get(field, DEFAULT) for field in Spec._fields[:-1]})
    for claim, contradicted_by in _contradictions(spec, model.input, model.output):
        raise SpecError(f"{model.path}: the spec says {claim}, but {contradicted_by}")
    if spec.assumed:
        scaling = "pixels divided by 255" if spec.mean else "pixels unscaled"
        described = {"labels": f"labels {_few(spec.labels)}", "mean": scaling}
        warnings.warn(
            f"{model.path}: nothing states what this model's pixels or labels mean; assuming "
            f"{' and '.join(described[field] for field in spec.assumed)}. State it in {_sidecar_path(model.path)}",
            AssumedSpecWarning,
            stacklevel=3,
        )
    return spec


def pixel_table(spec: Spec, tensor: Tensor, channel: int) -> bytes:
    """What the input ``tensor`` holds for each pixel 0 to 255 of a ``channel``: 256 items of its dtype.

    A float32 input gets ``(pixel - mean) / std``, each step rounded to float32 as NumPy does it. A quantised
    one gets ``round(real / scale) + zero_point``, clamped to its type; where no pixel is more than one step
    from itself unscaled, the pixels themselves: the two scalings undo each other, and TensorFlow's own tools
    leave both out (https://ai.google.dev/edge/litert/conversion/tensorflow/metadata, "Normalization and
    quantization parameters").
    """
    lowest = -128 if tensor.dtype == "int8" else 0
    unscaled = [pixel + lowest for pixel in range(256)]
    code = "256f" if tensor.dtype == "float32" else "256b" if lowest else "256B"
    if spec.mean is None or spec.std is None:
        return struct.pack(code, *unscaled)
    mean, std = _float32s(spec.mean[channel % len(spec.mean)], spec.std[channel % len(spec.std)])
    # A float64 quotient of two float32 numbers, rounded to float32, is their float32 quotient (53 >= 2 * 24 + 2).
    real = _float32s(*(value / std for value in _float32s(*(pixel - mean for pixel in range(256)))))
    if tensor.dtype == "float32":
        return struct.pack(code, *real)
    steps = (round(value / tensor.scale) + tensor.zero_point for value in real)
    stored = [min(max(step, lowest), lowest + 255) for step in steps]
    if all(abs(step - plain) <= 1 for step, plain in zip(stored, unscaled, strict=True)):
        stored = unscaled
    return struct.pack(code, *stored)


def _float32s(*values: float) -> tuple[float, ...]:
    return struct.unpack(f"{len(values)}f", struct.pack(f"{len(values)}f", *values))


def _parts(model: ModelFile, given: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Where a spec may come from, the strongest first."""
    if isinstance(given, Spec):
        fields = given._asdict()
        del fields["sources"]
        yield "argument", _read_document(_as_document(fields), "the spec given")
    elif isinstance(given, Mapping):
        yield "argument", _read_document(given, "the spec given")
    elif given is not None:
        yield os.fspath(given), _read_file(os.fspath(given))
    sidecar = _sidecar_path(model.path)
    if os.path.exists(sidecar):
        yield os.path.basename(sidecar), _read_file(sidecar)
    metadata = model.metadata()
    if metadata:
        stated = {field: value for field, value in metadata._asdict().items() if value}
        yield "TFLite Metadata", _read_document(_as_document(stated), f"{model.path}: its TFLite Metadata")
    yield FROM_TENSOR, _stated_by_quantisation(model.input)
    outputs = model.output.size
    # An integer input without a scale has no other way to hold a pixel than as it is.
    scalable = model.input.dtype == "float32" or model.input.scale
    scaling: dict[str, Any] = {"mean": (0.0,), "std": (255.0,)} if scalable else {"mean": None, "std": None}
    yield ASSUMED, {**scaling, "labels": tuple(map(str, range(max(2, outputs))))}
    name = os.path.splitext(os.path.basename(model.path))[0]
    yield DEFAULT, {"name": name, "activation": "sigmoid" if outputs == 1 else "none"}


def _stated_by_quantisation(tensor: Tensor) -> dict[str, Any]:
    """A quantised input whose 256 steps span [0, 1], [-1, 1], [0, 255] or [-128, 127] takes pixels as they are."""
    if tensor.dtype == "float32" or not tensor.scale:
        return {}
    lowest = -128 if tensor.dtype == "int8" else 0
    low, high = (tensor.scale * (step - tensor.zero_point) for step in (lowest, lowest + 255))
    for span in ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0)):
        tolerance = 0.01 * (span[1] - span[0])
        if abs(low - span[0]) <= tolerance and abs(high - span[1]) <= tolerance:
            return {"mean": None, "std": None}
    return {}


def _read_file(path: str) -> dict[str, Any]:
    import json

    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except OSError as error:
        raise SpecError(f"{path}: cannot read the spec: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise SpecError(f"{path}: the spec is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise SpecError(f"{path}: the spec must be a JSON object")
    return _read_document(document, path)


def _as_document(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields in the form of the JSON document, to be checked as one."""
    document: dict[str, Any] = {}
    for field, value in fields.items():
        section = _FIELDS[field][0]
        members = document.setdefault(section, {}) if section else document
        members[field] = value
    return document


def _read_document(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The fields that a JSON document states, checked one by one against ``_FIELDS``."""
    part: dict[str, Any] = {}
    sections = {section for section, _, _ in _FIELDS.values() if section}
    for section in ("", *sorted(sections)):
        members = document.get(section, {}) if section else document
        if not isinstance(members, Mapping):
            raise SpecError(f"{where}: {section!r} must be an object")
        for key, value in members.items():
            if not section and (key in sections or key == "$schema"):
                continue
            name = f"{section}.{key}" if section else key
            if key not in _FIELDS or _FIELDS[key][0] != section:
                known = ", ".join(f"{at}.{field}" if at else field for field, (at, *_) in _FIELDS.items())
                raise SpecError(f"{where}: unknown field {name!r}; a spec has {known}")
            _, allowed, parse = _FIELDS[key]
            try:
                part[key] = parse(value)
            except (TypeError, ValueError) as error:
                raise SpecError(f"{where}: {name!r} must be {allowed}, not {_few(value)}") from error
    if ("mean" in part, part.get("mean") is None) != ("std" in part, part.get("std") is None):
        raise SpecError(f"{where}: 'input.mean' and 'input.std' go together, only one of them is given")
    return part


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError
    if not all(isinstance(label, str) and label for label in value):
        raise ValueError
    return tuple(value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError
    return float(value)


def _numbers(value: Any) -> tuple[float, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list | tuple) or len(value) not in (1, 3):
        raise ValueError
    return tuple(_number(item) for item in value)


def _divisors(value: Any) -> tuple[float, ...] | None:
    numbers = _numbers(value)
    if any(abs(number) < _SMALLEST for number in numbers or ()):
        raise ValueError
    return numbers


def _share(value: Any) -> float:
    if not 0 <= _number(value) <= 1:
        raise ValueError
    return _number(value)


def _one_of(*words: str) -> tuple[str, Callable[[Any], str]]:
    def parse(value: Any) -> str:
        if value not in words:
            raise ValueError
        return _text(value)

    return "one of " + ", ".join(words), parse


_LARGEST, _SMALLEST = 1e6, 1e-6
"""Of a mean and a std: far beyond any in use, and no quotient of theirs overflows float32."""

_NUMBERS = f"a list of one number, or of three: one a channel, up to {_LARGEST:g} in size"
_UNSCALED = "or null in both mean and std: unscaled"

_FIELDS: dict[str, tuple[str, str, Callable[[Any], Any]]] = {
    # field: the section of the document that it stands in, what it may be, how it is read
    "name": ("", "text", _text),
    "version": ("", "text", _text),
    "description": ("", "text", _text),
    "labels": ("", "a list of names that are not empty", _labels),
    "resample": ("input", *_one_of("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")),
    "mean": ("input", f"{_NUMBERS}; {_UNSCALED}", _numbers),
    "std": ("input", f"{_NUMBERS} and at least {_SMALLEST:g}; {_UNSCALED}", _divisors),
    "channel_order": ("input", *_one_of("rgb", "bgr")),
    "exif_transpose": ("input", "true or false", _flag),
    "activation": ("output", *_one_of("sigmoid", "softmax", "none")),
    "from_logits": ("output", "true or false", _flag),
    "decision_threshold": ("output", "a number from 0 to 1", _share),
}


def _check_tensors(model: ModelFile) -> None:
    """Whether the tensors are those of an image classifier at all."""
    pixels, scores = model.input, model.output
    for wrong, message in (
        (
            len(pixels.shape) != 4 or pixels.shape[0] != 1 or pixels.shape[3] not in (1, 3),
            f"the input is {pixels}; an image classifier takes 1 x height x width x 3 (or 1)",
        ),
        (pixels.dtype not in PIXEL_DTYPES, f"the input is {pixels}; supported are {', '.join(PIXEL_DTYPES)}"),
        (
            not scores.shape or scores.size != scores.shape[-1],
            f"the output is {scores}; an image classifier gives one row of scores, 1 x classes",
        ),
        (scores.size > MAX_CLASSES, f"the output is {scores}; supported are up to {MAX_CLASSES} classes"),
        (
            scores.dtype not in SCORE_DTYPES,
            f"the output is {scores}; supported are {', '.join(SCORE_DTYPES)}",
        ),
        (scores.dtype != "float32" and not scores.scale, f"the output is {scores} without a scale"),
    ):
        if wrong:
            raise UnsupportedModelError(f"{model.path}: {message}")


def _contradictions(spec: Spec, pixels: Tensor, scores: Tensor) -> Iterator[tuple[str, str]]:
    """Each claim of the spec that the tensors contradict, and by what."""
    classes, channels = scores.size, pixels.shape[3]
    if len(spec.labels) != max(2, classes):
        wanted = "a single score takes 2 labels" if classes == 1 else f"the output has {classes} scores"
        yield f"{len(spec.labels)} labels ({_few(spec.labels)})", f"{wanted} ({scores})"
    if classes == 1 and spec.activation == "softmax":
        yield "the activation is softmax", f"the output is a single score ({scores})"
    if classes > 1 and spec.sources.get("decision_threshold", DEFAULT) != DEFAULT and spec.decision_threshold != 0.5:
        yield (
            f"the decision threshold is {spec.decision_threshold}",
            f"only a single score has one ({scores})",
        )
    if spec.from_logits and spec.activation == "none":
        yield "the scores are logits", "it names no activation to apply to them"
    if channels == 1 and spec.channel_order == "bgr":
        yield "the channel order is bgr", f"the input has one channel ({pixels})"
    if spec.mean is None or spec.std is None:
        if pixels.dtype == "float32":
            yield "pixels go in unscaled", f"the input is {pixels}"
        return
    for field, values in (("mean", spec.mean), ("std", spec.std)):
        if len(values) not in (1, channels):
            yield f"{field} is {_few(values)}", f"the input has {channels} channel ({pixels})"
    if pixels.dtype != "float32" and not pixels.scale:
        yield (
            "pixels are scaled by mean and std",
            f"the input has no quantisation scale to store them with ({pixels})",
        )


def _sidecar_path(model_path: str) -> str:
    return os.path.splitext(model_path)[0] + ".json"


def _few(value: Any) -> str:
    text = ", ".join(map(repr, value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
