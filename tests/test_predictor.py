"""The Predictor as its users meet it: kinds of pictures, answers, errors, threads, forks, files that move."""

from __future__ import annotations

import gc
import io
import itertools
import math
import os
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serverless_bees import (
    AssumedSpecWarning,
    ClassScore,
    InvalidImageError,
    ModelError,
    ModelFileError,
    ModelInfo,
    OverloadedError,
    PayloadTooLargeError,
    Prediction,
    Predictor,
    Settings,
    SettingsError,
    UnsupportedMediaTypeError,
    UrlNotAllowedError,
    default_model,
)
from tests.conftest import ROOT
from tests.support.models import make_model, rebuilt, stored, write_model
from tests.support.pictures import encoded, scene

SPEC = {"labels": ["a", "b", "c"], "input": {"mean": [0], "std": [255]}}
ONE = {"labels": ["no", "yes"], "input": {"mean": [0], "std": [255]}}


@pytest.fixture(scope="module")
def png() -> bytes:
    return encoded(scene(), "PNG")


def with_bias(*values: float, activation: str = "none") -> bytes:
    """A model that gives ``values`` for every picture, as they are or through its activation."""

    def change(model: Any, graph: Any) -> None:
        for name, array in (("weights", np.zeros((len(values), 48))), ("bias", np.array(values))):
            tensor = next(tensor for tensor in graph.tensors if tensor.name.decode() == name)
            model.buffers[tensor.buffer] = stored(array.astype(np.float32))

    return rebuilt(make_model(classes=len(values), activation=activation), change)


def giving(folder: Path, *values: float, document: dict[str, Any] | None = None, **options: Any) -> Predictor:
    path = folder / "model.tflite"
    path.write_bytes(with_bias(*values, **options))
    labels = ["no", "yes"] if len(values) == 1 else [f"l{index}" for index in range(len(values))]
    return Predictor(path, {**SPEC, "labels": labels, **(document or {})})


# What a picture may be


