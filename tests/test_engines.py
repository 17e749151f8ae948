"""Engines: which one runs, that all see and compute the same, and that no model takes the process down with it."""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from serverless_bees import Predictor, load_lite_model
from serverless_bees.engines import (
    choose_engine,
    choose_interpreter,
    engine_class,
    interpreters,
    litert_c,
    missing,
    proofs,
)
from serverless_bees.errors import EngineError, ModelFileError, SettingsError
from serverless_bees.modelfile import ModelFile
from tests.conftest import engines_under_test
from tests.support.models import damaged, make_model, rebuilt, stored, write_model

BOTH = {"litert", "litert-c"}
both_under_test = pytest.mark.skipif(
    not set(engines_under_test()) >= BOTH, reason="litert and litert-c are not under test"
)
KINDS = {
    f"{dtype}, {width} x {height} x {channels}, {classes} out": {
        "dtype": dtype, "width": width, "height": height, "channels": channels, "classes": classes,
    }
    for dtype, (width, height), channels, classes in itertools.product(
        ("float32", "uint8", "int8"), ((8, 8), (33, 17)), (1, 3), (1, 5)
    )
} | {
    "int8 in, float32 out": {"dtype": "int8", "output_dtype": "float32"},
    "uint8 in, float32 out": {"dtype": "uint8", "output_dtype": "float32"},
    "int8, odd scale": {"dtype": "int8", "input_scale": 0.0213, "input_zero_point": 17},
    "logits": {"activation": "none"},
    "1000 classes": {"classes": 1000},
}  # fmt: skip
SPEC = {"labels": ["a", "b", "c"], "input": {"mean": [0], "std": [255]}}
PIXELS = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def python(code: str, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, with the same cache of proofs unless ``variables`` name another."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **variables},
    )  # fmt: skip


# Which engine


@pytest.fixture
def _nobody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERVERLESS_BEES_RUNTIME", raising=False)


@pytest.mark.usefixtures("_nobody_asks")
def test_litert_is_the_default_in_the_library() -> None:
    choice = choose_engine()
    assert choice == ("litert", "the first of litert, litert-c, tflite-runtime, tensorflow that can run here")


@pytest.mark.usefixtures("_nobody_asks")
def test_argument_goes_before_variable_goes_before_order(set_env: Callable[..., None]) -> None:
    set_env(RUNTIME="litert-c")
    assert choose_engine() == ("litert-c", "asked for by SERVERLESS_BEES_RUNTIME")
    assert choose_engine("litert") == ("litert", "asked for by argument")
    set_env(RUNTIME="LiteRT")
    assert choose_engine()[0] == "litert"


@pytest.mark.usefixtures("_nobody_asks")
def test_predictor_runs_what_is_asked_for(set_env: Callable[..., None]) -> None:
    assert Predictor().engine.name == "litert"
    assert Predictor(runtime="litert-c").engine.name == "litert-c"
    set_env(RUNTIME="litert-c")
    assert Predictor().engine.name == "litert-c"
    assert Predictor(runtime="litert").engine.name == "litert"


def test_unknown_name_is_refused(set_env: Callable[..., None]) -> None:
    with pytest.raises(SettingsError, match="no engine is named 'onnx'; there are litert, litert-c, tflite-runtime"):
        choose_engine("onnx")
    set_env(RUNTIME="onnx")
    with pytest.raises(SettingsError, match="SERVERLESS_BEES_RUNTIME is 'onnx'; it must be one of litert-c, litert"):
        choose_engine()


NOT_INSTALLED = {
    "litert": "ai_edge_litert is not installed: pip install ai-edge-litert",
    "tflite-runtime": r"tflite_runtime is not installed: pip install 'serverless-bees\[tflite-runtime\]'",
    "tensorflow": "tensorflow is not installed: pip install tensorflow",
    "litert-c": "ai-edge-litert with libLiteRt.so is not installed: pip install ai-edge-litert",
}


