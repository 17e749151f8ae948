"""What is read of a TFLite file, what is refused, and that damage is never anything but one of our errors."""

from __future__ import annotations

import json
import random
import time
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from serverless_bees.errors import ModelError, ModelFileError, UnsupportedModelError
from serverless_bees.modelfile import MAX_TENSOR_BYTES, Metadata, ModelFile, Tensor
from serverless_bees.spec import AssumedSpecWarning, pixel_table, resolve_spec

from .fixtures.metadata import AXIS_LABELS, SCORE_CALIBRATION, VALUE_LABELS, make_metadata, pack_files
from .support.models import make_model

FIXTURES = Path(__file__).parent / "fixtures"
STEMS = ("metadata-float32", "metadata-uint8", "metadata-no-labels")


def model_file(folder: Path, data: bytes) -> ModelFile:
    path = folder / "model.tflite"
    path.write_bytes(data)
    return ModelFile(path)


def changed(data: bytes, change: Callable[[Any], None]) -> bytes:
    """A sound model with one thing about it changed, through the object API of LiteRT's own schema."""
    import flatbuffers

    model = schema.ModelT.InitFromPackedBuf(data)
    change(model)
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def graph_of(model: Any) -> Any:
    return model.subgraphs[0]


def pixels_of(model: Any) -> Any:
    return graph_of(model).tensors[graph_of(model).inputs[0]]


def scores_of(model: Any) -> Any:
    return graph_of(model).tensors[graph_of(model).outputs[0]]


def quantisation(scales: list[float], zero_points: list[int]) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scales, zero_points
    return parameters


# Tensors


@pytest.mark.parametrize(
    ("options", "pixels", "scores", "nbytes"),
    [
        ({}, "float32 1x8x8x3", "float32 1x3", 768),
        ({"channels": 1, "classes": 1, "height": 4, "width": 6}, "float32 1x4x6x1", "float32 1x1", 96),
        (
            {"dtype": "uint8", "input_scale": 1 / 128, "input_zero_point": 127},
            "uint8 1x8x8x3, scale 0.0078125, zero point 127",
            "uint8 1x3, scale 0.00390625, zero point 0",
            192,
        ),
        (
            {"dtype": "int8", "input_scale": 0.5, "classes": 5},
            "int8 1x8x8x3, scale 0.5, zero point -128",
            "int8 1x5, scale 0.00390625, zero point -128",
            192,
        ),
        (
            {"dtype": "uint8", "output_dtype": "float32", "input_scale": 1.0},
            "uint8 1x8x8x3, scale 1, zero point 0",
            "float32 1x3",
            192,
        ),
    ],
)
def test_tensors(tmp_path: Path, options: dict[str, Any], pixels: str, scores: str, nbytes: int) -> None:
    file = model_file(tmp_path, make_model(**options))
    assert (str(file.input), str(file.output)) == (pixels, scores)
    assert file.input.nbytes == nbytes
    assert file.input.size == np.prod(file.input.shape)
    assert file.metadata() is None
    assert file.stat.st_size == len(file.mapping) == (tmp_path / "model.tflite").stat().st_size


def test_names_and_exact_scale(tmp_path: Path) -> None:
    file = model_file(tmp_path, make_model(dtype="uint8", input_scale=1 / 255))
    assert file.input == Tensor("pixels", (1, 8, 8, 3), "uint8", float(np.float32(1 / 255)), 0)
    assert file.output.name == "scores"