def test_every_kind_of_picture_gives_the_same(
    engine: str, png: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(runtime=engine)
    path = tmp_path / "picture with spaces.png"
    path.write_bytes(png)
    expected = predictor.predict(png)
    kinds: dict[str, Any] = {
        "str path": str(path),
        "Path": path,
        "bytearray": bytearray(png),
        "memoryview": memoryview(png),
        "a memoryview with steps": memoryview(bytes(itertools.chain(*zip(png, png, strict=True))))[::2],
        "PIL image": scene(),
        "PIL image not loaded yet": Image.open(io.BytesIO(png)),
        "array": np.asarray(scene()),
    }
    assert {name: predictor.predict(image) for name, image in kinds.items()} == dict.fromkeys(kinds, expected)
    monkeypatch.chdir(tmp_path)
    assert predictor.predict(path.name) == expected
    monkeypatch.setattr("serverless_bees.predictor.fetch_image", lambda url, settings: png)
    assert predictor.predict("HTTPS://pictures.example/bee.png") == expected


def test_urls_go_through_the_guard() -> None:
    for url in ("http://127.0.0.1/bee.jpg", "https://169.254.169.254/latest/meta-data", "https://[::1]/bee.jpg"):
        with pytest.raises(UrlNotAllowedError):
            Predictor().predict(url)
    with pytest.raises(UrlNotAllowedError):
        Predictor(settings=Settings(fetch_enabled=False)).predict("https://pictures.example/bee.jpg")


@pytest.mark.parametrize(
    ("image", "error"),
    [
        ("no-such-picture.jpg", FileNotFoundError),
        (Path("/"), IsADirectoryError),
        (__file__, UnsupportedMediaTypeError),
        ("ftp://pictures.example/bee.jpg", FileNotFoundError),
        (None, InvalidImageError),
        (3, InvalidImageError),
        ([1, 2], InvalidImageError),
        (io.BytesIO(b"x"), InvalidImageError),
        (np.zeros((3, 3)), InvalidImageError),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else type(value).__name__,
)
def test_what_is_no_picture_is_an_error_of_its_kind(image: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Predictor().predict(image)


# Answers


def test_prediction_has_this_shape(default_model_path: Path, png: bytes) -> None:
    import hashlib

    prediction = Predictor().predict(png)
    version = hashlib.sha256(default_model_path.read_bytes()).hexdigest()[:8]
    assert prediction == Prediction(
        prediction.label, prediction.score, prediction.classes, ModelInfo("bees-wasps", version)
    )
    assert {type(each) for each in prediction.classes} == {ClassScore}
    assert {each.label for each in prediction.classes} == {"bee", "wasp"}
    assert type(prediction.score) is float
    assert prediction.classes[0] == (prediction.label, prediction.score)
    assert math.fsum(each.score for each in prediction.classes) == pytest.approx(1)
    with pytest.raises(AttributeError):
        prediction.label = "hornet"  # type: ignore[misc]
    assert Path(default_model()).read_bytes() == default_model_path.read_bytes()


def labels_of(prediction: Prediction) -> str:
    return "".join(label[1:] for label, _ in prediction.classes)


def test_classes_are_the_best_first_and_ties_in_the_order_of_the_labels(tmp_path: Path, png: bytes) -> None:
    predictor = giving(tmp_path, 0.25, 4, -1, 4, 0.25, 0.5, 0)
    assert labels_of(predictor.predict(png, top_k=100)) == "1350462"
    assert labels_of(predictor.predict(png)) == "13504"  # five, where nothing is said
    for k in range(1, 8):
        assert labels_of(predictor.predict(png, top_k=k)) == "1350462"[:k]
    assert predictor.predict(png, top_k=1)[:2] == ("l1", 4.0)


@pytest.mark.parametrize(
    ("least", "labels"),
    [(None, "1203"), (-5, "1203"), (-4, "1203"), (-3.999, "120"), (0.25, "120"), (0.5, "12"), (4, "1"), (4.001, "")],
)
def test_min_score_is_inclusive_and_leaves_the_decision_alone(
    least: float | None, labels: str, tmp_path: Path, png: bytes
) -> None:
    prediction = giving(tmp_path, 0.25, 4, 0.5, -4).predict(png, min_score=least)
    assert labels_of(prediction) == labels
    assert prediction[:2] == ("l1", 4.0)


def test_top_k_has_its_default_from_the_settings(tmp_path: Path, png: bytes, set_env: Callable[..., None]) -> None:
    path = write_model(tmp_path / "model.tflite")
    assert len(Predictor(path, SPEC, settings=Settings(top_k=2)).predict(png).classes) == 2
    set_env(TOP_K="1")
    assert len(Predictor(path, SPEC).predict(png).classes) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k is 0; it must be a whole number from 1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 1.5}, "top_k is 1.5"),
        ({"top_k": True}, "top_k is True"),
        ({"min_score": math.nan}, "min_score is nan; it must be a finite number"),
        ({"min_score": math.inf}, "min_score is inf"),
    ],
)
def test_option_out_of_range_is_named_before_anything_is_read(options: dict[str, Any], message: str) -> None:
    predictor = Predictor()
    with pytest.raises(SettingsError, match=message):
        predictor.predict("no-such-file", **options)
    with pytest.raises(SettingsError, match=message):
        predictor.predict_many(["no-such-file"], **options)
    with pytest.raises(SettingsError, match=message):
        next(predictor.predict_each(iter(()), **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_threads": 0}, "num_threads is 0"),
        ({"pool_size": 0}, "pool_size is 0; it must be a whole number from 1"),
        ({"pool_size": "2"}, "pool_size is '2'"),
        ({"decode": "quick"}, "decode is 'quick'; it must be one of exact, fast"),
        ({"runtime": "onnx"}, "no engine is named 'onnx'"),
    ],
)
def test_argument_out_of_range_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Predictor(**options)


@pytest.mark.parametrize(
    ("score", "threshold", "label"),
    [
        (0.5, 0.5, "yes"),
        (0.25, 0.25, "yes"),
        (0.25, 0.2500001, "no"),
        (0.75, 0.9, "no"),
        (0.75, 0.5, "yes"),
        (0.0, 0, "yes"),
    ],
)
def test_single_score_decides_by_its_threshold(
    score: float, threshold: float, label: str, tmp_path: Path, png: bytes
) -> None:
    predictor = giving(tmp_path, score, document={"output": {"decision_threshold": threshold}})
    prediction = predictor.predict(png, top_k=2)
    by_label = dict(prediction.classes)
    assert by_label == {"no": 1 - score, "yes": score}
    assert (prediction.label, prediction.score) == (label, by_label[label])
    assert [each.score for each in prediction.classes] == sorted(by_label.values(), reverse=True)