@pytest.fixture
def _nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (interpreters, litert_c):
        monkeypatch.setattr(module, "find_spec", lambda name: None)


@pytest.mark.usefixtures("_nothing_installed")
@pytest.mark.parametrize("name", NOT_INSTALLED)
def test_engine_that_is_not_installed_says_what_to_install(name: str) -> None:
    with pytest.raises(EngineError, match=f"engine {name} was asked for by argument, but {NOT_INSTALLED[name]}"):
        choose_engine(name)


@pytest.mark.usefixtures("_nothing_installed", "_nobody_asks")
def test_no_engine_at_all_says_so_of_each() -> None:
    for use in (choose_engine, choose_interpreter, lambda: load_lite_model("models/bees-wasps.tflite")):
        with pytest.raises(EngineError) as caught:
            use()
        for name in ("litert", "tflite-runtime", "tensorflow"):
            assert f"{name}: " in str(caught.value)


@pytest.mark.usefixtures("_nobody_asks")
def test_without_numpy_litert_c_is_the_first_that_can_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "find_spec", lambda name: None if name == "numpy" else find_spec(name))
    assert choose_engine().name == "litert-c"
    assert missing("litert") == "numpy is not installed: pip install ai-edge-litert"


@pytest.mark.usefixtures("_nobody_asks")
def test_package_that_is_broken_is_an_engine_error(
    monkeypatch: pytest.MonkeyPatch, fresh_cache: Path, default_model_path: Path
) -> None:
    def broken(_: object) -> Any:
        raise ImportError("libsomething.so: cannot open shared object file")

    monkeypatch.setattr(interpreters.LiteRt, "interpreter_class", classmethod(broken))
    with pytest.raises(EngineError, match="ai_edge_litert is installed but cannot be imported: libsomething"):
        load_lite_model(default_model_path)


OTHER_BUILD = """
import json, logging, sys
logging.basicConfig(format="%(levelname)s %(name)s %(message)s", level=logging.WARNING)
from serverless_bees import Predictor
predictor = Predictor(runtime="litert-c")
print(json.dumps([predictor.engine.name, predictor.engine.why, predictor.predict(sys.argv[1]).score]))
"""


@both_under_test
def test_unknown_build_of_the_library_is_never_called(tmp_path: Path, photograph: Path) -> None:
    """The same library with one byte behind it: it would work, but nobody has looked at it."""
    spec = find_spec("ai_edge_litert")
    assert spec is not None
    assert spec.origin is not None
    package = tmp_path / "site" / "ai_edge_litert"
    package.mkdir(parents=True)
    for file in Path(spec.origin).parent.iterdir():
        if file.name != "libLiteRt.so":
            (package / file.name).symlink_to(file)
    data = Path(spec.origin).with_name("libLiteRt.so").read_bytes() + b"\n"
    (package / "libLiteRt.so").write_bytes(data)
    paths = os.pathsep.join([str(package.parent), *filter(None, sys.path)])
    done = python(OTHER_BUILD, photograph, PYTHONPATH=paths, SERVERLESS_BEES_RUNTIME="")
    assert done.returncode == 0, done.stderr
    name, why, score = json.loads(done.stdout)
    digest = hashlib.sha256(data).hexdigest()[:12]
    assert (name, score) == ("litert", Predictor(runtime="litert").predict(photograph).score)
    assert f"(SHA-256 {digest}…) is none of the builds whose C API is known" in why
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == 1
    assert warnings[0].startswith("WARNING serverless_bees.engines engine litert-c was asked for by argument, but ")
    assert warnings[0].endswith("using litert, which gives the same scores")


@pytest.fixture(scope="session")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.support.pictures import encoded, scene

    path = tmp_path_factory.mktemp("pictures") / "photograph.jpg"
    path.write_bytes(encoded(scene(200, 160), "JPEG"))
    return path


