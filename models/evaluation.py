"""Measuring: what is made of scores, TFLite files and the untouched backbone.

Scores are P(second label), float32; targets are 0 for the first label and 1 for the second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert.interpreter import Interpreter
from network import Floats
from pictures import Example, prepare
from PIL import Image
from species import members

Doubles = npt.NDArray[np.float64]

THRESHOLD = 0.5
DRAWS = 5000


def statistics(scores: Floats, targets: Floats, importance: Doubles) -> dict[str, Doubles]:
    """Accuracy and the like of scores (n,) for each row of example weights (r, n): names to (r,).

    "first" and "second" stand for the labels.
    """
    decided, actual = scores >= THRESHOLD, targets == 1
    result = {"accuracy": importance @ (decided == actual) / importance.sum(axis=1)}
    for label, chosen, truth in (("first", ~decided, ~actual), ("second", decided, actual)):
        hits = importance @ (chosen & truth)
        result[f"recall {label}"] = hits / (importance @ truth)
        result[f"precision {label}"] = hits / (importance @ chosen)
    # AUC: how often a picture of the second label scores above one of the first; a tie counts half.
    above = (np.sign(scores[actual][:, None] - scores[~actual][None]) + 1) / 2
    second, first = importance[:, actual], importance[:, ~actual]
    result["auc"] = ((second @ above) * first).sum(axis=1) / (second.sum(axis=1) * first.sum(axis=1))
    return result


def measure(scores: Floats, targets: Floats) -> dict[str, float]:
    """Accuracy and the like of scores (n,) against targets (n,), with measures of calibration."""
    result = {name: float(value[0]) for name, value in statistics(scores, targets, np.ones((1, len(scores)))).items()}
    safe = np.clip(scores.astype(np.float64), 1e-7, 1 - 1e-7)
    result["log loss"] = float(-np.mean(np.log(np.where(targets == 1, safe, 1 - safe))))
    result["brier"] = float(np.mean((scores - targets) ** 2))
    # Expected calibration error: the gap between score and frequency, over ten equally full bins.
    bins = np.array_split(np.argsort(scores), 10)
    gaps = [len(bin_) * abs(float(scores[bin_].mean() - targets[bin_].mean())) for bin_ in bins]
    result["ece"] = sum(gaps) / len(scores)
    return result


def intervals(scores: Floats, targets: Floats, groups: list[str], seed: int) -> dict[str, list[float]]:
    """95 % bootstrap intervals that draw whole photographs, since versions of one stand or fall together."""
    names, member = np.unique(groups, return_inverse=True)
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    result = statistics(scores, targets, drawn[:, member].astype(np.float64))
    return {name: np.quantile(values, (0.025, 0.975)).tolist() for name, values in result.items()}


class Scorer:
    """Scores pictures through a TFLite file."""

    def __init__(self, model: Path) -> None:
        """Load the file at `model`."""
        self._interpreter = Interpreter(model_path=str(model), num_threads=1)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        self._output = self._interpreter.get_output_details()[0]["index"]

    def output(self, picture: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The output for one picture, (size, size, 3) in the model's own type, without the batch axis."""
        self._interpreter.set_tensor(self._input, picture[None])
        self._interpreter.invoke()
        return np.asarray(self._interpreter.get_tensor(self._output)[0])

    def milliseconds(self, runs: int = 50) -> float:
        """The least time that one picture takes, in a single thread."""
        shape = self._interpreter.get_input_details()[0]["shape"][1:]
        picture = np.full(shape, 0.5, dtype=np.float32)
        least = float("inf")
        for _ in range(runs):
            began = time.perf_counter()
            self.output(picture)
            least = min(least, time.perf_counter() - began)
        return 1000 * least

    def scores(self, pictures: Iterable[Floats]) -> Floats:
        """The single output for each of `pictures`, to (n,)."""
        return np.array([self.output(picture)[0] for picture in pictures], dtype=np.float32)


def species_scores(backbone: Path, species: list[str], labels: list[str], examples: list[Example]) -> Floats:
    """P(second label) by the untouched uint8 backbone at 224 pixels, its species grouped by genus: (n,)."""
    scorer = Scorer(backbone)
    first, second = (members(species, label) for label in labels)
    scores = []
    for example in examples:
        picture = np.asarray(example.image.resize((224, 224), Image.Resampling.NEAREST))
        output = scorer.output(picture).astype(np.float32)
        # Half a quantisation step: a picture that looks like neither gets a score of a half.
        one, other = output[first].sum() + 0.5, output[second].sum() + 0.5
        scores.append(other / (one + other))
    return np.array(scores, dtype=np.float32)


def at_half_size(image: Image.Image, size: int) -> Floats:
    """A picture shrunk to half its sides on a plain ground of its mean colour, as if taken from afar."""
    mean = image.resize((1, 1), Image.Resampling.BOX)
    canvas = mean.resize((size, size))
    small = image.resize((size // 2, size // 2), Image.Resampling.NEAREST)
    canvas.paste(small, ((size - size // 2) // 2, (size - size // 2) // 2))
    return prepare(canvas, size)


def disturbances(scorer: Scorer, examples: list[Example], targets: Floats, size: int) -> dict[str, float]:
    """Accuracy on pictures that were prepared in another way than at prediction time."""
    ways: dict[str, Callable[[Image.Image], Floats]] = {
        "bilinear instead of nearest": lambda image: prepare(image, size, Image.Resampling.BILINEAR),
        "mirrored": lambda image: prepare(image, size)[:, ::-1],
        "upside down": lambda image: prepare(image, size)[::-1],
        "grey": lambda image: prepare(image.convert("L").convert("RGB"), size),
        "half the size": lambda image: at_half_size(image, size),
    }
    result = {}
    for name, way in ways.items():
        scores = scorer.scores(way(example.image) for example in examples)
        result[name] = float(np.mean((scores >= THRESHOLD) == (targets == 1)))
    return result


def parts(examples: list[Example], correct: npt.NDArray[np.bool_]) -> dict[str, dict[str, float]]:
    """Accuracy by collection (the beginning of the file name) and by whole picture or crop."""
    kinds: dict[str, list[bool]] = {}
    for example, right in zip(examples, correct, strict=True):
        kinds.setdefault(f"collection {example.path.name.split('-')[0]}", []).append(bool(right))
        kinds.setdefault("crops" if "-crop" in example.path.name else "whole pictures", []).append(bool(right))
    return {kind: {"pictures": len(rights), "accuracy": float(np.mean(rights))} for kind, rights in kinds.items()}


def agreement(one: Floats, other: Floats) -> dict[str, float]:
    """How far two models' scores of the same pictures lie apart."""
    flips = int(np.sum((one >= THRESHOLD) != (other >= THRESHOLD)))
    return {"decisions flipped": flips, "largest difference": float(np.abs(one - other).max())}


def tidy(value: Any, labels: list[str]) -> Any:
    """Ready for JSON: floats of five digits, and the labels where names end in "first" or "second"."""
    if isinstance(value, dict):
        ends = {" first": f" {labels[0]}", " second": f" {labels[1]}"}
        result = {}
        for name, item in value.items():
            for end, label in ends.items():
                name = name.removesuffix(end) + label if name.endswith(end) else name
            result[name] = tidy(item, labels)
        return result
    if isinstance(value, list):
        return [tidy(item, labels) for item in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value
