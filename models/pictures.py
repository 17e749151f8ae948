"""The pictures: reading them, preparing them as at prediction time, and varying them for training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from network import Floats
from PIL import Image

SPLITS = ("train", "val", "test")
# The part of a file's name that tells versions of one photograph apart: "-v0-whole", "-v2-crop0_1".
VERSION = re.compile(r"-v\d+(-(whole|crop\d+)(_\d+)?)?$")


class DataError(Exception):
    """The folder of pictures is not as it has to be."""


@dataclass(frozen=True)
class Example:
    """A picture in memory; `target` is 0 or 1, `group` the photograph it was made from."""

    path: Path
    image: Image.Image
    target: int
    group: str


def load(data: Path) -> tuple[list[str], dict[str, list[Example]]]:
    """Read every picture. Returns the two labels, in sorted order, and the examples of each split."""
    for split in SPLITS:
        if not (data / split).is_dir():
            raise DataError(f"no pictures: {data / split} is not a folder")
    labels = sorted(folder.name for folder in (data / "train").iterdir() if folder.is_dir())
    if len(labels) != 2:
        raise DataError(f"{data / 'train'} has {len(labels)} class folders; one sigmoid output needs exactly two")
    examples: dict[str, list[Example]] = {}
    for split in SPLITS:
        examples[split] = []
        for target, label in enumerate(labels):
            for path in sorted((data / split / label).glob("*.jpg")):
                image = Image.open(path).convert("RGB")
                examples[split].append(Example(path, image, target, VERSION.sub("", path.stem)))
    seen = {example.group for split in ("train", "val") for example in examples[split]}
    shared = sorted(seen & {example.group for example in examples["test"]})
    if shared:
        raise DataError(f"{len(shared)} photographs of the test split are also in train or val, {shared[0]} for one")
    return labels, examples


def prepare(image: Image.Image, size: int, resample: Image.Resampling = Image.Resampling.NEAREST) -> Floats:
    """What is done to a picture at prediction time: (size, size, 3), float32 in [0, 1]."""
    picture: Floats = np.array(image.resize((size, size), resample), dtype=np.float32)
    picture /= np.float32(255)
    return picture


def prepare_all(examples: list[Example], size: int) -> tuple[Floats, Floats]:
    """Pictures (n, size, size, 3) and targets (n,)."""
    targets = np.array([example.target for example in examples], dtype=np.float32)
    return np.stack([prepare(example.image, size) for example in examples]), targets


def augment(image: Image.Image, size: int, rng: np.random.Generator) -> Floats:
    """A random version of a picture: turned, stretched, cropped, mirrored, resampled and recoloured.

    Mostly resampled with NEAREST, as at prediction time, but not always, so that the network does not come
    to depend on its jagged edges. Returns (size, size, 3), float32 in [0, 1].
    """
    if rng.random() < 0.3:  # a picture of less detail
        shrink = rng.uniform(0.4, 1.0)
        smaller = (max(32, round(image.width * shrink)), max(32, round(image.height * shrink)))
        image = image.resize(smaller, Image.Resampling.BILINEAR)
    angle = math.radians(rng.uniform(-25, 25))
    zoom = math.exp(rng.uniform(math.log(0.6), math.log(1.15)))
    stretch = math.exp(rng.uniform(-0.2, 0.2))
    across, down = image.width / size * zoom * stretch, image.height / size * zoom / stretch
    mirror = -1 if rng.random() < 0.5 else 1
    a, b = across * math.cos(angle) * mirror, -across * math.sin(angle)
    d, e = down * math.sin(angle) * mirror, down * math.cos(angle)
    slack_x, slack_y = abs(1 - zoom) * image.width / 2, abs(1 - zoom) * image.height / 2
    x = image.width / 2 + rng.uniform(-slack_x, slack_x)
    y = image.height / 2 + rng.uniform(-slack_y, slack_y)
    matrix = (a, b, x - (a + b) * size / 2, d, e, y - (d + e) * size / 2)
    filters = (Image.Resampling.NEAREST, Image.Resampling.BILINEAR, Image.Resampling.BICUBIC)
    resample = filters[rng.choice(3, p=(0.6, 0.2, 0.2))]
    ground = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))  # the mean colour
    turned = image.transform((size, size), Image.Transform.AFFINE, matrix, resample, fillcolor=ground)
    picture = np.asarray(turned, dtype=np.float32) / np.float32(255)
    grey = picture.mean(axis=2, keepdims=True)
    picture = grey + (picture - grey) * rng.uniform(0.7, 1.3)
    picture = picture.mean() + (picture - picture.mean()) * rng.uniform(0.75, 1.25)
    picture = picture * rng.uniform(0.75, 1.25) * rng.uniform(0.93, 1.07, size=3)
    return np.asarray(np.clip(picture, 0, 1), dtype=np.float32)


def balanced_batches(
    examples: list[Example], size: int, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[Floats, Floats]]:
    """Endless batches of augmented pictures, half of each class: (b, size, size, 3) and (b, 1)."""

    def forever(target: int) -> Iterator[Example]:
        members = [example for example in examples if example.target == target]
        while True:
            for index in rng.permutation(len(members)):
                yield members[index]

    queues = forever(0), forever(1)
    while True:
        batch = [next(queues[place % 2]) for place in range(batch_size)]
        targets = np.array([[example.target] for example in batch], dtype=np.float32)
        yield np.stack([augment(example.image, size, rng) for example in batch]), targets