@pytest.mark.parametrize("logit", [-1000.0, -20.0, 0.0, 3.0, 1000.0])
def test_activations_hold_at_the_extremes(logit: float, tmp_path: Path, png: bytes) -> None:
    output = {"activation": "sigmoid", "from_logits": True}
    yes = dict(giving(tmp_path, logit, document={"output": output}).predict(png).classes)["yes"]
    assert yes == pytest.approx(1 / (1 + math.exp(-logit)) if logit > -700 else 0, rel=1e-12)
    output = {"activation": "softmax", "from_logits": True}
    scores = dict(giving(tmp_path, logit, 0, -logit, document={"output": output}).predict(png).classes)
    assert math.fsum(scores.values()) == pytest.approx(1)
    assert max(scores, key=scores.__getitem__) == ("l2" if logit < 0 else "l0")


@pytest.mark.parametrize(
    "values",
    [(math.nan,), (math.inf,), (-math.inf,), (0, math.nan, 1), (math.inf, -math.inf, 0), (math.inf, math.inf)],
    ids=str,
)
def test_score_that_is_no_number_is_a_model_error(
    values: tuple[float, ...], engine: str, tmp_path: Path, png: bytes
) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(with_bias(*values))
    labels = ["no", "yes"] if len(values) == 1 else [f"l{index}" for index in range(len(values))]
    predictor = Predictor(path, {**SPEC, "labels": labels}, runtime=engine)
    with pytest.raises(ModelError, match=r"model\.tflite: the model gave a score that is no number"):
        predictor.predict(png)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantised_scores_come_out_as_real_numbers(dtype: str, engine: str, tmp_path: Path, png: bytes) -> None:
    predictor = Predictor(write_model(tmp_path / "m.tflite", dtype=dtype), {"labels": ["a", "b", "c"]}, runtime=engine)
    scores = [score for _, score in predictor.predict(png).classes]
    assert all(score * 256 == int(score * 256) for score in scores)
    assert math.fsum(scores) == pytest.approx(1, abs=3 / 256)


def test_model_without_a_spec_says_so_once_at_the_callers_line(tmp_path: Path) -> None:
    with pytest.warns(AssumedSpecWarning, match="nothing states what this model's pixels or labels mean") as caught:
        predictor = Predictor(write_model(tmp_path / "model.tflite"))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert predictor.spec.labels == ("0", "1", "2")


# Many pictures


def test_predict_many_keeps_the_order(engine: str) -> None:
    predictor = Predictor(runtime=engine, pool_size=3)
    images = [scene(seed=seed) for seed in range(30)]
    assert predictor.predict_many(images) == [predictor.predict(image) for image in images]
    assert predictor.predict_many(iter(())) == []


def test_predict_many_raises_the_first_error(png: bytes) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        Predictor().predict_many([png, b"no picture", png, b""])


def test_predict_each_puts_an_error_into_its_place(png: bytes) -> None:
    broken = Image.open(io.BytesIO(png[:-2000]))
    images: list[Any] = [png, b"no picture", "no-such-file", png, "https://127.0.0.1/x", np.zeros(3), broken, png]
    outcomes = list(Predictor(pool_size=2).predict_each(images))
    assert [type(outcome) for outcome in outcomes] == [
        Prediction, UnsupportedMediaTypeError, FileNotFoundError, Prediction,
        UrlNotAllowedError, InvalidImageError, InvalidImageError, Prediction,
    ]  # fmt: skip


def test_predict_each_reads_ahead_only_a_little(png: bytes) -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield png

    outcomes = Predictor(pool_size=2).predict_each(endless())
    assert read == 0
    for number, outcome in enumerate(itertools.islice(outcomes, 20)):
        assert isinstance(outcome, Prediction)
        assert number < read <= number + 6
    outcomes.close()  # type: ignore[attr-defined]
    assert read < 30


def test_error_of_the_iterable_itself_is_the_callers(png: bytes) -> None:
    def failing() -> Iterator[bytes]:
        yield png
        raise RuntimeError("the list was lost")

    with pytest.raises(RuntimeError, match="the list was lost"):
        Predictor().predict_many(failing())


# Tensors


