"""Where a spec comes from, what it may say, what contradicts a model, and what a pixel becomes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from serverless_bees import spec as spec_module
from serverless_bees.errors import SpecError, UnsupportedModelError
from serverless_bees.modelfile import ModelFile, Tensor
from serverless_bees.spec import AssumedSpecWarning, Spec, pixel_table, resolve_spec

from .fixtures.metadata import AXIS_LABELS, make_metadata, pack_files
from .support.models import make_model, write_model

SCHEMA = json.loads(Path(spec_module.__file__).with_name("spec.schema.json").read_text())
BEES_WASPS = Path(__file__).parents[1] / "models" / "bees-wasps.json"
SECTIONS = {
    **dict.fromkeys(("resample", "mean", "std", "channel_order", "exif_transpose"), "input"),
    **dict.fromkeys(("activation", "from_logits", "decision_threshold"), "output"),
}


def quietly(model: ModelFile, given: Any = None) -> Spec:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AssumedSpecWarning)
        return resolve_spec(model, given)


def document(**fields: Any) -> dict[str, Any]:
    """The JSON document that states ``fields``."""
    stated: dict[str, Any] = {}
    for field, value in fields.items():
        (stated.setdefault(SECTIONS[field], {}) if field in SECTIONS else stated)[field] = value
    return stated


# Sources

SOURCES = ("argument", "model.json", "TFLite Metadata")

STATED: dict[str, tuple[Any, ...]] = {
    # field: what the argument, the sidecar and the metadata say
    "name": ("argued", "beside", "inside"),
    "version": ("3", "2", "1"),
    "description": ("argued", "beside", "inside"),
    "labels": (["a", "b"], ["c", "d"], ["e", "f"]),
    "mean": ([1.0, 2.0, 3.0], None, [5.0]),
    "std": ([1.5, 2.5, 3.5], None, [-5.5]),
    "resample": ("lanczos", "box"),
    "channel_order": ("bgr", "rgb"),
    "exif_transpose": (True, False),
    "activation": ("none", "sigmoid"),
    "from_logits": (False, True),
    "decision_threshold": (0, 1),
}
WITHOUT_A_SOURCE: dict[str, tuple[Any, str]] = {
    "name": ("model", "default"),
    "version": ("", "default"),
    "description": ("", "default"),
    "labels": (("0", "1"), "assumed"),
    "mean": ((0.0,), "assumed"),
    "std": ((255.0,), "assumed"),
    "resample": ("nearest", "default"),
    "channel_order": ("rgb", "default"),
    "exif_transpose": (False, "default"),
    "activation": ("sigmoid", "default"),
    "from_logits": (False, "default"),
    "decision_threshold": (0.5, "default"),
}


def stated_by(source: int, fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: STATED[field][source] for field in fields if source < len(STATED[field])}


@pytest.mark.parametrize("first", range(4))
@pytest.mark.parametrize("field", [field for field in STATED if field != "std"])
def test_the_first_source_that_states_a_field_wins(tmp_path: Path, field: str, first: int) -> None:
    fields = ("mean", "std") if field == "mean" else (field,)
    # Unscaled, which the sidecar says of mean and std, is for integer inputs; this one says nothing by itself.
    data = make_model(classes=1, dtype="uint8", input_scale=0.3)
    if first <= 2:
        inside = stated_by(2, fields)
        packed = {"labels.txt": "\n".join(inside.pop("labels", [])).encode()}
        metadata = make_metadata(**inside, files=[("labels.txt", AXIS_LABELS, "")])
        data = pack_files(
            make_model(classes=1, dtype="uint8", input_scale=0.3, metadata=metadata),
            packed,
        )
    if first <= 1:
        (tmp_path / "model.json").write_text(json.dumps(document(**stated_by(1, fields))))
    (tmp_path / "model.tflite").write_bytes(data)
    spec = quietly(ModelFile(tmp_path / "model.tflite"), document(**stated_by(0, fields)) if first == 0 else None)
    for name in fields:
        if first < len(STATED[name]):
            value, source = STATED[name][first], SOURCES[first]
            value = tuple(value) if isinstance(value, list) else value
        else:
            value, source = WITHOUT_A_SOURCE[name]
        assert (getattr(spec, name), spec.sources[name]) == (value, source)


def test_every_field_has_its_place_in_the_tables() -> None:
    assert list(STATED) == list(WITHOUT_A_SOURCE)
    assert sorted(STATED) == sorted(set(Spec._fields) - {"sources"})


def test_an_argument_may_be_a_path_or_a_spec(tmp_path: Path) -> None:
    model = ModelFile(write_model(tmp_path / "m.tflite"))
    path = tmp_path / "elsewhere.json"
    path.write_text(json.dumps({"$schema": "spec.schema.json", "labels": ["a", "b", "c"], "version": ""}))
    for given in (path, str(path)):
        spec = quietly(model, given)
        assert (spec.labels, spec.sources["labels"]) == (("a", "b", "c"), str(path))
        assert spec.sources["version"] == "default"  # an empty text states nothing
    complete = Spec(("x", "y", "z"), mean=(1.0,), std=(2.0,), resample="box", activation="softmax")
    spec = resolve_spec(model, complete)
    assert spec[:9] == complete[:9]
    assert (spec.name, spec.sources["name"]) == ("m", "default")
    assert {spec.sources[field] for field in ("labels", "mean", "std", "from_logits")} == {"argument"}
    assert resolve_spec(model, spec)[:-1] == spec[:-1]


@pytest.mark.parametrize(
    ("dtype", "scale", "zero_point", "as_they_are"),
    [
        ("uint8", 1 / 255, 0, True),
        ("uint8", 1 / 256, 0, True),
        ("uint8", 1 / 128, 128, True),
        ("uint8", 1 / 127.5, 127, True),
        ("uint8", 1.0, 0, True),
        ("uint8", 1.0, 128, True),
        ("int8", 1 / 255, -128, True),
        ("int8", 1 / 127.5, -1, True),
        ("int8", 1.0, -128, True),
        ("int8", 1.0, 0, True),
        ("uint8", 1 / 255, 128, False),
        ("uint8", 0.0187, 114, False),  # [-2.1, 2.6]: ImageNet's mean and std
        ("int8", 1 / 255, 0, False),
        ("int8", 1 / 100, -128, False),
    ],
)
def test_what_the_quantisation_of_the_input_says(
    tmp_path: Path, dtype: str, scale: float, zero_point: int, as_they_are: bool
) -> None:
    options = {"dtype": dtype, "input_scale": scale, "input_zero_point": zero_point}
    spec = quietly(ModelFile(write_model(tmp_path / "m.tflite", **options)))
    if as_they_are:
        assert (spec.mean, spec.std, spec.sources["mean"], spec.assumed) == (
            None,
            None,
            "input tensor",
            ("labels",),
        )
    else:
        assert (spec.mean, spec.std, spec.sources["mean"]) == ((0.0,), (255.0,), "assumed")
        assert spec.assumed == ("labels", "mean")


def unquantised(data: bytes) -> bytes:
    """An integer input that no scale is stated of, as models from before TensorFlow 1.5 have it."""
    from .test_modelfile import changed, pixels_of

    def change(model: Any) -> None:
        pixels_of(model).quantization = None

    return changed(data, change)


@pytest.mark.parametrize(
    ("options", "given", "assumed"),
    [
        ({}, {}, "labels '0', '1', '2' and pixels divided by 255"),
        ({"classes": 1}, {}, "labels '0', '1' and pixels divided by 255"),
        ({}, {"mean": [0], "std": [255]}, "labels '0', '1', '2'"),
        ({}, {"labels": ["a", "b", "c"]}, "pixels divided by 255"),
        ({"dtype": "uint8"}, {}, "labels '0', '1', '2'"),
        ({"dtype": "int8", "input_scale": 0.3}, {}, "labels '0', '1', '2' and pixels divided by 255"),
        ({"dtype": "uint8", "input_scale": 0}, {}, "labels '0', '1', '2' and pixels unscaled"),
        (
            {"classes": 40},
            {"mean": [0], "std": [255]},
            "labels '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '11', '12', '13', '14...",
        ),
    ],
)
def test_what_is_assumed_is_said(tmp_path: Path, options: dict[str, Any], given: dict[str, Any], assumed: str) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(
        unquantised(make_model(dtype="uint8")) if options.get("input_scale") == 0 else make_model(**options)
    )
    with pytest.warns(AssumedSpecWarning) as caught:
        spec = resolve_spec(ModelFile(path), document(**given))
    assert [str(warning.message) for warning in caught] == [
        f"{path}: nothing states what this model's pixels or labels mean; assuming {assumed}. "
        f"State it in {tmp_path / 'm.json'}"
    ]
    # Stated, the same is silent.
    fields = {
        field: None if getattr(spec, field) is None else list(getattr(spec, field))
        for field in ("labels", "mean", "std")
    }
    (tmp_path / "m.json").write_text(json.dumps(document(**fields)))
    stated = resolve_spec(ModelFile(path))
    assert stated[:-1] == spec[:-1]
    assert stated.assumed == ()


def test_the_default_models_own_spec() -> None:
    spec = resolve_spec(ModelFile(BEES_WASPS.with_suffix(".tflite")))
    assert (spec.labels, spec.mean, spec.std, spec.activation, spec.decision_threshold) == (
        ("bee", "wasp"),
        (0.0,) * 3,
        (255.0,) * 3,
        "sigmoid",
        0.5,
    )
    assert spec.assumed == ()


# Contradictions, unsupported tensors, malformed documents

THREE = {"labels": ["a", "b", "c"]}
TWO = {"labels": ["a", "b"]}


@pytest.mark.parametrize(
    ("options", "given", "claim", "contradicted_by"),
    [
        ({}, TWO, "2 labels ('a', 'b')", "the output has 3 scores (float32 1x3)"),
        ({}, {"labels": ["a", "b", "c", "d"]}, "4 labels", "the output has 3 scores (float32 1x3)"),
        ({"classes": 1}, THREE, "3 labels", "a single score takes 2 labels (float32 1x1)"),
        ({"classes": 1}, {"labels": ["a"]}, "1 labels ('a')", "a single score takes 2 labels (float32 1x1)"),
        (
            {"classes": 1},
            {"activation": "softmax"},
            "the activation is softmax",
            "the output is a single score (float32 1x1)",
        ),
        (
            {},
            {"decision_threshold": 0.7},
            "the decision threshold is 0.7",
            "only a single score has one (float32 1x3)",
        ),
        ({}, {"from_logits": True}, "the scores are logits", "it names no activation to apply to them"),
        (
            {"channels": 1},
            {"channel_order": "bgr"},
            "the channel order is bgr",
            "the input has one channel (float32 1x8x8x1)",
        ),
        (
            {"channels": 1},
            {"mean": [1, 2, 3], "std": [1]},
            "mean is 1.0, 2.0, 3.0",
            "the input has 1 channel (float32 1x8x8x1)",
        ),
        (
            {"channels": 1},
            {"mean": [1], "std": [1, 2, 3]},
            "std is 1.0, 2.0, 3.0",
            "the input has 1 channel (float32 1x8x8x1)",
        ),
        (
            {},
            {"mean": None, "std": None},
            "pixels go in unscaled",
            "the input is float32 1x8x8x3",
        ),
    ],
)
@pytest.mark.parametrize("stated", ["as an argument", "beside the model"])
def test_contradictions(
    tmp_path: Path, options: dict[str, Any], given: dict[str, Any], claim: str, contradicted_by: str, stated: str
) -> None:
    path = write_model(tmp_path / "m.tflite", **options)
    argument = document(**given) if stated == "as an argument" else None
    if argument is None:
        (tmp_path / "m.json").write_text(json.dumps(document(**given)))
    with pytest.raises(SpecError) as caught:
        quietly(ModelFile(path), argument)
    message = str(caught.value)
    assert message.startswith(f"{path}: the spec says {claim}")
    assert message.endswith(f", but {contradicted_by}")


def test_an_integer_input_without_a_scale_takes_no_scaling(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(unquantised(make_model(dtype="uint8")))
    with pytest.raises(SpecError, match=r"scaled by mean and std, but the input has no quantisation scale") as caught:
        quietly(ModelFile(path), document(mean=[0], std=[255]))
    assert "(uint8 1x8x8x3)" in str(caught.value)


@pytest.mark.parametrize(
    ("pixels", "scores", "message"),
    [
        ({"shape": [1, 192]}, {}, "the input is float32 1x192; an image classifier takes 1 x height x width x 3"),
        ({"shape": [2, 8, 8, 3]}, {}, "the input is float32 2x8x8x3; an image classifier takes 1 x"),
        ({"shape": [1, 3, 8, 8]}, {}, "the input is float32 1x3x8x8; an image classifier takes 1 x"),
        ({"shape": [1, 8, 8, 4]}, {}, "the input is float32 1x8x8x4; an image classifier takes 1 x"),
        ({"shape": []}, {}, "the input is float32 ; an image classifier takes 1 x"),
        ({"type": 1}, {}, "the input is float16 1x8x8x3; supported are float32, uint8, int8"),
        ({"type": 2}, {}, "the input is int32 1x8x8x3; supported are float32, uint8, int8"),
        ({}, {"shape": [1, 2, 3]}, "the output is float32 1x2x3; an image classifier gives one row of scores"),
        ({}, {"shape": [3, 1]}, "the output is float32 3x1; an image classifier gives one row of scores"),
        ({}, {"shape": []}, "the output is float32 ; an image classifier gives one row of scores"),
        ({}, {"type": 4}, "the output is int64 1x3; supported are float32, uint8, int8"),
        ({}, {"type": 3}, "the output is uint8 1x3 without a scale"),
        ({}, {"shape": [1, 100_001]}, "the output is float32 1x100001; supported are up to 100000 classes"),
    ],
)
def test_unsupported_tensors(
    tmp_path: Path, pixels: Mapping[str, Any], scores: Mapping[str, Any], message: str
) -> None:
    from .test_modelfile import changed, pixels_of, scores_of

    def change(model: Any) -> None:
        for tensor, values in ((pixels_of(model), pixels), (scores_of(model), scores)):
            for name, value in values.items():
                setattr(tensor, name, value)

    path = tmp_path / "m.tflite"
    path.write_bytes(changed(make_model(), change))
    with pytest.raises(UnsupportedModelError) as caught:
        quietly(ModelFile(path), THREE)
    assert str(caught.value).startswith(f"{path}: {message}")


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.validate(json.loads(BEES_WASPS.read_text()), SCHEMA)


def test_the_schema_states_every_field_and_its_default() -> None:
    fields = {**SCHEMA["properties"]}
    for section in ("input", "output"):
        fields |= fields.pop(section)["properties"]
    del fields["$schema"]
    assert sorted(fields) == sorted(set(Spec._fields) - {"sources"})
    for name, field in fields.items():
        assert field["title"]
        assert field["description"]
        if "default" in field:
            assert field["default"] == Spec._field_defaults[name]


def _no_json(word: str) -> None:
    raise ValueError(word)


def allowed_by_schema(text: str) -> bool:
    try:
        jsonschema.validate(json.loads(text, parse_constant=_no_json), SCHEMA)
    except (ValueError, RecursionError, jsonschema.ValidationError):
        return False
    return True


def allowed_by_reader(path: Path, text: str) -> bool:
    path.with_suffix(".json").write_text(text)
    try:
        quietly(ModelFile(path))
    except SpecError as error:
        assert str(path.with_suffix(".json")) in str(error)  # noqa: PT017
        return False
    return True


VALID = [
    "{}",
    '{"$schema": "./spec.schema.json"}',
    '{"$schema": 5}',
    '{"name": "bees", "version": "1.0", "description": "Bienen \\u00fc"}',
    '{"name": "", "version": "", "description": ""}',
    '{"labels": ["bee", "wasp"]}',
    '{"labels": ["bee", "bee"]}',
    '{"labels": [" ", "\\n"]}',
    '{"input": {}, "output": {}}',
    '{"input": {"mean": [0], "std": [255]}}',
    '{"input": {"mean": [0], "std": [58.4, 57.1, 57.4]}}',
    '{"input": {"mean": [123.7, 116.3, 103.5], "std": [-1]}}',
    '{"input": {"mean": [0, 0, 0], "std": [1e-6, -1e-6, 1e6]}}',
    '{"input": {"mean": [-1000000], "std": [1000000]}}',
    '{"input": {"mean": [1e6], "std": [1.0]}}',
    '{"input": {"mean": null, "std": null}}',
    *(
        f'{{"input": {{"resample": "{word}"}}}}'
        for word in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
    ),
    '{"input": {"channel_order": "bgr", "exif_transpose": true}}',
    '{"input": {"channel_order": "rgb", "exif_transpose": false}}',
    '{"output": {"activation": "sigmoid", "from_logits": true, "decision_threshold": 0}}',
    '{"output": {"activation": "none", "from_logits": false, "decision_threshold": 1}}',
    '{"output": {"decision_threshold": 0.25}}',
    '{"output": {"decision_threshold": 1.0}}',
]

INVALID = [
    *("", "{", "null", "[]", '"labels"', "1", "true", "[" * 100_000, '{"labels": ["a", "b"],}', "{'name': 1}"),
    *('{"title": "x"}', '{"mean": [0], "std": [1]}', '{"resample": "box"}', '{"activation": "none"}'),
    *('{"input": {"labels": ["a", "b"]}}', '{"input": {"activation": "none"}}', '{"output": {"mean": [0]}}'),
    *('{"input": {"$schema": ""}}', '{"input": {"input": {}}}', '{"Labels": ["a", "b"]}', '{"": 1}'),
    *('{"input": []}', '{"input": null}', '{"input": "x"}', '{"output": 0}', '{"output": false}'),
    *('{"name": 1}', '{"name": null}', '{"version": 1.0}', '{"version": ["1"]}', '{"description": {}}'),
    *('{"labels": []}', '{"labels": ["a", ""]}', '{"labels": ["a", 1]}', '{"labels": "ab"}', '{"labels": null}'),
    *('{"labels": {"a": 0, "b": 1}}', '{"labels": [["a"], ["b"]]}', '{"labels": 2}', '{"labels": [null, "b"]}'),
    *('{"input": {"mean": [0]}}', '{"input": {"std": [1]}}', '{"input": {"mean": null}}'),
    *('{"input": {"mean": null, "std": [1]}}', '{"input": {"mean": [1], "std": null}}', '{"input": {"std": null}}'),
    *(
        f'{{"input": {{"mean": {value}, "std": [1]}}}}'
        for value in (
            "[]", "[0, 0]", "[0, 0, 0, 0]", "0", '"0"', '["0"]', "[true]", "[false]", "[null]", "[[0]]", '{"0": 0}',
            "[NaN]", "[Infinity]", "[-Infinity]", "[1e400]", "[-1000001]", "[1e7]", "[0, 0, NaN]", "true", "{}",
            "[1" + "0" * 400 + "]", "[1" + "0" * 5000 + "]", "[" * 500 + "]" * 500,
        )
    ),
    *(
        f'{{"input": {{"mean": [0], "std": {value}}}}}'
        for value in (
            "[]", "[1, 1]", "[1, 1, 1, 1]", "1", '["1"]', "[true]", "[0]", "[0.0]", "[-0.0]", "[1, 0, 1]", "[1e-7]",
            "[-9e-7]", "[1e-400]", "[NaN]", "[Infinity]", "[1e7]", "[-1e7]", "{}", "false",
        )
    ),
    *(
        f'{{"input": {{"resample": {value}}}}}'
        for value in ('"NEAREST"', '"area"', '""', "0", "null", "true", '["nearest"]', '{"nearest": 1}')
    ),
    *(f'{{"input": {{"channel_order": {value}}}}}' for value in ('"RGB"', '"grb"', "null", "1", "[]")),
    *(f'{{"input": {{"exif_transpose": {value}}}}}' for value in ("1", "0", '"true"', "null", "[]", "1.0")),
    *(f'{{"output": {{"activation": {value}}}}}' for value in ('"relu"', '"Softmax"', "null", "0", "[]")),
    *(f'{{"output": {{"from_logits": {value}}}}}' for value in ("1", '"false"', "null", "{}")),
    *(
        f'{{"output": {{"decision_threshold": {value}}}}}'
        for value in ("-0.01", "1.01", '"0.5"', "true", "false", "null", "NaN", "Infinity", "1e400", "[0.5]")
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "allowed"),
    [*((text, True) for text in VALID), *((text, False) for text in INVALID)],
    ids=lambda value: str(value)[:60],
)
def test_schema_and_reader_agree(tmp_path: Path, text: str, allowed: bool) -> None:
    # Two labels, and integers in, so that nothing of VALID contradicts the tensors.
    path = write_model(tmp_path / "m.tflite", classes=1, dtype="uint8")
    assert (allowed_by_schema(text), allowed_by_reader(path, text)) == (allowed, allowed)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"title": 1}, "the spec given: unknown field 'title'; a spec has name, version, description, labels, input."),
        ({"input": {"labels": []}}, "the spec given: unknown field 'input.labels'; a spec has name"),
        ({"output": []}, "the spec given: 'output' must be an object"),
        ({"labels": "ab"}, "the spec given: 'labels' must be a list of names that are not empty, not 'ab'"),
        ({"name": 5}, "the spec given: 'name' must be text, not 5"),
        (
            document(mean=127.5, std=[1]),
            "the spec given: 'input.mean' must be a list of one number, or of three: one a channel, up to 1e+06 in "
            "size; or null in both mean and std: unscaled, not 127.5",
        ),
        (
            document(mean=[0], std=[0]),
            "the spec given: 'input.std' must be a list of one number, or of three: one a channel, up to 1e+06 in size "
            "and at least 1e-06; or null in both mean and std: unscaled, not [0]",
        ),
        (document(mean=[0]), "the spec given: 'input.mean' and 'input.std' go together, only one of them is given"),
        (
            document(resample="area"),
            "the spec given: 'input.resample' must be one of nearest, box, bilinear, hamming, bicubic, lanczos, "
            "not 'area'",
        ),
        (document(exif_transpose=1), "the spec given: 'input.exif_transpose' must be true or false, not 1"),
        (
            document(decision_threshold=2),
            "the spec given: 'output.decision_threshold' must be a number from 0 to 1, not 2",
        ),
        (document(activation="x" * 1000), "not '" + "x" * 76 + "..."),
        (Spec(("a", ""),), "the spec given: 'labels' must be a list of names that are not empty, not 'a', ''"),
        (Spec(("a", "b"), std=(0.0,)), "the spec given: 'input.std' must be"),
        (Spec(("a", "b"), mean=None), "the spec given: 'input.mean' and 'input.std' go together"),
        (Spec(("a", "b"), resample="area"), "the spec given: 'input.resample' must be one of nearest"),
    ],
)  # fmt: skip
def test_messages_name_the_field_the_value_and_what_is_allowed(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        quietly(ModelFile(write_model(tmp_path / "m.tflite", classes=1)), given)
    assert message in str(caught.value)


def test_a_spec_file_that_cannot_be_read(tmp_path: Path) -> None:
    model = ModelFile(write_model(tmp_path / "m.tflite"))
    (tmp_path / "latin-1.json").write_bytes(b'{"name": "B\xe4r"}')
    for name, message in (
        ("missing.json", "cannot read the spec: No such file or directory"),
        ("", "cannot read the spec: Is a directory"),
        ("latin-1.json", "the spec is not JSON: 'utf-8' codec can't decode byte 0xe4"),
        ("m.tflite", "the spec is not JSON: "),
    ):
        with pytest.raises(SpecError, match=message) as caught:
            quietly(model, tmp_path / name)
        assert str(caught.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"mean": [127.5]}, "'input.mean' and 'input.std' go together"),
        ({"mean": [0], "std": [0]}, "'input.std' must be"),
        ({"mean": [1, 2], "std": [1, 2]}, "'input.mean' must be"),
        ({"mean": [float("nan")], "std": [1]}, "'input.mean' must be"),
        ({"mean": [0], "std": [float("inf")]}, "'input.std' must be"),
    ],
)
def test_metadata_is_checked_as_a_document_is(tmp_path: Path, metadata: dict[str, Any], message: str) -> None:
    path = write_model(tmp_path / "m.tflite", metadata=make_metadata(**metadata))
    with pytest.raises(SpecError) as caught:
        quietly(ModelFile(path))
    assert str(caught.value).startswith(f"{path}: its TFLite Metadata: {message}")


# Pixels


def table(spec: Spec, tensor: Tensor, channel: int = 0) -> np.ndarray[Any, Any]:
    return np.frombuffer(pixel_table(spec, tensor, channel), tensor.dtype)


def scaled(mean: Any, std: Any) -> Spec:
    return Spec(("a", "b"), mean=mean, std=std)


PIXELS = np.arange(256)
PLAIN = {"uint8": PIXELS, "int8": PIXELS - 128}
CHANCE = np.random.default_rng(7)
SCALINGS: list[tuple[float, float]] = [
    (0, 255), (0, 1), (127.5, 127.5), (128, 128), (127, 128), (123.675, 58.395), (116.28, 57.12), (103.53, 57.375),
    (103.939, 1), (255, -255), (0.1, 0.3), (1e6, 1e-6), (-1e6, 1e-6), (1e6, 1e6), (0, 1e-6), (1 / 3, -1e6),
    *zip(CHANCE.normal(100, 100, 300).tolist(), (10 ** CHANCE.uniform(-6, 6, 300)).tolist(), strict=True),
]  # fmt: skip


def test_float_pixels_are_numpys_bit_for_bit() -> None:
    tensor = Tensor("pixels", (1, 8, 8, 3), "float32")
    for mean, std in SCALINGS:
        expected = (np.float32(PIXELS) - np.float32(mean)) / np.float32(std)
        assert expected.dtype == np.float32
        assert pixel_table(scaled((mean,), (std,)), tensor, 2) == expected.tobytes(), (mean, std)


def test_the_reference_path_is_the_default() -> None:
    reference = (PIXELS.astype("uint8").astype("float32") / 255).tobytes()
    assert pixel_table(Spec(("a", "b")), Tensor("pixels", (1, 8, 8, 3), "float32"), 0) == reference


def test_each_channel_has_its_own_scaling() -> None:
    means, stds = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    quantised = Tensor("pixels", (1, 8, 8, 3), "uint8", 0.0187, 114)
    for tensor in (Tensor("pixels", (1, 8, 8, 3), "float32"), quantised):
        tables = [pixel_table(scaled(means, stds), tensor, channel) for channel in range(3)]
        assert len(set(tables)) == 3
        for channel, mean, std in zip(range(3), means, stds, strict=True):
            assert tables[channel] == pixel_table(scaled((mean,), (std,)), tensor, 0)


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_quantised_pixels(dtype: str) -> None:
    """Rounded half to even and clamped; the pixels themselves where that is nowhere more than one step away."""
    lowest = int(PLAIN[dtype][0])
    kinds = set()
    for mean, std in SCALINGS:
        real = (np.float32(PIXELS) - np.float32(mean)) / np.float32(std)
        for scale, zero_point in (
            (1 / 255, lowest),
            (1 / 128, lowest + 128),
            (0.0187, lowest + 114),
            (1.0, 0),
            (0.5, 3),
        ):
            steps = np.clip(np.round(real.astype(float) / scale) + zero_point, lowest, lowest + 255)
            same = bool(np.abs(steps - PLAIN[dtype]).max() <= 1)
            kinds.add(same)
            got = table(scaled((mean,), (std,)), Tensor("pixels", (1, 8, 8, 3), dtype, scale, zero_point))
            np.testing.assert_array_equal(got, PLAIN[dtype] if same else steps)
    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("dtype", "mean", "std", "scale", "zero_point"),
    [
        ("uint8", (0,), (255,), 1 / 255, 0),
        ("uint8", (0,), (255,), 1 / 256, 0),
        ("uint8", (127.5,), (127.5,), 1 / 128, 128),
        ("uint8", (127.5,), (127.5,), 2 / 255, 127),
        ("uint8", (128,), (128,), 1 / 128, 128),
        ("uint8", (0,), (1,), 1.0, 0),
        ("int8", (0,), (255,), 1 / 255, -128),
        ("int8", (127.5,), (127.5,), 2 / 255, -1),
        ("int8", (0,), (1,), 1.0, -128),
        ("uint8", None, None, 0.0, 0),
        ("int8", None, None, 0.0, 0),
        ("int8", None, None, 0.3, 7),
    ],
)
def test_pixels_go_in_as_they_are(dtype: str, mean: Any, std: Any, scale: float, zero_point: int) -> None:
    tensor = Tensor("pixels", (1, 8, 8, 3), dtype, scale, zero_point)
    np.testing.assert_array_equal(table(scaled(mean, std), tensor), PLAIN[dtype])


def test_two_steps_away_is_not_as_they_are() -> None:
    got = table(scaled((0,), (1,)), Tensor("pixels", (1, 8, 8, 3), "uint8", 1.0, 2))
    np.testing.assert_array_equal(got, np.minimum(PIXELS + 2, 255))


def test_pixels_that_are_not_as_they_are() -> None:
    """The other way round, [0, 255] shown to a model that wants [-1, 1]: the lower half is clamped."""
    tensor = Tensor("pixels", (1, 8, 8, 3), "uint8", 1 / 255, 0)
    got = table(scaled((127.5,), (127.5,)), tensor)
    assert got[:128].max() == 0
    assert (got[128], got[255]) == (1, 255)  # 128 / 127.5 - 1 is 0.0039, one step
