"""Train the default model: two kinds of pictures told apart by a MobileNetV2 that knows insects.

    python models/train.py [--data DIR] [--backbone FILE] [--out DIR] [--cross-validate]

DIR holds train, val and test, each with one folder of JPEGs per class; the names of the backbone's species,
inat_insect_labels.txt, lie beside FILE. Every choice is made by grouped cross-validation on train and val
together; the test split is scored once, at the end, through the TFLite file that is written. Needs
tensorflow, pillow, numpy and ai-edge-litert.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from evaluation import (
    THRESHOLD,
    Scorer,
    agreement,
    disturbances,
    intervals,
    measure,
    parts,
    species_scores,
    tidy,
)
from network import (
    FineTuning,
    Floats,
    Head,
    Weights,
    build,
    extract_features,
    fine_tune,
    fit_head,
    mix,
    nameless_head,
    read_backbone,
    species_head,
    to_tflite,
)
from pictures import SPLITS, DataError, Example, augment, balanced_batches, load, prepare_all
from species import Members, members

HERE = Path(__file__).resolve().parent
SHARED = HERE.parent.parent / "shared" / "data"
PACKAGES = ("tensorflow", "keras", "numpy", "pillow", "ai-edge-litert")
VIEWS = 8  # augmented versions of each picture that a head is fitted to, besides the picture itself


@dataclass(frozen=True)
class Recipe:
    """A head on the backbone, perhaps trained further together with it.

    The backbone sees `inner` pixels a side. The head starts as its own species, their logits scaled by `prior`
    (0: from nothing), to which a ridge regression of strength `l2` is added (None: none).
    """

    inner: int
    prior: float
    l2: float | None
    fine_tuning: FineTuning | None = None
    share: float = 1.0  # of the fine-tuned weights in the mean with those before that is kept


INNER_SIZES = (150, 192, 224)  # 224 is what the backbone was trained at
HEADS = {
    **{f"species, {inner} px": Recipe(inner, 1.0, None) for inner in INNER_SIZES},
    **{f"probe, {inner} px": Recipe(inner, 0.0, 0.1) for inner in INNER_SIZES},
    **{f"species and probe, {inner} px": Recipe(inner, 0.6, 0.3) for inner in INNER_SIZES},
    "species and probe, 224 px, l2 0.1": Recipe(224, 0.6, 0.1),
    "species and probe, 224 px, l2 1.0": Recipe(224, 0.6, 1.0),
    "species and probe, 224 px, prior 1.0": Recipe(224, 1.0, 0.3),
}
TUNED = {
    "probe, 150 px, fine-tuned": Recipe(150, 0.0, 0.1, FineTuning(6, 1.5e-4)),
    **{
        f"species and probe, 224 px, fine-tuned, share {share}": Recipe(224, 0.6, 0.3, FineTuning(4, 1.5e-4), share)
        for share in (0.25, 0.5, 0.75, 1.0)
    },
}
RECIPES = HEADS | TUNED
SHIPPED = "species and probe, 224 px, fine-tuned, share 1.0"
# Tested for comparison.
COMPARED = ("probe, 150 px", "probe, 150 px, fine-tuned", "species, 224 px", "species and probe, 224 px")


@dataclass(frozen=True)
class Study:
    """Examples with the features that the frozen backbone finds at each inner size, (n, 1 + VIEWS, 1280).

    Those of the picture itself come first.
    """

    examples: list[Example]
    features: dict[int, Floats]
    targets: Floats

    def take(self, chosen: npt.NDArray[np.intp]) -> Study:
        """The chosen examples only."""
        examples = [self.examples[index] for index in chosen]
        features = {inner: these[chosen] for inner, these in self.features.items()}
        return Study(examples, features, self.targets[chosen])


@dataclass(frozen=True)
class Setting:
    """What stays the same for all recipes: the backbone, which of its species belong to each label, and so on."""

    weights: Weights
    first: Members
    second: Members
    size: int
    seed: int

    def start(self, prior: float) -> Head:
        """The head before anything is learned."""
        if prior == 0:
            return nameless_head(len(self.weights["species"][0]))
        return species_head(self.weights, self.first, self.second, prior)


def study(examples: list[Example], setting: Setting, inner_sizes: set[int]) -> Study:
    """Extract the features of all pictures and of VIEWS augmented versions of each."""
    rng = np.random.default_rng(setting.seed)
    pictures, targets = prepare_all(examples, setting.size)
    varied = (np.stack([augment(example.image, setting.size, rng) for example in examples]) for _ in range(VIEWS))
    versions = [pictures, *varied]
    features = {}
    for inner in sorted(inner_sizes):
        features[inner] = np.stack([extract_features(setting.weights, these, inner) for these in versions], axis=1)
    return Study(examples, features, targets)


def fit(recipe: Recipe, material: Study, setting: Setting) -> Head:
    """Fit the head of a recipe."""
    start = setting.start(recipe.prior)
    if recipe.l2 is None:
        return start
    features = material.features[recipe.inner]
    flat = features.reshape(-1, features.shape[2])
    return fit_head(start, flat, np.repeat(material.targets, features.shape[1]), recipe.l2)


def train(recipe: Recipe, material: Study, setting: Setting) -> Any:
    """Train a network by a recipe; returns the Keras model."""
    model = build(setting.weights, fit(recipe, material, setting), setting.size, recipe.inner)
    if recipe.fine_tuning is not None:
        before = model.get_weights()
        model.set_weights(mix(before, tune(model, recipe.fine_tuning, material, setting), recipe.share))
    return model


def tune(model: Any, tuning: FineTuning, material: Study, setting: Setting) -> list[Floats]:
    """Fine-tune `model` in place; returns its weights."""
    keras.utils.set_random_seed(setting.seed)
    rng = np.random.default_rng(setting.seed)
    batches = balanced_batches(material.examples, setting.size, tuning.batch_size, rng)
    fine_tune(model, batches, math.ceil(len(material.examples) / tuning.batch_size), tuning)
    weights: list[Floats] = model.get_weights()
    return weights


def folds(examples: list[Example], count: int, seed: int) -> npt.NDArray[np.intp]:
    """The fold of each example, (n,): all of a photograph in one, each class spread evenly over all."""
    first_target: dict[str, int] = {}
    for example in examples:
        first_target.setdefault(example.group, example.target)
    fold_of: dict[str, int] = {}
    rng = np.random.default_rng(seed)
    for target in (0, 1):
        groups = [group for group, its_target in first_target.items() if its_target == target]
        for place, index in enumerate(rng.permutation(len(groups))):
            fold_of[groups[index]] = place % count
    return np.array([fold_of[example.group] for example in examples])


def cross_validate(recipes: dict[str, Recipe], material: Study, setting: Setting, count: int) -> dict[str, Floats]:
    """Score every example by a model that has not seen its photograph: recipe to scores, (n,)."""
    fold = folds(material.examples, count, setting.seed)
    pictures, _ = prepare_all(material.examples, setting.size)
    table: dict[str, Floats] = {}
    tuned: dict[tuple[Recipe, int], list[Floats]] = {}  # what recipes that differ in their share have in common
    for name, recipe in recipes.items():
        table[name] = np.zeros(len(fold), dtype=np.float32)
        for held_out in range(count):
            inside = np.flatnonzero(fold == held_out)
            rest = material.take(np.flatnonzero(fold != held_out))
            head = fit(recipe, rest, setting)
            if recipe.fine_tuning is None:  # the features are there already: no need for the network
                table[name][inside] = head.predict(material.features[recipe.inner][inside, 0])
                continue
            model = build(setting.weights, head, setting.size, recipe.inner)
            before, key = model.get_weights(), (replace(recipe, share=1.0), held_out)
            if key not in tuned:
                tuned[key] = tune(model, recipe.fine_tuning, rest, setting)
            model.set_weights(mix(before, tuned[key], recipe.share))
            table[name][inside] = model.predict(pictures[inside], verbose=0)[:, 0]
            keras.backend.clear_session()
        summary = measure(table[name], material.targets)
        print(f"{name}: accuracy {summary['accuracy']:.3f}, log loss {summary['log loss']:.3f}", flush=True)
    return table


def arguments() -> argparse.Namespace:
    """Read the command line."""
    backbone = SHARED / "backbone" / "mobilenet_v2_1.0_224_inat_insect_quant.tflite"
    parser = argparse.ArgumentParser(description="Train the default model.")
    add = parser.add_argument
    add("--data", type=Path, default=SHARED / "bees-wasps", help="folder of {train,val,test}/CLASS/*.jpg")
    add(
        "--backbone",
        type=Path,
        default=backbone,
        help="uint8 MobileNetV2 1.0 as TFLite, its labels beside it",
    )
    add("--out", type=Path, default=HERE, help="folder to write the model, its sidecar and metrics.json to")
    add("--name", default="bees-wasps", help="name of the model and of its files")
    add("--size", type=int, default=150, help="side of the input in pixels")
    add("--recipe", choices=RECIPES, default=SHIPPED, metavar="NAME", help=f"one of: {'; '.join(RECIPES)}")
    add(
        "--cross-validate",
        action="store_true",
        help="compare all recipes, train by the one of least log loss",
    )
    add("--folds", type=int, default=3, help="folds of the cross-validation")
    add("--seed", type=int, default=20, help="of the folds, the augmentation and the bootstrap")
    return parser.parse_args()


def choose(recipes: dict[str, Recipe], material: Study, setting: Setting, count: int) -> tuple[str, dict[str, Any]]:
    """Cross-validate recipes: the name of the one with the least log loss, and the figures."""
    scores = cross_validate(recipes, material, setting, count)
    table = {name: measure(these, material.targets) for name, these in scores.items()}
    best = min(table, key=lambda name: table[name]["log loss"])
    by_threshold = {
        str(threshold): float(np.mean((scores[best] >= threshold) == (material.targets == 1)))
        for threshold in np.round(np.arange(0.2, 0.81, 0.05), 2).tolist()
    }
    return best, {"folds": count, "recipes": table, "accuracy by threshold": by_threshold}


def results(scores: Floats, targets: Floats, test: list[Example], seed: int) -> dict[str, Any]:
    """Measures of test scores (n,) with their intervals."""
    groups = [example.group for example in test]
    return {**measure(scores, targets), "intervals": intervals(scores, targets, groups, seed)}


def details(scores: Floats, targets: Floats, test: list[Example], labels: list[str]) -> dict[str, Any]:
    """The confusion matrix of test scores (n,), the accuracy by kind of picture, and every mistake."""
    decided = (scores >= THRESHOLD).astype(int)
    correct = decided == targets
    return {
        "confusion": {
            f"{truth} taken for {decision}": int(np.sum((targets == row) & (decided == column)))
            for row, truth in enumerate(labels)
            for column, decision in enumerate(labels)
        },
        "by kind of picture": parts(test, correct),
        "mistakes": {
            f"{labels[example.target]}/{example.path.name}": float(score)
            for example, score, right in zip(test, scores, correct, strict=True)
            if not right
        },
    }


def main() -> int:
    """Train, convert, evaluate and write everything; 1 if float16 decides otherwise than float32 anywhere."""
    options = arguments()
    size, seed = options.size, options.seed
    if not options.backbone.is_file():
        raise DataError(f"no backbone: {options.backbone} is not a file")
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    labels, examples = load(options.data)
    names = options.backbone.with_name("inat_insect_labels.txt")
    if not names.is_file():
        raise DataError(f"no names of the species: {names} is not a file")
    species = names.read_text(encoding="utf-8").splitlines()
    first, second = (members(species, label) for label in labels)
    setting = Setting(read_backbone(options.backbone), first, second, size, seed)
    known = bool(first.any() and second.any())
    recipes = {name: recipe for name, recipe in RECIPES.items() if known or recipe.prior == 0}
    if options.recipe not in recipes and not options.cross_validate:
        raise DataError(f"the backbone knows no species of {' or '.join(labels)}: take a --recipe that is a mere probe")
    compared = [name for name in COMPARED if name in recipes]
    used = recipes.values() if options.cross_validate else [recipes[name] for name in (options.recipe, *compared)]
    material = study(examples["train"] + examples["val"], setting, {recipe.inner for recipe in used})
    test = examples["test"]
    print(f"{len(material.examples)} pictures to learn from, {len(test)} to test on", flush=True)

    chosen: str = options.recipe
    validation: dict[str, Any] = {}
    if options.cross_validate:
        chosen, validation = choose(recipes, material, setting, options.folds)
    print(f"training: {chosen}", flush=True)
    model = train(recipes[chosen], material, setting)
    options.out.mkdir(parents=True, exist_ok=True)
    shipped = options.out / f"{options.name}.tflite"
    shipped.write_bytes(to_tflite(model, half=True))

    scorer = Scorer(shipped)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "float32.tflite"
        file.write_bytes(to_tflite(model, half=False))
        full, full_size = Scorer(file), file.stat().st_size
        against_full = {}
        for split in SPLITS:
            pictures, targets = prepare_all(examples[split], size)
            scores = scorer.scores(pictures)
            against_full[split] = agreement(scores, full.scores(pictures))
        # From here on, pictures, targets and scores are those of the last split, test.
        others, milliseconds = {}, {chosen: scorer.milliseconds()}
        for number, name in enumerate(compared):
            file = Path(folder) / f"{number}.tflite"
            file.write_bytes(to_tflite(train(recipes[name], material, setting), half=True))
            other = Scorer(file)
            others[name] = other.scores(pictures)
            milliseconds[name] = other.milliseconds()
    if known:
        others["untouched backbone, 224 px"] = species_scores(options.backbone, species, labels, test)

    result = results(scores, targets, test, seed)
    metrics = {
        "recipe": {"name": chosen, **asdict(recipes[chosen])},
        "versions": {package: version(package) for package in PACKAGES},
        "data": {
            split: {
                "photographs": len({example.group for example in these}),
                **{label: sum(labels[example.target] == label for example in these) for label in labels},
            }
            for split, these in examples.items()
        },
        "cross-validation": validation,
        "test": {
            **result,
            **details(scores, targets, test, labels),
            "prepared otherwise": disturbances(scorer, test, targets, size),
        },
        "compared with": {name: results(these, targets, test, seed) for name, these in others.items()},
        "float16 against float32": against_full,
        "bytes": {"float16": shipped.stat().st_size, "float32": full_size},
        "milliseconds": milliseconds,
    }
    sidecar = {
        "name": options.name,
        "description": f"Tells {labels[0]} from {labels[1]} in a photograph; the score is P({labels[1]}).",
        "labels": labels,
        "input": {"resample": "nearest", "mean": [0, 0, 0], "std": [255, 255, 255], "channel_order": "rgb"},
        "output": {"activation": "sigmoid", "decision_threshold": THRESHOLD},
    }
    for file, content in (
        (shipped.with_suffix(".json"), sidecar),
        (options.out / "metrics.json", tidy(metrics, labels)),
    ):
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    low, high = result["intervals"]["accuracy"]
    print(f"test accuracy {result['accuracy']:.3f} [{low:.3f}, {high:.3f}], written: {shipped}")
    flips = sum(split["decisions flipped"] for split in against_full.values())
    if flips:
        print(f"train.py: float16 flips {flips} decisions against float32", file=sys.stderr)
    return 1 if flips else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DataError as error:
        print(f"train.py: {error}", file=sys.stderr)
        sys.exit(2)