@both_under_test
@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("SELF_TEST_SCORE", 0.5, r"gives [0-9a-f]{8} in the self-test instead of 0\.5"),
        ("SELF_TEST", "broken", r"fails the self-test: .*broken\.tflite: .*litert-c"),
    ],
)
def test_library_that_fails_its_self_test_is_not_used(
    attribute: str, value: Any, reason: str, fresh_cache: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    if value == "broken":
        value = tmp_path / "broken.tflite"
        value.write_bytes(crashing("litert-c"))
    monkeypatch.setattr(litert_c, attribute, value)
    for _ in range(2):  # a failure is not remembered as a proof
        assert choose_engine("litert-c").name == "litert"
    assert len(caplog.records) == 1  # said once
    caplog.clear()
    monkeypatch.setattr(interpreters, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match=reason):
        choose_engine("litert-c")
    assert not caplog.records


@both_under_test
def test_library_without_its_functions_is_an_engine_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litert_c, "_SIGNATURES", {"LiteRtNoSuchFunction": ()})
    monkeypatch.setattr(litert_c._process, "_runtime", None)
    with pytest.raises(EngineError, match=r"cannot use .*libLiteRt\.so: .*undefined symbol: LiteRtNoSuchFunction"):
        Predictor(runtime="litert-c").predict(PIXELS)


# What it sees and computes


@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_engine_reports_the_tensors_that_the_file_states(engine: str, options: dict[str, Any], tmp_path: Path) -> None:
    model = ModelFile(write_model(tmp_path / "model.tflite", **options))
    loaded = choose_engine(engine).load(model, 1)
    assert (loaded.input, loaded.output) == (model.input, model.output)
    loaded.close()


@both_under_test
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_both_litert_engines_agree_bit_for_bit(options: dict[str, Any], tmp_path: Path) -> None:
    model = ModelFile(write_model(tmp_path / "model.tflite", **options))
    loaded = [choose_engine(name).load(model, threads) for name in sorted(BOTH) for threads in (1, 2)]
    rng = np.random.default_rng(7)
    outputs = set()
    for _ in range(40):
        pixels = rng.bytes(model.input.nbytes)
        if model.input.dtype == "float32":
            pixels = rng.uniform(-1, 2, model.input.size).astype(np.float32).tobytes()
        given = {each.run(pixels) for each in loaded}
        assert len(given) == 1
        outputs |= given
    assert len(outputs) > 1
    assert {len(output) for output in outputs} == {model.output.nbytes}


@both_under_test
def test_both_litert_engines_agree_on_the_default_model(default_model_path: Path) -> None:
    model = ModelFile(default_model_path)
    loaded = [choose_engine(name).load(model, 1) for name in sorted(BOTH)]
    rng = np.random.default_rng(7)
    for _ in range(25):
        pixels = rng.uniform(0, 1, model.input.size).astype(np.float32).tobytes()
        assert len({each.run(pixels) for each in loaded}) == 1


def test_engine_keeps_nothing_of_the_picture_before(engine: str, tmp_path: Path) -> None:
    model = ModelFile(write_model(tmp_path / "model.tflite"))
    loaded, rng = choose_engine(engine).load(model, 1), np.random.default_rng(5)
    pixels = [rng.uniform(0, 1, model.input.size).astype(np.float32).tobytes() for _ in range(20)]
    first = [loaded.run(each) for each in pixels]
    assert [loaded.run(each) for each in reversed(pixels)] == first[::-1]


@both_under_test
def test_forked_child_frees_nothing_of_its_parents_library(default_model_path: Path) -> None:
    """Its threads are not there to stop; what is left in the child's memory goes with the child."""
    loaded = choose_engine("litert-c").load(ModelFile(default_model_path), 2)
    assert isinstance(loaded, litert_c.LiteRtC)
    pid = loaded._pid
    loaded._pid = -1  # as a child sees it
    loaded.close()
    assert loaded._handles
    loaded._pid = pid
    loaded.close()
    assert not loaded._handles


# Damaged models