def test_predict_tensor_gives_what_predict_gives(engine: str, png: bytes) -> None:
    from serverless_bees import prepare_image, preprocess_image

    predictor = Predictor(runtime=engine)
    images = [scene(seed=seed) for seed in range(5)]
    batch = np.stack([preprocess_image(prepare_image(image, (150, 150))) for image in images])
    scores = predictor.predict_tensor(batch)
    assert (str(scores.dtype), scores.shape) == ("float32", (5, 1))
    assert scores[:, 0].tolist() == [dict(predictor.predict(image).classes)["wasp"] for image in images]
    for other in (batch.astype(np.float64), np.asfortranarray(batch), batch.tolist(), list(batch)):
        assert np.array_equal(predictor.predict_tensor(other), scores)
    assert predictor.predict_tensor(batch[:0]).shape == (0, 1)
    assert np.array_equal(
        predictor.predict_tensor(batch[::-1, :, ::-1]), predictor.predict_tensor(batch[::-1, :, ::-1].copy())
    )


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_predict_tensor_of_a_quantised_model_is_raw(dtype: str, engine: str, tmp_path: Path) -> None:
    predictor = Predictor(write_model(tmp_path / "m.tflite", dtype=dtype), {"labels": ["a", "b", "c"]}, runtime=engine)
    pixels = np.asarray(scene(8, 8)).astype(np.int16) - (128 if dtype == "int8" else 0)
    raw = predictor.predict_tensor(pixels.astype(dtype)[np.newaxis])
    assert raw.dtype == np.dtype(dtype)
    scores = dict(predictor.predict(scene(8, 8)).classes)
    assert [(int(step) - (-128 if dtype == "int8" else 0)) / 256 for step in raw[0]] == list(map(scores.get, "abc"))


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((150, 150, 3), np.float32),
        np.zeros((1, 150, 150), np.float32),
        np.zeros((1, 150, 150, 1), np.float32),
        np.zeros((1, 3, 150, 150), np.float32),
        np.zeros((1, 1, 150, 150, 3), np.float32),
        np.zeros((1, 150, 150, 3), np.uint8),
        np.zeros((1, 150, 150, 3), np.int64),
        np.zeros((1, 150, 150, 3), np.float16),
        np.zeros((1, 150, 150, 3), np.complex64),
        np.float32(1),
        [],
    ],
    ids=lambda batch: f"{np.asarray(batch).dtype} {np.shape(batch)}",
)
def test_predict_tensor_names_both_sides_of_a_wrong_batch(batch: Any) -> None:
    with pytest.raises(InvalidImageError, match=r"a batch must be float32 of shape \(n, 150, 150, 3\), not ") as caught:
        Predictor().predict_tensor(batch)
    assert f"not {np.asarray(batch).dtype} of shape {np.shape(batch)}" in str(caught.value)


# Threads and processes


@pytest.mark.parametrize("pool_size", [1, 2, 8])
def test_eight_threads_give_the_scores_of_one(pool_size: int, engine: str, tmp_path: Path) -> None:
    predictor = Predictor(
        write_model(tmp_path / "m.tflite", height=32, width=32), SPEC, runtime=engine, pool_size=pool_size
    )
    images = [scene(40, 40, seed) for seed in range(200)]
    expected = [predictor.predict(image) for image in images]
    assert len({each.score for each in expected}) > 190
    with ThreadPoolExecutor(8) as executor:
        for _ in range(3):
            assert list(executor.map(predictor.predict, images)) == expected


def test_threads_of_the_default_model_too(engine: str) -> None:
    predictor = Predictor(runtime=engine, pool_size=4, num_threads=2)
    images = [scene(60, 60, seed) for seed in range(40)]
    expected = [predictor.predict(image) for image in images]
    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(predictor.predict, images)) == expected


def test_busy_pool_is_an_overloaded_error_within_the_wait(tmp_path: Path, png: bytes) -> None:
    predictor = Predictor(
        write_model(tmp_path / "m.tflite"), SPEC, pool_size=1, settings=Settings(pool_wait=0.2, runtime=_runtime())
    )
    expected = predictor.predict(png)
    with predictor._pool.engine():
        start = time.monotonic()
        with pytest.raises(OverloadedError, match=r"all 1 interpreters .*POOL_SIZE\) stayed busy for 0\.2 s") as caught:
            predictor.predict(png)
        assert 0.15 < time.monotonic() - start < 2
        assert caught.value.type == "overloaded"
        assert list(map(type, predictor.predict_each([png]))) == [OverloadedError]
    assert predictor.predict(png) == expected


def _runtime() -> str:
    return os.environ.get("SERVERLESS_BEES_RUNTIME", "")


def test_closed_predictor_makes_new_interpreters(engine: str, png: bytes) -> None:
    predictor = Predictor(runtime=engine, pool_size=1)
    expected = predictor.predict(png)
    for _ in range(3):
        predictor.close()
        predictor.close()
        assert predictor.predict(png) == expected


