"""The network: MobileNetV2 rebuilt in Keras from a quantised TFLite backbone, its training and its export.

The backbone is a uint8 TFLite file (MobileNetV2, width 1.0, batch normalisation already folded into the
convolutions). Its weights are dequantised into plain Keras layers, so that they can be trained further.
Pictures are float32 in [0, 1] everywhere; the network itself scales them to the size at which the backbone
is to see them, and maps them to [-1, 1].
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from species import Members

Floats = npt.NDArray[np.float32]
Weights = dict[str, tuple[Floats, Floats]]

# Expansion factor, repeats and first stride of each group of MobileNetV2's blocks; the weights know the widths.
BLOCK_GROUPS = ((1, 1, 1), (6, 2, 2), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1))
LAYER = re.compile(r"(?:MobilenetV2/)?(?:expanded_conv(?:_(\d+))?/(expand|depthwise|project)|(Conv|Conv_1|Logits))/")
OUTER = {"Conv": "stem", "Conv_1": "top", "Logits": "species"}


def read_backbone(path: Path) -> Weights:
    """Dequantise the layers of a uint8 MobileNetV2.

    Returns layer name to (kernel, bias), both float32, the kernel laid out as Keras wants it: (height, width,
    in, out), (height, width, channels, 1) when depthwise, or (features, species) at the end.
    """
    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    kernels: dict[str, Floats] = {}
    biases: dict[str, Floats] = {}
    for detail in interpreter.get_tensor_details():
        # A tensor's name joins the names of all it was fused from with ";", its own first. Activations bear
        # the same names, but are uint8 without "weights_quant".
        found = LAYER.match(detail["name"])
        is_kernel = "weights_quant" in detail["name"]
        if found is None or not (is_kernel or detail["dtype"] == np.int32):
            continue
        number, part, outer = found.groups()
        layer = OUTER[outer] if outer else f"block_{number or 0}_{part}"
        quantisation = detail["quantization_parameters"]
        stored = interpreter.get_tensor(detail["index"]).astype(np.float64)
        real = ((stored - quantisation["zero_points"]) * quantisation["scales"]).astype(np.float32)
        if is_kernel:
            kernels[layer] = np.moveaxis(real, 0, -1)  # from (out, h, w, in), (1, h, w, channels) or (out, in)
        else:
            biases[layer] = real
    return {layer: (kernel, biases[layer]) for layer, kernel in kernels.items()}


@dataclass(frozen=True)
class Head:
    """Species weighed against each other: P(second label) is what the second label's get of their softmax.

    `kernel` (1280, k) and `bias` (k,), float32, for the logits of k species; `second` (k,) marks those of the
    second label.
    """

    kernel: Floats
    bias: Floats
    second: Members

    def logits(self, features: Floats) -> Floats:
        """Log-odds of the second label for each row of `features`: (n, 1280) to (n,)."""
        species = features @ self.kernel + self.bias
        second, first = (np.logaddexp.reduce(species[:, side], axis=1) for side in (self.second, ~self.second))
        return np.asarray(second - first, dtype=np.float32)

    def predict(self, features: Floats) -> Floats:
        """P(second label) of each row of `features`: (n, 1280) to (n,)."""
        return np.asarray(1.0 / (1.0 + np.exp(-self.logits(features))), dtype=np.float32)


def nameless_head(features: int) -> Head:
    """A head that knows nothing: one species of each label, all weights zero."""
    return Head(np.zeros((features, 2), np.float32), np.zeros(2, np.float32), np.array([False, True]))


def species_head(weights: Weights, first: Members, second: Members, scale: float) -> Head:
    """The backbone's own species of two labels, both (species,), their logits scaled."""
    kernel, bias = weights["species"]
    either = first | second
    return Head(kernel[:, either] * np.float32(scale), bias[either] * np.float32(scale), second[either])


def fit_head(start: Head, features: Floats, targets: Floats, l2: float) -> Head:
    """Add to the log-odds of `start` a ridge logistic regression, both classes weighing the same.

    By Newton's method. `features` (n, 1280), `targets` (n,) of 0 and 1; `l2` penalises weights on standardised
    features, relative to a mean loss.
    """
    # The small constant keeps features that hardly ever fire from being blown up.
    mean, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-3
    design = np.hstack([(features - mean) / deviation, np.ones((len(features), 1))])
    offset = start.logits(features)
    share = targets.mean()
    importance = np.where(targets == 1, 0.5 / share, 0.5 / (1.0 - share)) / len(targets)
    penalty = np.full(design.shape[1], l2)
    penalty[-1] = 0.0  # the bias is free
    solution = np.zeros(design.shape[1])
    for _ in range(25):
        probability = 1.0 / (1.0 + np.exp(-(design @ solution + offset)))
        gradient = design.T @ (importance * (probability - targets)) + penalty * solution
        curvature = importance * probability * (1.0 - probability)
        change = np.linalg.solve((design.T * curvature) @ design + np.diag(penalty), gradient)
        solution -= change
        if np.abs(change).max() < 1e-7:
            break
    coefficients = solution[:-1] / deviation
    kernel = start.kernel + coefficients[:, None] * start.second
    bias = start.bias + (solution[-1] - coefficients @ mean) * start.second
    return Head(kernel.astype(np.float32), bias.astype(np.float32), start.second)