def test_a_free_batch_size_is_read_as_the_one_allocated(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        pixels_of(model).shapeSignature = [-1, 8, 8, 3]

    assert model_file(tmp_path, changed(make_model(), change)).input.shape == (1, 8, 8, 3)


# Files that are no model


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty"),
        (b"TFL3", "not a TFLite model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "not a TFLite model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "not a TFLite model"),
        (pack_files(b"", {"model.tflite": b"TFL3"}), "not a TFLite model"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "not a TFLite model"),
        (b"\x08\0\0\0TFL3", "is damaged"),
        (b"\xff\xff\xff\xffTFL3" + bytes(64), "is damaged"),
        (bytes(4) + b"TFL3" + bytes(64), "is damaged"),
        (bytes([8, 0, 0, 0]) + b"TFL3" + bytes([20]) + bytes(63), "an offset points to -12"),
        (bytes([12, 0, 0, 0]) + b"TFL3" + bytes([4, 0, 4, 0, 4, 0, 0, 0]), "has no subgraph"),
    ],
    ids=[
        "empty",
        "4 bytes",
        "png",
        "text",
        "zip",
        "keras",
        "8 bytes",
        "far root",
        "zeros",
        "before the start",
        "no subgraph",
    ],
)
def test_not_a_model(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        model_file(tmp_path, data)
    assert str(tmp_path / "model.tflite") in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.tflite", "No such file"),
        ("", "Is a directory"),
        ("a/b.tflite", "No such file"),
        ("a\0b", "null byte"),
        ("x" * 300, "too long"),
    ],
)
def test_not_a_file(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(ModelFileError, match=message):
        ModelFile(tmp_path / name)


# Models that are sound, but not one picture in and one row of scores out


def _two_inputs(model: Any) -> None:
    graph_of(model).inputs = [0, 1]


def _two_outputs(model: Any) -> None:
    graph_of(model).outputs = [1, 2]


def _no_output(model: Any) -> None:
    graph_of(model).outputs = []


def _dynamic(model: Any) -> None:
    pixels_of(model).shape = [1, 1, 1, 3]
    pixels_of(model).shapeSignature = [-1, -1, -1, 3]


def _per_channel(model: Any) -> None:
    pixels_of(model).quantization = quantisation([0.1, 0.2, 0.3], [0, 0, 0])


def _string_input(model: Any) -> None:
    pixels_of(model).type = schema.TensorType.STRING


def _bool_output(model: Any) -> None:
    scores_of(model).type = schema.TensorType.BOOL


def _unheard_of_type(model: Any) -> None:
    pixels_of(model).type = 99


def _immense(model: Any) -> None:
    pixels_of(model).shape = [1, 46341, 46341, 3]


@pytest.mark.parametrize(
    ("change", "side", "message"),
    [
        (_two_inputs, "input", "has one input, this model has 2"),
        (_two_outputs, "output", "has one output, this model has 2"),
        (_no_output, "output", "has one output, this model has 0"),
        (_dynamic, "input", "the input 'pixels' has no fixed shape (-1x-1x-1x3)"),
        (_per_channel, "input", "the input 'pixels' is quantised per channel (3 scales)"),
        (_string_input, "input", "the input 'pixels' is string; supported are float32,"),
        (_bool_output, "output", "the output 'scores' is bool; supported are float32,"),
        (_unheard_of_type, "input", "the input 'pixels' is element type 99; supported are float32,"),
        (_immense, "input", f"takes 25769859372 bytes, the limit is {MAX_TENSOR_BYTES}"),
    ],
)
def test_unsupported(tmp_path: Path, change: Callable[[Any], None], side: str, message: str) -> None:
    file = model_file(tmp_path, changed(make_model(), change))
    with pytest.raises(UnsupportedModelError) as caught:
        getattr(file, side)
    assert message in str(caught.value)


# Damage that a reader of flatbuffers would not notice


def _quantised(scale: float, zero_point: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        pixels_of(model).quantization = quantisation([scale], [zero_point])

    return change


def _shaped(*shape: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        pixels_of(model).shape = list(shape)

    return change


def _wired(index: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        graph_of(model).inputs = [index]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_quantised(float("nan"), 0), "scale nan"),
        (_quantised(float("inf"), 0), "scale inf"),
        (_quantised(-0.5, 0), "scale -0.5"),
        (_quantised(0.5, 256), "zero point 256"),
        (_quantised(0.5, -1), "zero point -1"),
        (_quantised(0.5, -(2**63)), "zero point -9223372036854775808"),
        (_shaped(1, 0, 8, 3), "(1, 0, 8, 3)"),
        (_shaped(1, 8, -8, 3), "(1, 8, -8, 3)"),
        (_shaped(*[2] * 9), "has 9 dimensions"),
        (_shaped(*[2**31 - 1] * 2000), "has 2000 dimensions"),  # their product has more digits than an int prints
        (_wired(7), "its input is tensor 7 of 6"),
        (_wired(-1), "its input is tensor -1 of 6"),
    ],
)
def test_damaged_tensor(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    file = model_file(tmp_path, changed(make_model(dtype="uint8"), change))
    with pytest.raises(ModelFileError, match="the model is damaged") as caught:
        _ = file.input
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


# TFLite Metadata


@pytest.mark.parametrize("stem", STEMS)
def test_metadata_is_read_as_its_own_package_reads_it(stem: str) -> None:
    shown = json.loads((FIXTURES / f"{stem}.shown.json").read_text())
    root = shown["metadata"]
    graph = root["subgraph_metadata"][0]
    units = graph["input_tensor_metadata"][0].get("process_units", [{"options": {"mean": [], "std": []}}])
    files = graph["output_tensor_metadata"][0].get("associated_files", [])
    metadata = ModelFile(FIXTURES / f"{stem}.tflite").metadata()
    assert metadata is not None
    assert metadata[:3] == (root["name"], root["version"], root["description"])
    assert metadata.labels == tuple(shown["files"][files[0]["name"]].split() if files else ())
    for field in ("mean", "std"):  # it prints six digits behind the point
        assert [round(number, 6) for number in getattr(metadata, field)] == units[0]["options"][field]


def test_the_fixtures_are_those_described() -> None:
    assert [ModelFile(FIXTURES / f"{stem}.tflite").metadata() for stem in STEMS] == [
        Metadata(
            "Bees & Bienen",
            "2.1.0-rc1",
            "A small classifier. Größe: 4 × 4.",  # noqa: RUF001
            ("bee", "wasp", "hornet"),
            tuple(np.array([123.675, 116.28, 103.53], np.float32).tolist()),
            tuple(np.array([58.395, 57.12, 57.375], np.float32).tolist()),
        ),
        Metadata("quantised", "", "", ("Hautflügler", "蜂"), (127.5,), (127.5,)),
        Metadata("", "7", "", (), (), ()),
    ]


def with_metadata(packed: dict[str, bytes], compression: int = zipfile.ZIP_STORED, **metadata: Any) -> bytes:
    return pack_files(make_model(metadata=make_metadata(**metadata)), packed, compression)


LABELS = [("labels.txt", AXIS_LABELS, "")]


@pytest.mark.parametrize(
    ("files", "text", "labels"),
    [
        (LABELS, b"bee\nwasp\nhornet\n", ("bee", "wasp", "hornet")),
        (LABELS, b"bee\nwasp\nhornet", ("bee", "wasp", "hornet")),
        (LABELS, b"bee\r\nwasp\r\nhornet\r\n\r\n", ("bee", "wasp", "hornet")),
        (LABELS, b"\xef\xbb\xbfbee\nwasp\n", ("bee", "wasp")),
        (LABELS, "Bienenkönigin\n蜂 (はち)\n".encode(), ("Bienenkönigin", "蜂 (はち)")),
        (LABELS, b" honey bee \n\n wasp\n", ("honey bee", "wasp")),
        (LABELS, b"", ()),
        ([("labels.txt", VALUE_LABELS, "")], b"bee\n", ("bee",)),
        ([("labels.txt", AXIS_LABELS, "en")], b"bee\n", ("bee",)),
        ([*LABELS, ("other.txt", AXIS_LABELS, "de")], b"bee\n", ("bee",)),
        ([("other.txt", SCORE_CALIBRATION, ""), *LABELS], b"bee\n", ("bee",)),
        ([("labels.txt", SCORE_CALIBRATION, "")], b"bee\n", ()),
        ([], b"bee\n", ()),
    ],
    ids=[
        "lines", "no last newline", "crlf", "byte order mark", "utf-8", "blanks", "empty file", "value labels",
        "only in one locale", "a translation too", "calibration first", "calibration only", "no file",
    ],
)  # fmt: skip
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_labels(
    tmp_path: Path, files: list[tuple[str, int, str]], text: bytes, labels: tuple[str, ...], compression: int
) -> None:
    packed = {"labels.txt": text, "other.txt": b"Biene\n"}
    metadata = model_file(tmp_path, with_metadata(packed, compression, files=files)).metadata()
    assert metadata == Metadata(labels=labels)


def cut_short(data: bytes) -> bytes:
    return data[:-5]


def deflate_damaged(data: bytes) -> bytes:
    start = data.rindex(b"labels.txt", 0, data.rindex(b"PK\x01\x02")) + len("labels.txt")
    return data[:start] + b"\xff" * 8 + data[start + 8 :]


def same(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    ("files", "compression", "damage", "message"),
    [
        ({"other.txt": b"bee"}, zipfile.ZIP_STORED, same, "There is no item named 'labels.txt'"),
        ({}, zipfile.ZIP_STORED, cut_short, "'labels.txt' of its TFLite Metadata cannot be read"),
        ({"labels.txt": b"bee\nwasp"}, zipfile.ZIP_STORED, cut_short, "File is not a zip file"),
        ({"labels.txt": b"bee\nwasp"}, zipfile.ZIP_STORED, deflate_damaged, "Bad CRC-32"),
        ({"labels.txt": b"bee\nwasp" * 99}, zipfile.ZIP_DEFLATED, deflate_damaged, "decompressing"),
        ({"labels.txt": b"bee\nwasp" * 99}, zipfile.ZIP_LZMA, deflate_damaged, "cannot be read"),
        ({"labels.txt": b"b\xffe\n"}, zipfile.ZIP_STORED, same, "can't decode byte 0xff"),
        ({"labels.txt": b"bee\n" * 2**20 + b"x"}, zipfile.ZIP_STORED, same, "larger than 4194304 bytes"),
        ({"labels.txt": bytes(2**28)}, zipfile.ZIP_DEFLATED, same, "larger than 4194304 bytes"),
    ],
    ids=["another", "no zip", "cut", "crc", "zlib", "lzma", "latin-1", "large", "bomb"],
)
def test_label_file_refused(
    tmp_path: Path,
    files: dict[str, bytes],
    compression: int,
    damage: Callable[[bytes], bytes],
    message: str,
) -> None:
    file = model_file(tmp_path, damage(with_metadata(files, compression, files=LABELS)))
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=message):
            file.metadata()
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (make_metadata(identifier=b"M002"), "no M001 identifier"),
        (b"text", "no M001 identifier"),
        (make_metadata(name="bees")[:12], "is damaged"),
        (make_metadata(name="bees").replace(b"bees", b"b\xffes"), "can't decode byte 0xff"),
        (make_metadata(mean=[1.0])[:-12], "is damaged"),
        (make_metadata(name="bees").replace(b"\4\0\0\0bees", b"\xff\0\0\0bees"), "255 items runs over the end"),
    ],
    ids=["identifier", "text", "cut", "latin-1", "cut in a vector", "long text"],
)
def test_metadata_refused(tmp_path: Path, metadata: bytes, message: str) -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        model_file(tmp_path, make_model(metadata=metadata)).metadata()
    assert "TFLite Metadata" in str(caught.value)