def test_what_nobody_uses_is_freed_at_once(engine: str, tmp_path: Path, png: bytes) -> None:
    """No cycle keeps the interpreters, and with them the weights, until a collection of garbage."""
    gc.disable()
    try:
        predictor = Predictor(write_model(tmp_path / "m.tflite"), SPEC, runtime=engine)
        predictor.predict(png)
        with predictor._pool.engine() as loaded:
            watched: list[weakref.ref[Any]] = [
                weakref.ref(predictor),
                weakref.ref(predictor._pool),
                weakref.ref(loaded),
            ]
        del predictor, loaded
        assert [ref() for ref in watched] == [None] * 3
    finally:
        gc.enable()


def test_hundred_predictors_do_not_pile_up(engine: str, tmp_path: Path, png: bytes) -> None:
    path = write_model(tmp_path / "m.tflite")
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        Predictor(path, SPEC, runtime=engine).predict(png)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    assert Path("/proc/self/maps").read_text().count(str(path)) <= 1


def python(code: str, *arguments: object, flags: tuple[str, ...] = ("-X", "dev", "-W", "error")) -> str:
    done = subprocess.run(
        [sys.executable, *flags, "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    noise = ("INFO:", "WARNING: All log", "W0000", "I0000", "STDERR")
    said = [line for line in done.stderr.splitlines() if not line.startswith(noise)]
    assert done.returncode == 0, done.stderr
    assert said == []
    return done.stdout.strip()


FORKING = """
import os, sys, threading
from serverless_bees import Predictor
engine, path, early = sys.argv[1:]
predictor = Predictor(runtime=engine, num_threads=2, pool_size=2)
expected = predictor.predict(path) if early == "used" else None
if early == "in use":  # by another thread, which holds an interpreter at the fork
    entered, leave = threading.Event(), threading.Event()
    def hold():
        with predictor._pool.engine(), predictor._pool._free:
            entered.set()
            leave.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    entered.wait()
for _ in range(3):
    child = os.fork()
    if not child:
        assert predictor._pool._made == 0
        first, second = predictor.predict(path), predictor.predict_many([path] * 8)[-1]
        assert first == second and expected in (None, first)
        predictor.close()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
if early == "in use":
    leave.set()
    thread.join()
print(repr(predictor.predict(path)))
"""


@pytest.mark.parametrize("early", ["used", "unused", "in use"])
def test_child_after_fork_predicts_the_same(early: str, engine: str, tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png)
    # Python 3.12 and later warn of a fork in a process with threads, which the runtime has: that is the case tested.
    flags = ("-X", "dev", "-W", "error", "-W", "ignore:This process:DeprecationWarning")
    assert python(FORKING, engine, path, early, flags=flags) == repr(Predictor(runtime=engine).predict(path))


SPAWNING = """
import multiprocessing, sys
from serverless_bees import Predictor

def predicted(arguments):
    engine, path = arguments
    return repr(Predictor(runtime=engine).predict(path))

if __name__ == "__main__":
    arguments = sys.argv[1], sys.argv[2]
    own = predicted(arguments)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(predicted, [arguments] * 2) == [own, own]
        pool.close()
        pool.join()
    print(own)
"""


def test_spawned_child_predicts_the_same(engine: str, tmp_path: Path, png: bytes) -> None:
    path, program = tmp_path / "picture.png", tmp_path / "program.py"
    path.write_bytes(png)
    program.write_text(SPAWNING)
    done = subprocess.run(
        [sys.executable, program, engine, path], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(Predictor(runtime=engine).predict(path))


AT_EXIT = """
import sys
from serverless_bees import Predictor
predictor = Predictor(runtime=sys.argv[1], pool_size=2)
print(predictor.predict_many([sys.argv[2]] * 4)[0].score)
keep = [predictor, lambda: keep]  # a cycle, so that it lives until the interpreter is gone
sys.keep = keep
"""


def test_interpreter_ends_in_peace_with_a_predictor_alive(engine: str, tmp_path: Path, png: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(png)
    assert python(AT_EXIT, engine, path) == str(Predictor(runtime=engine).predict(path).score)


# Files


@pytest.mark.parametrize(
    "name", ["a model.tflite", "модель 蜂.tflite", "new\nline.tflite", "-rf.tflite", "%s{0}'\".tflite"]
)
def test_model_may_have_any_name(name: str, engine: str, tmp_path: Path, png: bytes) -> None:
    path = write_model(tmp_path / name)
    predictor = Predictor(path, SPEC, runtime=engine)
    assert predictor.predict(png).model.name == name.removesuffix(".tflite")
    assert Predictor(str(path), SPEC, runtime=engine).predict(png) == predictor.predict(png)


def test_relative_path_holds_after_a_change_of_folder(
    engine: str, tmp_path: Path, png: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(tmp_path / "model.tflite")
    (tmp_path / "elsewhere").mkdir()
    write_model(tmp_path / "elsewhere" / "model.tflite", seed=9)  # another one of the same name
    monkeypatch.chdir(tmp_path)
    predictor = Predictor("model.tflite", SPEC, runtime=engine)
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = Predictor(tmp_path / "model.tflite", SPEC, runtime=engine).predict(png)
    assert predictor.predict(png) == expected
    assert Predictor("model.tflite", SPEC, runtime=engine).predict(png) != expected


@pytest.mark.parametrize("replacement", ["another model", "no model", "nothing"])
def test_model_replaced_on_disk_changes_nothing_for_who_has_it(
    replacement: str, engine: str, tmp_path: Path, png: bytes
) -> None:
    """Also for interpreters that are made only afterwards: never two models in one pool."""
    path = write_model(tmp_path / "model.tflite")
    predictor = Predictor(path, SPEC, runtime=engine)
    expected = Predictor(path, SPEC, runtime=engine).predict(png)
    path.unlink()
    if replacement != "nothing":
        other = tmp_path / "other"
        other.write_bytes(make_model(seed=2) if replacement == "another model" else b"no model")
        other.replace(path)
    assert predictor.predict(png) == expected
    predictor.close()
    assert predictor.predict(png) == expected
    if replacement == "another model":
        assert Predictor(path, SPEC, runtime=engine).predict(png).model != expected.model
    else:
        with pytest.raises(ModelFileError):
            Predictor(path, SPEC, runtime=engine)


def test_model_is_mapped_and_not_read(engine: str, default_model_path: Path, png: bytes) -> None:
    predictor = Predictor(runtime=engine)
    predictor.predict(png)
    mapped = [
        line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(default_model_path.name)
    ]
    assert mapped
    assert not any("w" in line.split()[1] and "s" in line.split()[1] for line in mapped)  # nothing writes through


MEASURED = """
import sys
from pathlib import Path
from serverless_bees import Predictor

def resident():
    return next(int(line.split()[1]) for line in Path("/proc/self/status").open() if line.startswith("RssAnon"))

engine, small, large, picture = sys.argv[1:]
spec = {"labels": [str(i) for i in range(1000)], "input": {"mean": [0], "std": [255]}}
Predictor(small, {**spec, "labels": ["a", "b", "c"]}, runtime=engine).predict(picture)
before = resident()
predictor = Predictor(large, spec, runtime=engine)
print(resident() - before)
"""


def test_predictor_of_a_large_model_takes_no_memory_before_its_first_prediction(
    engine: str, tmp_path: Path, png: bytes
) -> None:
    (tmp_path / "picture.png").write_bytes(png)
    small = write_model(tmp_path / "small.tflite")
    large = write_model(tmp_path / "large.tflite", height=160, width=160, classes=1000)
    assert large.stat().st_size > 70_000_000
    grown = int(python(MEASURED, engine, small, large, tmp_path / "picture.png", flags=()))
    assert grown < 8_000  # kilobytes


# Settings


def test_environment_names_model_spec_and_more(tmp_path: Path, png: bytes, set_env: Callable[..., None]) -> None:
    import json

    path = write_model(tmp_path / "model.tflite")
    (tmp_path / "other.json").write_text(json.dumps({**SPEC, "name": "from the environment"}))
    set_env(MODEL=str(path), SPEC=str(tmp_path / "other.json"), MAX_IMAGE_BYTES="100", POOL_SIZE="3")
    predictor = Predictor()
    assert predictor.info.name == "from the environment"
    assert predictor._pool.size == 3
    with pytest.raises(PayloadTooLargeError):
        predictor.predict(png)
    assert (
        Predictor(ROOT / "models" / "bees-wasps.tflite", {}, settings=Settings(runtime=_runtime())).info.name
        == "bees-wasps"
    )


def test_threads_may_share_the_making_of_the_first_interpreter(engine: str, png: bytes) -> None:
    predictor = Predictor(runtime=engine, pool_size=8)
    barrier, outcomes = threading.Barrier(8), []

    def use() -> None:
        barrier.wait()
        outcomes.append(predictor.predict(png))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8
    assert len(set(outcomes)) == 1