def build(weights: Weights, head: Head, size: int, inner: int) -> Any:
    """MobileNetV2 with a head: (batch, size, size, 3) in [0, 1] to (batch, 1), P(second label).

    The backbone sees pictures of `inner` pixels a side. There is no batch normalisation: it is folded into the
    weights, and a few hundred pictures would only spoil its statistics.
    """

    def convolve(tensor: Any, name: str, stride: int = 1, activate: bool = True) -> Any:
        kernel, bias = weights[name]
        if name.endswith("depthwise"):
            layer = keras.layers.DepthwiseConv2D(kernel.shape[:2], stride, padding="same", name=name)
        else:
            layer = keras.layers.Conv2D(kernel.shape[3], kernel.shape[:2], stride, padding="same", name=name)
        tensor = layer(tensor)
        layer.set_weights([kernel, bias])
        return keras.layers.ReLU(6.0, name=f"{name}_relu6")(tensor) if activate else tensor

    tensor = picture = keras.Input((size, size, 3), name="picture")
    if inner != size:
        tensor = keras.layers.Resizing(inner, inner, interpolation="bilinear", name="scaled")(tensor)
    tensor = convolve(keras.layers.Rescaling(2.0, offset=-1.0, name="signed")(tensor), "stem", stride=2)
    block = 0
    for expansion, repeats, first_stride in BLOCK_GROUPS:
        for repeat in range(repeats):
            inside = convolve(tensor, f"block_{block}_expand") if expansion > 1 else tensor
            inside = convolve(inside, f"block_{block}_depthwise", stride=1 if repeat else first_stride)
            inside = convolve(inside, f"block_{block}_project", activate=False)
            # Only the first block of a group changes the shape, so only the others have a residual.
            tensor = keras.layers.Add(name=f"block_{block}_add")([tensor, inside]) if repeat else inside
            block += 1
    features = keras.layers.GlobalAveragePooling2D(name="features")(convolve(tensor, "top"))
    species = keras.layers.Dense(len(head.bias), activation="softmax", name="species")
    # The sum over the second label's species, as a layer that is never trained.
    second = keras.layers.Dense(1, use_bias=False, trainable=False, name="second")
    output = second(species(features))
    species.set_weights([head.kernel, head.bias])
    second.set_weights([head.second[:, None].astype(np.float32)])
    return keras.Model(picture, output)


def extract_features(weights: Weights, pictures: Floats, inner: int) -> Floats:
    """Features of the frozen backbone: (n, size, size, 3) to (n, 1280)."""
    model = build(weights, nameless_head(weights["top"][1].size), pictures.shape[1], inner)
    extractor = keras.Model(model.input, model.get_layer("features").output)
    return np.asarray(extractor.predict(pictures, batch_size=32, verbose=0), dtype=np.float32)


@dataclass(frozen=True)
class FineTuning:
    """How to go on training the network from a head that was fitted to the frozen backbone."""

    epochs: int
    learning_rate: float
    batch_size: int = 32
    weight_decay: float = 1e-4
    label_smoothing: float = 0.05  # a few labels are wrong
    average: float = 0.98  # momentum of the moving average of the weights over the training


def fine_tune(model: Any, batches: Iterator[tuple[Floats, Floats]], steps: int, recipe: FineTuning) -> None:
    """Train `model` in place on `batches` of ((b, size, size, 3), (b, 1)), `steps` of them an epoch."""
    total = steps * recipe.epochs
    warm_up = total // 10
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, total - warm_up, warmup_target=recipe.learning_rate, warmup_steps=warm_up
    )
    optimiser = keras.optimizers.AdamW(
        schedule, weight_decay=recipe.weight_decay, use_ema=True, ema_momentum=recipe.average
    )
    loss = keras.losses.BinaryCrossentropy(label_smoothing=recipe.label_smoothing)
    model.compile(optimiser, loss, metrics=["accuracy"])
    model.fit(batches, steps_per_epoch=steps, epochs=recipe.epochs, verbose=2)


def mix(before: list[Floats], after: list[Floats], share: float) -> list[Floats]:
    """Weights between those before and after a training."""
    return [(1 - share) * one + share * other for one, other in zip(before, after, strict=True)]


def to_tflite(model: Any, half: bool) -> bytes:
    """Convert to TFLite with a static batch of one; `half` stores the weights as float16."""
    picture = keras.Input(model.input_shape[1:], batch_size=1, name="picture")
    single = keras.models.clone_model(model, input_tensors=picture)
    single.set_weights(model.get_weights())
    converter = tf.lite.TFLiteConverter.from_keras_model(single)
    if half:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]
    with contextlib.redirect_stdout(io.StringIO()):  # it lists every variable
        converted: bytes = converter.convert()
    return converted