def crashing(engine: str) -> bytes:
    """A number or two wrong, and the process that loads it is gone."""

    def change(model: Any, graph: Any) -> None:
        if engine == "tflite-runtime":
            graph.operators[1].inputs = [0, 5, -1]  # the dense layer's weights are the scores
        else:
            code = model.operatorCodes[2]  # softmax becomes a layer whose parameters are not there to be read
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.SPLIT

    return rebuilt(make_model(), change)


def of_another_output(stated: int) -> bytes:
    """The output's shape as the file states it is not the one that the layers give."""

    def change(model: Any, graph: Any) -> None:
        graph.tensors[graph.outputs[0]].shape = [1, stated]

    return rebuilt(make_model(), change)


def greedy() -> bytes:
    """The picture is enlarged to 43 GB on its way."""

    def change(model: Any, graph: Any) -> None:
        model.buffers.append(stored(np.array([60_000, 60_000], np.int32)))
        for name, shape, kind, buffer in (
            ("size", [2], schema.TensorType.INT32, len(model.buffers) - 1),
            ("large", [1, 60_000, 60_000, 3], schema.TensorType.FLOAT32, 0),
        ):
            tensor = schema.TensorT()
            tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
            graph.tensors.append(tensor)
        size, large = len(graph.tensors) - 2, len(graph.tensors) - 1
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.RESIZE_NEAREST_NEIGHBOR
        code.version = 1
        model.operatorCodes.append(code)
        enlarge = schema.OperatorT()
        enlarge.opcodeIndex = len(model.operatorCodes) - 1
        enlarge.inputs, enlarge.outputs = [graph.inputs[0], size], [large]
        enlarge.builtinOptionsType = schema.BuiltinOptions.ResizeNearestNeighborOptions
        enlarge.builtinOptions = schema.ResizeNearestNeighborOptionsT()
        pool = graph.operators[0]
        pool.inputs = [large]
        pool.builtinOptions.strideH = pool.builtinOptions.strideW = 15_000
        pool.builtinOptions.filterHeight = pool.builtinOptions.filterWidth = 15_000
        graph.operators.insert(0, enlarge)

    return rebuilt(make_model(), change)


UNGUARDED = """
import sys
from serverless_bees.engines import engine_class
engine_class(sys.argv[1]).trial(sys.argv[2])
"""


