"""The reference path, as a newcomer pastes it together, against ours: the same pixels and the same scores, exactly.

The reference is Pillow, NumPy and an ``Interpreter``. Nothing here is "close to": what differs in a bit fails.
"""

from __future__ import annotations

import io
import itertools
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

import serverless_bees
from serverless_bees import Predictor, Spec, load_lite_model, prepare_image, preprocess_image
from serverless_bees.images import PixelEncoder
from serverless_bees.modelfile import Tensor
from tests.conftest import ROOT
from tests.support.models import write_model
from tests.support.pictures import PICTURES, encoded, exif, interlaced_png, scene

PHOTOGRAPHS = ROOT / ".." / "shared" / "data" / "bees-wasps" / "test"
INTERPRETERS = {
    "litert": "ai_edge_litert.interpreter",
    "litert-c": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
LABELS = {1: ["no", "yes"], 3: ["a", "b", "c"]}
MODELS = {
    f"{dtype}, {width} x {height} x {channels}, {classes} out": {
        "dtype": dtype, "width": width, "height": height, "channels": channels, "classes": classes,
    }
    for dtype, (width, height), channels, classes in itertools.product(
        ("float32", "uint8", "int8"), ((8, 8), (33, 17)), (1, 3), (1, 3)
    )
    if (width == 8) == (classes == 3)  # each of them once is enough
}  # fmt: skip

Pixels = NDArray[Any]


def reference_image(data: bytes, size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    img: Image.Image = Image.open(io.BytesIO(data))
    if img.mode != mode:
        img = img.convert(mode)
    return img.resize(size, Image.Resampling.NEAREST)


def reference_pixels(data: bytes, tensor: Tensor) -> Pixels:
    """What the model's input holds; a quantised one has the pixels as they are."""
    _, height, width, channels = tensor.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's about palettes; ours must not need this
        img = reference_image(data, (width, height), "RGB" if channels == 3 else "L")
    pixels: Pixels
    if tensor.dtype == "float32":
        pixels = np.array(img, dtype="float32") / 255
    else:
        pixels = np.array(img, dtype="int16") - (128 if tensor.dtype == "int8" else 0)
    return pixels.astype(tensor.dtype).reshape(tensor.shape[1:])


class Reference:
    """An ``Interpreter`` of the runtime under test, used as its manual says."""

    def __init__(self, engine: str, path: Path) -> None:
        interpreter_class = import_module(INTERPRETERS[engine]).Interpreter
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's, which says that LiteRT replaces it
            self.interpreter = interpreter_class(model_path=str(path), num_threads=1)
        self.interpreter.allocate_tensors()
        self.input = self.interpreter.get_input_details()[0]
        self.output = self.interpreter.get_output_details()[0]

    def scores(self, pixels: Pixels) -> list[float]:
        self.interpreter.set_tensor(self.input["index"], [pixels])
        self.interpreter.invoke()
        raw = self.interpreter.get_tensor(self.output["index"]).reshape(-1).tolist()
        scale, zero_point = self.output["quantization"]
        scores = [float(scale) * (score - zero_point) for score in raw] if scale else raw
        return [1 - scores[0], scores[0]] if len(scores) == 1 else scores


@cache
def file_of(name: str) -> bytes:
    return PICTURES[name]()


def by_class(predictor: Predictor, image: Any) -> list[float]:
    """The scores in the order of the labels."""
    scores = dict(predictor.predict(image, top_k=1000).classes)
    return [scores[label] for label in predictor.spec.labels]


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("size", [(150, 150), (8, 8), (33, 17), (1, 1)], ids=str)
def test_prepare_and_preprocess_give_the_reference_pixels(name: str, size: tuple[int, int]) -> None:
    data = file_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        expected = np.array(reference_image(data, size), dtype="float32") / 255
    image = prepare_image(Image.open(io.BytesIO(data)), size)
    pixels = preprocess_image(image)
    assert (image.mode, image.size, str(pixels.dtype), pixels.shape) == ("RGB", size, "float32", (size[1], size[0], 3))
    assert np.array_equal(pixels, expected)
    encoder = PixelEncoder(Spec(("a", "b")), Tensor("pixels", (1, size[1], size[0], 3), "float32"))
    decoded = serverless_bees.images.decode_image(data, serverless_bees.Settings())
    assert encoder.encode(decoded) == expected.tobytes()


def test_the_pictures_are_what_their_names_say() -> None:
    """Else a kind that Pillow has stopped writing would be compared no more."""
    image = Image.open(io.BytesIO(file_of("MPO")))
    assert (image.format, getattr(image, "n_frames", 1)) == ("MPO", 3)
    assert Image.open(io.BytesIO(file_of("JPEG progressive"))).info["progressive"]
    assert Image.open(io.BytesIO(file_of("JPEG with EXIF orientation"))).getexif()[0x0112] == 6
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(interlaced_png(scene())))), np.asarray(scene()))
    assert isinstance(
        Image.open(io.BytesIO(file_of("PNG palette, a byte of transparency a colour"))).info["transparency"], bytes
    )
    modes = {Image.open(io.BytesIO(file_of(name))).mode for name in PICTURES}
    assert modes == {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK"}


def test_a_picture_of_the_users_is_left_as_it_was() -> None:
    image = Image.open(io.BytesIO(file_of("PNG palette, a byte of transparency a colour")))
    before = image.mode, image.size, image.tobytes(), image.info["transparency"]
    prepare_image(image, (9, 9))
    for resample in ("nearest", "bilinear"):
        spec = Spec(("a", "b"), resample=resample, exif_transpose=True)
        PixelEncoder(spec, Tensor("", (1, 9, 9, 3), "float32")).encode(image)
    assert (image.mode, image.size, image.tobytes(), image.info["transparency"]) == before


def test_default_model_gives_the_reference_scores(engine: str, default_model_path: Path) -> None:
    predictor, reference = Predictor(runtime=engine), Reference(engine, default_model_path)
    tensor = predictor.model_file.input
    ours = {name: by_class(predictor, file_of(name)) for name in PICTURES}
    theirs = {name: reference.scores(reference_pixels(file_of(name), tensor)) for name in PICTURES}
    assert ours == theirs
    assert len({tuple(scores) for scores in ours.values()}) > 20  # the pictures tell


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_small_models_give_the_reference_scores(engine: str, options: dict[str, Any], tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.tflite", **options)
    predictor = Predictor(path, {"labels": LABELS[options["classes"]], **scaled(options["dtype"])}, runtime=engine)
    reference = Reference(engine, path)
    tensor = predictor.model_file.input
    assert tensor.shape == (1, options["height"], options["width"], options["channels"])
    ours = {name: by_class(predictor, file_of(name)) for name in PICTURES}
    theirs = {name: reference.scores(reference_pixels(file_of(name), tensor)) for name in PICTURES}
    assert ours == theirs
    assert len({tuple(scores) for scores in ours.values()}) > 5


def scaled(dtype: str) -> dict[str, Any]:
    return {"input": {"mean": [0], "std": [255]}} if dtype == "float32" else {}


def test_real_photographs_give_the_reference_scores(engine: str, default_model_path: Path) -> None:
    photographs = sorted(PHOTOGRAPHS.glob("*/*.jpg"))[::4][:40]
    if not photographs:
        pytest.skip(f"no photographs under {PHOTOGRAPHS}")
    predictor, reference = Predictor(runtime=engine), Reference(engine, default_model_path)
    tensor = predictor.model_file.input
    ours = [by_class(predictor, path) for path in photographs]
    assert ours == [reference.scores(reference_pixels(path.read_bytes(), tensor)) for path in photographs]
    labels = [predictor.predict(path).label for path in photographs]
    right = sum(label == path.parent.name for label, path in zip(labels, photographs, strict=True))
    assert right / len(photographs) > 0.8  # it is the right model, and the right way up


PASTED = """
import io, json, sys
import numpy as np
from PIL import Image
from {module} import Interpreter

def predict(path):
    img = Image.open(path)
    if img.mode != 'RGB':
        img = img.convert('RGB')
    img = img.resize((150, 150), Image.NEAREST)
    x = np.array(img, dtype='float32') / 255
    interpreter.set_tensor(interpreter.get_input_details()[0]['index'], [x])
    interpreter.invoke()
    return float(interpreter.get_tensor(interpreter.get_output_details()[0]['index'])[0, 0])

interpreter = Interpreter(model_path=sys.argv[1])
interpreter.allocate_tensors()
scores = [predict(path) for path in sys.argv[2:]]
assert not any(name.startswith('serverless_bees') for name in sys.modules)
print(json.dumps(scores))
"""


def test_reference_in_a_process_that_knows_nothing_of_us(engine: str, default_model_path: Path, tmp_path: Path) -> None:
    paths = []
    for index, name in enumerate(PICTURES):
        paths.append(tmp_path / f"{index}.picture")
        paths[-1].write_bytes(file_of(name))
    code = PASTED.format(module=INTERPRETERS[engine])
    result = subprocess.run(
        [sys.executable, "-c", code, str(default_model_path), *map(str, paths)],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    predictor = Predictor(runtime=engine)
    assert json.loads(result.stdout) == [by_class(predictor, path)[1] for path in paths]


@pytest.mark.parametrize("runtime", ["", "litert-c"])
def test_names_that_stay_work_as_written(
    runtime: str, set_env: Callable[..., None], monkeypatch: pytest.MonkeyPatch, default_model_path: Path
) -> None:
    """The line from the design, word for word."""
    if runtime:
        set_env(RUNTIME=runtime)
    data = file_of("a larger photograph")
    monkeypatch.setattr("serverless_bees.images.fetch_image", lambda url, settings: data)
    interpreter, input_details, output_details = load_lite_model("models/bees-wasps.tflite")
    img = serverless_bees.download_image("https://pictures.example/bee.jpg")
    interpreter.set_tensor(input_details[0]["index"], [preprocess_image(prepare_image(img, (150, 150)))])
    interpreter.invoke()
    score = float(interpreter.get_tensor(output_details[0]["index"])[0, 0])
    assert score == by_class(Predictor(), data)[1]


@pytest.fixture(autouse=True)
def _in_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def converted(data: bytes, resample: Image.Resampling = Image.Resampling.NEAREST, mode: str = "RGB") -> Pixels:
    """Converted first, resized then, as 0 to 255 in float32: 33 x 17."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return np.array(Image.open(io.BytesIO(data)).convert(mode).resize((33, 17), resample), dtype=np.float32)


def resampled(data: bytes, resample: Image.Resampling) -> Pixels:
    return converted(data, resample) / 255


MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SPECS: dict[str, tuple[dict[str, Any], Callable[[bytes], Pixels]]] = {
    # a spec's "input" -> the same with NumPy and Pillow
    **{
        name: ({"resample": name}, partial(resampled, resample=Image.Resampling[name.upper()]))
        for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    },
    "BGR": ({"channel_order": "bgr"}, lambda data: converted(data)[:, :, ::-1] / 255),
    "[-1, 1]": ({"mean": [127.5], "std": [127.5]}, lambda data: (converted(data) - 127.5) / 127.5),
    "[0, 255]": ({"mean": [0], "std": [1]}, converted),
    "a channel": (
        {"mean": MEAN, "std": STD},
        lambda data: (converted(data) - np.array(MEAN, np.float32)) / np.array(STD, np.float32),
    ),
    # mean and std are those of the tensor's channels, in its own order, as TFLite Metadata has them
    "a channel, BGR, bicubic": (
        {"mean": MEAN, "std": STD, "channel_order": "bgr", "resample": "bicubic"},
        lambda data: (
            (converted(data, Image.Resampling.BICUBIC)[:, :, ::-1] - np.array(MEAN, np.float32))
            / np.array(STD, np.float32)
        ),
    ),
}


@pytest.mark.parametrize(("section", "computed"), SPECS.values(), ids=SPECS)
def test_spec_means_what_numpy_and_pillow_compute(
    section: dict[str, Any], computed: Callable[[bytes], Pixels], engine: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.tflite", width=33, height=17)
    section = {"mean": [0], "std": [255], **section}
    predictor = Predictor(path, {"labels": LABELS[3], "input": section}, runtime=engine)
    reference = Reference(engine, path)
    ours = {name: by_class(predictor, file_of(name)) for name in PICTURES}
    assert ours == {name: reference.scores(computed(file_of(name)).astype(np.float32, copy=False)) for name in PICTURES}


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize(("scale", "zero_point"), [(0.02, 5), (0.011, -3), (0.0078, 100)])
def test_scaled_pixels_are_quantised_as_numpy_does_it(
    dtype: str, scale: float, zero_point: int, engine: str, tmp_path: Path
) -> None:
    zero_point = zero_point % 256 if dtype == "uint8" else zero_point
    path = write_model(
        tmp_path / "m.tflite", dtype=dtype, width=33, height=17, input_scale=scale, input_zero_point=zero_point
    )
    predictor = Predictor(path, {"labels": LABELS[3], "input": {"mean": MEAN, "std": STD}}, runtime=engine)
    reference = Reference(engine, path)
    limits = np.iinfo(dtype)

    def quantised(data: bytes) -> Pixels:
        real = (converted(data) - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
        steps = np.round(real.astype(np.float64) / np.float32(scale).astype(np.float64)) + zero_point
        return steps.clip(limits.min, limits.max).astype(dtype)

    ours = {name: by_class(predictor, file_of(name)) for name in PICTURES}
    assert ours == {name: reference.scores(quantised(file_of(name))) for name in PICTURES}


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "MPO"])
@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 9])
def test_orientation_is_applied_where_the_spec_says_so(file_format: str, orientation: int) -> None:
    options: dict[str, Any] = {"save_all": True, "append_images": [scene(seed=1)]} if file_format == "MPO" else {}
    data = encoded(scene(), file_format, exif=exif(orientation), **options)
    image = Image.open(io.BytesIO(data))
    tensor = Tensor("pixels", (1, 17, 33, 3), "uint8")
    decoded = serverless_bees.images.decode_image(data, serverless_bees.Settings())
    for transpose, expected in ((False, image), (True, ImageOps.exif_transpose(image))):
        encoder = PixelEncoder(Spec(("a", "b"), mean=None, std=None, exif_transpose=transpose), tensor)
        pixels = expected.convert("RGB").resize((33, 17), Image.Resampling.NEAREST).tobytes()
        assert encoder.encode(decoded) == pixels
        assert encoder.encode(image) == pixels


@pytest.mark.parametrize(("classes", "activation"), [(1, "sigmoid"), (3, "softmax"), (3, "sigmoid")])
def test_logits_get_the_activation_that_the_spec_names(
    classes: int, activation: str, engine: str, tmp_path: Path
) -> None:
    path = write_model(tmp_path / "model.tflite", classes=classes, activation="none")
    document = {
        "labels": LABELS[classes],
        "input": {"mean": [0], "std": [255]},
        "output": {"activation": activation, "from_logits": True},
    }
    predictor, reference = Predictor(path, document, runtime=engine), Reference(engine, path)
    for name in PICTURES:
        reference.scores(reference_pixels(file_of(name), predictor.model_file.input))
        logits = np.float64(reference.interpreter.get_tensor(reference.output["index"]).reshape(-1))
        expected = 1 / (1 + np.exp(-logits)) if activation == "sigmoid" else np.exp(logits) / np.exp(logits).sum()
        if classes == 1:
            expected = np.array([1 - expected[0], expected[0]])
        assert by_class(predictor, file_of(name)) == pytest.approx(expected.tolist(), rel=1e-12)
        assert math.isclose(sum(expected), 1) or classes == 3