def test_metadata_of_another_name_is_none(tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.metadata[0].name = "min_runtime_version"

    data = changed(make_model(metadata=make_metadata(name="bees")), change)
    assert model_file(tmp_path, data).metadata() is None


# Any damage at all

BASES: dict[str, Callable[[], bytes]] = {
    **{stem: (FIXTURES / f"{stem}.tflite").read_bytes for stem in STEMS},
    "deflated": lambda: with_metadata(
        {"labels.txt": b"bee\nwasp\nhornet" + b"\n" * 99}, zipfile.ZIP_DEFLATED, mean=[0], std=[255], files=LABELS
    ),
    "int8": lambda: make_model(height=4, width=4, dtype="int8"),
}


def everything(file: ModelFile) -> tuple[Any, ...]:
    """All that the package reads of a model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumedSpecWarning)
        spec = resolve_spec(file)
    channels = range(file.input.shape[3])
    return file.input, file.output, file.metadata(), [pixel_table(spec, file.input, c) for c in channels]


@pytest.mark.parametrize("base", BASES)
def test_truncated_at_every_length(tmp_path: Path, base: str) -> None:
    """Refused, or read as the whole file is (where only weights are missing, which an engine's load finds)."""
    sound = BASES[base]()
    whole = everything(model_file(tmp_path, sound))
    refused = 0
    for length in range(len(sound)):
        (tmp_path / "model.tflite").write_bytes(sound[:length])
        try:
            assert everything(ModelFile(tmp_path / "model.tflite")) == whole
        except ModelFileError:
            refused += 1
    assert refused > len(sound) / 2


@pytest.mark.parametrize("base", BASES)
def test_damaged_anyhow(tmp_path: Path, base: str) -> None:
    """Random flips of bits, bytes overwritten, and cuts: only ever one of our errors, at once, in little memory."""
    sound = BASES[base]()
    chance = random.Random(f"damage {base}")
    accepted = refused = 0
    tracemalloc.start()
    try:
        for _ in range(400):
            damaged = bytearray(sound)
            for _ in range(chance.choice((1, 1, 2, 8))):
                at = chance.randrange(len(damaged))
                damaged[at] = chance.choice((damaged[at] ^ 1 << chance.randrange(8), 0, 0x7F, 0x80, 0xFF))
            if chance.random() < 0.2:
                del damaged[chance.randrange(len(damaged)) :]
            started = time.process_time()
            try:
                everything(model_file(tmp_path, bytes(damaged)))
                accepted += 1
            except ModelError as error:
                assert len(str(error)) < 2000  # noqa: PT017
                refused += 1
            assert time.process_time() - started < 1
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()
    assert accepted > 20
    assert refused > 20