def test_model_that_crashes_the_engine_is_an_error_and_not_a_crash(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(crashing(engine))
    assert python(UNGUARDED, engine, path).returncode < 0  # this is what the guard is for
    with pytest.raises(ModelFileError, match=rf"the model is damaged: it crashes {engine} \(SIG(SEGV|ABRT|BUS)\)"):
        Predictor(path, SPEC, runtime=engine)


@pytest.mark.usefixtures("_nobody_asks")
def test_load_lite_model_has_the_same_guard(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(crashing("litert"))
    with pytest.raises(ModelFileError, match="the model is damaged: it crashes litert"):
        load_lite_model(path)


def test_model_that_asks_for_43_gigabytes_is_an_error(engine: str, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(greedy())
    with pytest.raises((ModelFileError, EngineError)):
        Predictor(path, SPEC, runtime=engine)


@pytest.mark.parametrize("stated", [1, 2, 4, 1000])
def test_model_that_gives_another_shape_than_it_states_is_an_error(stated: int, engine: str, tmp_path: Path) -> None:
    """Fewer than it gives is worse than more: litert-c would be written to past the end of its memory."""
    path = tmp_path / "model.tflite"
    path.write_bytes(of_another_output(stated))
    document = {**SPEC, "labels": list(map(str, range(max(2, stated))))}
    with pytest.raises(ModelFileError) as caught:
        Predictor(path, document, runtime=engine).predict(PIXELS)
    assert f"the model is damaged: it states the output float32 1x{stated}" in str(caught.value)


def test_engine_refuses_what_it_cannot_run_in_its_own_words(engine: str, tmp_path: Path) -> None:
    def unknown_version(model: Any, graph: Any) -> None:
        model.operatorCodes[1].version = 999

    path = tmp_path / "model.tflite"
    path.write_bytes(rebuilt(make_model(), unknown_version))
    with pytest.raises(ModelFileError, match=f"{path.name}: .*cannot (load|run) the model"):
        Predictor(path, SPEC, runtime=engine)


WORKER = """
import json, logging, math, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from serverless_bees import Predictor
from serverless_bees.engines import proofs
from serverless_bees.errors import ModelError
proofs.TIMEOUT = 20
engine, *paths = sys.argv[1:]
pixels = np.random.default_rng(3).integers(0, 256, (20, 30, 3), dtype=np.uint8)
for path in paths:
    try:
        predictor = Predictor(path, runtime=engine)
        outcome = ""
        for picture in (pixels, pixels[:9], pixels * 0):
            prediction = predictor.predict(picture)
            if not all(math.isfinite(score) for _, score in prediction.classes):
                outcome = f"not finite: {prediction}"
        predictor.close()
    except ModelError as error:
        outcome = type(error).__name__
    print(json.dumps([path, outcome]), flush=True)
"""
DAMAGED: dict[str, Callable[[], Iterator[bytes]]] = {
    "float32": lambda: damaged(make_model(), 65, 1),
    "uint8": lambda: damaged(make_model(dtype="uint8"), 45, 2),
    "int8, one score": lambda: damaged(make_model(dtype="int8", classes=1), 45, 3),
    "grey, one score": lambda: damaged(make_model(channels=1, classes=1), 35, 4),
    "not TFLite at all": lambda: iter(
        [
            b"",
            b"\0",
            b"\x1c\0\0\0TFL3",
            b"\x08\0\0\0TFL3" + bytes(64),
            b"\x08\0\0\0TFL3" + b"\xff" * 64,
            bytes(99),
            b"PK",
        ]
    ),
}


@pytest.mark.parametrize("kind", [*DAMAGED, "the default model"])
def test_damaged_model_is_an_error_or_a_finite_prediction(
    kind: str, engine: str, tmp_path: Path, default_model_path: Path
) -> None:
    files = damaged(default_model_path.read_bytes(), 15, 5) if kind == "the default model" else DAMAGED[kind]()
    paths = []
    for index, data in enumerate(files):
        paths.append(tmp_path / f"{index}.tflite")
        paths[-1].write_bytes(data)
    done = python(WORKER, engine, *paths)
    outcomes = dict(json.loads(line) for line in done.stdout.splitlines())
    assert done.returncode == 0, f"{paths[len(outcomes)]} ended the process: {done.stderr[-500:]}"
    assert list(outcomes) == list(map(str, paths))
    known = {"", "ModelFileError", "UnsupportedModelError", "SpecError", "EngineError"}
    assert {path: outcome for path, outcome in outcomes.items() if outcome not in known} == {}
    assert "ModelFileError" in outcomes.values()


# Proofs


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Every child process that is started, by its arguments."""
    started: list[list[str]] = []
    run = subprocess.run

    def spy(command: list[str], **options: Any) -> Any:
        started.append(command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", spy)
    return started


def test_proof_is_remembered_until_the_file_changes(
    engine: str, fresh_cache: Path, tmp_path: Path, children: list[list[str]]
) -> None:
    path = write_model(tmp_path / "model.tflite")

    def started() -> int:
        children.clear()
        predictor = Predictor(path, SPEC, runtime=engine)
        assert predictor.info.version == hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        predictor.predict(PIXELS)
        return len(children)

    assert started() == (2 if engine == "litert-c" else 1)  # its library has a proof of its own
    assert started() == 0
    stat = path.stat()
    write_model(path, seed=2)
    assert started() == 1
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # who restores the time cannot restore ctime
    assert started() == 1
    assert started() == 0
    write_model(tmp_path / "other.tflite", seed=3).replace(path)
    assert started() == 1
    children.clear()
    copy = tmp_path / "copy.tflite"
    copy.write_bytes(path.read_bytes())
    Predictor(copy, SPEC, runtime=engine)
    assert len(children) == 1
    folders = {record.parent for record in fresh_cache.rglob(f"{engine}-*")}
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700]  # nobody else declares a model proven


@both_under_test
def test_proof_of_one_engine_is_none_of_another(fresh_cache: Path, tmp_path: Path, children: list[list[str]]) -> None:
    path = write_model(tmp_path / "model.tflite")
    Predictor(path, SPEC, runtime="litert")
    children.clear()
    Predictor(path, SPEC, runtime="litert-c")
    assert len(children) == 2


def test_failure_is_not_remembered(engine: str, tmp_path: Path, children: list[list[str]]) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(crashing(engine))
    for _ in range(2):
        children.clear()
        with pytest.raises(ModelFileError):
            Predictor(path, SPEC, runtime=engine)
        assert len(children) == 1


def test_cache_that_cannot_be_written_is_said_in_the_log(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, children: list[list[str]],
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    path = write_model(tmp_path / "model.tflite")
    for _ in range(2):
        children.clear()
        assert Predictor(path, SPEC, runtime=engine).predict(PIXELS).label in "abc"
        assert children
    assert "cannot remember what is proven" in caplog.text


def test_cache_is_below_the_home_folder_by_default(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME")
    Predictor(write_model(tmp_path / "model.tflite"), SPEC, runtime=engine)
    assert list((tmp_path / ".cache" / "serverless-bees").rglob(f"{engine}-*"))


def test_child_that_takes_too_long_is_an_error(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing(engine)  # proves the library
    monkeypatch.setattr(proofs, "TIMEOUT", 0.001)
    with pytest.raises(ModelFileError, match=rf"{engine} did not predict with the model within 0\.001 s"):
        Predictor(write_model(tmp_path / "model.tflite"), SPEC, runtime=engine)


@both_under_test
def test_where_no_python_can_be_started_nothing_counts_as_proven(
    fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, children: list[list[str]],
) -> None:  # fmt: skip
    """A server that embeds Python: litert goes on and says so, litert-c is not called untested."""
    path = write_model(tmp_path / "model.tflite")
    with monkeypatch.context() as patch:
        patch.setattr(proofs, "_python", lambda: "")
        assert Predictor(path, SPEC, runtime="litert").predict(PIXELS).label in "abc"
        assert f"no Python interpreter is found to try {path}" in caplog.text
        assert "cannot be put to the self-test" in missing("litert-c")
        assert not children
    Predictor(path, SPEC, runtime="litert")
    assert len(children) == 1


def test_child_sees_our_path_and_no_one_elses(
    engine: str, fresh_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that someone else can write to, as the current one, puts nothing into the child."""
    (tmp_path / "json.py").write_text("raise SystemExit('taken over')")
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit('taken over')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert Predictor(write_model(tmp_path / "m.tflite"), SPEC, runtime=engine).predict(PIXELS).label in "abc"


CHILD = """
import sys
from serverless_bees.engines.proofs import main
main(sys.argv[1], sys.argv[2])
"""


def test_child_says_what_it_found_in_json(engine: str, tmp_path: Path) -> None:
    """The same on every run: a fixed input, so a library's self-test can compare."""
    path = write_model(tmp_path / "model.tflite")
    answers = [json.loads(python(CHILD, engine, path).stdout) for _ in range(2)]
    assert answers[0] == answers[1] == {"scores": engine_class(engine).trial(str(path))}
    assert len(bytes.fromhex(answers[0]["scores"])) == 12
    path.write_bytes(b"no model")
    answer = json.loads(python(CHILD, engine, path).stdout)
    assert answer["error"] == "ModelFileError"
    assert str(path) in answer["message"]


def test_engine_class_names_are_all_there() -> None:
    assert {name: engine_class(name).__name__ for name in NOT_INSTALLED} == {
        "litert": "LiteRt", "tflite-runtime": "TfliteRuntime", "tensorflow": "TensorFlow", "litert-c": "LiteRtC",
    }  # fmt: skip
